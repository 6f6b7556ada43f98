//! The block on the CPU: group by group, intermediates in scratch.
//!
//! A group is one large sample, or several small ones whose products are then large enough. Its rows pass through
//! the pointwise layers in tiles that fit the cache. Large samples fold GRN's scale into `W2`, small ones scale `a`.

use std::ops::Range;

use rayon::prelude::*;

use super::{
    Flavour, Gradients, Saved, Shape, Weights,
    depthwise::{Depthwise, Map, turned},
};
use crate::{
    ops::{
        GRN_EPSILON,
        parallel::{LARGE, Plan, TILE, ranges, split},
        scratch::Buffer,
    },
    simd::{self, Level, Matrix, product},
};

/// What every group of a call needs.
struct Call<'a> {
    level: Level,
    shape: &'a Shape<'a>,
    weights: &'a Weights<'a>,
    drop: Option<&'a [f32]>,
    plan: Plan,
    /// `W2`, for V1 with its columns scaled.
    project: Buffer,
    /// `b2`, for V2 with `beta W2` added, for V1 scaled.
    project_bias: Buffer,
}

impl<'a> Call<'a> {
    fn new(level: Level, shape: &'a Shape, weights: &'a Weights, drop: Option<&'a [f32]>) -> Self {
        let mut project = Buffer::new(weights.project.len());
        let mut project_bias = Buffer::new(weights.project_bias.len());
        project.copy_from_slice(weights.project);
        project_bias.copy_from_slice(weights.project_bias);
        match shape.flavour {
            Flavour::V1 => {
                simd::scale_columns(level, &mut project, weights.gamma);
                simd::scale_columns(level, &mut project_bias, weights.gamma);
            }
            Flavour::V2 => {
                let beta = Matrix::new(weights.beta, 1, shape.hidden);
                product(beta, Matrix::new(weights.project, shape.hidden, shape.channels), true, &mut project_bias);
            }
        }
        let plan = Plan::new(shape.samples, shape.cells.rows(), shape.parameters());
        Self { level, shape, weights, drop, plan, project, project_bias }
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

    fn large(&self) -> bool {
        self.rows() >= LARGE
    }

    fn grn(&self) -> bool {
        self.shape.flavour == Flavour::V2
    }

    /// Rows of a tile; a tile holds whole samples, or lies in one.
    fn tile(&self) -> usize {
        if self.large() { TILE } else { (self.plan.group() * self.rows()).max(1) }
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

    fn expand(&self) -> Matrix<'a> {
        Matrix::new(self.weights.expand, self.shape.channels, self.shape.hidden)
    }

    fn project<'b>(&'b self, folded: &'b [f32]) -> Matrix<'b> {
        Matrix::new(folded, self.shape.hidden, self.shape.channels)
    }

    fn norm(&self, y: &[f32], z: &mut [f32]) {
        simd::layer_norm(self.level, y, self.weights.norm, self.weights.norm_bias, z);
    }

    /// Depthwise convolution of a group, `out += conv(x)`.
    fn convolve(&self, map: &mut Map, group: &Range<usize>, x: &[f32], weight: &[f32], out: &mut [f32]) {
        let values = self.rows() * self.shape.channels;
        for ((sample, x), out) in group.clone().zip(x.chunks_exact(values)).zip(out.chunks_exact_mut(values)) {
            self.depthwise(map, sample).add(self.level, x, weight, out);
        }
    }

    /// The convolution of one sample.
    fn depthwise<'b>(&'b self, map: &'b mut Map, sample: usize) -> Depthwise<'b> {
        map.read(&self.shape.cells, sample);
        Depthwise { cells: &self.shape.cells, sample, map, channels: self.shape.channels }
    }
}

/// A group's part of the forward pass's arguments; `y`, `h` and `s` are empty if they are not to be saved.
struct Forward<'a> {
    group: Range<usize>,
    out: &'a mut [f32],
    y: &'a mut [f32],
    h: &'a mut [f32],
    s: &'a mut [f32],
}

