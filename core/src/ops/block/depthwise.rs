//! Depthwise convolution of channels-last rows, dense or sparse.
//!
//! One vector of channels after the other: these channels of a sample are laid out as a plane, the grid with a margin of
//! half a kernel, in which neighbours lie side by side and what does not exist is zero. The lines of it that are in use,
//! and the kernel's taps, stay in the first cache, where the rows of all channels would not. Up to eight cells side by
//! side are worked on at once, their sums in registers; lines of the kernel under which there is nothing are left out.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use crate::{cells::Cells, profile::timed, scratch::Buffer, simd::Level};

/// A convolution of `channels` channels, with where a sample's rows lie on the plane.
pub(super) struct Depthwise {
    kernel: usize,
    channels: usize,
    /// Cells of the plane from left to right.
    width: usize,
    height: usize,
    /// Rows that lie side by side, on the grid and in memory.
    run: usize,
    /// For every run its place on the plane.
    runs: Vec<usize>,
    pieces: Vec<Piece>,
    /// A plane for each width of vectors, and room for a kernel of the widest.
    planes: [Buffer; 3],
    taps: Buffer,
    /// Whether all this holds for every sample, and has been worked out.
    settled: bool,
}

/// Cells side by side that are worked on at once.
#[derive(Debug, Clone, Copy)]
struct Piece {
    /// The row of the first one.
    row: usize,
    /// The place on the plane of its first tap.
    place: usize,
    cells: usize,
    /// The kernel's lines outside of which there is nothing.
    first_line: usize,
    last_line: usize,
    /// Runs that have to be laid out before.
    runs: usize,
}

/// Cells of a piece at most: their sums and the line under them fit 32 registers.
const CELLS: usize = 8;

/// Channels of the widest vector.
const WIDEST: usize = 16;

impl Depthwise {
    /// For grids of this geometry; [`Self::read`] turns to a sample.
    pub(super) fn new(cells: &Cells, kernel: usize, channels: usize) -> Self {
        let margin = kernel - 1;
        let (width, height) = (cells.width() + margin, cells.height() + margin);
        let run = cells.run();
        let taps = Buffer::new(kernel * kernel * WIDEST);
        let (runs, pieces, planes) = (Vec::new(), Vec::new(), Default::default());
        Self { kernel, channels, width, height, run, runs, pieces, planes, taps, settled: false }
    }

    /// Turns to a sample.
    pub(super) fn read(&mut self, cells: &Cells, sample: usize) {
        if self.settled {
            return;
        }
        self.settled = matches!(cells, Cells::Dense { .. });
        let (half, width) = (self.kernel / 2, self.width);
        self.planes.iter_mut().for_each(|plane| plane.fill(0.0));
        self.runs.clear();
        let mut present = vec![false; width * self.height];
        // For every line of the plane, the runs after which it is complete.
        let mut complete = vec![0; self.height];
        for first in (0..cells.rows()).step_by(self.run) {
            let (y, x) = cells.cell(sample, first);
            let place = (y + half) * width + x + half;
            present[place..place + self.run].fill(true);
            self.runs.push(place);
            complete[y + half] = self.runs.len();
        }
        self.pieces.clear();
        let (pieces, kernel) = (self.run.div_ceil(CELLS), self.kernel);
        for (index, &run) in self.runs.iter().enumerate() {
            for piece in 0..pieces {
                let [start, end] = [piece, piece + 1].map(|piece| self.run * piece / pieces);
                let place = run + start - half * width - half;
                let seen = |line: &usize| present[place + line * width..][..end - start + kernel - 1].contains(&true);
                let first_line = (0..kernel).find(seen).unwrap_or(0);
                let last_line = (0..kernel).rfind(seen).unwrap_or(0);
                let lines = &complete[place / width..][first_line..=last_line];
                self.pieces.push(Piece {
                    row: index * self.run + start,
                    place,
                    cells: end - start,
                    first_line,
                    last_line,
                    runs: lines.iter().copied().max().unwrap_or(0),
                });
            }
        }
    }

    /// `out += conv(x)` for the sample, `x` and `out` `[R, C]`, `weight [K, K, C]`.
    ///
    /// With the kernel turned by half a circle ([`turned`]) this is the gradient of the input.
    pub(super) fn add(&mut self, level: Level, x: &[f32], weight: &[f32], out: &mut [f32]) {
        timed!(Kernel, "depthwise");
        self.each_vector(level, x, Add { weight, out });
    }

    /// `grad_weight += ` its gradient, for the sample: `x` the input, `grad` the gradient of the output, both `[R, C]`.
    pub(super) fn add_weight_gradient(&mut self, level: Level, x: &[f32], grad: &[f32], grad_weight: &mut [f32]) {
        timed!(Kernel, "depthwise weight gradient");
        self.each_vector(level, x, AddWeightGradient { grad, grad_weight });
    }

