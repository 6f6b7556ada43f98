//! The backward pass of the block.
//!
//! Only the forward pass of wide blocks in f32 saves its hidden features, the largest tensors by far: elsewhere to write and
//! read them takes as long as the product that makes them, and they are computed again. GELU always is, here together with
//! its derivative.

use std::ops::Range;

use rayon::prelude::*;

use super::{
    Call, Factors, Gradients, Saved, Shape, Weights, panels, response_backward, scale_of_response, scaled, shift,
};
use crate::{
    ops::{
        block::depthwise::turned,
        parallel::{TILE, add_all, ranges, zero},
    },
    scratch::Buffer,
    simd::{self, Compute, Factor, Matrix, multiply, product},
};

#[expect(clippy::too_many_arguments, reason = "the forward pass's arguments and one gradient for each")]
pub(in crate::ops::block) fn backward(
    compute: Compute,
    shape: &Shape,
    weights: &Weights,
    drop: Option<&[f32]>,
    x: &[f32],
    saved: &Saved,
    grad_out: &[f32],
    grad_x: &mut [f32],
    mut gradients: Gradients,
) {
    let call = Call::new(compute, shape, weights, drop);
    if panels::suit(&call) {
        return panels::backward(&call, x, saved, grad_out, grad_x, &mut gradients);
    }
    let values = call.rows() * shape.channels;
    let turned = turned(weights.dwconv, shape.channels);
    let pwconv1 = call.factor(call.pwconv1());
    let factors =
        Factors { pwconv1: call.factor(call.pwconv1().t()), pwconv2: call.factor(call.pwconv2(&call.pwconv2).t()) };
    let parts = call.chunking.accumulate(shape.parameters(), grad_x, values, |chunk, grad_x, flat| {
        let mut conv = call.depthwise();
        let mut gradients = Gradients::split(flat, shape);
        let mut first = true;
        let begin = chunk.start;
        for group in call.chunking.groups(chunk) {
            let here = group.start * values..group.end * values;
            let grad_x = &mut grad_x[(group.start - begin) * values..][..here.len()];
            simd::add(grad_x, &grad_out[here.clone()]);
            if call.dropped(&group) {
                continue;
            }
            let mut grad_y = Buffer::new(here.len());
            let mut scaled = Buffer::default();
            Part::new(&call, &pwconv1, saved, group.clone(), &grad_out[here.clone()], &mut scaled).pointwise(
                &factors,
                &mut grad_y,
                &mut gradients,
                std::mem::take(&mut first),
            );
            simd::add_columns(call.compute.level, &grad_y, gradients.dwconv_bias);
            call.convolve(&mut conv, &group, &grad_y, &turned, grad_x);
            call.add_weight_gradient(&mut conv, &group, &x[here], &grad_y, gradients.dwconv);
        }
        if first || values == 0 {
            zero(flat);
        } else if !call.grn() {
            unscale(&call, &mut gradients);
        }
    });
    gradients.add(&parts);
    if call.grn() {
        let mut sum = Buffer::zeros(shape.channels);
        add_all(&mut sum, &parts, shape.parameters() - shape.channels);
        let features = ranges(0..shape.hidden, TILE);
        let parts = gradients.grn_beta.chunks_mut(TILE).zip(gradients.pwconv2.chunks_mut(TILE * shape.channels));
        let jobs: Vec<_> = features.zip(parts).collect();
        jobs.into_par_iter().for_each(|(features, (beta, pwconv2))| shift(&call, features, &sum, beta, pwconv2));
    }
}

/// V1's scale, the same for all samples of a chunk: until here `pwconv2` holds `a^T g` and `pwconv2_bias` holds `sum g`,
/// with `g` the gradient of the branch before it.
fn unscale(call: &Call, gradients: &mut Gradients) {
    let (level, weights, sum) = (call.compute.level, call.weights, &mut *gradients.pwconv2_bias);
    simd::add_column_products(level, weights.pwconv2, gradients.pwconv2, gradients.layer_scale);
    simd::add_column_products(level, weights.pwconv2_bias, sum, gradients.layer_scale);
    simd::scale_columns(level, gradients.pwconv2, weights.layer_scale);
    simd::scale_columns(level, sum, weights.layer_scale);
}

/// How the gradient passes GRN, for each sample and feature of a group: `da = scale * du + pull * a`.
struct Response {
    scale: Buffer,
    pull: Buffer,
}

impl Response {
    /// No GRN.
    fn none(length: usize) -> Self {
        let mut scale = Buffer::new(length);
        scale.fill(1.0);
        Self { scale, pull: Buffer::zeros(length) }
    }
}

