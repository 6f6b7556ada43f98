//! Weights on disk: checkpoints of runs, other programs' files and layouts, ONNX.
//!
//! [`checkpoint`] reads and writes the state of a run, [`convert`] translates between layouts, [`pytorch`] reads `.pt` files,
//! [`onnx`] exports.
//! Nothing read here can run code, leave its directory or exhaust memory, and nothing reaches the disk under its final
//! name before it is whole.

// A message that cannot be printed must not end a program: `println!` and its like would panic.
#![warn(clippy::print_stderr, clippy::print_stdout)]

pub mod checkpoint;
pub mod convert;
pub mod onnx;
pub mod pytorch;