pub(super) fn forward(
    level: Level,
    shape: &Shape,
    weights: &Weights,
    drop: Option<&[f32]>,
    x: &[f32],
    out: &mut [f32],
    saved: Option<&mut Saved>,
) {
    let call = Call::new(level, shape, weights, drop);
    let (rows, channels, hidden) = (call.rows(), shape.channels, shape.hidden);
    let mut nothing = Saved::default();
    let saved = saved.map_or(&mut nothing, |saved| {
        saved.y = Buffer::new(shape.activation());
        saved.h = Buffer::new(shape.samples * rows * hidden);
        saved.s = Buffer::new(shape.samples * hidden);
        saved
    });
    let groups = call.plan.all_groups();
    let outs = split(out, &groups, rows * channels);
    let ys = split(&mut saved.y, &groups, rows * channels);
    let hs = split(&mut saved.h, &groups, rows * hidden);
    let ss = split(&mut saved.s, &groups, hidden);
    let parts = outs.into_iter().zip(ys).zip(hs).zip(ss);
    let jobs: Vec<_> = groups.into_iter().zip(parts).collect();
    jobs.into_par_iter().with_max_len(1).for_each(|(group, (((out, y), h), s))| {
        let x = &x[group.start * rows * channels..][..out.len()];
        forward_group(&call, x, Forward { group, out, y, h, s });
    });
}

fn forward_group(call: &Call, x: &[f32], job: Forward) {
    let Forward { group, out, y, h, s } = job;
    if call.dropped(&group) {
        out.copy_from_slice(x);
        return;
    }
    let hidden = call.shape.hidden;
    let (mut own_y, mut own_s) = (Buffer::default(), Buffer::default());
    let y = or_own(y, &mut own_y, x.len());
    let s = or_own(s, &mut own_s, group.len() * hidden);
    let mut a = Buffer::new(group.len() * call.rows() * hidden);

    simd::fill_rows(y, call.weights.depthwise_bias);
    let mut map = Map::new(&call.shape.cells, call.shape.kernel);
    call.convolve(&mut map, &group, x, call.weights.depthwise, y);
    hidden_features(call, &group, y, h, &mut a, s);
    project(call, &group, x, &mut a, s, out);
}

/// `slice`, or if it is empty a buffer of `length` values.
fn or_own<'a>(slice: &'a mut [f32], own: &'a mut Buffer, length: usize) -> &'a mut [f32] {
    if !slice.is_empty() {
        return slice;
    }
    *own = Buffer::new(length);
    own
}

/// `h`, `a = gelu(h)` and the norms `s` of a group; `h` may be empty.
fn hidden_features(call: &Call, group: &Range<usize>, y: &[f32], h: &mut [f32], a: &mut [f32], s: &mut [f32]) {
    let (channels, hidden) = (call.shape.channels, call.shape.hidden);
    let mut z = Buffer::new(call.tile() * channels);
    let mut squares = Buffer::new(hidden);
    s.fill(0.0);
    for tile in call.tiles(group) {
        let z = &mut z[..tile.len() * channels];
        call.norm(&y[tile.start * channels..tile.end * channels], z);
        let z = Matrix::new(z, tile.len(), channels);
        let values = tile.start * hidden..tile.end * hidden;
        let a = &mut a[values.clone()];
        let h = if h.is_empty() { None } else { Some(&mut h[values]) };
        let h = match h {
            Some(h) => {
                product(z, call.expand(), false, h);
                Some(h)
            }
            None => {
                product(z, call.expand(), false, a);
                None
            }
        };
        activate(call, &tile, h, a, &mut squares, s);
    }
    for s in s.iter_mut() {
        *s = s.sqrt();
    }
}

/// Bias and GELU of a tile, from `h` or in place; adds the squares to each sample's `s`.
fn activate(
    call: &Call,
    tile: &Range<usize>,
    mut h: Option<&mut [f32]>,
    a: &mut [f32],
    squares: &mut [f32],
    s: &mut [f32],
) {
    let (hidden, bias) = (call.shape.hidden, call.weights.expand_bias);
    for (sample, rows) in call.samples_of(tile) {
        let values = rows.start * hidden..rows.end * hidden;
        squares.fill(0.0);
        match &mut h {
            Some(h) => simd::bias_gelu(call.level, &mut h[values.clone()], bias, &mut a[values], squares),
            None => simd::bias_gelu_in_place(call.level, &mut a[values], bias, squares),
        }
        simd::add(&mut s[sample * hidden..][..hidden], squares);
    }
}

