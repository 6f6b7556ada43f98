//! The stem in plain loops: the specification.

use super::{Gradients, Shape, Weights};
use crate::ops::reference::{layer_norm, layer_norm_backward, linear, linear_backward};

/// `images [N, H, W, C_in]` to `[N, R, D]`.
pub fn forward(shape: &Shape, weights: &Weights<f64>, images: &[f64]) -> Vec<f64> {
    let mut out = Vec::new();
    for sample in 0..shape.samples {
        for row in 0..shape.cells.rows() {
            let square = square(shape, sample, row).map(|at| images[at]).collect::<Vec<_>>();
            let y = linear(&square, weights.conv, weights.conv_bias);
            out.extend(layer_norm(&y, weights.norm, weights.norm_bias));
        }
    }
    out
}

/// Adds the gradients of images and weights.
pub fn backward(
    shape: &Shape,
    weights: &Weights<f64>,
    images: &[f64],
    grad_out: &[f64],
    grad_images: &mut [f64],
    gradients: Gradients<f64>,
) {
    for sample in 0..shape.samples {
        for row in 0..shape.cells.rows() {
            let grad = &grad_out[(sample * shape.cells.rows() + row) * shape.dim..][..shape.dim];
            let x = square(shape, sample, row).map(|at| images[at]).collect::<Vec<_>>();
            let y = linear(&x, weights.conv, weights.conv_bias);
            let grad_y = layer_norm_backward(&y, weights.norm, grad, gradients.norm, gradients.norm_bias);
            let grad_x = linear_backward(&x, weights.conv, &grad_y, gradients.conv, gradients.conv_bias);
            for (at, grad) in square(shape, sample, row).zip(grad_x) {
                grad_images[at] += grad;
            }
        }
    }
}

/// Where the values of the square under a row lie in the images, `(py, px, c)` row-major.
fn square(shape: &Shape, sample: usize, row: usize) -> impl Iterator<Item = usize> + use<> {
    let (stride, channels) = (shape.stride, shape.channels);
    let (height, width) = (shape.cells.height() * stride, shape.cells.width() * stride);
    let (y, x) = shape.cells.cell(sample, row);
    (0..stride * stride * channels).map(move |value| {
        let (py, px, c) = (value / (stride * channels), value / channels % stride, value % channels);
        ((sample * height + y * stride + py) * width + x * stride + px) * channels + c
    })
}
