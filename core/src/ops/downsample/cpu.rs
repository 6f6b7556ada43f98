//! Downsampling on the CPU: gather the four cells of every square, normalise them as rows, one product.

use std::ops::Range;

use rayon::prelude::*;

use super::{Gradients, Shape, Weights};
use crate::{
    cells::Cells,
    ops::parallel::{Chunking, TILE, ranges, split, zero},
    scratch::Buffer,
    simd::{self, Compute, Factor, Kept, Matrix, multiply, product},
};

impl Shape<'_> {
    fn chunking(&self) -> Chunking {
        Chunking::new(self.samples, self.cells.rows() / 4, self.parameters())
    }

    /// First of the two upper input rows of an output row. Rows of the output may be counted over several samples.
    fn upper(&self, row: usize) -> usize {
        // A dense grid is one block of rows, a sparse one a block per patch.
        let (height, width) = match self.cells {
            Cells::Dense { height, width } => (height / 2, width / 2),
            Cells::Sparse { side, .. } => (side / 2, side / 2),
        };
        let (block, y, x) = (row / (height * width), row / width % height, row % width);
        (block * height + y) * 4 * width + 2 * x
    }

    /// Calls `each(place among the gathered values, place in the input)` for every pair of cells that lie side by
    /// side: `2 C` values.
    fn each_pair(&self, rows: Range<usize>, mut each: impl FnMut(usize, usize)) {
        let (run, pair) = (self.cells.run(), 2 * self.channels);
        for (index, row) in rows.enumerate() {
            let upper = self.upper(row);
            each(2 * index * pair, upper * self.channels);
            each((2 * index + 1) * pair, (upper + run) * self.channels);
        }
    }

    /// The squares of output rows: `[rows, 4, C]`.
    fn gather(&self, rows: Range<usize>, x: &[f32], squares: &mut [f32]) {
        let pair = 2 * self.channels;
        self.each_pair(rows, |to, from| squares[to..to + pair].copy_from_slice(&x[from..from + pair]));
    }

    fn conv<'a>(&self, weights: &Weights<'a>) -> Matrix<'a> {
        Matrix::new(weights.conv, 4 * self.channels, self.dim)
    }
}

pub(super) fn forward(
    conv: Option<&Kept>,
    compute: Compute,
    shape: &Shape,
    weights: &Weights,
    x: &[f32],
    out: &mut [f32],
) {
    let (rows, groups) = (shape.cells.rows() / 4, shape.chunking().all_groups());
    let parts = split(out, &groups, rows * shape.dim);
    let conv = Kept::factor(conv, compute, shape.conv(weights));
    let jobs: Vec<_> = groups.into_iter().zip(parts).collect();
    jobs.into_par_iter().with_max_len(1).for_each(|(group, out)| {
        let mut squares = Buffer::new(TILE * 4 * shape.channels);
        let mut z = Buffer::new(TILE * 4 * shape.channels);
        let tiles = ranges(group.start * rows..group.end * rows, TILE);
        for (tile, out) in tiles.zip(out.chunks_mut(TILE * shape.dim)) {
            let values = tile.len() * 4 * shape.channels;
            let (squares, z) = (&mut squares[..values], &mut z[..values]);
            shape.gather(tile.clone(), x, squares);
            simd::layer_norm(compute.level, squares, weights.norm, weights.norm_bias, z);
            simd::fill_rows(out, weights.conv_bias);
            multiply(Matrix::new(z, tile.len(), 4 * shape.channels), &conv, true, out);
        }
    });
}

pub(super) fn backward(
    compute: Compute,
    shape: &Shape,
    weights: &Weights,
    x: &[f32],
    grad_out: &[f32],
    grad_x: &mut [f32],
    mut gradients: Gradients,
) {
    let chunking = shape.chunking();
    let (rows, channels, dim) = (shape.cells.rows() / 4, shape.channels, shape.dim);
    let conv = Factor::new(compute, shape.conv(weights).t());
    let parts = chunking.accumulate(shape.parameters(), grad_x, 4 * rows * channels, |chunk, grad_x, flat| {
        zero(flat);
        let gradients = Gradients::split(flat, shape);
        let mut scratch = [(); 3].map(|()| Buffer::new(TILE * 4 * channels));
        let begin = chunk.start * 4 * rows * channels;
        let tiles = chunking.groups(chunk).flat_map(|group| ranges(group.start * rows..group.end * rows, TILE));
        for tile in tiles {
            let [squares, z, grad_z] = scratch.each_mut().map(|buffer| &mut buffer[..tile.len() * 4 * channels]);
            shape.gather(tile.clone(), x, squares);
            simd::layer_norm(compute.level, squares, weights.norm, weights.norm_bias, z);
            let grad = &grad_out[tile.start * dim..tile.end * dim];
            simd::add_columns(compute.level, grad, gradients.conv_bias);
            let grad = Matrix::new(grad, tile.len(), dim);
            product(compute, Matrix::new(z, tile.len(), 4 * channels).t(), grad, true, gradients.conv);
            multiply(grad, &conv, false, grad_z);
            let (norm, norm_bias) = (&mut *gradients.norm, &mut *gradients.norm_bias);
            simd::layer_norm_backward(compute.level, squares, weights.norm, grad_z, norm, norm_bias);
            shape.each_pair(tile, |from, to| {
                simd::add(&mut grad_x[to - begin..][..2 * channels], &grad_z[from..][..2 * channels]);
            });
        }
    });
    gradients.add(&parts);
}
