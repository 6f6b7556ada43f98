//! What runs on a GPU, as data: the vocabulary that the operations' launchers are written in.
//!
//! A kernel is a `.cu` file beside its operation; [`kernel::Module`] is such a file with its constants. The operations'
//! `cuda.rs` write [`schedule::Step`]s - launches, matrix products - into a [`schedule::Schedule`], with every grid,
//! block and argument worked out by plain functions. A schedule knows no device.
//!
//! Everything that a step reads and that changes from step to step - images, masks, learning rates - lies in
//! buffers, so that a schedule can be captured in a CUDA graph once.

pub mod element;
pub mod geometry;
pub mod kernel;
pub mod kernels;
pub mod operation;
pub mod schedule;
pub mod tile;
