//! Cross entropy against soft targets, on dfdx's tape.

use dfdx::prelude::*;

use super::tape::{Error, Parameters, record};
use crate::ops::cross_entropy;

/// Mean cross entropy of logits `[N, CLASSES]` against `targets [N, CLASSES]`, each row a distribution.
///
/// The mathematics is in [`ops::cross_entropy`](crate::ops::cross_entropy).
pub fn soft_cross_entropy<B: Dim, const CLASSES: usize, T: Tape<f32, Cpu>>(
    logits: Tensor<(B, Const<CLASSES>), f32, Cpu, T>,
    targets: Vec<f32>,
) -> Result<Tensor<Rank0, f32, Cpu, T>, Error> {
    let kept = targets.clone();
    record(
        logits,
        true,
        (),
        Parameters::new(),
        |logits, _, out, _| out[0] = cross_entropy::forward(CLASSES, logits, &targets),
        move |pass| {
            cross_entropy::backward(CLASSES, pass.input, &kept, pass.output_gradient[0], pass.input_gradient);
        },
    )
}
