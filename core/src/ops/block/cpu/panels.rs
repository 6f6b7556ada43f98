//! The block by panels of its hidden features: for few rows under large matrices.
//!
//! What GRN sums over a sample's rows lies in one panel.

use std::ops::Range;

use rayon::prelude::*;

use super::{Call, Frozen, Gradients, Saved, Shape, response_backward, scale_of_response, scaled, shift};
use crate::{
    ops::{
        block::depthwise::turned,
        panels::{LARGE_MATRIX, Panels},
        parallel::{Chunking, LARGE, add_all, split, zero},
    },
    scratch::Buffer,
    simd::{self, Compute, Factor, Kept, Matrix, multiply, product},
};

/// Rows of a batch, at most, that are few.
const ROWS: usize = 1024;

/// Whether a call is worked on in panels.
pub(super) fn suit(call: &Call) -> bool {
    let (channels, hidden) = (call.shape.channels, call.shape.hidden);
    let rows = call.shape.samples * call.rows();
    call.grn() && !call.large() && channels * hidden >= LARGE_MATRIX && (1..=ROWS).contains(&rows)
}

/// A whole batch, its hidden features cut.
struct Batch<'a> {
    call: &'a Call<'a>,
    panels: Panels,
}

impl<'a> Batch<'a> {
    fn new(call: &'a Call) -> Self {
        let rows = call.shape.samples * call.rows();
        Self { call, panels: Panels::new(call.compute, rows, call.shape.hidden) }
    }

    /// A panel's columns of `[N, F]`.
    fn columns<'b>(&self, all: &'b [f32], panel: &Range<usize>) -> impl Iterator<Item = &'b [f32]> + use<'b> {
        let panel = panel.clone();
        all.chunks_exact(self.call.shape.hidden).map(move |all| &all[panel.clone()])
    }

    /// Panels of `[N, F]` side by side.
    fn join<'b>(&self, parts: impl IntoIterator<Item = &'b Buffer>, all: &mut [f32]) {
        for (panel, part) in self.panels.ranges().iter().zip(parts) {
            for (all, part) in all.chunks_exact_mut(self.call.shape.hidden).zip(part.chunks_exact(panel.len())) {
                all[panel.clone()].copy_from_slice(part);
            }
        }
    }

    /// A panel for each range of columns, with its part of three gradients.
    fn parts<'g>(
        &self,
        pwconv1_bias: &'g mut [f32],
        grn_beta: &'g mut [f32],
        pwconv2: &'g mut [f32],
    ) -> Vec<Panel<'g>> {
        let Shape { samples, channels, .. } = *self.call.shape;
        let (width, rows) = (self.panels.width(), self.panels.rows());
        let features = pwconv1_bias.chunks_mut(width).zip(grn_beta.chunks_mut(width));
        let parts = features.zip(pwconv2.chunks_mut(width * channels)).zip(self.panels.ranges());
        let part = |(((pwconv1_bias, beta), pwconv2), columns): (_, &Range<usize>)| {
            let [a, slope] = [(); 2].map(|()| Buffer::new(rows * columns.len()));
            let (t, pwconv1) = (Buffer::zeros(samples * columns.len()), Buffer::new(channels * columns.len()));
            Panel { columns: columns.clone(), a, slope, t, pwconv1, pwconv1_bias, beta, pwconv2 }
        };
        parts.map(part).collect()
    }

    /// `1 + gamma n` of all samples.
    fn scale(&self, s: &[f32]) -> Buffer {
        let (mut scale, hidden) = (Buffer::new(s.len()), self.call.shape.hidden);
        for (s, scale) in s.chunks_exact(hidden).zip(scale.chunks_exact_mut(hidden)) {
            scale_of_response(self.call, s, scale);
        }
        scale
    }

    /// Scales the samples of a panel of `a`.
    fn scale_panel(&self, panel: &Range<usize>, scale: &[f32], a: &mut [f32]) {
        let samples = a.chunks_exact_mut(self.call.rows() * panel.len());
        for (a, scale) in samples.zip(self.columns(scale, panel)) {
            simd::scale_columns(self.call.compute.level, a, scale);
        }
    }
}

