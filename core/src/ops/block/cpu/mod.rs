//! The block on the CPU: group by group, intermediates in scratch.
//!
//! A group is one large sample, or several small ones whose products are then large enough. Its rows pass through
//! the pointwise layers in tiles that fit the cache. Large samples fold GRN's scale into `W2`, small ones scale `a`.

use std::{borrow::Cow, ops::Range};

use super::{Flavour, Gradients, Saved, Shape, Weights, depthwise::Depthwise};
use crate::{
    epsilon,
    ops::{
        panels::{NARROW, PANELS},
        parallel::{Chunking, LARGE, TILE, ranges},
    },
    scratch::Buffer,
    simd::{self, Compute, Factor, Kept, Matrix, Precision, product},
};

mod backward;
mod forward;
mod panels;

pub(super) use backward::backward;
pub(super) use forward::forward;

/// Channels from which on the product that makes the hidden features takes longer in f32 than to write and to read them.
const KEEP: usize = 128;

/// What is made of the weights once, where they stay the same from call to call.
#[derive(Debug, Default)]
pub(crate) struct Frozen {
    pwconv1: Kept,
    pwconv2: Kept,
    pwconv1_panels: [Kept; PANELS],
    pwconv2_panels: [[Kept; NARROW]; PANELS],
}

/// What every group of a call needs.
struct Call<'a> {
    compute: Compute,
    shape: &'a Shape<'a>,
    weights: &'a Weights<'a>,
    drop: Option<&'a [f32]>,
    chunking: Chunking,
    /// `W2`, for V1 with its columns scaled.
    pwconv2: Cow<'a, [f32]>,
}

impl<'a> Call<'a> {
    fn new(compute: Compute, shape: &'a Shape, weights: &'a Weights, drop: Option<&'a [f32]>) -> Self {
        let mut pwconv2 = Cow::Borrowed(weights.pwconv2);
        if shape.flavour == Flavour::V1 {
            simd::scale_columns(compute.level, pwconv2.to_mut(), weights.layer_scale);
        }
        let chunking = Chunking::new(shape.samples, shape.cells.rows(), shape.parameters());
        Self { compute, shape, weights, drop, chunking, pwconv2 }
    }

    /// `b2`, for V2 with `beta W2` added, for V1 scaled.
    fn pwconv2_bias(&self) -> Buffer {
        let (shape, weights, level) = (self.shape, self.weights, self.compute.level);
        let mut bias = Buffer::new(shape.channels);
        bias.copy_from_slice(weights.pwconv2_bias);
        match shape.flavour {
            Flavour::V1 => simd::scale_columns(level, &mut bias, weights.layer_scale),
            Flavour::V2 => {
                let beta = Matrix::new(weights.grn_beta, 1, shape.hidden);
                product(Compute::exact(level), beta, self.pwconv2(weights.pwconv2), true, &mut bias);
            }
        }
        bias
    }

    fn rows(&self) -> usize {
        self.shape.cells.rows()
    }

    fn drop(&self, sample: usize) -> f32 {
        self.drop.map_or(1.0, |drop| drop[sample])
    }

    /// Whether the drop path drops every sample of a group: then it passes through.
    fn dropped(&self, group: &Range<usize>) -> bool {
        group.clone().all(|sample| self.drop(sample) == 0.0)
    }

    /// Whether a sample is worked on in tiles, and has more rows than `W2` has columns: then it is `W2` that is scaled.
    fn large(&self) -> bool {
        self.chunking.group() <= 1 && self.rows() >= LARGE.max(self.shape.channels)
    }

    /// Whether GRN's scale is folded into `W2`, sample by sample.
    fn folds(&self) -> bool {
        self.grn() && self.large()
    }

    /// Whether the hidden features are saved for the backward pass.
    fn keeps_hidden(&self) -> bool {
        self.compute.precision == Precision::F32 && self.shape.channels >= KEEP
    }

    fn grn(&self) -> bool {
        self.shape.flavour == Flavour::V2
    }

    /// Rows of a tile; a tile holds whole samples, or lies in one.
    fn tile(&self) -> usize {
        if self.large() { TILE } else { (self.chunking.group() * self.rows()).max(1) }
    }

    /// Tiles of a group, as ranges of its rows.
    fn tiles(&self, group: &Range<usize>) -> impl Iterator<Item = Range<usize>> + use<> {
        ranges(0..group.len() * self.rows(), self.tile())
    }

    /// The samples of a tile: index in the group, and rows of the tile.
    fn samples_of(&self, tile: &Range<usize>) -> impl Iterator<Item = (usize, Range<usize>)> + use<> {
        let (rows, start) = (self.rows(), tile.start);
        ranges(tile.clone(), rows.min(self.tile())).map(move |piece| {
            let sample = piece.start / rows;
            (sample, piece.start - start..piece.end - start)
        })
    }

