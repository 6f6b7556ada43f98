//! The pre-training's end: a prediction for every cell, and its squared error on the removed patches.
//!
//! A cell is `S x S` pixels of `C` channels; the decoder's features `f` of a cell predict its `S * S * C` values
//! `(py, px, c)`, row-major: `prediction = f W + b`, `W [D, S * S * C]`. A patch is `M x M` cells, so `P = M S` pixels a side.
//!
//! ```text
//! loss   = mean over removed patches of mean over their P * P * C values of (prediction - target)^2
//! target = the pixels, or normalised: (pixel - mean) / sqrt(variance + 1e-6)
//! ```
//!
//! Mean and (unbiased) variance are those of the patch's `P * P * C` values. Every sample removes the same number of
//! patches, so the mean over all removed patches is that over samples too. The loss computes removed patches only;
//! [`predict`] computes all of them. Visible patches are not trained: what is predicted there means nothing.

mod cpu;
pub mod cuda;
mod patches;
pub mod reference;

pub use patches::{Targets, patches_to_images, predictions_to_patches, targets};

use super::parameters::multiply_adds;
use crate::{
    geometry::Geometry,
    profile::timed,
    scratch::Buffer,
    simd::{Compute, Precision},
    visibility::Visibility,
};

/// Sizes of a prediction and its loss.
#[derive(Debug, Clone, Copy)]
pub struct Shape<'a> {
    /// Which patches the encoder saw; the others are in the loss.
    pub visible: &'a Visibility,
    /// Side of a cell in pixels, `S`: the total stride.
    pub stride: usize,
    /// Cells a side of a patch, `M`.
    pub side: usize,
    /// Channels of the image, `C`.
    pub channels: usize,
    /// Channels of the decoder, `D`.
    pub dim: usize,
    /// Whether the target is each patch's pixels normalised to mean 0 and variance 1.
    pub normalised: bool,
}

/// A prediction, without its samples and geometry: what its parameters follow from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layer {
    /// Side of a cell in pixels, `S`: the total stride.
    pub stride: usize,
    /// Channels of the image, `C`.
    pub channels: usize,
    /// Channels of the decoder, `D`.
    pub dim: usize,
    /// Whether the target is each patch's pixels normalised to mean 0 and variance 1.
    pub normalised: bool,
}

parameters! {
    for Shape<'_>;
    /// Linear layer, `[D, S * S * C]`.
    prediction: Weight "weight", |s| [s.dim, s.pixels()];
    /// Its bias, `[S * S * C]`.
    prediction_bias: Bias "bias", |s| [s.pixels()];
}

impl Layer {
    /// Multiply-adds for one image, its predictions for every cell of the grid.
    pub const fn multiply_adds(&self, geometry: Geometry) -> u64 {
        multiply_adds(geometry.height() * geometry.width(), self.dim * self.pixels())
    }

    /// Values of one cell, `S * S * C`.
    pub const fn pixels(&self) -> usize {
        self.stride * self.stride * self.channels
    }
}

impl Shape<'_> {
    /// What the parameters follow from.
    pub fn layer(&self) -> Layer {
        let Self { stride, channels, dim, normalised, .. } = *self;
        Layer { stride, channels, dim, normalised }
    }

    /// Values of one cell, `S * S * C`.
    pub fn pixels(&self) -> usize {
        self.layer().pixels()
    }

    /// Values of one patch, `P * P * C`.
    pub fn patch(&self) -> usize {
        self.side * self.side * self.pixels()
    }

    /// Cells of a sample's whole grid.
    pub fn grid(&self) -> usize {
        self.visible.patches_per_sample() * self.side * self.side
    }

    /// Values of the features, `N * H * W * D`.
    pub fn features(&self) -> usize {
        self.visible.samples() * self.grid() * self.dim
    }

    /// Values of the images, of all predictions, and of all targets: `N * H * W * S * S * C`.
    pub fn images(&self) -> usize {
        self.visible.samples() * self.grid() * self.pixels()
    }

    /// What each squared error weighs in the loss.
    fn weight(&self) -> f64 {
        let values = self.visible.samples() * self.visible.removed() * self.patch();
        if values == 0 { 0.0 } else { 1.0 / values as f64 }
    }

    fn check(&self, weights: &Weights, features: usize) {
        weights.check(&self.layer());
        assert_eq!(features, self.features(), "length of the features");
    }
}

/// What the backward pass needs: `prediction - target` on removed cells, row by row or panel by panel.
#[derive(Debug, Default)]
pub struct Saved {
    error: Buffer,
}

/// Predictions of every cell: `features [N, H, W, D]` to `out [N, H, W, S * S * C]`.
pub fn predict(precision: Precision, shape: &Shape, weights: &Weights, features: &[f32], out: &mut [f32]) {
    shape.check(weights, features.len());
    assert_eq!(out.len(), shape.images(), "length of the predictions");
    timed!(Operation, "masked mse predict");
    cpu::predict(Compute::new(precision), shape, weights, features, out);
}

/// The loss of `features [N, H, W, D]` against `images [N, H * S, W * S, C]`. Without a removed patch it is 0.
pub fn forward(
    precision: Precision,
    shape: &Shape,
    weights: &Weights,
    features: &[f32],
    images: &[f32],
    saved: Option<&mut Saved>,
) -> f32 {
    shape.check(weights, features.len());
    assert_eq!(images.len(), shape.images(), "length of the images");
    timed!(Operation, "masked mse forward");
    cpu::forward(Compute::new(precision), shape, weights, features, images, saved)
}

/// Adds the gradients of `grad_loss * loss` to those of the features and the weights.
#[expect(clippy::too_many_arguments, reason = "the forward pass's arguments and one gradient for each")]
pub fn backward(
    precision: Precision,
    shape: &Shape,
    weights: &Weights,
    features: &[f32],
    saved: &Saved,
    grad_loss: f32,
    grad_features: &mut [f32],
    gradients: Gradients,
) {
    shape.check(weights, features.len());
    gradients.check(&shape.layer());
    assert_eq!(grad_features.len(), features.len(), "length of the features' gradient");
    let errors = shape.visible.samples() * shape.visible.removed() * shape.patch();
    assert_eq!(saved.error.len(), errors, "the forward pass saved another shape, or nothing");
    timed!(Operation, "masked mse backward");
    cpu::backward(Compute::new(precision), shape, weights, features, saved, grad_loss, grad_features, gradients);
}
