//! The head in plain loops: the specification.

use super::{Gradients, Shape, Weights};
use crate::ops::reference::{layer_norm, layer_norm_backward, linear, linear_backward};

/// `x [N, R, D]` to logits `[N, CLASSES]`.
pub fn forward(shape: &Shape, weights: &Weights<f64>, x: &[f64]) -> Vec<f64> {
    let logits = |sample| {
        let z = layer_norm(&mean(shape, x, sample), weights.norm, weights.norm_bias);
        linear(&z, weights.linear, weights.linear_bias)
    };
    (0..shape.samples).flat_map(logits).collect()
}

/// Adds the gradients of input and weights.
pub fn backward(
    shape: &Shape,
    weights: &Weights<f64>,
    x: &[f64],
    grad_logits: &[f64],
    grad_x: &mut [f64],
    gradients: Gradients<f64>,
) {
    for sample in 0..shape.samples {
        let pooled = mean(shape, x, sample);
        let z = layer_norm(&pooled, weights.norm, weights.norm_bias);
        let grad = &grad_logits[sample * shape.classes..][..shape.classes];
        let grad = linear_backward(&z, weights.linear, grad, gradients.linear, gradients.linear_bias);
        let grad = layer_norm_backward(&pooled, weights.norm, &grad, gradients.norm, gradients.norm_bias);
        for row in 0..shape.rows {
            for c in 0..shape.dim {
                grad_x[(sample * shape.rows + row) * shape.dim + c] += grad[c] / shape.rows as f64;
            }
        }
    }
}

fn mean(shape: &Shape, x: &[f64], sample: usize) -> Vec<f64> {
    let value = |row, c| x[(sample * shape.rows + row) * shape.dim + c];
    let sum = |c| (0..shape.rows).map(|row| value(row, c)).sum::<f64>();
    (0..shape.dim).map(|c| sum(c) / shape.rows as f64).collect()
}
