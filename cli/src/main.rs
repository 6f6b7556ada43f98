//! The `convnext` program, with the built-in variants.

use std::process::ExitCode;

fn main() -> ExitCode {
    convnext::run(&convnext::models::builtin())
}
