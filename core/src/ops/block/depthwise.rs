//! Depthwise convolution of channels-last rows, dense or sparse.
//!
//! A [`Map`] says, for every cell of a sample's grid and a margin around it, which row holds it. Removed cells and
//! the margin have none: they are never read. All three passes walk over runs of rows that lie side by side, up to
//! eight cells at once, and over blocks of channels whose sums stay in registers. One line of input under a few cells
//! is skipped if none of it exists; else what is missing in it counts as zero.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use crate::{
    ops::cells::{ABSENT, Cells},
    profile::timed,
    simd::Level,
};

/// The row of every cell of one sample, with a margin of half a kernel.
pub(super) struct Map {
    rows: Vec<u32>,
    width: usize,
    kernel: usize,
    /// Whether it holds for every sample, and has been read.
    settled: bool,
}

impl Map {
    /// A map for grids of this geometry; [`Map::read`] fills it.
    pub(super) fn new(cells: &Cells, kernel: usize) -> Self {
        let margin = kernel - 1;
        let width = cells.width() + margin;
        Self { rows: vec![ABSENT; width * (cells.height() + margin)], width, kernel, settled: false }
    }

    /// Reads where a sample's rows lie.
    pub(super) fn read(&mut self, cells: &Cells, sample: usize) {
        if self.settled {
            return;
        }
        self.settled = matches!(cells, Cells::Dense { .. });
        self.rows.fill(ABSENT);
        let (half, width) = (self.kernel / 2, self.width);
        for first in (0..cells.rows()).step_by(cells.run()) {
            let (y, x) = cells.cell(sample, first);
            let run = &mut self.rows[(y + half) * width + x + half..][..cells.run()];
            for (cell, row) in run.iter_mut().zip(first as u32..) {
                *cell = row;
            }
        }
    }

    /// The rows of the cells from `(y, x)`, counted from the margin's corner.
    #[inline(always)]
    fn line(&self, y: usize, x: usize, length: usize) -> &[u32] {
        &self.rows[y * self.width + x..][..length]
    }
}

/// One convolution: where its rows lie, and its sizes.
pub(super) struct Depthwise<'a> {
    pub(super) cells: &'a Cells<'a>,
    pub(super) sample: usize,
    pub(super) map: &'a Map,
    pub(super) channels: usize,
}

impl Depthwise<'_> {
    /// `out += conv(x)` for one sample, `x` and `out` `[R, C]`, `weight [K, K, C]`.
    ///
    /// With the kernel turned by half a circle ([`turned`]) this is the gradient of the input.
    pub(super) fn add(&self, level: Level, x: &[f32], weight: &[f32], out: &mut [f32]) {
        timed!(Kernel, "depthwise");
        for (level, channels) in level.lanes(self.channels) {
            level.run(Add { conv: self, range: channels, x, weight, out: &mut *out });
        }
    }

    /// `grad_weight += ` its gradient, for one sample: `x` the input, `grad` the gradient of the output, both `[R, C]`.
    pub(super) fn add_weight_gradient(&self, level: Level, x: &[f32], grad: &[f32], grad_weight: &mut [f32]) {
        timed!(Kernel, "depthwise weight gradient");
        for (level, channels) in level.lanes(self.channels) {
            level.run(AddWeightGradient { conv: self, range: channels, x, grad, grad_weight: &mut *grad_weight });
        }
    }
}

/// The kernel `[K, K, C]` turned by half a circle.
pub(super) fn turned(weight: &[f32], channels: usize) -> Vec<f32> {
    weight.chunks_exact(channels).rev().flatten().copied().collect()
}

/// The longest line of input: eight cells under seven taps.
const LINE: usize = 8 + 7 - 1;

/// A vector of channels `c..c + count` of a row; `count` is a vector's width if `FULL`, else less.
#[derive(Clone, Copy)]
struct Lanes<S: Simd, const FULL: bool> {
    simd: S,
    channels: usize,
    c: usize,
    count: usize,
}

