//! Prediction and loss on the CPU: the features of removed cells are gathered for one product.
//!
//! Small matrices are multiplied group by group, large ones in panels of pixels.

use std::ops::Range;

use rayon::prelude::*;

use super::{Gradients, Saved, Shape, Weights};
use crate::{
    ops::{
        panels::{LARGE_MATRIX, Panels},
        parallel::{Chunking, TILE, split, zero},
    },
    scratch::Buffer,
    simd::{self, Compute, Factor, Matrix, multiply, product},
};

impl Shape<'_> {
    /// Removed cells of a sample.
    fn rows(&self) -> usize {
        self.visible.removed() * self.side * self.side
    }

    fn chunking(&self) -> Chunking {
        Chunking::new(self.visible.samples(), self.rows(), self.parameters())
    }

    fn weights_matrix<'a>(&self, weights: &Weights<'a>) -> Matrix<'a> {
        Matrix::new(weights.prediction, self.dim, self.pixels())
    }

    /// Calls `each(row of the group, cell counted over the batch)` for every removed cell of a group, patch by
    /// patch.
    fn each_removed(&self, group: &Range<usize>, mut each: impl FnMut(usize, usize)) {
        let (side, wide) = (self.side, self.visible.patches_wide());
        let mut row = 0;
        for sample in group.clone() {
            for patch in self.visible.removed_patches(sample) {
                let (y, x) = (patch / wide * side, patch % wide * side);
                for cell in 0..side * side {
                    each(row, sample * self.grid() + (y + cell / side) * wide * side + x + cell % side);
                    row += 1;
                }
            }
        }
    }

    /// Features of a group's removed cells.
    fn gather(&self, group: &Range<usize>, features: &[f32], rows: &mut [f32]) {
        let dim = self.dim;
        self.each_removed(group, |row, cell| {
            rows[row * dim..][..dim].copy_from_slice(&features[cell * dim..][..dim]);
        });
    }

    /// Targets of a group's removed cells.
    fn targets(&self, group: &Range<usize>, images: &[f32], rows: &mut [f32]) {
        let (line, image) = (self.stride * self.channels, self.grid() * self.pixels());
        let removed =
            group.clone().flat_map(|sample| self.visible.removed_patches(sample).map(move |patch| (sample, patch)));
        let mut target = Buffer::new(self.patch());
        for ((sample, patch), rows) in removed.zip(rows.chunks_exact_mut(self.patch())) {
            self.read_patch(&images[sample * image..][..image], patch, &mut target);
            self.normalise(&mut target);
            for (index, row) in rows.chunks_exact_mut(line).enumerate() {
                let (cell, y) = (index / self.stride, index % self.stride);
                let pixel = (cell / self.side * self.stride + y) * self.side + cell % self.side;
                row.copy_from_slice(&target[pixel * line..][..line]);
            }
        }
    }

    /// Panels for all removed cells, if the matrix is large.
    fn panels(&self, compute: Compute) -> Option<Panels> {
        let rows = self.visible.samples() * self.rows();
        (rows > 0 && self.dim * self.pixels() >= LARGE_MATRIX).then(|| Panels::new(compute, rows, self.pixels()))
    }
}

pub(super) fn predict(compute: Compute, shape: &Shape, weights: &Weights, features: &[f32], out: &mut [f32]) {
    let (dim, pixels) = (shape.dim, shape.pixels());
    let prediction = Factor::new(compute, shape.weights_matrix(weights));
    out.par_chunks_mut(TILE * pixels).zip(features.par_chunks(TILE * dim)).for_each(|(out, features)| {
        simd::fill_rows(out, weights.prediction_bias);
        multiply(Matrix::new(features, features.len() / dim, dim), &prediction, true, out);
    });
}

