//! Downsampling in plain loops: the specification.

use super::{Gradients, Shape, Weights};
use crate::ops::reference::{layer_norm, layer_norm_backward, linear, linear_backward};

/// `x [N, R, C]` to `[N, R/4, D]`.
pub fn forward(shape: &Shape, weights: &Weights<f64>, x: &[f64]) -> Vec<f64> {
    let mut out = Vec::new();
    for sample in 0..shape.samples {
        for row in 0..shape.cells.halved().rows() {
            let z = normalised(shape, weights, x, square(shape, sample, row));
            out.extend(linear(&z, weights.conv, weights.conv_bias));
        }
    }
    out
}

/// Adds the gradients of input and weights.
pub fn backward(
    shape: &Shape,
    weights: &Weights<f64>,
    x: &[f64],
    grad_out: &[f64],
    grad_x: &mut [f64],
    gradients: Gradients<f64>,
) {
    let (rows, channels) = (shape.cells.halved().rows(), shape.channels);
    for sample in 0..shape.samples {
        for row in 0..rows {
            let cells = square(shape, sample, row);
            let z = normalised(shape, weights, x, cells);
            let grad = &grad_out[(sample * rows + row) * shape.dim..][..shape.dim];
            let grad_z = linear_backward(&z, weights.conv, grad, gradients.conv, gradients.conv_bias);
            for (cell, grad) in cells.into_iter().zip(grad_z.chunks_exact(channels)) {
                let x = &x[cell * channels..][..channels];
                let grad = layer_norm_backward(x, weights.norm, grad, gradients.norm, gradients.norm_bias);
                for (c, grad) in grad.into_iter().enumerate() {
                    grad_x[cell * channels + c] += grad;
                }
            }
        }
    }
}

/// The four input rows, counted over the batch, of an output row.
fn square(shape: &Shape, sample: usize, row: usize) -> [usize; 4] {
    let (y, x) = shape.cells.halved().cell(sample, row);
    [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(dy, dx)| {
        let row = shape.cells.row(sample, 2 * y + dy, 2 * x + dx).expect("a square stays in its patch");
        sample * shape.cells.rows() + row
    })
}

fn normalised(shape: &Shape, weights: &Weights<f64>, x: &[f64], cells: [usize; 4]) -> Vec<f64> {
    let norm = |cell| layer_norm(&x[cell * shape.channels..][..shape.channels], weights.norm, weights.norm_bias);
    cells.into_iter().flat_map(norm).collect()
}