impl<S: Simd, const FULL: bool> Lanes<S, FULL> {
    #[inline(always)]
    fn zero(self) -> S::f32s {
        self.simd.splat_f32s(0.0)
    }

    #[inline(always)]
    fn load(self, rows: &[f32], row: usize) -> S::f32s {
        let at = row * self.channels + self.c;
        if FULL {
            S::as_simd_f32s(&rows[at..][..S::F32_LANES]).0[0]
        } else {
            self.simd.partial_load_f32s(&rows[at..][..self.count])
        }
    }

    #[inline(always)]
    fn store(self, rows: &mut [f32], row: usize, value: S::f32s) {
        let at = row * self.channels + self.c;
        if FULL {
            S::as_mut_simd_f32s(&mut rows[at..][..S::F32_LANES]).0[0] = value;
        } else {
            self.simd.partial_store_f32s(&mut rows[at..][..self.count], value);
        }
    }

    /// A line of rows, zeros where there is none; `None` if there is none at all.
    #[inline(always)]
    fn load_line(self, x: &[f32], line: &[u32]) -> Option<[S::f32s; LINE]> {
        let mut values = [self.zero(); LINE];
        let mut any = false;
        for (value, &from) in values.iter_mut().zip(line) {
            if from != ABSENT {
                *value = self.load(x, from as usize);
                any = true;
            }
        }
        any.then_some(values)
    }
}

/// Calls a function of `Q` cells for every piece of every run: eight cells at once, then four, two and one.
macro_rules! each_piece {
    ($conv:expr, |$row:ident, $y:ident, $x:ident| $call:ident::<$S:ty, $K:ident>($($argument:expr),*)) => {
        let run = $conv.cells.run();
        for first in (0..$conv.cells.rows()).step_by(run) {
            let ($y, left) = $conv.cells.cell($conv.sample, first);
            let mut at = 0;
            while at < run {
                let ($row, $x) = (first + at, left + at);
                at += match run - at {
                    8.. => { $call::<$S, $K, 8>($($argument),*); 8 }
                    4.. => { $call::<$S, $K, 4>($($argument),*); 4 }
                    2.. => { $call::<$S, $K, 2>($($argument),*); 2 }
                    _ => { $call::<$S, $K, 1>($($argument),*); 1 }
                };
            }
        }
    };
}

struct Add<'a> {
    conv: &'a Depthwise<'a>,
    /// The channels to work on.
    range: Range<usize>,
    x: &'a [f32],
    weight: &'a [f32],
    out: &'a mut [f32],
}

impl WithSimd for Add<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.conv.map.kernel {
            3 => self.taps::<S, 3>(simd),
            5 => self.taps::<S, 5>(simd),
            7 => self.taps::<S, 7>(simd),
            _ => self.taps::<S, 1>(simd),
        }
    }
}

impl Add<'_> {
    /// `K` taps of a kernel row at once; every kernel row is a whole number of them.
    #[inline(always)]
    fn taps<S: Simd, const K: usize>(self, simd: S) {
        let Self { conv, range, x, weight, out } = self;
        each_piece!(conv, |row, y, left| add_cells::<S, K>(simd, conv, &range, x, weight, (row, y, left), out));
    }
}

/// `Q` cells side by side.
#[inline(always)]
fn add_cells<S: Simd, const K: usize, const Q: usize>(
    simd: S,
    conv: &Depthwise,
    range: &Range<usize>,
    x: &[f32],
    weight: &[f32],
    place: (usize, usize, usize),
    out: &mut [f32],
) {
    let channels = conv.channels;
    let mut c = range.start;
    while c + S::F32_LANES <= range.end {
        let lanes = Lanes::<S, true> { simd, channels, c, count: S::F32_LANES };
        add_block::<S, K, Q, true>(lanes, conv, x, weight, place, out);
        c += S::F32_LANES;
    }
    if c < range.end {
        let lanes = Lanes::<S, false> { simd, channels, c, count: range.end - c };
        add_block::<S, K, Q, false>(lanes, conv, x, weight, place, out);
    }
}

