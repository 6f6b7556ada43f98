//! ConvNeXt V2 and its masked-autoencoder pre-training as typed dfdx modules.
//!
//! A model is declared with [`convnext!`]; the macro emits modules from [`nn`] with every size as a constant.
//! [`network`] tells what a variant is made of. The arithmetic is in [`ops`]; [`optim`] works on flat buffers and knows no model.
//!
//! Declared models are dfdx modules: they go into its tuples, beside its layers, under its optimisers.
//!
//! ```
//! use convnext_core::{
//!     convnext,
//!     dfdx::{optim::{Adam, AdamConfig}, prelude::*},
//! };
//!
//! convnext! {
//!     /// Small colour pictures to twelve features.
//!     pub model Own { input: 8 x 8 x 3, stem: 2, head: 12, stages: [4 x 1, 8 x 1] }
//! }
//!
//! let device = Cpu::default();
//! let mut model = device.build_module::<(Own, ReLU, Linear<12, 2>), f32>();
//! let images: Tensor<Rank4<3, 8, 8, 3>, f32, Cpu> = device.sample_normal();
//! let targets: Tensor<Rank2<3, 2>, f32, Cpu> = device.ones();
//!
//! let mut optimiser = Adam::new(&model, AdamConfig { lr: 1e-2, ..AdamConfig::default() });
//! let mut losses = Vec::new();
//! for _ in 0..20 {
//!     let features = model.forward_mut(images.trace(model.alloc_grads()));
//!     let loss = (features - targets.clone()).square().mean();
//!     losses.push(loss.array());
//!     optimiser.update(&mut model, &loss.backward())?;
//! }
//! assert!(losses[19] < 0.5 * losses[0]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A tensor of another height, width or number of channels does not compile:
//!
//! ```compile_fail,E0277
//! # use convnext_core::{convnext, dfdx::prelude::*};
//! # convnext! { pub model Own { input: 8 x 8 x 3, stem: 2, head: 12, stages: [4 x 1, 8 x 1] } }
//! let device = Cpu::default();
//! let model = device.build_module::<Own, f32>();
//! let images: Tensor<Rank4<3, 8, 10, 3>, f32, Cpu> = device.zeros();
//! model.forward(images);
//! ```

// A message that cannot be printed must not end a program: `println!` and its like would panic.
#![warn(clippy::print_stderr, clippy::print_stdout)]

// Generated code names this crate by its full path, inside this crate's own tests too.
extern crate self as convnext_core;

mod awake;
pub mod cells;
pub mod epsilon;
mod geometry;
pub mod launch;
pub mod network;
pub mod nn;
pub mod ops;
pub mod optim;
pub mod plan;
pub mod profile;
mod scratch;
pub mod simd;
pub mod visibility;

pub use convnext_macros::convnext;
pub use dfdx;
pub use nn::{Entry, Variant};
