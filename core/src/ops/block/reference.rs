//! The block in plain loops: the specification.

use super::{Flavour, Gradients, Shape, Weights};
use crate::epsilon;
use crate::ops::reference::{gelu, gelu_derivative, layer_norm, layer_norm_backward, linear, linear_backward};

/// `x [N, R, C]` to `[N, R, C]`; `drop [N]` scales each sample's branch.
pub fn forward(shape: &Shape, weights: &Weights<f64>, drop: Option<&[f64]>, x: &[f64]) -> Vec<f64> {
    let mut out = x.to_vec();
    for sample in 0..shape.samples {
        let state = State::new(shape, weights, x, sample);
        let scale = drop.map_or(1.0, |drop| drop[sample]);
        for (row, u) in state.u.iter().enumerate() {
            let branch = linear(u, weights.pwconv2, weights.pwconv2_bias);
            for (c, branch) in branch.into_iter().enumerate() {
                out[shape.at(sample, row, c)] += scale * layer_scale(shape, weights, c) * branch;
            }
        }
    }
    out
}

/// Adds the gradients of input and weights.
pub fn backward(
    shape: &Shape,
    weights: &Weights<f64>,
    drop: Option<&[f64]>,
    x: &[f64],
    grad_out: &[f64],
    grad_x: &mut [f64],
    mut gradients: Gradients<f64>,
) {
    for sample in 0..shape.samples {
        let state = State::new(shape, weights, x, sample);
        let scale = drop.map_or(1.0, |drop| drop[sample]);
        let grad_u = branch_backward(shape, weights, &state, sample, scale, grad_out, grad_x, &mut gradients);
        let grad_a = match shape.flavour {
            Flavour::V1 => grad_u,
            Flavour::V2 => grn_backward(weights, &state, &grad_u, &mut gradients),
        };
        for (row, grad_a) in grad_a.iter().enumerate() {
            let grad_y = pointwise_backward(shape, weights, &state, row, grad_a, &mut gradients);
            depthwise_backward(shape, weights, x, sample, row, &grad_y, grad_x, &mut gradients);
        }
    }
}

impl Shape<'_> {
    /// Place of a value of an activation.
    fn at(&self, sample: usize, row: usize, channel: usize) -> usize {
        (sample * self.cells.rows() + row) * self.channels + channel
    }
}

/// What one sample's forward pass computes, row by row.
struct State {
    y: Vec<Vec<f64>>,
    h: Vec<Vec<f64>>,
    a: Vec<Vec<f64>>,
    /// Norm of every hidden feature over the rows.
    s: Vec<f64>,
    u: Vec<Vec<f64>>,
}

impl State {
    fn new(shape: &Shape, weights: &Weights<f64>, x: &[f64], sample: usize) -> Self {
        let y: Vec<_> = (0..shape.cells.rows()).map(|row| depthwise(shape, weights, x, sample, row)).collect();
        let hidden = |y: &Vec<f64>| {
            linear(&layer_norm(y, weights.norm, weights.norm_bias), weights.pwconv1, weights.pwconv1_bias)
        };
        let h: Vec<_> = y.iter().map(hidden).collect();
        let a: Vec<Vec<f64>> = h.iter().map(|h| h.iter().copied().map(gelu).collect()).collect();
        let norm = |c: usize| a.iter().map(|a| a[c] * a[c]).sum::<f64>().sqrt();
        let s: Vec<_> = (0..shape.hidden).map(norm).collect();
        let u = match shape.flavour {
            Flavour::V1 => a.clone(),
            Flavour::V2 => a.iter().map(|a| grn(weights, a, &s)).collect(),
        };
        Self { y, h, a, s, u }
    }
}

/// Every cell under the kernel that exists: `(tap, row)`.
fn taps(shape: &Shape, sample: usize, row: usize) -> Vec<(usize, usize)> {
    let (half, (y, x)) = (shape.kernel / 2, shape.cells.cell(sample, row));
    let mut taps = Vec::new();
    for ky in 0..shape.kernel {
        for kx in 0..shape.kernel {
            // Past the upper and left edges the subtraction fails, past the others the comparison.
            let (Some(y), Some(x)) = ((y + ky).checked_sub(half), (x + kx).checked_sub(half)) else { continue };
            if y < shape.cells.height() && x < shape.cells.width() {
                let row = shape.cells.row(sample, y, x);
                taps.extend(row.map(|row| (ky * shape.kernel + kx, row)));
            }
        }
    }
    taps
}

fn depthwise(shape: &Shape, weights: &Weights<f64>, x: &[f64], sample: usize, row: usize) -> Vec<f64> {
    let mut y = weights.dwconv_bias.to_vec();
    for (tap, from) in taps(shape, sample, row) {
        for (c, y) in y.iter_mut().enumerate() {
            *y += x[shape.at(sample, from, c)] * weights.dwconv[tap * shape.channels + c];
        }
    }
    y
}