    fn pwconv1(&self) -> Matrix<'a> {
        Matrix::new(self.weights.pwconv1, self.shape.channels, self.shape.hidden)
    }

    /// `W2`, or another matrix of its size.
    fn pwconv2<'b>(&self, weight: &'b [f32]) -> Matrix<'b> {
        Matrix::new(weight, self.shape.hidden, self.shape.channels)
    }

    /// A factor of products with many rows.
    fn factor<'b>(&self, matrix: Matrix<'b>) -> Factor<'b> {
        Factor::new(self.compute, matrix)
    }

    fn norm(&self, y: &[f32], z: &mut [f32]) {
        simd::layer_norm(self.compute.level, y, self.weights.norm, self.weights.norm_bias, z);
    }

    /// The depthwise convolution of this call.
    fn depthwise(&self) -> Depthwise {
        Depthwise::new(&self.shape.cells, self.shape.kernel, self.shape.channels)
    }

    /// Depthwise convolution of a group, `out += conv(x)`.
    fn convolve(&self, conv: &mut Depthwise, group: &Range<usize>, x: &[f32], weight: &[f32], out: &mut [f32]) {
        let values = self.rows() * self.shape.channels;
        for ((sample, x), out) in group.clone().zip(x.chunks_exact(values)).zip(out.chunks_exact_mut(values)) {
            conv.read(&self.shape.cells, sample);
            conv.add(self.compute.level, x, weight, out);
        }
    }

    /// Adds the gradient of the depthwise kernel over a group: `x` the input, `grad` the gradient of `y`.
    fn add_weight_gradient(
        &self,
        conv: &mut Depthwise,
        group: &Range<usize>,
        x: &[f32],
        grad: &[f32],
        grad_weight: &mut [f32],
    ) {
        let values = self.rows() * self.shape.channels;
        for ((sample, x), grad) in group.clone().zip(x.chunks_exact(values)).zip(grad.chunks_exact(values)) {
            conv.read(&self.shape.cells, sample);
            conv.add_weight_gradient(self.compute.level, x, grad, grad_weight);
        }
    }
}

/// The weights of both pointwise layers, for the forward pass or turned for the backward pass.
struct Factors<'a> {
    pwconv1: Factor<'a>,
    pwconv2: Factor<'a>,
}

/// Mean norm of one sample, plus epsilon. Sums in f64: the norms may be large and many.
fn mean_norm(s: &[f32]) -> f64 {
    s.iter().map(|&s| f64::from(s)).sum::<f64>() / s.len() as f64 + epsilon::GRN
}

/// `1 + gamma n` of one sample.
fn scale_of_response(call: &Call, s: &[f32], scale: &mut [f32]) {
    let rate = (1.0 / mean_norm(s)) as f32;
    for ((scale, s), gamma) in scale.iter_mut().zip(s).zip(call.weights.grn_gamma) {
        *scale = 1.0 + gamma * (s * rate);
    }
}

/// What GRN's shift adds to its own gradient and to that of `W2`, from `sum g` over all rows, `g` the gradient of the branch;
/// for some of the features.
fn shift(call: &Call, features: Range<usize>, sum: &[f32], beta: &mut [f32], pwconv2: &mut [f32]) {
    let (level, channels) = (call.compute.level, call.shape.channels);
    let weight = call.pwconv2(call.weights.pwconv2).rows(features.clone());
    product(Compute::exact(level), weight, Matrix::new(sum, channels, 1), true, beta);
    simd::add_scaled_rows(level, &call.weights.grn_beta[features], sum, channels, pwconv2);
}

/// The gradient of a group's output with the drop path's scales; `own` is room for it.
fn scaled<'a>(call: &Call, group: &Range<usize>, grad_out: &'a [f32], own: &'a mut Buffer) -> &'a [f32] {
    if call.drop.is_none() {
        return grad_out;
    }
    *own = Buffer::new(grad_out.len());
    let values = call.rows() * call.shape.channels;
    let samples = own.chunks_exact_mut(values).zip(grad_out.chunks_exact(values));
    for (sample, (grad, grad_out)) in group.clone().zip(samples) {
        simd::scale(call.drop(sample), grad_out, grad);
    }
    own
}

/// GRN's backward pass for one sample: from `t_c = sum_r du a` the gradient of `gamma` (added), and
/// `pull_c = ds_c / s_c`, by which `a` enters `da`.
fn response_backward(call: &Call, s: &[f32], t: &[f32], grad_gamma: &mut [f32], pull: &mut [f32]) {
    let mean = mean_norm(s);
    let gamma = call.weights.grn_gamma;
    let weighted = s.iter().zip(t).zip(gamma).map(|((&s, &t), &gamma)| f64::from(gamma) * f64::from(t) * f64::from(s));
    let common = weighted.sum::<f64>() / (s.len() as f64 * mean * mean);
    for c in 0..s.len() {
        grad_gamma[c] += t[c] * (f64::from(s[c]) / mean) as f32;
        let slope = f64::from(gamma[c]) * f64::from(t[c]) / mean - common;
        pull[c] = if s[c] > 0.0 { (slope / f64::from(s[c])) as f32 } else { 0.0 };
    }
}