#[inline(always)]
fn add_block<S: Simd, const K: usize, const Q: usize, const FULL: bool>(
    lanes: Lanes<S, FULL>,
    conv: &Depthwise,
    x: &[f32],
    weight: &[f32],
    (row, y, left): (usize, usize, usize),
    out: &mut [f32],
) {
    let kernel = conv.map.kernel;
    let mut sums = [lanes.zero(); Q];
    for (q, sum) in sums.iter_mut().enumerate() {
        *sum = lanes.load(out, row + q);
    }
    for tap in (0..kernel * kernel).step_by(K) {
        let line = conv.map.line(y + tap / kernel, left + tap % kernel, Q + K - 1);
        let Some(values) = lanes.load_line(x, line) else { continue };
        for kx in 0..K {
            let factor = lanes.load(weight, tap + kx);
            for q in 0..Q {
                sums[q] = lanes.simd.mul_add_e_f32s(values[q + kx], factor, sums[q]);
            }
        }
    }
    for (q, sum) in sums.into_iter().enumerate() {
        lanes.store(out, row + q, sum);
    }
}

struct AddWeightGradient<'a> {
    conv: &'a Depthwise<'a>,
    /// The channels to work on.
    range: Range<usize>,
    x: &'a [f32],
    grad: &'a [f32],
    grad_weight: &'a mut [f32],
}

impl WithSimd for AddWeightGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.conv.map.kernel {
            3 => self.taps::<S, 3>(simd),
            5 => self.taps::<S, 5>(simd),
            7 => self.taps::<S, 7>(simd),
            _ => self.taps::<S, 1>(simd),
        }
    }
}

impl AddWeightGradient<'_> {
    #[inline(always)]
    fn taps<S: Simd, const K: usize>(self, simd: S) {
        let Self { conv, range, x, grad, grad_weight } = self;
        each_piece!(conv, |row, y, left| weight_cells::<S, K>(
            simd,
            conv,
            &range,
            x,
            grad,
            (row, y, left),
            grad_weight
        ));
    }
}

/// `Q` cells side by side.
#[inline(always)]
fn weight_cells<S: Simd, const K: usize, const Q: usize>(
    simd: S,
    conv: &Depthwise,
    range: &Range<usize>,
    x: &[f32],
    grad: &[f32],
    place: (usize, usize, usize),
    grad_weight: &mut [f32],
) {
    let channels = conv.channels;
    let mut c = range.start;
    while c + S::F32_LANES <= range.end {
        let lanes = Lanes::<S, true> { simd, channels, c, count: S::F32_LANES };
        weight_block::<S, K, Q, true>(lanes, conv, x, grad, place, grad_weight);
        c += S::F32_LANES;
    }
    if c < range.end {
        let lanes = Lanes::<S, false> { simd, channels, c, count: range.end - c };
        weight_block::<S, K, Q, false>(lanes, conv, x, grad, place, grad_weight);
    }
}

#[inline(always)]
fn weight_block<S: Simd, const K: usize, const Q: usize, const FULL: bool>(
    lanes: Lanes<S, FULL>,
    conv: &Depthwise,
    x: &[f32],
    grad: &[f32],
    (row, y, left): (usize, usize, usize),
    grad_weight: &mut [f32],
) {
    let kernel = conv.map.kernel;
    let mut slopes = [lanes.zero(); Q];
    for (q, slope) in slopes.iter_mut().enumerate() {
        *slope = lanes.load(grad, row + q);
    }
    for tap in (0..kernel * kernel).step_by(K) {
        let line = conv.map.line(y + tap / kernel, left + tap % kernel, Q + K - 1);
        let Some(values) = lanes.load_line(x, line) else { continue };
        for kx in 0..K {
            let mut sum = lanes.load(grad_weight, tap + kx);
            for q in 0..Q {
                sum = lanes.simd.mul_add_e_f32s(values[q + kx], slopes[q], sum);
            }
            lanes.store(grad_weight, tap + kx, sum);
        }
    }
}
