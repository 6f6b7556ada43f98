//! The stem: cuts the image into `S x S` squares, projects each and normalises it.
//!
//! For the square of pixels `p` (`S * S * C_in` values, row-major) under one cell:
//!
//! ```text
//! y = p W + b          W [S, S, C_in, D], b [D]
//! out = LN(y)          over the D channels
//! ```
//!
//! The squares do not overlap, so this is a gather and a matrix product. In sparse form only the cells of visible
//! patches are computed, and no other pixel is read.

mod cpu;
pub mod cuda;
pub mod reference;

use super::parameters::multiply_adds;
use crate::{
    cells::Cells,
    geometry::Geometry,
    profile::timed,
    scratch::Buffer,
    simd::{Compute, Kept, Precision},
};

/// Sizes of a stem.
#[derive(Debug, Clone, Copy)]
pub struct Shape<'a> {
    /// Samples `N`.
    pub samples: usize,
    /// Geometry of the output; the image has `stride` times its height and width.
    pub cells: Cells<'a>,
    /// Side of a square and stride, in pixels, `S`.
    pub stride: usize,
    /// Channels of the image, `C_in`.
    pub channels: usize,
    /// Channels of the output, `D`.
    pub dim: usize,
}

/// A stem, without its samples and geometry: what its parameters follow from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layer {
    /// Side of a square and stride, in pixels, `S`.
    pub stride: usize,
    /// Channels of the image, `C_in`.
    pub channels: usize,
    /// Channels of the output, `D`.
    pub dim: usize,
}

parameters! {
    for Shape<'_>;
    /// Convolution, `[S, S, C_in, D]`.
    conv: Weight "conv.weight", |s| [s.stride, s.stride, s.channels, s.dim];
    /// Bias of the convolution, `[D]`.
    conv_bias: Bias "conv.bias", |s| [s.dim];
    /// Scale of the normalisation, `[D]`.
    norm: NormScale "norm.weight", |s| [s.dim];
    /// Shift of the normalisation, `[D]`.
    norm_bias: NormShift "norm.bias", |s| [s.dim];
}

impl Layer {
    /// Multiply-adds for one image; `geometry` is that of the output.
    pub const fn multiply_adds(&self, geometry: Geometry) -> u64 {
        multiply_adds(geometry.rows(), self.stride * self.stride * self.channels * self.dim)
    }
}

impl Shape<'_> {
    /// What the parameters follow from.
    pub fn layer(&self) -> Layer {
        let Self { stride, channels, dim, .. } = *self;
        Layer { stride, channels, dim }
    }

    /// Values of an image batch, `N * H * W * C_in`.
    pub fn input(&self) -> usize {
        let pixels = self.cells.height() * self.cells.width() * self.stride * self.stride;
        self.samples * pixels * self.channels
    }

    /// Values of the output, `N * R * D`.
    pub fn output(&self) -> usize {
        self.samples * self.cells.rows() * self.dim
    }

    fn square(&self) -> usize {
        self.stride * self.stride * self.channels
    }

    fn check(&self, weights: &Weights, images: usize, out: usize) {
        self.cells.check(self.samples);
        weights.check(&self.layer());
        assert_eq!(images, self.input(), "length of the images");
        assert_eq!(out, self.output(), "length of the output");
    }
}

/// What the backward pass needs: the convolution's output.
#[derive(Debug, Default)]
pub struct Saved {
    y: Buffer,
}

/// `images [N, H, W, C_in]` to `out [N, R, D]`.
pub fn forward(
    precision: Precision,
    shape: &Shape,
    weights: &Weights,
    images: &[f32],
    out: &mut [f32],
    saved: Option<&mut Saved>,
) {
    forward_frozen(None, precision, shape, weights, images, out, saved);
}

/// The same; where `conv` is there and that of an earlier call, weights and precision are, too.
pub(crate) fn forward_frozen(
    conv: Option<&Kept>,
    precision: Precision,
    shape: &Shape,
    weights: &Weights,
    images: &[f32],
    out: &mut [f32],
    saved: Option<&mut Saved>,
) {
    shape.check(weights, images.len(), out.len());
    timed!(Operation, "stem forward");
    cpu::forward(conv, Compute::new(precision), shape, weights, images, out, saved);
}

/// Adds the gradients of the weights and, if asked for, of the images.
#[expect(clippy::too_many_arguments, reason = "the forward pass's arguments and one gradient for each")]
pub fn backward(
    precision: Precision,
    shape: &Shape,
    weights: &Weights,
    images: &[f32],
    saved: &Saved,
    grad_out: &[f32],
    grad_images: Option<&mut [f32]>,
    gradients: Gradients,
) {
    shape.check(weights, images.len(), grad_out.len());
    gradients.check(&shape.layer());
    assert!(grad_images.as_ref().is_none_or(|g| g.len() == images.len()), "length of the images' gradient");
    assert_eq!(saved.y.len(), grad_out.len(), "the forward pass saved another shape, or nothing");
    timed!(Operation, "stem backward");
    cpu::backward(Compute::new(precision), shape, weights, images, saved, grad_out, grad_images, gradients);
}
