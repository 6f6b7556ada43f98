//! The live comparison with PyTorch, timm, transformers, torchvision, webdataset and ONNX Runtime, as one test.

use std::{path::Path, process::Command};

/// Runs `tests/parity/run`, which says what it needs and takes, with this package's own program.
///
/// It prints a table of what was compared and how far apart it was:
/// `cargo test --release -p convnext-tests --test parity -- --ignored --nocapture`.
#[test]
#[ignore = "needs Python and network: see docs/proof.md"]
fn python_agrees() {
    let program = Path::new(env!("CARGO_BIN_EXE_parity"));
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/parity/run"));
    command.env("CONVNEXT", program);
    if std::env::var_os("CONVNEXT_PARITY_VENV").is_none() {
        // Beside the profile's folder, wherever that was put.
        let target = program.ancestors().nth(2).unwrap();
        command.env("CONVNEXT_PARITY_VENV", target.join("parity-venv"));
    }
    let status = command.status().unwrap();
    assert!(status.success(), "the comparison failed; what it printed above says where");
}
