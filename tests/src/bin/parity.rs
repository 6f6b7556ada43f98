//! The command line with the built-in variants and those of this package, to compare with PyTorch.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut entries = convnext::models::builtin();
    entries.extend(convnext_tests::variants::variants());
    convnext::run!(&entries)
}
