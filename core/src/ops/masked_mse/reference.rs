//! Prediction and loss in plain loops: the specification.

use super::{Gradients, Shape, Weights};
use crate::epsilon;
use crate::ops::reference::{linear, linear_backward};

/// Predictions of every cell, `[N, H, W, S * S * C]`.
pub fn predict(shape: &Shape, weights: &Weights<f64>, features: &[f64]) -> Vec<f64> {
    let cells = features.chunks_exact(shape.dim);
    cells.flat_map(|f| linear(f, weights.prediction, weights.prediction_bias)).collect()
}

/// The loss of `features [N, H, W, D]` against `images [N, H * S, W * S, C]`.
pub fn forward(shape: &Shape, weights: &Weights<f64>, features: &[f64], images: &[f64]) -> f64 {
    let predictions = predict(shape, weights, features);
    errors(shape, &predictions, images).into_iter().map(|(_, error)| error * error * mean(shape)).sum()
}

/// Adds the gradients of `grad_loss * loss`.
pub fn backward(
    shape: &Shape,
    weights: &Weights<f64>,
    features: &[f64],
    images: &[f64],
    grad_loss: f64,
    grad_features: &mut [f64],
    gradients: Gradients<f64>,
) {
    let predictions = predict(shape, weights, features);
    let mut grad = vec![0.0; predictions.len()];
    for (at, error) in errors(shape, &predictions, images) {
        grad[at] = 2.0 * error * mean(shape) * grad_loss;
    }
    for (cell, grad) in grad.chunks_exact(shape.pixels()).enumerate() {
        let values = cell * shape.dim..(cell + 1) * shape.dim;
        let f = &features[values.clone()];
        let grad = linear_backward(f, weights.prediction, grad, gradients.prediction, gradients.prediction_bias);
        for (grad_f, grad) in grad_features[values].iter_mut().zip(grad) {
            *grad_f += grad;
        }
    }
}

/// What each squared error weighs.
fn mean(shape: &Shape) -> f64 {
    1.0 / (shape.visible.samples() * shape.visible.removed() * shape.patch()) as f64
}

/// For every value of every removed patch: its place among the predictions, and `prediction - target`.
fn errors(shape: &Shape, predictions: &[f64], images: &[f64]) -> Vec<(usize, f64)> {
    let mut errors = Vec::new();
    for sample in 0..shape.visible.samples() {
        for patch in shape.visible.removed_patches(sample) {
            let places = places(shape, sample, patch);
            let pixels: Vec<f64> = places.iter().map(|&(_, pixel)| images[pixel]).collect();
            let (mean, deviation) = if shape.normalised { moments(&pixels) } else { (0.0, 1.0) };
            for (&(prediction, _), pixel) in places.iter().zip(pixels) {
                errors.push((prediction, predictions[prediction] - (pixel - mean) / deviation));
            }
        }
    }
    errors
}

fn moments(pixels: &[f64]) -> (f64, f64) {
    let mean = pixels.iter().sum::<f64>() / pixels.len() as f64;
    let squares = pixels.iter().map(|pixel| (pixel - mean).powi(2)).sum::<f64>();
    (mean, (squares / (pixels.len() as f64 - 1.0).max(1.0) + epsilon::TARGET).sqrt())
}

/// For every value of a patch, `(py, px, c)` row-major: its place among the predictions and among the images.
fn places(shape: &Shape, sample: usize, patch: usize) -> Vec<(usize, usize)> {
    let (stride, channels, wide) = (shape.stride, shape.channels, shape.visible.patches_wide());
    let (side, width) = (shape.side * stride, shape.side * wide);
    let mut places = Vec::new();
    for py in 0..side {
        for px in 0..side {
            for c in 0..channels {
                let (y, x) = (patch / wide * side + py, patch % wide * side + px);
                let cell = sample * shape.grid() + y / stride * width + x / stride;
                let prediction = cell * shape.pixels() + (y % stride * stride + x % stride) * channels + c;
                let image = sample * shape.grid() * shape.pixels();
                places.push((prediction, image + (y * width * stride + x) * channels + c));
            }
        }
    }
    places
}