/// The second pointwise layer and the residual: `a` to `out`. Leaves small samples' `a` scaled.
fn project(call: &Call, group: &Range<usize>, x: &[f32], a: &mut [f32], s: &[f32], out: &mut [f32]) {
    let (level, channels, hidden) = (call.level, call.shape.channels, call.shape.hidden);
    let folded = fold(call, s);
    let weight = call.project(folded.as_deref().unwrap_or(&call.project));
    let mut scale = Buffer::new(hidden);
    for tile in call.tiles(group) {
        let a = &mut a[tile.start * hidden..tile.end * hidden];
        if call.grn() && !call.large() {
            for (sample, rows) in call.samples_of(&tile) {
                response(call, &s[sample * hidden..][..hidden], &mut scale);
                simd::scale_columns(level, &mut a[rows.start * hidden..rows.end * hidden], &scale);
            }
        }
        let values = tile.start * channels..tile.end * channels;
        let (x, out) = (&x[values.clone()], &mut out[values]);
        product(Matrix::new(a, tile.len(), hidden), weight, false, out);
        for (sample, rows) in call.samples_of(&tile) {
            let values = rows.start * channels..rows.end * channels;
            let drop = call.drop(group.start + sample);
            simd::residual(level, &x[values.clone()], &call.project_bias, drop, &mut out[values]);
        }
    }
}

/// `diag(1 + gamma n) W2` of a large sample with GRN.
fn fold(call: &Call, s: &[f32]) -> Option<Buffer> {
    if !call.grn() || !call.large() {
        return None;
    }
    let mut scale = Buffer::new(call.shape.hidden);
    let mut folded = Buffer::new(call.project.len());
    response(call, s, &mut scale);
    simd::scale_rows(&scale, &call.project, call.shape.channels, &mut folded);
    Some(folded)
}

/// Mean norm of one sample, plus epsilon. Sums in f64: the norms may be large and many.
fn mean_norm(s: &[f32]) -> f64 {
    s.iter().map(|&s| f64::from(s)).sum::<f64>() / s.len() as f64 + GRN_EPSILON
}

/// `1 + gamma n` of one sample.
fn response(call: &Call, s: &[f32], scale: &mut [f32]) {
    let rate = (1.0 / mean_norm(s)) as f32;
    for ((scale, s), gamma) in scale.iter_mut().zip(s).zip(call.weights.gamma) {
        *scale = 1.0 + gamma * (s * rate);
    }
}

/// GRN's backward pass for one sample: from `t_c = sum_r du a` the gradient of `gamma` (added), and
/// `pull_c = ds_c / s_c`, by which `a` enters `da`.
fn response_backward(call: &Call, s: &[f32], t: &[f32], grad_gamma: &mut [f32], pull: &mut [f32]) {
    let mean = mean_norm(s);
    let gamma = call.weights.gamma;
    let weighted = s.iter().zip(t).zip(gamma).map(|((&s, &t), &gamma)| f64::from(gamma) * f64::from(t) * f64::from(s));
    let common = weighted.sum::<f64>() / (s.len() as f64 * mean * mean);
    for c in 0..s.len() {
        grad_gamma[c] += t[c] * (f64::from(s[c]) / mean) as f32;
        let slope = f64::from(gamma[c]) * f64::from(t[c]) / mean - common;
        pull[c] = if s[c] > 0.0 { (slope / f64::from(s[c])) as f32 } else { 0.0 };
    }
}

#[expect(clippy::too_many_arguments, reason = "the forward pass's arguments and one gradient for each")]
pub(super) fn backward(
    level: Level,
    shape: &Shape,
    weights: &Weights,
    drop: Option<&[f32]>,
    x: &[f32],
    saved: &Saved,
    grad_out: &[f32],
    grad_x: &mut [f32],
    mut gradients: Gradients,
) {
    let call = Call::new(level, shape, weights, drop);
    let values = call.rows() * shape.channels;
    let turned = turned(weights.depthwise, shape.channels);
    let total = call.plan.accumulate(shape.parameters(), grad_x, values, |chunk, grad_x, flat| {
        let mut map = Map::new(&shape.cells, shape.kernel);
        let mut gradients = Gradients::split(flat, shape);
        let begin = chunk.start;
        for group in call.plan.groups(chunk) {
            let here = group.start * values..group.end * values;
            let grad_x = &mut grad_x[(group.start - begin) * values..][..here.len()];
            simd::add(grad_x, &grad_out[here.clone()]);
            if call.dropped(&group) {
                continue;
            }
            let mut grad_y = Buffer::new(here.len());
            let part = Part::new(&call, saved, group.clone(), &grad_out[here.clone()]);
            part.pointwise(&mut grad_y, &mut gradients);
            simd::add_columns(level, &grad_y, gradients.depthwise_bias);
            call.convolve(&mut map, &group, &grad_y, &turned, grad_x);
            let each = x[here].chunks_exact(values).zip(grad_y.chunks_exact(values));
            for (sample, (x, grad)) in group.zip(each) {
                call.depthwise(&mut map, sample).add_weight_gradient(level, x, grad, gradients.depthwise);
            }
        }
        finish(&call, &mut gradients);
    });
    gradients.add(&total);
}

