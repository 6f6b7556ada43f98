//! Densification in plain loops: the specification.

use super::{Gradients, Shape, Weights};
use crate::ops::reference::{linear, linear_backward};

/// `x [N, K, P, P, C]` to `[N, H, W, D]`.
pub fn forward(shape: &Shape, weights: &Weights<f64>, x: &[f64]) -> Vec<f64> {
    let mut out = Vec::new();
    for (_, row) in grid(shape) {
        match row {
            Some(row) => {
                let x = &x[row * shape.channels..][..shape.channels];
                out.extend(linear(x, weights.projection, weights.projection_bias));
            }
            None => out.extend(weights.mask_token),
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
    for (cell, row) in grid(shape) {
        let grad = &grad_out[cell * shape.dim..][..shape.dim];
        if let Some(row) = row {
            let values = row * shape.channels..(row + 1) * shape.channels;
            let x = &x[values.clone()];
            let grad = linear_backward(x, weights.projection, grad, gradients.projection, gradients.projection_bias);
            for (grad_x, grad) in grad_x[values].iter_mut().zip(grad) {
                *grad_x += grad;
            }
        } else {
            for (token, grad) in gradients.mask_token.iter_mut().zip(grad) {
                *token += grad;
            }
        }
    }
}

/// Every cell of the batch's grids and the row of the input that holds it, both counted over the batch.
fn grid(shape: &Shape) -> Vec<(usize, Option<usize>)> {
    let cells = shape.cells();
    let (height, width) = (cells.height(), cells.width());
    let place = |cell: usize| {
        let (sample, y, x) = (cell / (height * width), cell / width % height, cell % width);
        (cell, cells.row(sample, y, x).map(|row| sample * cells.rows() + row))
    };
    (0..shape.visible.samples() * height * width).map(place).collect()
}
