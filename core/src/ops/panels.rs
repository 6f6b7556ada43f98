//! Products with a large matrix, cut by its columns: for rows too few to be shared out.
//!
//! Cut by samples, every thread would read all of the matrix for a handful of rows, and have gradients of its own as large
//! as it is. Here a thread has all rows and some columns, a panel, and reads its part of the matrix once.

use std::ops::{Deref, Range};

use rayon::prelude::*;

use super::parallel::ranges;
use crate::scratch::Buffer;
use crate::simd::{self, Compute, Factor, Matrix, multiply};

/// Values of a matrix that is large: a quarter of a core's second cache.
pub(crate) const LARGE_MATRIX: usize = 1 << 17;

/// Panels of a large matrix at most, and of what is summed up over them.
pub(crate) const PANELS: usize = 8;
pub(crate) const NARROW: usize = 4;

/// Cuts columns at whole cache lines.
fn cut(columns: usize, panels: usize) -> Vec<Range<usize>> {
    ranges(0..columns, columns.div_ceil(panels).next_multiple_of(16)).collect()
}

/// Some rows, and how the columns of a large matrix are cut.
///
/// Buffers go back to the thread that drops them: those that outlive a parallel pass are made outside of it.
pub(crate) struct Panels {
    compute: Compute,
    /// Rows of all samples; one or more.
    rows: usize,
    panels: Vec<Range<usize>>,
}

impl Panels {
    pub(crate) fn new(compute: Compute, rows: usize, columns: usize) -> Self {
        Self { compute, rows, panels: cut(columns, PANELS) }
    }

    /// The columns of each panel.
    pub(crate) fn ranges(&self) -> &[Range<usize>] {
        &self.panels
    }

    /// Columns of all panels but the last, which may have fewer.
    pub(crate) fn width(&self) -> usize {
        self.panels[0].len()
    }

    /// How products are computed.
    pub(crate) fn compute(&self) -> Compute {
        self.compute
    }

    /// Rows of all samples.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// A buffer for `rows` rows of each panel.
    pub(crate) fn buffers(&self, rows: usize) -> Vec<Buffer> {
        self.panels.iter().map(|panel| Buffer::new(rows * panel.len())).collect()
    }

    /// The rows of a panel, of values that lie panel by panel.
    pub(crate) fn part<'a>(&self, values: &'a [f32], panel: &Range<usize>) -> &'a [f32] {
        &values[panel.start * self.rows..panel.end * self.rows]
    }

    /// A matrix of all rows.
    pub(crate) fn matrix<'a>(&self, values: &'a [f32]) -> Matrix<'a> {
        Matrix::new(values, self.rows, values.len() / self.rows)
    }

    /// `out [R, columns]`, the sum over panels of `left * right(panel, some of the columns)`, each with its number.
    pub(crate) fn reduce<'a>(
        &self,
        left: &[impl Deref<Target = [f32]> + Sync],
        right: impl Fn((usize, &Range<usize>), (usize, &Range<usize>)) -> Factor<'a> + Sync,
        out: &mut [f32],
    ) {
        let columns = out.len() / self.rows;
        let with_buffer = |narrow: Range<usize>| (Buffer::new(self.rows * narrow.len()), narrow);
        let mut parts: Vec<_> = cut(columns, NARROW).into_iter().map(with_buffer).collect();
        parts.par_iter_mut().enumerate().with_max_len(1).for_each(|(number, (part, narrow))| {
            for (index, (panel, left)) in self.panels.iter().zip(left).enumerate() {
                multiply(self.matrix(left), &right((index, panel), (number, narrow)), index > 0, part);
            }
        });
        out.par_chunks_exact_mut(columns).with_min_len(32).enumerate().for_each(|(row, out)| {
            for (part, narrow) in &parts {
                out[narrow.clone()].copy_from_slice(&part[row * narrow.len()..][..narrow.len()]);
            }
        });
    }

    /// `into [any, columns] += ` panels side by side.
    pub(crate) fn add(&self, parts: &[impl Deref<Target = [f32]> + Sync], into: &mut [f32]) {
        let columns = self.panels.last().map_or(0, |panel| panel.end);
        into.par_chunks_exact_mut(columns).with_min_len(8).enumerate().for_each(|(row, into)| {
            for (panel, part) in self.panels.iter().zip(parts) {
                simd::add(&mut into[panel.clone()], &part[row * panel.len()..][..panel.len()]);
            }
        });
    }
}
