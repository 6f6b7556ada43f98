//! The classifier's head as a module.

use dfdx::prelude::*;

use super::{
    initialise::normal,
    tape::{Error, Parameters, record},
};
use crate::ops::head::{self, Gradients, Saved, Weights};

typed_module! {
    /// Pools `[N, H, W, DIM]` over the grid, normalises and classifies: logits `[N, CLASSES]`.
    ///
    /// The mathematics is in [`ops::head`](crate::ops::head).
    pub struct Head<H, W, DIM, CLASSES> {
        /// Scale of the normalisation, `[DIM]`.
        norm_weight, "norm.weight": (DIM) = TensorOptions::reset_to_ones();
        /// Shift of the normalisation, `[DIM]`.
        norm_bias, "norm.bias": (DIM) = TensorOptions::reset_to_zeros();
        /// Linear layer, `[DIM, CLASSES]`.
        linear_weight, "linear.weight": (DIM, CLASSES) = normal();
        /// Its bias, `[CLASSES]`.
        linear_bias, "linear.bias": (CLASSES) = TensorOptions::reset_to_zeros();
    }
}

impl<const H: usize, const W: usize, const DIM: usize, const CLASSES: usize, B: Dim, T: Tape<f32, Cpu>>
    Module<Tensor<(B, Const<H>, Const<W>, Const<DIM>), f32, Cpu, T>> for Head<H, W, DIM, CLASSES>
{
    type Output = Tensor<(B, Const<CLASSES>), f32, Cpu, T>;
    type Error = Error;

    fn try_forward(&self, x: Tensor<(B, Const<H>, Const<W>, Const<DIM>), f32, Cpu, T>) -> Result<Self::Output, Error> {
        let batch = x.shape().0;
        let samples = batch.size();
        let shape = head::Shape { samples, rows: H * W, dim: DIM, classes: CLASSES };
        let layer = shape.layer();
        record(
            x,
            true,
            (batch, Const),
            self.parameters(),
            |x, parameters, out, keep| {
                let mut saved = Saved::default();
                let weights = Weights::named(&layer, |name, _| parameters.get(name));
                head::forward(&shape, &weights, x, out, keep.then_some(&mut saved));
                saved
            },
            move |pass| {
                let mut gradients = pass.parameter_gradients;
                head::backward(
                    &shape,
                    &Weights::named(&layer, |name, _| pass.parameters.get(name)),
                    &pass.saved,
                    pass.output_gradient,
                    pass.input_gradient,
                    Gradients::named(&layer, |name, _| gradients.take(name)),
                );
            },
        )
    }
}

impl<const H: usize, const W: usize, const DIM: usize, const CLASSES: usize> NonMutableModule
    for Head<H, W, DIM, CLASSES>
{
}
