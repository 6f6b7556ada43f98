//! What the reference versions share: layer normalisation, GELU, linear layers, of single rows in f64.

use std::f64::consts::{PI, SQRT_2};

use crate::epsilon;

/// `x Phi(x)`.
pub(crate) fn gelu(x: f64) -> f64 {
    0.5 * x * libm::erfc(-x / SQRT_2)
}

/// `Phi(x) + x phi(x)`.
pub(crate) fn gelu_derivative(x: f64) -> f64 {
    0.5 * libm::erfc(-x / SQRT_2) + x * (-0.5 * x * x).exp() / (2.0 * PI).sqrt()
}

/// `(x - mean) / sqrt(variance + epsilon)`, and the reciprocal of that root.
fn standardise(x: &[f64]) -> (Vec<f64>, f64) {
    let count = x.len() as f64;
    let mean = x.iter().sum::<f64>() / count;
    let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
    let rate = 1.0 / (variance + epsilon::LAYER_NORM).sqrt();
    (x.iter().map(|x| (x - mean) * rate).collect(), rate)
}

/// Layer normalisation of one row.
pub(crate) fn layer_norm(x: &[f64], weight: &[f64], bias: &[f64]) -> Vec<f64> {
    let (normal, _) = standardise(x);
    (0..x.len()).map(|c| normal[c] * weight[c] + bias[c]).collect()
}

/// Gradient of the row `x`; adds those of weight and bias. With `d = grad * weight` and `v` the standardised row:
/// `grad_x = rate * (d - mean(d) - v mean(d v))`.
pub(crate) fn layer_norm_backward(
    x: &[f64],
    weight: &[f64],
    grad: &[f64],
    grad_weight: &mut [f64],
    grad_bias: &mut [f64],
) -> Vec<f64> {
    let (normal, rate) = standardise(x);
    let count = x.len() as f64;
    let mut mean = 0.0;
    let mut slope = 0.0;
    for c in 0..x.len() {
        grad_weight[c] += grad[c] * normal[c];
        grad_bias[c] += grad[c];
        mean += grad[c] * weight[c] / count;
        slope += grad[c] * weight[c] * normal[c] / count;
    }
    (0..x.len()).map(|c| rate * (grad[c] * weight[c] - mean - normal[c] * slope)).collect()
}

/// `x W + b` of one row.
pub(crate) fn linear(x: &[f64], weight: &[f64], bias: &[f64]) -> Vec<f64> {
    let mut out = bias.to_vec();
    for (i, x) in x.iter().enumerate() {
        for (j, out) in out.iter_mut().enumerate() {
            *out += x * weight[i * bias.len() + j];
        }
    }
    out
}

/// Gradient of the row `x` of [`linear`]; adds those of weight and bias.
pub(crate) fn linear_backward(
    x: &[f64],
    weight: &[f64],
    grad: &[f64],
    grad_weight: &mut [f64],
    grad_bias: &mut [f64],
) -> Vec<f64> {
    for (j, grad) in grad.iter().enumerate() {
        grad_bias[j] += grad;
    }
    let mut grad_x = vec![0.0; x.len()];
    for i in 0..x.len() {
        for (j, grad) in grad.iter().enumerate() {
            grad_weight[i * grad_bias.len() + j] += x[i] * grad;
            grad_x[i] += grad * weight[i * grad_bias.len() + j];
        }
    }
    grad_x
}
