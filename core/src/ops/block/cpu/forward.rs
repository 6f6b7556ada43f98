//! The forward pass of the block.

use std::ops::Range;

use rayon::prelude::*;

use super::{Call, Frozen, Saved, Shape, Weights, panels, scale_of_response};
use crate::{
    ops::parallel::split,
    scratch::Buffer,
    simd::{self, Compute, Factor, Kept, Matrix, multiply},
};

/// A group's part of the forward pass's arguments; `y`, `s` and `h` are empty if they are not to be saved.
struct Forward<'a> {
    group: Range<usize>,
    out: &'a mut [f32],
    y: &'a mut [f32],
    s: &'a mut [f32],
    h: &'a mut [f32],
}

#[expect(clippy::too_many_arguments, reason = "the operation's arguments, and what is made of its weights once")]
pub(in crate::ops::block) fn forward(
    frozen: Option<&Frozen>,
    compute: Compute,
    shape: &Shape,
    weights: &Weights,
    drop: Option<&[f32]>,
    x: &[f32],
    out: &mut [f32],
    saved: Option<&mut Saved>,
) {
    let call = Call::new(compute, shape, weights, drop);
    let (rows, channels, hidden) = (call.rows(), shape.channels, shape.hidden);
    let mut nothing = Saved::default();
    let saved = saved.map_or(&mut nothing, |saved| {
        saved.y = Buffer::new(shape.activation());
        saved.s = Buffer::new(shape.samples * hidden);
        saved.hidden = Buffer::new(if call.keeps_hidden() { shape.samples * rows * hidden } else { 0 });
        saved
    });
    if panels::suit(&call) {
        let (mut own_y, mut own_s) = (Buffer::default(), Buffer::default());
        let y = or_own(&mut saved.y, &mut own_y, x.len());
        let s = or_own(&mut saved.s, &mut own_s, shape.samples * hidden);
        return panels::forward(&call, frozen, x, out, y, s, &mut saved.hidden);
    }
    let pwconv1 = Kept::factor(frozen.map(|frozen| &frozen.pwconv1), compute, call.pwconv1());
    let kept = frozen.map(|frozen| &frozen.pwconv2);
    let pwconv2 = (!call.folds()).then(|| Kept::factor(kept, compute, call.pwconv2(&call.pwconv2)));
    let pwconv2_bias = call.pwconv2_bias();
    let groups = call.chunking.all_groups();
    let outs = split(out, &groups, rows * channels);
    let ys = split(&mut saved.y, &groups, rows * channels);
    let ss = split(&mut saved.s, &groups, hidden);
    let hs = split(&mut saved.hidden, &groups, rows * hidden);
    let parts = outs.into_iter().zip(ys).zip(ss.into_iter().zip(hs));
    let jobs: Vec<_> = groups.into_iter().zip(parts).collect();
    jobs.into_par_iter().with_max_len(1).for_each(|(group, ((out, y), (s, h)))| {
        let x = &x[group.start * rows * channels..][..out.len()];
        let pwconv2 = (pwconv2.as_ref(), &pwconv2_bias[..]);
        forward_group(&call, &pwconv1, pwconv2, x, Forward { group, out, y, s, h });
    });
}

fn forward_group(call: &Call, pwconv1: &Factor, second: (Option<&Factor>, &[f32]), x: &[f32], job: Forward) {
    let Forward { group, out, y, s, h } = job;
    if call.dropped(&group) {
        out.copy_from_slice(x);
        return;
    }
    let hidden = call.shape.hidden;
    let (mut own_y, mut own_s) = (Buffer::default(), Buffer::default());
    let y = or_own(y, &mut own_y, x.len());
    let s = or_own(s, &mut own_s, group.len() * hidden);
    let mut a = Buffer::new(group.len() * call.rows() * hidden);

    simd::fill_rows(y, call.weights.dwconv_bias);
    call.convolve(&mut call.depthwise(), &group, x, call.weights.dwconv, y);
    hidden_features(call, pwconv1, &group, y, (h, &mut a), s);
    pwconv2(call, second, &group, x, &mut a, s, out);
}

