//! Weights on disk: checkpoints of runs, other programs' files and layouts, ONNX.
//!
//! [`checkpoint`] reads and writes the state of a run, [`convert`] translates between layouts, [`onnx`] exports.
//! Nothing read here can run code, leave its directory or exhaust memory, and nothing reaches the disk under its final
//! name before it is whole.

// What cannot be told must end nothing; `println!` and its like panic.
#![warn(clippy::print_stderr, clippy::print_stdout)]

pub mod checkpoint;
pub mod convert;
mod durable;
pub mod onnx;
pub mod pytorch;