/// `out` from `x`; `y [N, R, C]` and `s [N, F]` are written too, and `h` without its bias, panel by panel, unless there is
/// no room for it.
pub(super) fn forward(
    call: &Call,
    frozen: Option<&Frozen>,
    x: &[f32],
    out: &mut [f32],
    y: &mut [f32],
    s: &mut [f32],
    h: &mut [f32],
) {
    let (batch, pwconv2_bias) = (Batch::new(call), call.pwconv2_bias());
    let panels = &batch.panels;
    let (level, values) = (call.compute.level, call.rows() * call.shape.channels);
    let mut z = Buffer::new(y.len());
    let samples = y.par_chunks_exact_mut(values).zip(z.par_chunks_exact_mut(values)).zip(x.par_chunks_exact(values));
    samples.enumerate().with_max_len(1).for_each(|(sample, ((y, z), x))| {
        simd::fill_rows(y, call.weights.dwconv_bias);
        call.convolve(&mut call.depthwise(), &(sample..sample + 1), x, call.weights.dwconv, y);
        call.norm(y, z);
    });
    let (mut a, mut norms) = (panels.buffers(panels.rows()), panels.buffers(call.shape.samples));
    let hs = split(h, panels.ranges(), panels.rows());
    let parts = panels.ranges().par_iter().zip(&mut a).zip(&mut norms).zip(hs).enumerate().with_max_len(1);
    parts.for_each(|(at, (((panel, a), s), h))| {
        let kept = frozen.map(|frozen| &frozen.pwconv1_panels[at]);
        let pwconv1 = Kept::factor(kept, call.compute, call.pwconv1().columns(panel.clone()));
        multiply(panels.matrix(&z), &pwconv1, false, a);
        if !h.is_empty() {
            h.copy_from_slice(a);
        }
        s.fill(0.0);
        for (a, s) in a.chunks_exact_mut(call.rows() * panel.len()).zip(s.chunks_exact_mut(panel.len())) {
            simd::bias_gelu(level, a, &call.weights.pwconv1_bias[panel.clone()], s);
        }
        s.iter_mut().for_each(|s| *s = s.sqrt());
    });
    batch.join(&norms, s);
    let scale = batch.scale(s);
    let parts = panels.ranges().par_iter().zip(&mut a).with_max_len(1);
    parts.for_each(|(panel, a)| batch.scale_panel(panel, &scale, a));
    let pwconv2 = call.pwconv2(&call.pwconv2);
    let part = |(at, panel): (usize, &Range<usize>), (narrow_at, narrow): (usize, &Range<usize>)| {
        let matrix = pwconv2.rows(panel.clone()).columns(narrow.clone());
        Kept::factor(frozen.map(|frozen| &frozen.pwconv2_panels[at][narrow_at]), call.compute, matrix)
    };
    panels.reduce(&a, part, out);
    let samples = out.par_chunks_exact_mut(values).zip(x.par_chunks_exact(values));
    samples.enumerate().for_each(|(sample, (out, x))| match call.drop(sample) {
        0.0 => out.copy_from_slice(x),
        drop => simd::residual(level, x, &pwconv2_bias, drop, out),
    });
}

/// The rows of a gradient that are not zero, when some are: a loss that looks at removed patches only says nothing of the
/// visible ones, and the drop path passes samples by. What zeros are multiplied with need not be read.
struct NonzeroRows<'a> {
    channels: usize,
    values: &'a [f32],
    /// Where the rows belong; `None` if they are all there are.
    places: Option<Vec<usize>>,
}

impl<'a> NonzeroRows<'a> {
    /// The rows of `grad [any, C]`; `own` is room for them.
    fn new(grad: &'a [f32], channels: usize, own: &'a mut Buffer) -> Self {
        let rows = grad.chunks_exact(channels).enumerate();
        let places: Vec<_> = rows.filter(|(_, row)| row.iter().any(|&x| x != 0.0)).map(|(place, _)| place).collect();
        if places.len() * channels == grad.len() {
            return Self { channels, values: grad, places: None };
        }
        *own = Buffer::new(places.len() * channels);
        gather(grad, &places, channels, own);
        Self { channels, values: own, places: Some(places) }
    }

