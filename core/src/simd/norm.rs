//! Layer normalisation of rows.
//!
//! Rows are short, so each waits for its own sums; they do not depend on each other, and a CPU works on several at
//! once if a row takes few instructions. Hence vectors by hand.

use pulp::{Simd, WithSimd};

use super::Level;
use crate::profile::timed;

/// The epsilon of layer normalisation.
const EPSILON: f32 = crate::epsilon::LAYER_NORM as f32;

/// Layer normalisation of every row of `x`: `out = (x - mean) / sqrt(variance + 1e-6) * weight + bias`.
pub(crate) fn layer_norm(level: Level, x: &[f32], weight: &[f32], bias: &[f32], out: &mut [f32]) {
    timed!(Kernel, "layer_norm");
    level.filled_by(weight.len()).run(Forward { x, weight, bias, out });
}

/// Gradients of [`layer_norm`]: turns `grad`, that of its output, into that of `x`, in place; adds those of weight
/// and bias.
pub(crate) fn layer_norm_backward(
    level: Level,
    x: &[f32],
    weight: &[f32],
    grad: &mut [f32],
    grad_weight: &mut [f32],
    grad_bias: &mut [f32],
) {
    timed!(Kernel, "layer_norm_backward");
    level.filled_by(weight.len()).run(Backward { x, weight, grad, grad_weight, grad_bias });
}

/// A row's whole vectors, and what is left.
type Split<'a, V> = (&'a [V], &'a [f32]);

#[inline(always)]
fn split<S: Simd>(row: &[f32], channels: usize) -> Split<'_, S::f32s> {
    S::as_simd_f32s(&row[..channels])
}

/// Ones where the last, partial vector of a row has values.
#[inline(always)]
fn live<S: Simd>(simd: S, channels: usize) -> S::f32s {
    simd.partial_load_f32s(&[1.0; 16][..channels % S::F32_LANES])
}

/// Mean and `1 / sqrt(variance + epsilon)` of a row; the variance is taken around the mean, in a second pass.
#[inline(always)]
fn moments<S: Simd>(simd: S, (whole, rest): Split<S::f32s>, live: S::f32s, channels: f32) -> (f32, f32) {
    let mut sum = simd.partial_load_f32s(rest);
    for x in whole {
        sum = simd.add_f32s(sum, *x);
    }
    let mean = simd.reduce_sum_f32s(sum) / channels;
    let centre = simd.splat_f32s(mean);
    let centred = simd.mul_f32s(simd.sub_f32s(simd.partial_load_f32s(rest), centre), live);
    let mut squares = simd.mul_f32s(centred, centred);
    for x in whole {
        let centred = simd.sub_f32s(*x, centre);
        squares = simd.mul_add_e_f32s(centred, centred, squares);
    }
    (mean, 1.0 / (simd.reduce_sum_f32s(squares) / channels + EPSILON).sqrt())
}

struct Forward<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    bias: &'a [f32],
    out: &'a mut [f32],
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let channels = self.weight.len();
        let (weight, bias) = (split::<S>(self.weight, channels), split::<S>(self.bias, channels));
        let live = live(simd, channels);
        for (x, out) in self.x.chunks_exact(channels).zip(self.out.chunks_exact_mut(channels)) {
            let x = split::<S>(x, channels);
            let (mean, rate) = moments(simd, x, live, channels as f32);
            let [mean, rate] = [mean, rate].map(|value| simd.splat_f32s(value));
            let (out, out_rest) = S::as_mut_simd_f32s(out);
            for (((out, x), weight), bias) in out.iter_mut().zip(x.0).zip(weight.0).zip(bias.0) {
                let hat = simd.mul_f32s(simd.sub_f32s(*x, mean), rate);
                *out = simd.mul_add_e_f32s(hat, *weight, *bias);
            }
            if !out_rest.is_empty() {
                let [x, weight, bias] = [x.1, weight.1, bias.1].map(|rest| simd.partial_load_f32s(rest));
                let hat = simd.mul_f32s(simd.sub_f32s(x, mean), rate);
                simd.partial_store_f32s(out_rest, simd.mul_add_e_f32s(hat, weight, bias));
            }
        }
    }
}

