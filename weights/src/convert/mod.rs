//! Weights in other layouts: which tensor is called what, and in which order its axes lie.
//!
//! A layout is a table (one file each) that can be read in both directions. Loading looks at the names in a file and
//! takes the layout that they fit best, behind whatever wrappers put before all of them; a tensor that is missing, unknown
//! or of another shape is an error that lists them all.
//!
//! To add a layout: a file with its table, a variant of [`Dialect`] with its name, its line in `Dialect::namings` (`dialect.rs`).

mod adapt;
mod channels;
mod classes;
mod dialect;
mod error;
mod hf;
mod hf_config;
mod holds;
mod layouts;
mod load;
mod mmpretrain;
mod official;
mod recognise;
mod save;
mod sparse;
mod table;
#[cfg(test)]
mod tests;
mod timm;
mod timm_config;
mod translation;

pub use adapt::{AdaptChannels, ParseAdaptError};
pub use classes::{MOST_CLASSES, classes_in, classes_of};
pub use dialect::{Dialect, ParseDialectError};
pub use error::ConvertError;
pub use hf_config::{transformers_config, transformers_processor};
pub use holds::check_holds;
pub use layouts::encoder_of;
pub use load::{LoadOptions, LoadedWeights, Take, load, load_fitting, load_into};
pub use save::save;
pub use timm_config::timm_config;
pub use translation::Translation;
