//! Kernels over rows of channels: sums, GELU and what surrounds it.

use super::{Arithmetic, Level, dispatch, math};
use crate::profile::timed;

/// Lanes of sums in f64.
const LANES_F64: usize = 16;

/// Lanes of the reductions over a row.
const LANES: usize = 8;

/// `sum_i x_i` in f64. The same bits at every level, as for all in f64: lanes are fixed, and nothing is fused.
pub(crate) fn sum(level: Level, values: &[f32]) -> f64 {
    dispatch!(level, sum_body(values))
}

#[inline(always)]
fn sum_body<A: Arithmetic>(values: &[f32]) -> f64 {
    let (rows, rest) = values.as_chunks::<LANES_F64>();
    let mut lanes = [0.0; LANES_F64];
    for row in rows {
        for (lane, &x) in lanes.iter_mut().zip(row) {
            *lane += f64::from(x);
        }
    }
    let mut sum = 0.0;
    for lane in lanes {
        sum += lane;
    }
    for &x in rest {
        sum += f64::from(x);
    }
    sum
}

/// `sum_i (x_i - mean)^2` in f64.
pub(crate) fn sum_of_squares(level: Level, values: &[f32], mean: f64) -> f64 {
    dispatch!(level, sum_of_squares_body(values, mean))
}

#[inline(always)]
fn sum_of_squares_body<A: Arithmetic>(values: &[f32], mean: f64) -> f64 {
    let (rows, rest) = values.as_chunks::<LANES_F64>();
    let mut lanes = [0.0; LANES_F64];
    for row in rows {
        for (lane, &x) in lanes.iter_mut().zip(row) {
            let difference = f64::from(x) - mean;
            *lane += difference * difference;
        }
    }
    let mut sum = 0.0;
    for lane in lanes {
        sum += lane;
    }
    for &x in rest {
        let difference = f64::from(x) - mean;
        sum += difference * difference;
    }
    sum
}

/// `x = (x - mean) * rate`, in f64.
pub(crate) fn standardise(level: Level, values: &mut [f32], mean: f64, rate: f64) {
    dispatch!(level, standardise_body(values, mean, rate));
}

#[inline(always)]
fn standardise_body<A: Arithmetic>(values: &mut [f32], mean: f64, rate: f64) {
    for value in values {
        *value = ((f64::from(*value) - mean) * rate) as f32;
    }
}

/// `into += from`.
///
/// Panics if the lengths differ.
pub fn add(into: &mut [f32], from: &[f32]) {
    assert_eq!(into.len(), from.len(), "lengths of a sum");
    for (into, from) in into.iter_mut().zip(from) {
        *into += from;
    }
}

/// `into -= from`.
pub(crate) fn subtract(into: &mut [f32], from: &[f32]) {
    for (into, from) in into.iter_mut().zip(from) {
        *into -= from;
    }
}

/// `into = scale * from`.
pub(crate) fn scale(scale: f32, from: &[f32], into: &mut [f32]) {
    for (into, from) in into.iter_mut().zip(from) {
        *into = scale * from;
    }
}

/// `into = from`, each value rounded to the nearest bf16, to the even one of two as near; a NaN stays one.
pub(crate) fn round_to_bf16(level: Level, from: &[f32], into: &mut [f32]) {
    dispatch!(level, round_to_bf16_body(from, into));
}

#[inline(always)]
fn round_to_bf16_body<A: Arithmetic>(from: &[f32], into: &mut [f32]) {
    const KEPT: u32 = 0xffff_0000;
    const QUIET: u32 = 0x0040_0000;
    for (into, from) in into.iter_mut().zip(from) {
        let bits = from.to_bits();
        let half = 0x7fff + ((bits >> 16) & 1);
        let rounded = if from.is_nan() { bits | QUIET } else { bits.wrapping_add(half) };
        *into = f32::from_bits(rounded & KEPT);
    }
}

/// `sums[c] += sum_r rows[r, c]`.
pub(crate) fn add_columns(level: Level, rows: &[f32], sums: &mut [f32]) {
    dispatch!(level, add_columns_body(rows, sums));
}

