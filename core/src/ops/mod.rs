//! The fused operations: few and large, on plain slices.
//!
//! Activations are channels-last. A dense activation is `[N, H, W, C]`, a sparse one `[N, K, P, P, C]`: the `K` visible
//! patches of each sample in ascending order, `P x P` cells each. Both are `[N, R, C]` to everything but the depthwise
//! convolution, `R` rows a sample; [`Cells`](crate::cells::Cells) says which cell of the grid a row is.
//!
//! Each operation has `forward` and `backward`. Results are written, gradients are accumulated (`+=`). Slices of a
//! wrong length are a programming error and panic at entry.

#[macro_use]
mod parameters;

pub mod block;
pub mod cross_entropy;
pub mod densify;
pub mod downsample;
pub mod head;
pub mod masked_mse;
mod panels;
mod parallel;
mod reference;
pub mod stem;

pub use parameters::{Declared, Role, Start};