    fn each_vector(&mut self, level: Level, x: &[f32], mut pass: impl Pass) {
        let Self { taps, planes, .. } = self;
        let (mut taps, mut planes) = (std::mem::take(taps), std::mem::take(planes));
        for ((level, channels), plane) in level.lanes(self.channels).zip(&mut planes) {
            level.run(Vectors { conv: self, channels, x, plane, taps: &mut taps, pass: &mut pass });
        }
        (self.taps, self.planes) = (taps, planes);
    }
}

/// The kernel `[K, K, C]` turned by half a circle.
pub(super) fn turned(weight: &[f32], channels: usize) -> Vec<f32> {
    weight.chunks_exact(channels).rev().flatten().copied().collect()
}

/// A vector of channels `c..c + count` of rows; `count` is a vector's width if `FULL`, else less.
#[derive(Clone, Copy)]
struct Lanes<S: Simd, const FULL: bool> {
    simd: S,
    channels: usize,
    c: usize,
    count: usize,
}

impl<S: Simd, const FULL: bool> Lanes<S, FULL> {
    /// The channels of rows `first..`, as many as fit `into`.
    #[inline(always)]
    fn load(self, rows: &[f32], first: usize, into: &mut [S::f32s]) {
        let rows = &rows[first * self.channels..][..into.len() * self.channels];
        for (into, row) in into.iter_mut().zip(rows.chunks_exact(self.channels)) {
            let row = &row[self.c..];
            *into = match FULL {
                true => S::as_simd_f32s(&row[..S::F32_LANES]).0[0],
                false => self.simd.partial_load_f32s(&row[..self.count]),
            };
        }
    }

    #[inline(always)]
    fn store(self, values: &[S::f32s], rows: &mut [f32], first: usize) {
        let rows = &mut rows[first * self.channels..][..values.len() * self.channels];
        for (&value, row) in values.iter().zip(rows.chunks_exact_mut(self.channels)) {
            let row = &mut row[self.c..];
            match FULL {
                true => S::as_mut_simd_f32s(&mut row[..S::F32_LANES]).0[0] = value,
                false => self.simd.partial_store_f32s(&mut row[..self.count], value),
            }
        }
    }
}

/// What is done with the vectors.
trait Pass {
    /// Rows of a kernel `[K, K, C]`, from which the taps are loaded.
    fn kernel(&self) -> &[f32];

    /// Works on `Q` cells, `K` taps at a time.
    fn piece<S: Simd, const K: usize, const Q: usize, const FULL: bool>(
        &mut self,
        lanes: Lanes<S, FULL>,
        row: usize,
        under: impl Iterator<Item = (usize, usize)>,
        plane: &[S::f32s],
        taps: &mut [S::f32s],
    );

    /// Takes what has been made of the taps.
    fn end<S: Simd, const FULL: bool>(&mut self, lanes: Lanes<S, FULL>, taps: &[S::f32s]);
}

/// A pass over some of the channels.
struct Vectors<'a, P> {
    conv: &'a Depthwise,
    channels: Range<usize>,
    x: &'a [f32],
    plane: &'a mut Buffer,
    taps: &'a mut Buffer,
    pass: &'a mut P,
}

impl<P: Pass> WithSimd for Vectors<'_, P> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.conv.kernel {
            3 => self.run::<S, 3, false>(simd),
            5 => self.run::<S, 5, false>(simd),
            7 => self.run::<S, 7, false>(simd),
            _ => self.run::<S, 1, true>(simd),
        }
    }
}

impl<P: Pass> Vectors<'_, P> {
    /// For kernels of side `K`, or of `ANY` side, one tap at a time.
    #[inline(always)]
    fn run<S: Simd, const K: usize, const ANY: bool>(self, simd: S) {
        let Self { conv, channels: Range { start, end }, x, plane, taps, pass } = self;
        if plane.is_empty() {
            *plane = Buffer::zeros(conv.width * conv.height * S::F32_LANES);
        }
        let plane = S::as_mut_simd_f32s(plane).0;
        let taps = &mut S::as_mut_simd_f32s(taps).0[..conv.kernel * conv.kernel];
        let mut c = start;
        while c + S::F32_LANES <= end {
            let lanes = Lanes::<S, true> { simd, channels: conv.channels, c, count: S::F32_LANES };
            vector::<S, P, K, ANY, true>(lanes, conv, x, plane, taps, pass);
            c += S::F32_LANES;
        }
        if c < end {
            let lanes = Lanes::<S, false> { simd, channels: conv.channels, c, count: end - c };
            vector::<S, P, K, ANY, false>(lanes, conv, x, plane, taps, pass);
        }
    }
}