#[inline(always)]
fn add_columns_body<A: Arithmetic>(rows: &[f32], sums: &mut [f32]) {
    for row in rows.chunks_exact(sums.len()) {
        for (sum, value) in sums.iter_mut().zip(row) {
            *sum += value;
        }
    }
}

/// `rows[r, c] += bias[c]`.
pub(crate) fn add_bias(level: Level, rows: &mut [f32], bias: &[f32]) {
    dispatch!(level, add_bias_body(rows, bias));
}

#[inline(always)]
fn add_bias_body<A: Arithmetic>(rows: &mut [f32], bias: &[f32]) {
    for row in rows.chunks_exact_mut(bias.len()) {
        for (value, bias) in row.iter_mut().zip(bias) {
            *value += bias;
        }
    }
}

/// Fills every row with `bias`.
pub(crate) fn fill_rows(rows: &mut [f32], bias: &[f32]) {
    timed!(Kernel, "fill rows");
    for row in rows.chunks_exact_mut(bias.len()) {
        row.copy_from_slice(bias);
    }
}

/// `rows[r, c] *= scale[c]`.
pub(crate) fn scale_columns(level: Level, rows: &mut [f32], scale: &[f32]) {
    dispatch!(level, scale_columns_body(rows, scale));
}

#[inline(always)]
fn scale_columns_body<A: Arithmetic>(rows: &mut [f32], scale: &[f32]) {
    for row in rows.chunks_exact_mut(scale.len()) {
        for (value, scale) in row.iter_mut().zip(scale) {
            *value *= scale;
        }
    }
}

/// `sum_i a_i b_i`, in lanes.
#[inline(always)]
pub(crate) fn dot<A: Arithmetic>(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; LANES];
    let (a_blocks, a_rest) = a.as_chunks::<LANES>();
    let (b_blocks, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a_blocks.iter().zip(b_blocks) {
        for lane in 0..LANES {
            sums[lane] = A::multiply_add(a[lane], b[lane], sums[lane]);
        }
    }
    let mut total = fold(sums);
    for (a, b) in a_rest.iter().zip(b_rest) {
        total += a * b;
    }
    total
}

/// Sum of the lanes, as a tree.
#[inline(always)]
fn fold(lanes: [f32; LANES]) -> f32 {
    let half: [f32; 4] = std::array::from_fn(|i| lanes[i] + lanes[i + 4]);
    (half[0] + half[2]) + (half[1] + half[3])
}

/// `a = gelu(h + bias)`, and `h` becomes its derivative, `gelu'(h + bias)`.
pub(crate) fn bias_gelu_with_derivative(level: Level, h: &mut [f32], bias: &[f32], a: &mut [f32]) {
    dispatch!(level, bias_gelu_with_derivative_body(h, bias, a));
}

#[inline(always)]
fn bias_gelu_with_derivative_body<A: Arithmetic>(h: &mut [f32], bias: &[f32], a: &mut [f32]) {
    let width = bias.len();
    for (h, a) in h.chunks_exact_mut(width).zip(a.chunks_exact_mut(width)) {
        for c in 0..width {
            (a[c], h[c]) = math::gelu_with_derivative::<A>(h[c] + bias[c]);
        }
    }
}

/// `h = gelu(h + bias)` in place, `squares[c] += sum_r h^2`.
pub(crate) fn bias_gelu(level: Level, h: &mut [f32], bias: &[f32], squares: &mut [f32]) {
    dispatch!(level, bias_gelu_body(h, bias, squares));
}

#[inline(always)]
fn bias_gelu_body<A: Arithmetic>(h: &mut [f32], bias: &[f32], squares: &mut [f32]) {
    let width = bias.len();
    let squares = &mut squares[..width];
    for h in h.chunks_exact_mut(width) {
        for c in 0..width {
            h[c] = math::gelu::<A>(h[c] + bias[c]);
            squares[c] = A::multiply_add(h[c], h[c], squares[c]);
        }
    }
}

