//! CUDA: whole steps as schedules, and the one place that talks to a device.
//!
//! [`network`] and [`training`] write a variant's steps in the vocabulary of [`launch`](convnext_core::launch). A schedule
//! knows no device: a test runs it on the CPU, NVRTC [compiles](compile) its modules, [`memory`] places and checks its
//! buffers, and an [`executor`] replays it on a stream.

#![allow(unsafe_code, reason = "the calls of CUDA's libraries")]
// A message that cannot be printed must not end a program: `println!` and its like would panic.
#![warn(clippy::print_stderr, clippy::print_stdout)]

pub mod cache;
pub mod compile;
mod context;
pub mod cost;
pub mod detect;
pub mod error;
pub mod executor;
pub mod memory;
mod modules;
pub mod network;
pub mod predictor;
mod products;
pub mod session;
mod streams;
pub mod trainer;
pub mod training;

pub use products::WORKSPACE;