/// What is the same for all samples of a chunk: until here `project` holds `a^T g` (V2: of the scaled `a`) and
/// `project_bias` holds `sum g`, with `g` the gradient of the branch before V1's scale.
fn finish(call: &Call, gradients: &mut Gradients) {
    let (level, weights, channels) = (call.level, call.weights, call.shape.channels);
    let sum = &mut *gradients.project_bias;
    match call.shape.flavour {
        Flavour::V2 => {
            let weight = Matrix::new(weights.project, call.shape.hidden, channels);
            product(weight, Matrix::new(sum, channels, 1), true, gradients.beta);
            simd::add_scaled_rows(level, weights.beta, sum, channels, gradients.project);
        }
        Flavour::V1 => {
            simd::add_column_products(level, weights.project, gradients.project, gradients.gamma);
            simd::add_column_products(level, weights.project_bias, sum, gradients.gamma);
            simd::scale_columns(level, gradients.project, weights.gamma);
            simd::scale_columns(level, sum, weights.gamma);
        }
    }
}

/// One group's part of the backward pass.
struct Part<'a> {
    call: &'a Call<'a>,
    group: Range<usize>,
    y: &'a [f32],
    h: &'a [f32],
    s: &'a [f32],
    /// The gradient of the branch, the drop path's scale included.
    grad: Buffer,
}

impl<'a> Part<'a> {
    fn new(call: &'a Call, saved: &'a Saved, group: Range<usize>, grad_out: &[f32]) -> Self {
        let (rows, channels, hidden) = (call.rows(), call.shape.channels, call.shape.hidden);
        let part = |saved: &'a [f32], each: usize| &saved[group.start * each..group.end * each];
        let mut grad = Buffer::new(grad_out.len());
        let samples = grad.chunks_exact_mut(rows * channels).zip(grad_out.chunks_exact(rows * channels));
        for (sample, (grad, grad_out)) in group.clone().zip(samples) {
            simd::scale(call.drop(sample), grad_out, grad);
        }
        let (y, h, s) = (part(&saved.y, rows * channels), part(&saved.h, rows * hidden), part(&saved.s, hidden));
        Self { call, group, y, h, s, grad }
    }

    /// From the gradient of the branch to that of `y`.
    fn pointwise(&self, grad_y: &mut [f32], gradients: &mut Gradients) {
        let (call, channels, hidden) = (self.call, self.call.shape.channels, self.call.shape.hidden);
        simd::add_columns(call.level, &self.grad, gradients.project_bias);
        let mut pull = Buffer::zeros(self.group.len() * hidden);
        let folded = if call.grn() && call.large() { Some(self.large(gradients, &mut pull)) } else { None };
        let weight = call.project(folded.as_deref().unwrap_or(&call.project)).t();
        let mut grad_h = Buffer::new(call.tile() * hidden);
        for tile in call.tiles(&self.group) {
            let grad = self.grad(&tile);
            let grad_h = &mut grad_h[..tile.len() * hidden];
            product(Matrix::new(grad, tile.len(), channels), weight, false, grad_h);
            if folded.is_none() {
                self.small(&tile, grad_h, gradients, &mut pull);
            }
            self.activation(&tile, &pull, grad_h, gradients);
            self.first_layer(&tile, grad_h, &mut grad_y[tile.start * channels..tile.end * channels], gradients);
        }
    }

    fn grad(&self, tile: &Range<usize>) -> &[f32] {
        let channels = self.call.shape.channels;
        &self.grad[tile.start * channels..tile.end * channels]
    }

