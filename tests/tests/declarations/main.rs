//! Declarations that compile, and run: one file for each kind. What does not compile is in `convnext-macros/ui`.
//!
//! The modules are public, so that lints see their models as those of a library.

pub mod any_name;
pub mod attributes_and_visibility;
pub mod families;
pub mod five_stages;
pub mod four_channels;
pub mod from_another_macro;
pub mod kernels_by_stage;
pub mod one_channel;
mod one_operation;
pub mod two_stages;
pub mod v1;
pub mod wide_input;
pub mod with_dfdx_layers;
