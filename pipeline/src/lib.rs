//! The streaming pipeline and the runs built on it.
//!
//! ```text
//! settings -> stream -> input -> trainer -> tasks -> recipe -> run_dir, records -> runs -> report
//! ```

// A message that cannot be printed must not end a program: `println!` and its like would panic.
#![warn(clippy::print_stderr, clippy::print_stdout)]

pub mod bounded;
pub mod device;
pub mod events;
pub mod fingerprint;
pub mod given;
pub mod input;
pub mod inside;
pub mod interrupt;
mod notify;
pub mod pictures;
pub mod progress;
pub mod recipe;
pub mod records;
pub mod report;
pub mod run_dir;
pub mod runs;
pub mod settings;
pub mod sheet;
pub mod stream;
pub mod tasks;
pub mod tell;
#[cfg(test)]
mod testing;
pub mod trainer;
