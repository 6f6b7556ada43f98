//! CUDA: what runs on a GPU, as data; and the one place that talks to a device.
//!
//! A kernel is a `.cu` file beside its operation; [`kernel::Module`] is such a file with its constants. The operations'
//! `cuda.rs` write [`schedule::Step`]s - launches, matrix products - into a [`schedule::Schedule`], with every grid,
//! block and argument worked out by plain functions. A schedule knows no device: a test runs it on the CPU, NVRTC
//! compiles its modules, [`memory`] places and checks its buffers, and an executor replays it on a stream.
//!
//! Everything that a step reads and that changes from step to step - images, masks, learning rates - lies in
//! buffers, so that a schedule can be captured in a CUDA graph once.

pub mod compile;
pub mod cost;
pub mod detect;
pub mod executor;
pub mod geometry;
pub mod kernel;
pub mod kernels;
pub mod memory;
pub mod network;
pub mod predictor;
mod products;
pub mod schedule;
pub mod session;
mod streams;
pub mod tile;
pub mod trainer;
pub mod training;

pub use products::WORKSPACE;
