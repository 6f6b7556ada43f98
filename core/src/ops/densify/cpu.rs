//! Densification on the CPU: one product for a group's visible cells, scattered over the grid.

use std::ops::Range;

use rayon::prelude::*;

use super::{Gradients, Shape, Weights};
use crate::{
    ops::parallel::{Chunking, split, zero},
    scratch::Buffer,
    simd::{self, Compute, Factor, Matrix, multiply, product},
};

impl Shape<'_> {
    fn chunking(&self) -> Chunking {
        Chunking::new(self.visible.samples(), self.cells().rows(), self.parameters())
    }

    fn grid(&self) -> usize {
        self.cells().height() * self.cells().width()
    }

    /// Calls `each(row of the group, cell of the group's grids)` for every visible cell of a group.
    fn each_visible(&self, group: &Range<usize>, mut each: impl FnMut(usize, usize)) {
        let cells = self.cells();
        for (index, sample) in group.clone().enumerate() {
            for row in 0..cells.rows() {
                let (y, x) = cells.cell(sample, row);
                each(index * cells.rows() + row, index * self.grid() + y * cells.width() + x);
            }
        }
    }

    /// Calls `each(cell of the group's grids)` for every removed cell of a group.
    fn each_removed(&self, group: &Range<usize>, mut each: impl FnMut(usize)) {
        let (side, width) = (self.side, self.cells().width());
        for (index, sample) in group.clone().enumerate() {
            for patch in self.visible.removed_patches(sample) {
                let (y, x) = (patch / self.visible.patches_wide() * side, patch % self.visible.patches_wide() * side);
                for cell in 0..side * side {
                    each(index * self.grid() + (y + cell / side) * width + x + cell % side);
                }
            }
        }
    }
}

pub(super) fn forward(compute: Compute, shape: &Shape, weights: &Weights, x: &[f32], out: &mut [f32]) {
    let (rows, channels, dim) = (shape.cells().rows(), shape.channels, shape.dim);
    let groups = shape.chunking().all_groups();
    let parts = split(out, &groups, shape.grid() * dim);
    let projection = Factor::new(compute, Matrix::new(weights.projection, channels, dim));
    let jobs: Vec<_> = groups.into_iter().zip(parts).collect();
    jobs.into_par_iter().with_max_len(1).for_each(|(group, out)| {
        let mut projected = Buffer::new(group.len() * rows * dim);
        let x = &x[group.start * rows * channels..group.end * rows * channels];
        simd::fill_rows(&mut projected, weights.projection_bias);
        multiply(Matrix::new(x, group.len() * rows, channels), &projection, true, &mut projected);
        shape.each_visible(&group, |row, cell| {
            out[cell * dim..][..dim].copy_from_slice(&projected[row * dim..][..dim]);
        });
        shape.each_removed(&group, |cell| out[cell * dim..][..dim].copy_from_slice(weights.mask_token));
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
    let (rows, channels, dim) = (shape.cells().rows(), shape.channels, shape.dim);
    let projection = Factor::new(compute, Matrix::new(weights.projection, channels, dim).t());
    let parts = chunking.accumulate(shape.parameters(), grad_x, rows * channels, |chunk, grad_x, flat| {
        zero(flat);
        let gradients = Gradients::split(flat, shape);
        let begin = chunk.start;
        for group in chunking.groups(chunk) {
            let grad_out = &grad_out[group.start * shape.grid() * dim..group.end * shape.grid() * dim];
            let mut grad = Buffer::new(group.len() * rows * dim);
            shape.each_visible(&group, |row, cell| {
                grad[row * dim..][..dim].copy_from_slice(&grad_out[cell * dim..][..dim]);
            });
            shape.each_removed(&group, |cell| simd::add(gradients.mask_token, &grad_out[cell * dim..][..dim]));
            simd::add_columns(compute.level, &grad, gradients.projection_bias);
            let count = group.len() * rows;
            let grad = Matrix::new(&grad, count, dim);
            let x = Matrix::new(&x[group.start * rows * channels..][..count * channels], count, channels);
            product(compute, x.t(), grad, true, gradients.projection);
            let grad_x = &mut grad_x[(group.start - begin) * rows * channels..][..count * channels];
            multiply(grad, &projection, true, grad_x);
        }
    });
    gradients.add(&parts);
}
