//! Reports opened in a real browser, as one test.

use std::process::Command;

/// Runs `tests/browser/run`, which says what it needs and takes. Screenshots and PDFs are left in `target/screenshots`:
/// `cargo build --release -p convnext && cargo test --release -p convnext-tests --test browser -- --ignored --nocapture`.
#[test]
#[ignore = "needs chromium, Python and network: see docs/proof.md"]
fn a_browser_shows_reports_whole() {
    let status = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/browser/run")).status().unwrap();
    assert!(status.success(), "a page is not as it should be; what was printed above says where");
}