#[expect(clippy::too_many_arguments, reason = "written to be read in one place")]
fn depthwise_backward(
    shape: &Shape,
    weights: &Weights<f64>,
    x: &[f64],
    sample: usize,
    row: usize,
    grad_y: &[f64],
    grad_x: &mut [f64],
    gradients: &mut Gradients<f64>,
) {
    for (c, grad) in grad_y.iter().enumerate() {
        gradients.dwconv_bias[c] += grad;
        for (tap, from) in taps(shape, sample, row) {
            let (weight, from) = (tap * shape.channels + c, shape.at(sample, from, c));
            gradients.dwconv[weight] += grad * x[from];
            grad_x[from] += grad * weights.dwconv[weight];
        }
    }
}

/// Mean norm plus epsilon.
fn mean_norm(s: &[f64]) -> f64 {
    s.iter().sum::<f64>() / s.len() as f64 + epsilon::GRN
}

fn grn(weights: &Weights<f64>, a: &[f64], s: &[f64]) -> Vec<f64> {
    let mean = mean_norm(s);
    (0..a.len()).map(|c| a[c] * (1.0 + weights.grn_gamma[c] * s[c] / mean) + weights.grn_beta[c]).collect()
}

fn grn_backward(
    weights: &Weights<f64>,
    state: &State,
    grad_u: &[Vec<f64>],
    gradients: &mut Gradients<f64>,
) -> Vec<Vec<f64>> {
    let (s, hidden) = (&state.s, state.s.len());
    let mean = mean_norm(s);
    let mut q = vec![0.0; hidden];
    for c in 0..hidden {
        let t: f64 = grad_u.iter().zip(&state.a).map(|(grad, a)| grad[c] * a[c]).sum();
        gradients.grn_beta[c] += grad_u.iter().map(|grad| grad[c]).sum::<f64>();
        gradients.grn_gamma[c] += t * s[c] / mean;
        q[c] = weights.grn_gamma[c] * t;
    }
    let common = (0..hidden).map(|c| q[c] * s[c]).sum::<f64>() / (hidden as f64 * mean * mean);
    let grad_a = |grad: &Vec<f64>, a: &Vec<f64>| {
        let one = |c: usize| {
            let direct = grad[c] * (1.0 + weights.grn_gamma[c] * s[c] / mean);
            // The norm has no derivative where it is 0; there the feature is 0 in every row, and so is this term.
            if s[c] == 0.0 { direct } else { direct + (q[c] / mean - common) * a[c] / s[c] }
        };
        (0..hidden).map(one).collect()
    };
    grad_u.iter().zip(&state.a).map(|(grad, a)| grad_a(grad, a)).collect()
}

/// V1's scale of a channel; 1 in V2.
fn layer_scale(shape: &Shape, weights: &Weights<f64>, channel: usize) -> f64 {
    match shape.flavour {
        Flavour::V1 => weights.layer_scale[channel],
        Flavour::V2 => 1.0,
    }
}

/// From the block's output to `u`; the residual's gradient goes to `grad_x`.
#[expect(clippy::too_many_arguments, reason = "written to be read in one place")]
fn branch_backward(
    shape: &Shape,
    weights: &Weights<f64>,
    state: &State,
    sample: usize,
    scale: f64,
    grad_out: &[f64],
    grad_x: &mut [f64],
    gradients: &mut Gradients<f64>,
) -> Vec<Vec<f64>> {
    let mut grad_u = Vec::new();
    for (row, u) in state.u.iter().enumerate() {
        let branch = linear(u, weights.pwconv2, weights.pwconv2_bias);
        let mut grad = vec![0.0; shape.channels];
        for c in 0..shape.channels {
            let at = shape.at(sample, row, c);
            grad_x[at] += grad_out[at];
            grad[c] = grad_out[at] * scale * layer_scale(shape, weights, c);
            if shape.flavour == Flavour::V1 {
                gradients.layer_scale[c] += grad_out[at] * scale * branch[c];
            }
        }
        grad_u.push(linear_backward(u, weights.pwconv2, &grad, gradients.pwconv2, gradients.pwconv2_bias));
    }
    grad_u
}

/// From `a` to `y`, one row.
fn pointwise_backward(
    shape: &Shape,
    weights: &Weights<f64>,
    state: &State,
    row: usize,
    grad_a: &[f64],
    gradients: &mut Gradients<f64>,
) -> Vec<f64> {
    let (y, h) = (&state.y[row], &state.h[row]);
    let grad_h: Vec<_> = (0..shape.hidden).map(|c| grad_a[c] * gelu_derivative(h[c])).collect();
    let z = layer_norm(y, weights.norm, weights.norm_bias);
    let grad_z = linear_backward(&z, weights.pwconv1, &grad_h, gradients.pwconv1, gradients.pwconv1_bias);
    layer_norm_backward(y, weights.norm, &grad_z, gradients.norm, gradients.norm_bias)
}
