//! Typed modules: dfdx collections of tensors with constant shapes, whose work is done by [`ops`](crate::ops).
//!
//! Activations are channels-last. A module takes `[N, H, W, C]` with its own height, width and channels as constants;
//! a tensor of another size, or two parts that do not fit, is a type error. The batch size is free.

#[macro_use]
mod module;

mod block;
mod chain;
mod cross_entropy;
mod densify;
mod downsample;
mod drop_path;
mod entry;
mod fan_in;
mod head;
mod initialise;
mod model;
mod operation;
pub mod parameters;
mod part;
mod plain;
mod prediction;
pub mod run;
mod sparse;
mod stem;
mod tape;
mod tensor;
mod with_classes;

pub use block::{Block, BlockV1};
pub use cross_entropy::soft_cross_entropy;
pub use densify::Densify;
pub use downsample::Downsample;
pub use drop_path::DropPath;
pub use entry::{Entry, Variant};
pub use fan_in::scale_to_fan_in;
pub use head::Head;
pub use model::{AutoencoderModule, ClassifierModule, Flat};
pub use operation::{Backward, Gradient, ModuleOperation, Operation, Pass};
pub use part::{Part, Parts};
pub use plain::{FrozenClassifier, PlainAutoencoder, PlainClassifier};
pub use prediction::{Pixels, Prediction, Target};
pub use sparse::{Patches, Sparse};
pub use stem::Stem;
pub use tensor::Error;

pub use crate::visibility::Visibility;
