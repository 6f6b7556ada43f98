//! From visible patches to the decoder's dense grid.
//!
//! ```text
//! out = x W + b         on visible cells, W [C, D]
//! out = mask_token      [D], on removed cells
//! ```

mod cpu;
pub mod cuda;
pub mod reference;

use super::parameters::multiply_adds;
use crate::{
    cells::Cells,
    geometry::Geometry,
    profile::timed,
    simd::{Compute, Precision},
    visibility::Visibility,
};

/// Sizes of a densification.
#[derive(Debug, Clone, Copy)]
pub struct Shape<'a> {
    /// Which patches the encoder computed.
    pub visible: &'a Visibility,
    /// Cells a side of a patch, `P`.
    pub side: usize,
    /// Channels of the encoder, `C`.
    pub channels: usize,
    /// Channels of the decoder, `D`.
    pub dim: usize,
}

/// A densification, without its samples and geometry: what its parameters follow from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layer {
    /// Channels of the encoder, `C`.
    pub channels: usize,
    /// Channels of the decoder, `D`.
    pub dim: usize,
}

parameters! {
    for Shape<'_>;
    /// Projection, `[C, D]`.
    projection: Weight "projection.weight", |s| [s.channels, s.dim];
    /// Its bias, `[D]`.
    projection_bias: Bias "projection.bias", |s| [s.dim];
    /// What stands in for removed cells, `[D]`.
    mask_token: Token "mask_token", |s| [s.dim];
}

impl Layer {
    /// Multiply-adds for one image; `geometry` is that of the input.
    pub const fn multiply_adds(&self, geometry: Geometry) -> u64 {
        multiply_adds(geometry.rows(), self.channels * self.dim)
    }
}

impl<'a> Shape<'a> {
    /// What the parameters follow from.
    pub fn layer(&self) -> Layer {
        let Self { channels, dim, .. } = *self;
        Layer { channels, dim }
    }

    /// Geometry of the input.
    pub fn cells(&self) -> Cells<'a> {
        Cells::Sparse { side: self.side, visible: self.visible }
    }

    /// Values of the input, `N * K * P * P * C`.
    pub fn input(&self) -> usize {
        self.visible.samples() * self.cells().rows() * self.channels
    }

    /// Values of the output, `N * H * W * D`.
    pub fn output(&self) -> usize {
        let cells = self.cells();
        self.visible.samples() * cells.height() * cells.width() * self.dim
    }

    fn check(&self, weights: &Weights, x: usize, out: usize) {
        weights.check(&self.layer());
        assert_eq!(x, self.input(), "length of the input");
        assert_eq!(out, self.output(), "length of the output");
    }
}

/// `x [N, K, P, P, C]` to `out [N, H, W, D]`.
pub fn forward(precision: Precision, shape: &Shape, weights: &Weights, x: &[f32], out: &mut [f32]) {
    shape.check(weights, x.len(), out.len());
    timed!(Operation, "densify forward");
    cpu::forward(Compute::new(precision), shape, weights, x, out);
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
    timed!(Operation, "densify backward");
    cpu::backward(Compute::new(precision), shape, weights, x, grad_out, grad_x, gradients);
}