    /// `[rows, C]`.
    fn matrix(&self) -> Matrix<'_> {
        Matrix::new(self.values, self.values.len() / self.channels, self.channels)
    }

    /// `all = grad * factor`, of `width` columns; zeros where the gradient is.
    fn multiply(&self, factor: &Factor, width: usize, all: &mut [f32]) {
        let Some(places) = &self.places else { return multiply(self.matrix(), factor, false, all) };
        let mut rows = Buffer::new(places.len() * width);
        multiply(self.matrix(), factor, false, &mut rows);
        all.fill(0.0);
        for (row, place) in rows.chunks_exact(width).zip(places) {
            all[place * width..][..width].copy_from_slice(row);
        }
    }

    /// `out += all^T * grad`, with `all` of `width` columns.
    fn add_product(&self, compute: Compute, all: &[f32], width: usize, out: &mut [f32]) {
        let Some(places) = &self.places else {
            return product(compute, Matrix::new(all, all.len() / width, width).t(), self.matrix(), true, out);
        };
        let mut rows = Buffer::new(places.len() * width);
        gather(all, places, width, &mut rows);
        product(compute, Matrix::new(&rows, places.len(), width).t(), self.matrix(), true, out);
    }
}

/// Copies the rows at `places`, each of `width` values.
fn gather(all: &[f32], places: &[usize], width: usize, rows: &mut [f32]) {
    for (row, place) in rows.chunks_exact_mut(width).zip(places) {
        row.copy_from_slice(&all[place * width..][..width]);
    }
}

/// A panel in the backward pass, and its part of the gradients.
struct Panel<'a> {
    columns: Range<usize>,
    a: Buffer,
    /// The derivative of GELU at `h`.
    slope: Buffer,
    /// `sum_r du a` of every sample, `[N, width]`.
    t: Buffer,
    /// The gradient of `W1`, `[C, width]`.
    pwconv1: Buffer,
    pwconv1_bias: &'a mut [f32],
    beta: &'a mut [f32],
    pwconv2: &'a mut [f32],
}

/// Adds all gradients.
pub(super) fn backward(
    call: &Call,
    x: &[f32],
    saved: &Saved,
    grad_out: &[f32],
    grad_x: &mut [f32],
    gradients: &mut Gradients,
) {
    let batch = Batch::new(call);
    let panels = &batch.panels;
    let Shape { samples, channels, hidden, .. } = *call.shape;
    let (level, values) = (call.compute.level, call.rows() * channels);
    let (mut z, mut own, mut own_rows) = (Buffer::new(x.len()), Buffer::default(), Buffer::default());
    z.par_chunks_exact_mut(values).zip(saved.y.par_chunks_exact(values)).for_each(|(z, y)| call.norm(y, z));
    let grad = scaled(call, &(0..samples), grad_out, &mut own);
    let grad_rows = NonzeroRows::new(grad, channels, &mut own_rows);
    let mut sum = Buffer::zeros(channels);
    simd::add_columns(level, grad, &mut sum);
    simd::add(gradients.pwconv2_bias, &sum);

    let Gradients { pwconv1_bias, grn_beta, pwconv2, .. } = gradients;
    let mut parts = batch.parts(pwconv1_bias, grn_beta, pwconv2);
    // The gradient of `u`, then that of `h`.
    let mut grads = panels.buffers(panels.rows());
    parts.par_iter_mut().zip(&mut grads).with_max_len(1).for_each(|(panel, grad_u)| {
        let columns = panel.columns.clone();
        if saved.hidden.is_empty() {
            multiply(panels.matrix(&z), &call.factor(call.pwconv1().columns(columns.clone())), false, &mut panel.slope);
        } else {
            panel.slope.copy_from_slice(panels.part(&saved.hidden, &columns));
        }
        simd::bias_gelu_with_derivative(
            level,
            &mut panel.slope,
            &call.weights.pwconv1_bias[columns.clone()],
            &mut panel.a,
        );
        let pwconv2 = call.pwconv2(call.weights.pwconv2).rows(columns.clone());
        grad_rows.multiply(&call.factor(pwconv2.t()), columns.len(), grad_u);
        let one = call.rows() * columns.len();
        let samples =
            panel.a.chunks_exact(one).zip(grad_u.chunks_exact(one)).zip(panel.t.chunks_exact_mut(columns.len()));
        samples.for_each(|((a, grad_u), t)| simd::add_column_products(level, grad_u, a, t));
    });

    let [mut t, mut pull] = [(); 2].map(|()| Buffer::new(samples * hidden));
    batch.join(parts.iter().map(|part| &part.t), &mut t);
    let each = saved.s.chunks_exact(hidden).zip(t.chunks_exact(hidden)).zip(pull.chunks_exact_mut(hidden));
    each.for_each(|((s, t), pull)| response_backward(call, s, t, gradients.grn_gamma, pull));
    let scale = batch.scale(&saved.s);

    parts.par_iter_mut().zip(&mut grads).with_max_len(1).for_each(|(panel, grad_h)| {
        let (columns, one) = (panel.columns.clone(), call.rows() * panel.columns.len());
        let each = panel.a.chunks_exact(one).zip(panel.slope.chunks_exact(one)).zip(grad_h.chunks_exact_mut(one));
        let features = batch.columns(&scale, &columns).zip(batch.columns(&pull, &columns));
        for (((a, slope), grad), (scale, pull)) in each.zip(features) {
            simd::activation_backward(level, a, slope, scale, pull, grad, panel.pwconv1_bias);
        }
        batch.scale_panel(&columns, &scale, &mut panel.a);
        grad_rows.add_product(call.compute, &panel.a, columns.len(), panel.pwconv2);
        shift(call, columns, &sum, panel.beta, panel.pwconv2);
        product(call.compute, panels.matrix(&z).t(), panels.matrix(grad_h), false, &mut panel.pwconv1);
    });
    let pwconv1: Vec<_> = parts.into_iter().map(|part| part.pwconv1).collect();
    panels.add(&pwconv1, gradients.pwconv1);
    drop(pwconv1);

    let (mut grad_y, pwconv1) = (z, call.pwconv1());
    let part = |(_, panel): (usize, &Range<usize>), (_, narrow): (usize, &Range<usize>)| {
        call.factor(pwconv1.rows(narrow.clone()).columns(panel.clone()).t())
    };
    panels.reduce(&grads, part, &mut grad_y);
    drop(grads);
    before(call, x, &saved.y, grad_out, &mut grad_y, grad_x, gradients);
}