pub(super) fn forward(
    compute: Compute,
    shape: &Shape,
    weights: &Weights,
    features: &[f32],
    images: &[f32],
    saved: Option<&mut Saved>,
) -> f32 {
    let each = shape.rows() * shape.pixels();
    let mut nothing = Saved::default();
    let saved = saved.unwrap_or(&mut nothing);
    saved.error = Buffer::new(shape.visible.samples() * each);
    if saved.error.is_empty() {
        return 0.0;
    }
    let sums = match shape.panels(compute) {
        Some(panels) => forward_in_panels(&panels, shape, weights, features, images, &mut saved.error),
        None => forward_in_groups(compute, shape, weights, features, images, &mut saved.error),
    };
    (sums.iter().sum::<f64>() * shape.weight()) as f32
}

/// The sums of the squared errors of all panels; errors are written panel by panel.
fn forward_in_panels(
    panels: &Panels,
    shape: &Shape,
    weights: &Weights,
    features: &[f32],
    images: &[f32],
    error: &mut [f32],
) -> Vec<f64> {
    let (rows, dim, pixels, level) = (shape.rows(), shape.dim, shape.pixels(), panels.compute().level);
    let mut gathered = Buffer::new(panels.rows() * dim);
    let mut targets = Buffer::new(panels.rows() * pixels);
    let samples = gathered.par_chunks_exact_mut(rows * dim).zip(targets.par_chunks_exact_mut(rows * pixels));
    samples.enumerate().for_each(|(sample, (gathered, targets))| {
        shape.gather(&(sample..sample + 1), features, gathered);
        shape.targets(&(sample..sample + 1), images, targets);
    });
    let errors = split(error, panels.ranges(), panels.rows());
    let jobs: Vec<_> = panels.ranges().iter().cloned().zip(errors).collect();
    let squares = jobs.into_par_iter().with_max_len(1).map(|(panel, error)| {
        simd::fill_rows(error, &weights.prediction_bias[panel.clone()]);
        let prediction = Factor::new(panels.compute(), shape.weights_matrix(weights).columns(panel.clone()));
        multiply(panels.matrix(&gathered), &prediction, true, error);
        for (error, target) in error.chunks_exact_mut(panel.len()).zip(targets.chunks_exact(pixels)) {
            simd::subtract(error, &target[panel.clone()]);
        }
        simd::sum_of_squares(level, error, 0.0)
    });
    squares.collect()
}

/// The sums of the squared errors of all groups; errors are written row by row.
fn forward_in_groups(
    compute: Compute,
    shape: &Shape,
    weights: &Weights,
    features: &[f32],
    images: &[f32],
    error: &mut [f32],
) -> Vec<f64> {
    let each = shape.rows() * shape.pixels();
    let prediction = Factor::new(compute, shape.weights_matrix(weights));
    let groups = shape.chunking().all_groups();
    let errors = split(error, &groups, each);
    let jobs: Vec<_> = groups.into_iter().zip(errors).collect();
    let squares = jobs.into_par_iter().with_max_len(1).map(|(group, error)| {
        let rows = group.len() * shape.rows();
        let (mut gathered, mut targets) = (Buffer::new(rows * shape.dim), Buffer::new(error.len()));
        shape.gather(&group, features, &mut gathered);
        simd::fill_rows(error, weights.prediction_bias);
        multiply(Matrix::new(&gathered, rows, shape.dim), &prediction, true, error);
        shape.targets(&group, images, &mut targets);
        simd::subtract(error, &targets);
        simd::sum_of_squares(compute.level, error, 0.0)
    });
    squares.collect()
}

#[expect(clippy::too_many_arguments, reason = "the forward pass's arguments and one gradient for each")]
pub(super) fn backward(
    compute: Compute,
    shape: &Shape,
    weights: &Weights,
    features: &[f32],
    saved: &Saved,
    grad_loss: f32,
    grad_features: &mut [f32],
    gradients: Gradients,
) {
    let scale = (2.0 * shape.weight() * f64::from(grad_loss)) as f32;
    match shape.panels(compute) {
        Some(panels) => backward_in_panels(&panels, shape, weights, features, saved, scale, grad_features, gradients),
        None => backward_in_groups(compute, shape, weights, features, saved, scale, grad_features, gradients),
    }
}

