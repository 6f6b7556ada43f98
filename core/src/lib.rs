//! ConvNeXt V2 and its masked-autoencoder pre-training as typed dfdx modules.
//!
//! A model is declared with [`convnext!`]; the macro emits modules from [`nn`] with every size as a constant.
//! The arithmetic is in [`ops`]; [`optim`] and [`checkpoint`] work on flat buffers and know no model.

// Generated code names this crate by its full path, inside this crate's own tests too.
extern crate self as convnext_core;

pub mod checkpoint;
pub mod convert;
pub mod nn;
pub mod ops;
pub mod optim;
pub mod plan;
pub mod simd;
pub mod visibility;

pub use convnext_macros::convnext;
pub use dfdx;
pub use nn::{Entry, Variant};