/// From the gradient of `z`, which becomes that of `y`, to those of `x` and of the parameters before `z`.
fn before(
    call: &Call,
    x: &[f32],
    y: &[f32],
    grad_out: &[f32],
    grad_y: &mut [f32],
    grad_x: &mut [f32],
    gradients: &mut Gradients,
) {
    let Shape { samples, channels, kernel, .. } = *call.shape;
    let (level, values) = (call.compute.level, call.rows() * channels);
    let turned = turned(call.weights.dwconv, channels);
    // Samples have few rows: a chunk may be a single one.
    let chunking = Chunking::new(samples, LARGE, 0);
    let mut grads: Vec<_> = chunking.chunks().iter().map(|_| Buffer::new((kernel * kernel + 3) * channels)).collect();
    let ys = split(grad_y, &chunking.chunks(), values);
    let xs = split(grad_x, &chunking.chunks(), values);
    let jobs: Vec<_> = chunking.chunks().into_iter().zip(ys).zip(xs).zip(&mut grads).collect();
    jobs.into_par_iter().with_max_len(1).for_each(|(((chunk, grad_y), grad_x), grads)| {
        zero(grads);
        let (depthwise, rest) = grads.split_at_mut(kernel * kernel * channels);
        let (bias, norm) = rest.split_at_mut(channels);
        let (norm, norm_bias) = norm.split_at_mut(channels);
        let here = chunk.start * values..chunk.end * values;
        simd::add(grad_x, &grad_out[here.clone()]);
        simd::layer_norm_backward(level, &y[here.clone()], call.weights.norm, grad_y, norm, norm_bias);
        simd::add_columns(level, grad_y, bias);
        let mut conv = call.depthwise();
        call.convolve(&mut conv, &chunk, grad_y, &turned, grad_x);
        call.add_weight_gradient(&mut conv, &chunk, &x[here], grad_y, depthwise);
    });
    let taps = kernel * kernel * channels;
    add_all(gradients.dwconv, &grads, 0);
    add_all(gradients.dwconv_bias, &grads, taps);
    add_all(gradients.norm, &grads, taps + channels);
    add_all(gradients.norm_bias, &grads, taps + 2 * channels);
}