/// `scale` turns an error into its gradient.
#[expect(clippy::too_many_arguments, reason = "those of `backward`, and how")]
fn backward_in_panels(
    panels: &Panels,
    shape: &Shape,
    weights: &Weights,
    features: &[f32],
    saved: &Saved,
    scale: f32,
    grad_features: &mut [f32],
    gradients: Gradients,
) {
    let (rows, dim, level) = (shape.rows(), shape.dim, panels.compute().level);
    // Gathered features and their gradients are scaled in place of the errors, of which there are more.
    let mut gathered = Buffer::new(panels.rows() * dim);
    gathered.par_chunks_exact_mut(rows * dim).enumerate().for_each(|(sample, gathered)| {
        shape.gather(&(sample..sample + 1), features, gathered);
        gathered.iter_mut().for_each(|feature| *feature *= scale);
    });
    let mut parts = panels.buffers(dim);
    let biases = gradients.prediction_bias.par_chunks_mut(panels.width());
    panels.ranges().par_iter().zip(&mut parts).zip(biases).with_max_len(1).for_each(|((panel, part), bias)| {
        let error = panels.part(&saved.error, panel);
        product(panels.compute(), panels.matrix(&gathered).t(), panels.matrix(error), false, part);
        let mut sums = Buffer::zeros(panel.len());
        simd::add_columns(level, error, &mut sums);
        simd::add_scaled_rows(level, &[scale], &sums, panel.len(), bias);
    });
    panels.add(&parts, gradients.prediction);
    let errors: Vec<_> = panels.ranges().iter().map(|panel| panels.part(&saved.error, panel)).collect();
    let matrix = shape.weights_matrix(weights);
    let part = |(_, panel): (usize, &Range<usize>), (_, narrow): (usize, &Range<usize>)| {
        Factor::new(panels.compute(), matrix.rows(narrow.clone()).columns(panel.clone()).t())
    };
    panels.reduce(&errors, part, &mut gathered);
    let samples = grad_features.par_chunks_exact_mut(shape.grid() * dim).zip(gathered.par_chunks_exact(rows * dim));
    samples.enumerate().for_each(|(sample, (grad_features, gathered))| {
        let begin = sample * shape.grid();
        shape.each_removed(&(sample..sample + 1), |row, cell| {
            let grad = &mut grad_features[(cell - begin) * dim..][..dim];
            simd::add_scaled_rows(level, &[scale], &gathered[row * dim..][..dim], dim, grad);
        });
    });
}

/// `scale` turns an error into its gradient.
#[expect(clippy::too_many_arguments, reason = "those of `backward`")]
fn backward_in_groups(
    compute: Compute,
    shape: &Shape,
    weights: &Weights,
    features: &[f32],
    saved: &Saved,
    scale: f32,
    grad_features: &mut [f32],
    mut gradients: Gradients,
) {
    let chunking = shape.chunking();
    let (rows, dim, pixels) = (shape.rows(), shape.dim, shape.pixels());
    let each = shape.grid() * dim;
    let prediction = Factor::new(compute, shape.weights_matrix(weights).t());
    let parts = chunking.accumulate(shape.parameters(), grad_features, each, |chunk, grad_features, flat| {
        zero(flat);
        let gradients = Gradients::split(flat, shape);
        let begin = chunk.start * shape.grid();
        for group in chunking.groups(chunk) {
            let count = group.len() * rows;
            let error = &saved.error[group.start * rows * pixels..][..count * pixels];
            let (mut grad, mut gathered) = (Buffer::new(error.len()), Buffer::new(count * dim));
            simd::scale(scale, error, &mut grad);
            simd::add_columns(compute.level, &grad, gradients.prediction_bias);
            shape.gather(&group, features, &mut gathered);
            let grad = Matrix::new(&grad, count, pixels);
            product(compute, Matrix::new(&gathered, count, dim).t(), grad, true, gradients.prediction);
            multiply(grad, &prediction, false, &mut gathered);
            shape.each_removed(&group, |row, cell| {
                simd::add(&mut grad_features[(cell - begin) * dim..][..dim], &gathered[row * dim..][..dim]);
            });
        }
    });
    gradients.add(&parts);
}
