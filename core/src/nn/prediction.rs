//! The pre-training's end as a module: pixels predicted from the decoder's features, and their loss.

use std::sync::Arc;

use dfdx::prelude::*;

use super::{
    initialise::normal,
    tape::{Error, Parameters, record, values},
};
use crate::{
    ops::masked_mse::{self, Gradients, Saved, Weights},
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
}

/// What the loss looks at.
#[derive(Debug, Clone)]
pub struct Target {
    /// Which patches the encoder saw; the others are in the loss.
    pub visible: Arc<Visibility>,
    /// Side of a cell in pixels, `S`.
    pub stride: usize,
    /// Channels of the images, `C`.
    pub channels: usize,
    /// Whether each patch's pixels are normalised to mean 0 and variance 1.
    pub normalised: bool,
}

impl Target {
    /// Sizes for a grid `height` cells high and features of `dim` channels.
    fn shape(&self, height: usize, dim: usize) -> masked_mse::Shape<'_> {
        masked_mse::Shape {
            visible: &self.visible,
            stride: self.stride,
            side: height / self.visible.patches_high(),
            channels: self.channels,
            dim,
            normalised: self.normalised,
        }
    }
}

impl<const H: usize, const W: usize, const DEC: usize, const OUT: usize> Prediction<H, W, DEC, OUT> {
    /// The masked mean squared error of the predictions from `features` against `images [N, H * S, W * S, C]`; only removed
    /// patches are computed.
    pub fn try_loss<B: Dim, T: Tape<f32, Cpu>>(
        &self,
        features: Tensor<(B, Const<H>, Const<W>, Const<DEC>), f32, Cpu, T>,
        images: &[f32],
        target: Target,
    ) -> Result<Tensor<Rank0, f32, Cpu, T>, Error> {
        let kept = target.clone();
        record(
            features,
            true,
            (),
            self.parameters(),
            |features, parameters, out, keep| {
                let mut saved = Saved::default();
                let shape = target.shape(H, DEC);
                let weights = Weights::named(&shape.layer(), |name, _| parameters.get(name));
                out[0] = masked_mse::forward(&shape, &weights, features, images, keep.then_some(&mut saved));
                saved
            },
            move |pass| {
                let (shape, mut gradients) = (kept.shape(H, DEC), pass.parameter_gradients);
                let layer = shape.layer();
                masked_mse::backward(
                    &shape,
                    &Weights::named(&layer, |name, _| pass.parameters.get(name)),
                    pass.input,
                    &pass.saved,
                    pass.output_gradient[0],
                    pass.input_gradient,
                    Gradients::named(&layer, |name, _| gradients.take(name)),
                );
            },
        )
    }

    /// Predictions of every patch, `[N, L, P * P * C]`, from features `[N, H, W, DEC]`.
    pub fn predict_patches<B: Dim>(
        &self,
        features: &Tensor<(B, Const<H>, Const<W>, Const<DEC>), f32, Cpu>,
        target: &Target,
    ) -> Vec<f32> {
        let shape = target.shape(H, DEC);
        let mut cells = vec![0.0; shape.images()];
        let (weight, bias) = (values(&self.weight), values(&self.bias));
        let weights = Weights { prediction: &weight, prediction_bias: &bias };
        masked_mse::predict(&shape, &weights, &values(features), &mut cells);
        masked_mse::predictions_to_patches(&shape, &cells)
    }
}
