//! Instruction sets and matrix products: the only home of `unsafe` arithmetic.
//!
//! Most kernels are plain generic loops that the compiler vectorises, compiled once per [`Level`]; `dispatch!` picks
//! the instance. The depthwise convolution, which the compiler would get wrong, is written with vectors. Neither
//! needs `unsafe`. Matrix products are gemm's, behind one checked function.
//!
//! Results may differ in the last bits between levels, never between numbers of threads.

mod level;

pub mod math;
mod product;
mod rows;

pub(crate) use level::{Arithmetic, Fused, Plain, dispatch};
pub use level::{Level, ParseLevelError};
pub(crate) use product::{Matrix, product};
pub use rows::add;
pub(crate) use rows::*;
