//! The classifier's head: global average pooling, normalisation, a linear layer.
//!
//! ```text
//! p      = mean_r x_r            over the R rows of a sample
//! logits = LN(p) W + b           W [D, CLASSES]
//! ```

mod cpu;
pub mod cuda;
pub mod reference;

use super::parameters::multiply_adds;
use crate::{geometry::Geometry, profile::timed, scratch::Buffer, simd::Level};

/// Sizes of a head.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Samples `N`.
    pub samples: usize,
    /// Rows `R` of a sample.
    pub rows: usize,
    /// Channels `D`.
    pub dim: usize,
    /// Classes.
    pub classes: usize,
}

/// A head, without its samples and geometry: what its parameters follow from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layer {
    /// Channels `D`.
    pub dim: usize,
    /// Classes.
    pub classes: usize,
}

parameters! {
    for Shape;
    /// Scale of the normalisation, `[D]`.
    norm: NormScale "norm.weight", |s| [s.dim];
    /// Shift of the normalisation, `[D]`.
    norm_bias: NormShift "norm.bias", |s| [s.dim];
    /// Linear layer, `[D, CLASSES]`.
    linear: Weight "linear.weight", |s| [s.dim, s.classes];
    /// Its bias, `[CLASSES]`.
    linear_bias: Bias "linear.bias", |s| [s.classes];
}

impl Layer {
    /// Multiply-adds for one image, whatever its grid.
    pub const fn multiply_adds(&self, _: Geometry) -> u64 {
        multiply_adds(1, self.dim * self.classes)
    }
}

impl Shape {
    /// What the parameters follow from.
    pub fn layer(&self) -> Layer {
        let Self { dim, classes, .. } = *self;
        Layer { dim, classes }
    }

    /// Values of the input, `N * R * D`.
    pub fn input(&self) -> usize {
        self.samples * self.rows * self.dim
    }

    /// Values of the output, `N * CLASSES`.
    pub fn output(&self) -> usize {
        self.samples * self.classes
    }

    fn check(&self, weights: &Weights, x: usize, logits: usize) {
        weights.check(&self.layer());
        assert_eq!(x, self.input(), "length of the input");
        assert_eq!(logits, self.output(), "length of the logits");
    }
}

/// What the backward pass needs: the means, `[N, D]`.
#[derive(Debug, Default)]
pub struct Saved {
    pooled: Buffer,
}

/// `x [N, R, D]` to `logits [N, CLASSES]`.
pub fn forward(shape: &Shape, weights: &Weights, x: &[f32], logits: &mut [f32], saved: Option<&mut Saved>) {
    shape.check(weights, x.len(), logits.len());
    timed!(Operation, "head forward");
    cpu::forward(Level::current(), shape, weights, x, logits, saved);
}

/// What the linear layer looks at, `LN(p)`: of `x [N, R, D]`, `[N, D]`.
pub fn features(shape: &Shape, weights: &Weights, x: &[f32]) -> Vec<f32> {
    shape.check(weights, x.len(), shape.output());
    cpu::features(Level::current(), shape, weights, x)
}

/// Adds the gradients of the input and the weights; the input itself is not needed.
pub fn backward(
    shape: &Shape,
    weights: &Weights,
    saved: &Saved,
    grad_logits: &[f32],
    grad_x: &mut [f32],
    gradients: Gradients,
) {
    shape.check(weights, grad_x.len(), grad_logits.len());
    gradients.check(&shape.layer());
    assert_eq!(saved.pooled.len(), shape.samples * shape.dim, "the forward pass saved another shape, or nothing");
    timed!(Operation, "head backward");
    cpu::backward(Level::current(), shape, weights, saved, grad_logits, grad_x, gradients);
}
