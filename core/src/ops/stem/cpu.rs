//! The stem on the CPU: gather squares, one product, normalise.

use std::ops::Range;

use rayon::prelude::*;

use super::{Gradients, Saved, Shape, Weights};
use crate::{
    ops::parallel::{Chunking, TILE, ranges, split, zero},
    scratch::Buffer,
    simd::{self, Compute, Factor, Kept, Level, Matrix, multiply, product},
};

impl Shape<'_> {
    fn chunking(&self) -> Chunking {
        Chunking::new(self.samples, self.cells.rows(), self.parameters())
    }

    /// Calls `each(square row, start of a line of pixels in the images, its length)` for rows of a group.
    fn each_line(&self, group: &Range<usize>, rows: &Range<usize>, mut each: impl FnMut(usize, usize, usize, usize)) {
        let (stride, length) = (self.stride, self.stride * self.channels);
        let (height, width) = (self.cells.height() * stride, self.cells.width() * stride);
        for row in rows.clone() {
            let sample = group.start + row / self.cells.rows();
            let (y, x) = self.cells.cell(sample, row % self.cells.rows());
            for line in 0..stride {
                let pixel = (sample * height + y * stride + line) * width + x * stride;
                each(row - rows.start, line, pixel * self.channels, length);
            }
        }
    }

    fn conv<'a>(&self, weights: &Weights<'a>) -> Matrix<'a> {
        Matrix::new(weights.conv, self.square(), self.dim)
    }

    /// The squares of rows of a group: `[rows, S * S * C_in]`.
    fn gather(&self, group: &Range<usize>, rows: &Range<usize>, images: &[f32], squares: &mut [f32]) {
        self.each_line(group, rows, |row, line, start, length| {
            let at = (row * self.stride + line) * length;
            squares[at..at + length].copy_from_slice(&images[start..start + length]);
        });
    }
}

pub(super) fn forward(
    conv: Option<&Kept>,
    compute: Compute,
    shape: &Shape,
    weights: &Weights,
    images: &[f32],
    out: &mut [f32],
    saved: Option<&mut Saved>,
) {
    let (each, groups) = (shape.cells.rows() * shape.dim, shape.chunking().all_groups());
    let mut nothing = Saved::default();
    let saved = saved.map_or(&mut nothing, |saved| {
        saved.y = Buffer::new(shape.output());
        saved
    });
    let parts = split(out, &groups, each).into_iter().zip(split(&mut saved.y, &groups, each));
    let conv = Kept::factor(conv, compute, shape.conv(weights));
    let jobs: Vec<_> = groups.into_iter().zip(parts).collect();
    jobs.into_par_iter().with_max_len(1).for_each(|(group, (out, y))| {
        let rows = group.len() * shape.cells.rows();
        for tile in ranges(0..rows, TILE) {
            let values = tile.start * shape.dim..tile.end * shape.dim;
            let y = if y.is_empty() { None } else { Some(&mut y[values.clone()]) };
            forward_tile(compute.level, shape, weights, &conv, images, (&group, &tile), &mut out[values], y);
        }
    });
}

#[expect(clippy::too_many_arguments, reason = "the forward pass's arguments and one tile")]
fn forward_tile(
    level: Level,
    shape: &Shape,
    weights: &Weights,
    conv: &Factor,
    images: &[f32],
    (group, tile): (&Range<usize>, &Range<usize>),
    out: &mut [f32],
    y: Option<&mut [f32]>,
) {
    let mut squares = Buffer::new(tile.len() * shape.square());
    let mut own = Buffer::default();
    let y = y.unwrap_or_else(|| {
        own = Buffer::new(out.len());
        &mut own
    });
    shape.gather(group, tile, images, &mut squares);
    let squares = Matrix::new(&squares, tile.len(), shape.square());
    simd::fill_rows(y, weights.conv_bias);
    multiply(squares, conv, true, y);
    simd::layer_norm(level, y, weights.norm, weights.norm_bias, out);
}

#[expect(clippy::too_many_arguments, reason = "the forward pass's arguments and one gradient for each")]
pub(super) fn backward(
    compute: Compute,
    shape: &Shape,
    weights: &Weights,
    images: &[f32],
    saved: &Saved,
    grad_out: &[f32],
    grad_images: Option<&mut [f32]>,
    mut gradients: Gradients,
) {
    let chunking = shape.chunking();
    let (rows, dim, square) = (shape.cells.rows(), shape.dim, shape.square());
    let image = shape.cells.height() * shape.cells.width() * square;
    let grad_images = grad_images.unwrap_or(&mut []);
    let parts = chunking.accumulate(shape.parameters(), grad_images, image, |chunk, grad_images, flat| {
        zero(flat);
        let gradients = Gradients::split(flat, shape);
        let mut squares = Buffer::new(TILE * square);
        let mut grad = Buffer::new(TILE * dim);
        let begin = chunk.start * image;
        for group in chunking.groups(chunk) {
            for tile in ranges(0..group.len() * rows, TILE) {
                let values = (group.start * rows + tile.start) * dim..(group.start * rows + tile.end) * dim;
                let squares = &mut squares[..tile.len() * square];
                let grad = &mut grad[..values.len()];
                grad.copy_from_slice(&grad_out[values.clone()]);
                let (norm, norm_bias) = (&mut *gradients.norm, &mut *gradients.norm_bias);
                simd::layer_norm_backward(compute.level, &saved.y[values], weights.norm, grad, norm, norm_bias);
                simd::add_columns(compute.level, grad, gradients.conv_bias);
                shape.gather(&group, &tile, images, squares);
                let grad = Matrix::new(grad, tile.len(), dim);
                product(compute, Matrix::new(squares, tile.len(), square).t(), grad, true, gradients.conv);
                if !grad_images.is_empty() {
                    product(compute, grad, shape.conv(weights).t(), false, squares);
                    shape.each_line(&group, &tile, |row, line, start, length| {
                        let at = (row * shape.stride + line) * length;
                        simd::add(&mut grad_images[start - begin..][..length], &squares[at..at + length]);
                    });
                }
            }
        }
    });
    gradients.add(&parts);
}
