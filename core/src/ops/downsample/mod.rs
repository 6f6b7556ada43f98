//! Downsampling between stages: normalises every cell, then joins 2x2 cells into one.
//!
//! ```text
//! z   = LN(x)                                   over the C channels
//! out = [z_00 z_01 z_10 z_11] W + b             W [2, 2, C, D]: the four cells of a square, row-major
//! ```
//!
//! In sparse form a square never leaves its patch: patches of `P x P` cells become patches of `P/2 x P/2`.

mod cpu;
pub mod cuda;
pub mod reference;

use super::parameters::multiply_adds;
use crate::{
    cells::Cells,
    geometry::Geometry,
    profile::timed,
    simd::{Compute, Kept, Precision},
};

/// Sizes of a downsampling.
#[derive(Debug, Clone, Copy)]
pub struct Shape<'a> {
    /// Samples `N`.
    pub samples: usize,
    /// Geometry of the input; the output's is [`Cells::halved`].
    pub cells: Cells<'a>,
    /// Channels of the input, `C`.
    pub channels: usize,
    /// Channels of the output, `D`.
    pub dim: usize,
}

/// A downsampling, without its samples and geometry: what its parameters follow from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layer {
    /// Channels of the input, `C`.
    pub channels: usize,
    /// Channels of the output, `D`.
    pub dim: usize,
}

parameters! {
    for Shape<'_>;
    /// Scale of the normalisation, `[C]`.
    norm: NormScale "norm.weight", |s| [s.channels];
    /// Shift of the normalisation, `[C]`.
    norm_bias: NormShift "norm.bias", |s| [s.channels];
    /// Convolution, `[2, 2, C, D]`.
    conv: Weight "conv.weight", |s| [2, 2, s.channels, s.dim];
    /// Bias of the convolution, `[D]`.
    conv_bias: Bias "conv.bias", |s| [s.dim];
}

impl Layer {
    /// Multiply-adds for one image; `geometry` is that of the input.
    pub const fn multiply_adds(&self, geometry: Geometry) -> u64 {
        multiply_adds(geometry.rows() / 4, 4 * self.channels * self.dim)
    }
}

impl Shape<'_> {
    /// What the parameters follow from.
    pub fn layer(&self) -> Layer {
        let Self { channels, dim, .. } = *self;
        Layer { channels, dim }
    }

    /// Values of the input, `N * R * C`.
    pub fn input(&self) -> usize {
        self.samples * self.cells.rows() * self.channels
    }

    /// Values of the output, `N * R/4 * D`.
    pub fn output(&self) -> usize {
        self.samples * self.cells.halved().rows() * self.dim
    }

    fn check(&self, weights: &Weights, x: usize, out: usize) {
        self.cells.check(self.samples);
        weights.check(&self.layer());
        assert_eq!(x, self.input(), "length of the input");
        assert_eq!(out, self.output(), "length of the output");
    }
}

/// `x [N, R, C]` to `out [N, R/4, D]`.
pub fn forward(precision: Precision, shape: &Shape, weights: &Weights, x: &[f32], out: &mut [f32]) {
    forward_frozen(None, precision, shape, weights, x, out);
}

/// The same; where `conv` is there and that of an earlier call, weights and precision are, too.
pub(crate) fn forward_frozen(
    conv: Option<&Kept>,
    precision: Precision,
    shape: &Shape,
    weights: &Weights,
    x: &[f32],
    out: &mut [f32],
) {
    shape.check(weights, x.len(), out.len());
    timed!(Operation, "downsample forward");
    cpu::forward(conv, Compute::new(precision), shape, weights, x, out);
}

/// Adds the gradients of the input and the weights. `x` is that of the forward pass.
pub fn backward(
    precision: Precision,
    shape: &Shape,
    weights: &Weights,
    x: &[f32],
    grad_out: &[f32],
    grad_x: &mut [f32],
    gradients: Gradients,
) {
    shape.check(weights, x.len(), grad_out.len());
    gradients.check(&shape.layer());
    assert_eq!(grad_x.len(), x.len(), "length of the input's gradient");
    timed!(Operation, "downsample backward");
    cpu::backward(Compute::new(precision), shape, weights, x, grad_out, grad_x, gradients);
}