#[inline(always)]
fn vector<S: Simd, P: Pass, const K: usize, const ANY: bool, const FULL: bool>(
    lanes: Lanes<S, FULL>,
    conv: &Depthwise,
    x: &[f32],
    plane: &mut [S::f32s],
    taps: &mut [S::f32s],
    pass: &mut P,
) {
    let side = if ANY { conv.kernel } else { K };
    lanes.load(pass.kernel(), 0, taps);
    let mut ready = 0;
    for &Piece { row, place, cells, first_line, last_line, runs } in &conv.pieces {
        while ready < runs {
            lanes.load(x, ready * conv.run, &mut plane[conv.runs[ready]..][..conv.run]);
            ready += 1;
        }
        // For every `K` taps the first one, and the place of what it sees.
        let under = (first_line..=last_line).flat_map(|line| {
            let place = place + line * conv.width;
            (0..side / K).map(move |x| (line * side + x, place + x))
        });
        // Vectors that are not full are rare.
        match if FULL { cells } else { 0 } {
            0 => {
                for cell in 0..cells {
                    let under = under.clone().map(|(tap, place)| (tap, place + cell));
                    pass.piece::<S, K, 1, FULL>(lanes, row + cell, under, plane, taps);
                }
            }
            1 => pass.piece::<S, K, 1, FULL>(lanes, row, under, plane, taps),
            2 => pass.piece::<S, K, 2, FULL>(lanes, row, under, plane, taps),
            3 => pass.piece::<S, K, 3, FULL>(lanes, row, under, plane, taps),
            4 => pass.piece::<S, K, 4, FULL>(lanes, row, under, plane, taps),
            5 => pass.piece::<S, K, 5, FULL>(lanes, row, under, plane, taps),
            6 => pass.piece::<S, K, 6, FULL>(lanes, row, under, plane, taps),
            7 => pass.piece::<S, K, 7, FULL>(lanes, row, under, plane, taps),
            _ => pass.piece::<S, K, CELLS, FULL>(lanes, row, under, plane, taps),
        }
    }
    pass.end(lanes, taps);
}

struct Add<'a> {
    weight: &'a [f32],
    out: &'a mut [f32],
}

impl Pass for Add<'_> {
    #[inline(always)]
    fn kernel(&self) -> &[f32] {
        self.weight
    }

    #[inline(always)]
    fn piece<S: Simd, const K: usize, const Q: usize, const FULL: bool>(
        &mut self,
        lanes: Lanes<S, FULL>,
        row: usize,
        under: impl Iterator<Item = (usize, usize)>,
        plane: &[S::f32s],
        taps: &mut [S::f32s],
    ) {
        let mut sums = [lanes.simd.splat_f32s(0.0); Q];
        lanes.load(self.out, row, &mut sums);
        for (tap, place) in under {
            let (line, taps) = (&plane[place..][..Q + K - 1], &taps[tap..][..K]);
            for kx in 0..K {
                for q in 0..Q {
                    sums[q] = lanes.simd.mul_add_e_f32s(line[q + kx], taps[kx], sums[q]);
                }
            }
        }
        lanes.store(&sums, self.out, row);
    }

    #[inline(always)]
    fn end<S: Simd, const FULL: bool>(&mut self, _: Lanes<S, FULL>, _: &[S::f32s]) {}
}

struct AddWeightGradient<'a> {
    grad: &'a [f32],
    grad_weight: &'a mut [f32],
}

impl Pass for AddWeightGradient<'_> {
    #[inline(always)]
    fn kernel(&self) -> &[f32] {
        self.grad_weight
    }

    #[inline(always)]
    fn piece<S: Simd, const K: usize, const Q: usize, const FULL: bool>(
        &mut self,
        lanes: Lanes<S, FULL>,
        row: usize,
        under: impl Iterator<Item = (usize, usize)>,
        plane: &[S::f32s],
        taps: &mut [S::f32s],
    ) {
        let mut slopes = [lanes.simd.splat_f32s(0.0); Q];
        lanes.load(self.grad, row, &mut slopes);
        for (tap, place) in under {
            let (line, taps) = (&plane[place..][..Q + K - 1], &mut taps[tap..][..K]);
            let mut sums = [lanes.simd.splat_f32s(0.0); K];
            sums.copy_from_slice(taps);
            for q in 0..Q {
                for kx in 0..K {
                    sums[kx] = lanes.simd.mul_add_e_f32s(line[q + kx], slopes[q], sums[kx]);
                }
            }
            taps.copy_from_slice(&sums);
        }
    }

    #[inline(always)]
    fn end<S: Simd, const FULL: bool>(&mut self, lanes: Lanes<S, FULL>, taps: &[S::f32s]) {
        lanes.store(taps, self.grad_weight, 0);
    }
}