    fn h(&self, tile: &Range<usize>) -> &[f32] {
        let hidden = self.call.shape.hidden;
        &self.h[tile.start * hidden..tile.end * hidden]
    }

    /// GRN of a large sample: all of it from `a^T g`, without the gradient of any row. Returns the folded `W2`.
    fn large(&self, gradients: &mut Gradients, pull: &mut [f32]) -> Buffer {
        let (call, channels, hidden) = (self.call, self.call.shape.channels, self.call.shape.hidden);
        let mut a = Buffer::new(call.tile() * hidden);
        let mut grad_project = Buffer::zeros(hidden * channels);
        for tile in call.tiles(&self.group) {
            let a = &mut a[..tile.len() * hidden];
            simd::gelu(call.level, self.h(&tile), a);
            let grad = Matrix::new(self.grad(&tile), tile.len(), channels);
            product(Matrix::new(a, tile.len(), hidden).t(), grad, true, &mut grad_project);
        }
        let (mut t, mut scale) = (Buffer::new(hidden), Buffer::new(hidden));
        simd::row_products(call.level, &grad_project, call.weights.project, channels, &mut t);
        response_backward(call, self.s, &t, gradients.gamma, pull);
        response(call, self.s, &mut scale);
        simd::add_scaled_rows(call.level, &scale, &grad_project, channels, gradients.project);
        fold(call, self.s).expect("large and with GRN")
    }

    /// GRN of small samples, or none: from `du` to `du (1 + gamma n)` in place, `pull` and the gradients.
    fn small(&self, tile: &Range<usize>, grad_h: &mut [f32], gradients: &mut Gradients, pull: &mut [f32]) {
        let (call, channels, hidden) = (self.call, self.call.shape.channels, self.call.shape.hidden);
        let mut a = Buffer::new(tile.len() * hidden);
        simd::gelu(call.level, self.h(tile), &mut a);
        if call.grn() {
            let (mut t, mut scale) = (Buffer::new(hidden), Buffer::new(hidden));
            for (sample, rows) in call.samples_of(tile) {
                let values = rows.start * hidden..rows.end * hidden;
                let features = sample * hidden..(sample + 1) * hidden;
                let s = &self.s[features.clone()];
                t.fill(0.0);
                simd::add_column_products(call.level, &grad_h[values.clone()], &a[values.clone()], &mut t);
                response_backward(call, s, &t, gradients.gamma, &mut pull[features]);
                response(call, s, &mut scale);
                simd::scale_columns(call.level, &mut grad_h[values.clone()], &scale);
                simd::scale_columns(call.level, &mut a[values], &scale);
            }
        }
        let grad = Matrix::new(self.grad(tile), tile.len(), channels);
        product(Matrix::new(&a, tile.len(), hidden).t(), grad, true, gradients.project);
    }

    /// From `du (1 + gamma n)` to the gradient of `h`, in place.
    fn activation(&self, tile: &Range<usize>, pull: &[f32], grad_h: &mut [f32], gradients: &mut Gradients) {
        let (call, hidden) = (self.call, self.call.shape.hidden);
        let h = self.h(tile);
        for (sample, rows) in call.samples_of(tile) {
            let values = rows.start * hidden..rows.end * hidden;
            let pull = &pull[sample * hidden..][..hidden];
            let grad_h = &mut grad_h[values.clone()];
            simd::gelu_backward(call.level, &h[values], pull, grad_h, gradients.expand_bias);
        }
    }

    /// From the gradient of `h` to that of `y`.
    fn first_layer(&self, tile: &Range<usize>, grad_h: &[f32], grad_y: &mut [f32], gradients: &mut Gradients) {
        let (call, channels, hidden) = (self.call, self.call.shape.channels, self.call.shape.hidden);
        let y = &self.y[tile.start * channels..tile.end * channels];
        let mut z = Buffer::new(y.len());
        call.norm(y, &mut z);
        let grad_h = Matrix::new(grad_h, tile.len(), hidden);
        product(Matrix::new(&z, tile.len(), channels).t(), grad_h, true, gradients.expand);
        product(grad_h, call.expand().t(), false, grad_y);
        let (norm, norm_bias) = (&mut *gradients.norm, &mut *gradients.norm_bias);
        simd::layer_norm_backward(call.level, y, call.weights.norm, grad_y, norm, norm_bias);
    }
}