struct Backward<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    grad: &'a mut [f32],
    grad_weight: &'a mut [f32],
    grad_bias: &'a mut [f32],
}

impl WithSimd for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let channels = self.weight.len();
        let scale = 1.0 / channels as f32;
        let weight = split::<S>(self.weight, channels);
        let (grad_weight, grad_weight_rest) = S::as_mut_simd_f32s(&mut self.grad_weight[..channels]);
        let (grad_bias, grad_bias_rest) = S::as_mut_simd_f32s(&mut self.grad_bias[..channels]);
        let live = live(simd, channels);
        for (x, grad) in self.x.chunks_exact(channels).zip(self.grad.chunks_exact_mut(channels)) {
            let x = split::<S>(x, channels);
            let (grad, grad_rest) = S::as_mut_simd_f32s(grad);
            let (mean, rate) = moments(simd, x, live, channels as f32);
            let row = Row { simd, mean: simd.splat_f32s(mean), rate: simd.splat_f32s(rate) };
            let mut sums = [simd.splat_f32s(0.0); 2];
            let lines = grad.iter_mut().zip(x.0).zip(weight.0).zip(&mut *grad_weight).zip(&mut *grad_bias);
            for ((((grad, x), weight), grad_weight), grad_bias) in lines {
                row.first(*x, *weight, grad, [grad_weight, grad_bias], &mut sums);
            }
            if !grad_rest.is_empty() {
                let [x, weight, mut grad] = [x.1, weight.1, grad_rest].map(|rest| simd.partial_load_f32s(rest));
                let [mut to_weight, mut to_bias] =
                    [&*grad_weight_rest, &*grad_bias_rest].map(|rest| simd.partial_load_f32s(rest));
                // Where there is no value, the gradient is zero, and so is all that it is multiplied with.
                row.first(x, weight, &mut grad, [&mut to_weight, &mut to_bias], &mut sums);
                simd.partial_store_f32s(grad_rest, grad);
                simd.partial_store_f32s(grad_weight_rest, to_weight);
                simd.partial_store_f32s(grad_bias_rest, to_bias);
            }
            let [offset, slope] = sums.map(|sum| simd.reduce_sum_f32s(sum) * scale);
            let [offset, slope] = [offset, slope * rate * rate].map(|value| simd.splat_f32s(value));
            for (grad, x) in grad.iter_mut().zip(x.0) {
                *grad = row.second(*x, *grad, offset, slope);
            }
            if !grad_rest.is_empty() {
                let [x, grad] = [x.1, grad_rest].map(|rest| simd.partial_load_f32s(rest));
                simd.partial_store_f32s(grad_rest, row.second(x, grad, offset, slope));
            }
        }
    }
}

/// The backward pass of one vector of a row, before and after the sums over the row are known.
struct Row<S: Simd> {
    simd: S,
    mean: S::f32s,
    rate: S::f32s,
}

impl<S: Simd> Row<S> {
    /// Adds to the gradients of weight and bias, scales `grad` by the weight, and adds it and its product with the
    /// centred `x` to `sums`.
    #[inline(always)]
    fn first(
        &self,
        x: S::f32s,
        weight: S::f32s,
        grad: &mut S::f32s,
        [grad_weight, grad_bias]: [&mut S::f32s; 2],
        sums: &mut [S::f32s; 2],
    ) {
        let simd = self.simd;
        let centred = simd.sub_f32s(x, self.mean);
        *grad_weight = simd.mul_add_e_f32s(*grad, simd.mul_f32s(centred, self.rate), *grad_weight);
        *grad_bias = simd.add_f32s(*grad_bias, *grad);
        *grad = simd.mul_f32s(*grad, weight);
        sums[0] = simd.add_f32s(sums[0], *grad);
        sums[1] = simd.mul_add_e_f32s(*grad, centred, sums[1]);
    }

    /// The gradient of `x`.
    #[inline(always)]
    fn second(&self, x: S::f32s, grad: S::f32s, offset: S::f32s, slope: S::f32s) -> S::f32s {
        let simd = self.simd;
        let along = simd.mul_f32s(simd.sub_f32s(x, self.mean), slope);
        simd.mul_f32s(self.rate, simd.sub_f32s(simd.sub_f32s(grad, offset), along))
    }
}