/// `grad = (scale * grad + pull * a) * slope` in place, `sums[c] += sum_r grad`.
pub(crate) fn activation_backward(
    level: Level,
    a: &[f32],
    slope: &[f32],
    scale: &[f32],
    pull: &[f32],
    grad: &mut [f32],
    sums: &mut [f32],
) {
    dispatch!(level, activation_backward_body(a, slope, scale, pull, grad, sums));
}

#[inline(always)]
fn activation_backward_body<A: Arithmetic>(
    a: &[f32],
    slope: &[f32],
    scale: &[f32],
    pull: &[f32],
    grad: &mut [f32],
    sums: &mut [f32],
) {
    let width = pull.len();
    let (scale, sums) = (&scale[..width], &mut sums[..width]);
    let rows = a.chunks_exact(width).zip(slope.chunks_exact(width)).zip(grad.chunks_exact_mut(width));
    for ((a, slope), grad) in rows {
        for c in 0..width {
            grad[c] = A::multiply_add(pull[c], a[c], scale[c] * grad[c]) * slope[c];
            sums[c] += grad[c];
        }
    }
}

/// `out[r, c] = x[r, c] + scale * (out[r, c] + bias[c])`.
pub(crate) fn residual(level: Level, x: &[f32], bias: &[f32], scale: f32, out: &mut [f32]) {
    dispatch!(level, residual_body(x, bias, scale, out));
}

#[inline(always)]
fn residual_body<A: Arithmetic>(x: &[f32], bias: &[f32], scale: f32, out: &mut [f32]) {
    let channels = bias.len();
    for (x, out) in x.chunks_exact(channels).zip(out.chunks_exact_mut(channels)) {
        for c in 0..channels {
            out[c] = A::multiply_add(scale, out[c] + bias[c], x[c]);
        }
    }
}

/// `sums[c] += sum_r a[r, c] * b[r, c]`.
pub(crate) fn add_column_products(level: Level, a: &[f32], b: &[f32], sums: &mut [f32]) {
    dispatch!(level, add_column_products_body(a, b, sums));
}

#[inline(always)]
fn add_column_products_body<A: Arithmetic>(a: &[f32], b: &[f32], sums: &mut [f32]) {
    let width = sums.len();
    for (a, b) in a.chunks_exact(width).zip(b.chunks_exact(width)) {
        for c in 0..width {
            sums[c] = A::multiply_add(a[c], b[c], sums[c]);
        }
    }
}

/// `sums[r] = sum_c a[r, c] * b[r, c]`, rows of `width`.
pub(crate) fn row_products(level: Level, a: &[f32], b: &[f32], width: usize, sums: &mut [f32]) {
    dispatch!(level, row_products_body(a, b, width, sums));
}

#[inline(always)]
fn row_products_body<A: Arithmetic>(a: &[f32], b: &[f32], width: usize, sums: &mut [f32]) {
    for ((a, b), sum) in a.chunks_exact(width).zip(b.chunks_exact(width)).zip(sums) {
        *sum = dot::<A>(a, b);
    }
}

/// `into[r, c] = factor[r] * from[r, c]`, rows of `width`.
pub(crate) fn scale_rows(factor: &[f32], from: &[f32], width: usize, into: &mut [f32]) {
    timed!(Kernel, "scale rows");
    for ((into, from), &factor) in into.chunks_exact_mut(width).zip(from.chunks_exact(width)).zip(factor) {
        scale(factor, from, into);
    }
}

/// `into[r, c] += factor[r] * from[r, c]`, rows of `width`; a `from` of one row is used for all.
pub(crate) fn add_scaled_rows(level: Level, factor: &[f32], from: &[f32], width: usize, into: &mut [f32]) {
    dispatch!(level, add_scaled_rows_body(factor, from, width, into));
}

#[inline(always)]
fn add_scaled_rows_body<A: Arithmetic>(factor: &[f32], from: &[f32], width: usize, into: &mut [f32]) {
    let from = from.chunks_exact(width).cycle();
    for ((into, from), &factor) in into.chunks_exact_mut(width).zip(from).zip(factor) {
        for c in 0..width {
            into[c] = A::multiply_add(factor, from[c], into[c]);
        }
    }
}