/// One group's part of the backward pass.
struct Part<'a> {
    call: &'a Call<'a>,
    group: Range<usize>,
    y: &'a [f32],
    s: &'a [f32],
    /// The gradient of the branch, the drop path's scale included.
    grad: &'a [f32],
    z: Buffer,
    a: Buffer,
    /// The derivative of GELU at `h`.
    slope: Buffer,
    /// `h` without its bias, if it was saved.
    hidden: &'a [f32],
}

impl<'a> Part<'a> {
    fn new(
        call: &'a Call,
        pwconv1: &Factor,
        saved: &'a Saved,
        group: Range<usize>,
        grad_out: &'a [f32],
        own: &'a mut Buffer,
    ) -> Self {
        let (rows, channels, hidden) = (call.rows(), call.shape.channels, call.shape.hidden);
        let grad = scaled(call, &group, grad_out, own);
        let y = &saved.y[group.start * rows * channels..group.end * rows * channels];
        let s = &saved.s[group.start * hidden..group.end * hidden];
        let [a, slope] = [(); 2].map(|()| Buffer::new(group.len() * rows * hidden));
        let features =
            if saved.hidden.is_empty() { 0..0 } else { group.start * rows * hidden..group.end * rows * hidden };
        let hidden = &saved.hidden[features];
        let mut part = Self { call, group, y, s, grad, z: Buffer::new(y.len()), a, slope, hidden };
        part.recompute(pwconv1);
        part
    }

    /// `z`, `a` and GELU's derivative from `y`, and from the hidden features if they were saved.
    fn recompute(&mut self, pwconv1: &Factor) {
        let (call, channels, hidden) = (self.call, self.call.shape.channels, self.call.shape.hidden);
        for tile in call.tiles(&self.group) {
            let narrow = tile.start * channels..tile.end * channels;
            let wide = tile.start * hidden..tile.end * hidden;
            let z = &mut self.z[narrow.clone()];
            call.norm(&self.y[narrow], z);
            let (h, a) = (&mut self.slope[wide.clone()], &mut self.a[wide.clone()]);
            if self.hidden.is_empty() {
                multiply(Matrix::new(z, tile.len(), channels), pwconv1, false, h);
            } else {
                h.copy_from_slice(&self.hidden[wide]);
            }
            simd::bias_gelu_with_derivative(call.compute.level, h, call.weights.pwconv1_bias, a);
        }
    }

    /// From the gradient of the branch to that of `y`. The `first` part sets the gradients, others add to them.
    fn pointwise(mut self, turned: &Factors, grad_y: &mut [f32], gradients: &mut Gradients, first: bool) {
        let (call, hidden) = (self.call, self.call.shape.hidden);
        if first {
            self.begin(gradients);
        }
        simd::add_columns(call.compute.level, self.grad, gradients.pwconv2_bias);
        let mut response = Response::none(self.group.len() * hidden);
        let whole = call.grn() && call.large();
        if whole {
            self.large(gradients, &mut response);
        }
        let mut grad_h = Buffer::new(call.tile() * hidden);
        for tile in call.tiles(&self.group) {
            let grad_h = &mut grad_h[..tile.len() * hidden];
            multiply(self.grad(&tile), &turned.pwconv2, false, grad_h);
            if call.grn() && !whole {
                self.small(&tile, grad_h, gradients, &mut response);
            }
            self.activation(&tile, &response, grad_h, gradients);
            let accumulate = !first || tile.start > 0;
            if !whole {
                self.second_layer(&tile, &response, gradients, accumulate);
            }
            self.first_layer(&tile, turned, grad_h, grad_y, gradients, accumulate);
        }
    }

    /// Zeros, but for what the first tile's products set: large matrices, of which a chunk may have few rows.
    fn begin(&self, gradients: &mut Gradients) {
        let Gradients { dwconv, dwconv_bias, norm, norm_bias, pwconv1_bias, pwconv2_bias, .. } = gradients;
        for gradient in [dwconv, dwconv_bias, norm, norm_bias, pwconv1_bias, pwconv2_bias] {
            zero(gradient);
        }
        let Gradients { grn_gamma, grn_beta, layer_scale, .. } = gradients;
        for gradient in [grn_gamma, grn_beta, layer_scale] {
            zero(gradient);
        }
        if self.call.grn() && self.call.large() {
            zero(gradients.pwconv2);
        }
    }

