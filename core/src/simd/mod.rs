//! Instruction sets and matrix products: the only home of `unsafe` arithmetic.
//!
//! Most kernels are plain generic loops that the compiler vectorises, compiled once per [`Level`]; `dispatch!` picks
//! the instance. The depthwise convolution and layer normalisation, which the compiler would get wrong, are written with
//! vectors. Neither needs `unsafe`. Matrix products are gemm's, or in bf16 those of the CPU's matrix unit, behind one checked function.
//!
//! Results may differ in the last bits between levels, never between numbers of threads.

mod level;

pub mod math;
mod norm;
mod precision;
#[allow(unsafe_code, reason = "gemm's call, and the instructions for bf16")]
mod product;
mod rows;

pub(crate) use level::{Arithmetic, Fused, Plain, dispatch};
pub use level::{ForceLevelError, Level, ParseLevelError};
pub(crate) use norm::{layer_norm, layer_norm_backward};
pub(crate) use precision::Compute;
pub use precision::{ParsePrecisionError, Precision};
pub use product::product_rate;
pub(crate) use product::{Factor, Kept, Matrix, multiply, product};
pub use rows::add;
pub(crate) use rows::*;
