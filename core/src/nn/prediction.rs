//! The pre-training's end as a module: pixels predicted from the decoder's features, and their loss.

use std::sync::Arc;

use dfdx::prelude::*;

use super::{
    initialise::normal,
    operation::{Backward, Operation, Pass},
    tape::record_operations,
    tensor::{Error, Parameter},
};
use crate::{
    ops::masked_mse::{self, Gradients, Layer, Saved, Weights},
    scratch::Buffer,
    simd::Precision,
    visibility::Visibility,
};

typed_module! {
    /// Predicts the `OUT = S * S * C` values under each cell from `[N, H, W, DEC]`.
    ///
    /// The mathematics is in [`ops::masked_mse`](crate::ops::masked_mse).
    pub struct Prediction<H, W, DEC, OUT> {
        /// Linear layer, `[DEC, OUT]`.
        weight, "weight": (DEC, OUT) = normal();
        /// Its bias, `[OUT]`.
        bias, "bias": (OUT) = TensorOptions::reset_to_zeros();
    }
    state {
        /// Of the product.
        precision: Precision;
    }
}

/// What the loss looks at.
#[derive(Debug, Clone)]
pub struct Target {
    /// Which patches the encoder saw; the others are in the loss.
    pub visible: Arc<Visibility>,
    /// Side of a cell in pixels, `S`.
    pub stride: usize,
    /// Whether each patch's pixels are normalised to mean 0 and variance 1.
    pub normalised: bool,
}

impl<const H: usize, const W: usize, const DEC: usize, const OUT: usize> Prediction<H, W, DEC, OUT> {
    /// The prediction without its tensors: cells of `stride` pixels a side, and whether a patch's pixels are normalised.
    pub fn pixels(&self, stride: usize, normalised: bool) -> Pixels {
        let layer = Layer { stride, channels: OUT / (stride * stride), dim: DEC, normalised };
        Pixels { height: H, layer, precision: self.precision }
    }

    /// The masked mean squared error of the predictions from `features` against `images [N, H * S, W * S, C]`; only removed
    /// patches are computed.
    pub fn try_loss<B: Dim, T: Tape<f32, Cpu>>(
        &self,
        features: Tensor<(B, Const<H>, Const<W>, Const<DEC>), f32, Cpu, T>,
        images: &[f32],
        target: Target,
    ) -> Result<Tensor<Rank0, f32, Cpu, T>, Error> {
        let pixels = self.pixels(target.stride, target.normalised);
        let loss = MaskedMse { pixels, visible: target.visible, images };
        record_operations(&[&loss], self.list(), features, (), None, false)
    }
}

/// A prediction, with its parameters left out.
#[derive(Debug, Clone, Copy)]
pub struct Pixels {
    /// Height of the decoder's grid in cells.
    height: usize,
    layer: Layer,
    precision: Precision,
}

impl Pixels {
    fn shape(self, visible: &Visibility) -> masked_mse::Shape<'_> {
        let (Layer { stride, channels, dim, normalised }, side) = (self.layer, self.height / visible.patches_high());
        masked_mse::Shape { visible, stride, side, channels, dim, normalised }
    }

    /// Number of parameters.
    pub(crate) fn parameters(&self) -> usize {
        self.layer.parameters()
    }

    pub(crate) fn set_precision(&mut self, precision: Precision) {
        self.precision = precision;
    }

    /// The loss of a batch as the last operation of a chain.
    pub(crate) fn loss<'a>(&self, images: &'a [f32], visible: &Arc<Visibility>) -> MaskedMse<'a> {
        MaskedMse { pixels: *self, visible: visible.clone(), images }
    }

    /// Predictions of every patch, `[N, L, P * P * C]`, from features `[N, H, W, DEC]`.
    pub(crate) fn predict(&self, weights: &[f32], features: &[f32], visible: &Visibility) -> Vec<f32> {
        let shape = self.shape(visible);
        let mut cells = Buffer::new(shape.images());
        masked_mse::predict(self.precision, &shape, &Weights::split(weights, &shape), features, &mut cells);
        masked_mse::predictions_to_patches(&shape, &cells)
    }
}

/// The loss against these images.
#[derive(Debug)]
pub(crate) struct MaskedMse<'a> {
    pixels: Pixels,
    visible: Arc<Visibility>,
    images: &'a [f32],
}

impl Operation for MaskedMse<'_> {
    fn parameters(&self) -> usize {
        self.pixels.parameters()
    }

    fn output(&self, _: &Pass) -> usize {
        1
    }

    fn forward(&self, pass: &Pass, weights: &[f32], features: &[f32], out: &mut [f32]) -> Option<Backward> {
        let (pixels, mut saved) = (self.pixels, Saved::default());
        let shape = pixels.shape(&self.visible);
        let (weights, saving) = (Weights::split(weights, &shape), pass.keeps.then_some(&mut saved));
        out[0] = masked_mse::forward(pixels.precision, &shape, &weights, features, self.images, saving);
        pass.keeps.then(|| backward(pixels, self.visible.clone(), saved))
    }
}

fn backward(pixels: Pixels, visible: Arc<Visibility>, saved: Saved) -> Backward {
    Box::new(move |gradient| {
        let shape = pixels.shape(&visible);
        masked_mse::backward(
            pixels.precision,
            &shape,
            &Weights::split(gradient.weights, &shape),
            gradient.x,
            &saved,
            gradient.grad_out[0],
            gradient.grad_x,
            Gradients::split(gradient.gradients, &shape),
        );
    })
}
