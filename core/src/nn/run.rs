//! What generated code calls: the forward pass of a typed model.

use std::sync::Arc;

use dfdx::prelude::*;

use super::{part::Parts, tape::record, tensor::Error};
use crate::visibility::Visibility;

/// The output of a model's last part, which has shape `shape`; one node of the tape, if `x` carries one.
///
/// Only the patches `visible` are computed, or all cells. `drops` says whether drop paths drop.
///
/// # Errors
/// When there is no memory.
///
/// # Panics
/// If `x` or the output have another size than the parts ask for.
pub fn forward<In: Shape, Out: Shape, T: Tape<f32, Cpu>>(
    model: &dyn Parts,
    x: Tensor<In, f32, Cpu, T>,
    shape: Out,
    visible: Option<&Arc<Visibility>>,
    drops: bool,
) -> Result<Tensor<Out, f32, Cpu, T>, Error> {
    record(&model.parts(), x, shape, visible, drops)
}