/// `slice`, or if it is empty a buffer of `length` values.
fn or_own<'a>(slice: &'a mut [f32], own: &'a mut Buffer, length: usize) -> &'a mut [f32] {
    if !slice.is_empty() {
        return slice;
    }
    *own = Buffer::new(length);
    own
}

/// `a = gelu(h)` and the norms `s` of a group; `h` without its bias, unless there is no room for it.
fn hidden_features(
    call: &Call,
    pwconv1: &Factor,
    group: &Range<usize>,
    y: &[f32],
    (h, a): (&mut [f32], &mut [f32]),
    s: &mut [f32],
) {
    let (channels, hidden) = (call.shape.channels, call.shape.hidden);
    let mut z = Buffer::new(call.tile() * channels);
    let mut squares = Buffer::new(hidden);
    s.fill(0.0);
    for tile in call.tiles(group) {
        let z = &mut z[..tile.len() * channels];
        call.norm(&y[tile.start * channels..tile.end * channels], z);
        let wide = tile.start * hidden..tile.end * hidden;
        let a = &mut a[wide.clone()];
        multiply(Matrix::new(z, tile.len(), channels), pwconv1, false, a);
        if !h.is_empty() {
            h[wide].copy_from_slice(a);
        }
        for (sample, rows) in call.samples_of(&tile) {
            squares.fill(0.0);
            let a = &mut a[rows.start * hidden..rows.end * hidden];
            simd::bias_gelu(call.compute.level, a, call.weights.pwconv1_bias, &mut squares);
            simd::add(&mut s[sample * hidden..][..hidden], &squares);
        }
    }
    for s in s.iter_mut() {
        *s = s.sqrt();
    }
}

/// The second pointwise layer and the residual: `a` to `out`. Leaves small samples' `a` scaled. `weight` is there unless it
/// is folded.
fn pwconv2(
    call: &Call,
    (weight, bias): (Option<&Factor>, &[f32]),
    group: &Range<usize>,
    x: &[f32],
    a: &mut [f32],
    s: &[f32],
    out: &mut [f32],
) {
    let (level, channels, hidden) = (call.compute.level, call.shape.channels, call.shape.hidden);
    let folded = weight.is_none().then(|| fold(call, s));
    let folded = folded.as_ref().map(|folded| call.factor(call.pwconv2(folded)));
    let weight = weight.or(folded.as_ref()).expect("one of both");
    let mut scale = Buffer::new(hidden);
    for tile in call.tiles(group) {
        let a = &mut a[tile.start * hidden..tile.end * hidden];
        if call.grn() && !call.folds() {
            for (sample, rows) in call.samples_of(&tile) {
                scale_of_response(call, &s[sample * hidden..][..hidden], &mut scale);
                simd::scale_columns(level, &mut a[rows.start * hidden..rows.end * hidden], &scale);
            }
        }
        let values = tile.start * channels..tile.end * channels;
        let (x, out) = (&x[values.clone()], &mut out[values]);
        multiply(Matrix::new(a, tile.len(), hidden), weight, false, out);
        for (sample, rows) in call.samples_of(&tile) {
            let values = rows.start * channels..rows.end * channels;
            let drop = call.drop(group.start + sample);
            simd::residual(level, &x[values.clone()], bias, drop, &mut out[values]);
        }
    }
}

/// `diag(1 + gamma n) W2` of a large sample with GRN.
fn fold(call: &Call, s: &[f32]) -> Buffer {
    let mut scale = Buffer::new(call.shape.hidden);
    let mut folded = Buffer::new(call.pwconv2.len());
    scale_of_response(call, s, &mut scale);
    simd::scale_rows(&scale, &call.pwconv2, call.shape.channels, &mut folded);
    folded
}