    /// The gradient of a tile of the branch.
    fn grad(&self, tile: &Range<usize>) -> Matrix<'_> {
        let channels = self.call.shape.channels;
        Matrix::new(&self.grad[tile.start * channels..tile.end * channels], tile.len(), channels)
    }

    /// `a` of a tile.
    fn a(&self, tile: &Range<usize>) -> Matrix<'_> {
        let hidden = self.call.shape.hidden;
        Matrix::new(&self.a[tile.start * hidden..tile.end * hidden], tile.len(), hidden)
    }

    /// GRN of a large sample, and the gradient of `W2`: all of it from `a^T g`, without the gradient of any row.
    fn large(&self, gradients: &mut Gradients, response: &mut Response) {
        let (call, channels, hidden) = (self.call, self.call.shape.channels, self.call.shape.hidden);
        let mut grad_pwconv2 = Buffer::new(hidden * channels);
        for tile in call.tiles(&self.group) {
            product(call.compute, self.a(&tile).t(), self.grad(&tile), tile.start > 0, &mut grad_pwconv2);
        }
        let mut t = Buffer::new(hidden);
        simd::row_products(call.compute.level, &grad_pwconv2, call.weights.pwconv2, channels, &mut t);
        response_backward(call, self.s, &t, gradients.grn_gamma, &mut response.pull);
        scale_of_response(call, self.s, &mut response.scale);
        simd::add_scaled_rows(call.compute.level, &response.scale, &grad_pwconv2, channels, gradients.pwconv2);
    }

    /// GRN of small samples, from `du`.
    fn small(&self, tile: &Range<usize>, grad_u: &[f32], gradients: &mut Gradients, response: &mut Response) {
        let (call, hidden) = (self.call, self.call.shape.hidden);
        let a = &self.a[tile.start * hidden..tile.end * hidden];
        let mut t = Buffer::new(hidden);
        for (sample, rows) in call.samples_of(tile) {
            let values = rows.start * hidden..rows.end * hidden;
            let features = sample * hidden..(sample + 1) * hidden;
            let s = &self.s[features.clone()];
            t.fill(0.0);
            simd::add_column_products(call.compute.level, &grad_u[values.clone()], &a[values], &mut t);
            response_backward(call, s, &t, gradients.grn_gamma, &mut response.pull[features.clone()]);
            scale_of_response(call, s, &mut response.scale[features]);
        }
    }

    /// From `du` to the gradient of `h`, in place.
    fn activation(&self, tile: &Range<usize>, response: &Response, grad_h: &mut [f32], gradients: &mut Gradients) {
        let (call, hidden) = (self.call, self.call.shape.hidden);
        for (sample, rows) in call.samples_of(tile) {
            let values = (tile.start + rows.start) * hidden..(tile.start + rows.end) * hidden;
            let features = sample * hidden..(sample + 1) * hidden;
            simd::activation_backward(
                call.compute.level,
                &self.a[values.clone()],
                &self.slope[values],
                &response.scale[features.clone()],
                &response.pull[features],
                &mut grad_h[rows.start * hidden..rows.end * hidden],
                gradients.pwconv1_bias,
            );
        }
    }

    /// The gradient of `W2` from small samples, or without GRN. Scales `a`, which nobody reads after it.
    fn second_layer(&mut self, tile: &Range<usize>, response: &Response, gradients: &mut Gradients, accumulate: bool) {
        let (call, hidden) = (self.call, self.call.shape.hidden);
        if call.grn() {
            for (sample, rows) in call.samples_of(tile) {
                let values = (tile.start + rows.start) * hidden..(tile.start + rows.end) * hidden;
                let scale = &response.scale[sample * hidden..][..hidden];
                simd::scale_columns(call.compute.level, &mut self.a[values], scale);
            }
        }
        product(call.compute, self.a(tile).t(), self.grad(tile), accumulate, gradients.pwconv2);
    }

    /// From the gradient of `h` to that of `y`.
    fn first_layer(
        &self,
        tile: &Range<usize>,
        turned: &Factors,
        grad_h: &[f32],
        grad_y: &mut [f32],
        gradients: &mut Gradients,
        accumulate: bool,
    ) {
        let (call, channels, hidden) = (self.call, self.call.shape.channels, self.call.shape.hidden);
        let values = tile.start * channels..tile.end * channels;
        let (y, z, grad_y) = (&self.y[values.clone()], &self.z[values.clone()], &mut grad_y[values]);
        let grad_h = Matrix::new(grad_h, tile.len(), hidden);
        product(call.compute, Matrix::new(z, tile.len(), channels).t(), grad_h, accumulate, gradients.pwconv1);
        multiply(grad_h, &turned.pwconv1, false, grad_y);
        let (norm, norm_bias) = (&mut *gradients.norm, &mut *gradients.norm_bias);
        simd::layer_norm_backward(call.compute.level, y, call.weights.norm, grad_y, norm, norm_bias);
    }
}
