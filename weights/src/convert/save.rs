//! Weights written in any layout.

use std::path::Path;

use convnext_core::optim::Layout;

use super::{dialect::Dialect, error::ConvertError, translation::Translation};
use crate::checkpoint::{self, Usage};

/// Writes a flat buffer of `layout` as one `.safetensors` file in `dialect`, with what is known of its use.
///
/// # Errors
/// [`ConvertError::Inexpressible`], or the disk refuses.
///
/// # Panics
/// If `values` has another length than the layout.
pub fn save(
    path: impl AsRef<Path>,
    layout: &Layout,
    values: &[f32],
    dialect: Dialect,
    usage: Option<&Usage>,
) -> Result<(), ConvertError> {
    let translation = Translation::new(layout, dialect)?;
    checkpoint::save_weights(path, translation.theirs(), &translation.apply(values), usage)?;
    Ok(())
}
