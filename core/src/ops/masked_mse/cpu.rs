//! Prediction and loss on the CPU: the features of a group's removed cells are gathered for one product.

use std::ops::Range;

use rayon::prelude::*;

use super::{Gradients, Saved, Shape, Weights};
use crate::{
    ops::{
        parallel::{Plan, TILE, split, zero},
        scratch::Buffer,
    },
    simd::{self, Compute, Factor, Matrix, multiply, product},
};

impl Shape<'_> {
    /// Removed cells of a sample.
    fn rows(&self) -> usize {
        self.visible.removed() * self.side * self.side
    }

    fn plan(&self) -> Plan {
        Plan::new(self.visible.samples(), self.rows(), self.parameters())
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

    /// Subtracts a patch's target from its predictions, cell by cell.
    fn subtract(&self, target: &[f32], predictions: &mut [f32]) {
        let line = self.stride * self.channels;
        for (index, predictions) in predictions.chunks_exact_mut(line).enumerate() {
            let (cell, y) = (index / self.stride, index % self.stride);
            let pixel = (cell / self.side * self.stride + y) * self.side + cell % self.side;
            for (prediction, target) in predictions.iter_mut().zip(&target[pixel * line..][..line]) {
                *prediction -= target;
            }
        }
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
    let prediction = Factor::new(compute, shape.weights_matrix(weights));
    let groups = shape.plan().all_groups();
    let errors = split(&mut saved.error, &groups, each);
    let jobs: Vec<_> = groups.into_iter().zip(errors).collect();
    let sums: Vec<f64> = jobs
        .into_par_iter()
        .with_max_len(1)
        .map(|(group, error)| {
            forward_group(shape, (weights, &prediction), features, images, &group, error);
            error.iter().map(|&error| f64::from(error) * f64::from(error)).sum::<f64>()
        })
        .collect();
    (sums.iter().sum::<f64>() * shape.weight()) as f32
}

fn forward_group(
    shape: &Shape,
    (weights, prediction): (&Weights, &Factor),
    features: &[f32],
    images: &[f32],
    group: &Range<usize>,
    error: &mut [f32],
) {
    let count = group.len() * shape.rows();
    let image = shape.grid() * shape.pixels();
    let mut rows = Buffer::new(count * shape.dim);
    shape.gather(group, features, &mut rows);
    simd::fill_rows(error, weights.prediction_bias);
    multiply(Matrix::new(&rows, count, shape.dim), prediction, true, error);
    let removed =
        group.clone().flat_map(|sample| shape.visible.removed_patches(sample).map(move |patch| (sample, patch)));
    let mut target = Buffer::new(shape.patch());
    for ((sample, patch), error) in removed.zip(error.chunks_exact_mut(shape.patch())) {
        shape.read_patch(&images[sample * image..][..image], patch, &mut target);
        shape.normalise(&mut target);
        shape.subtract(&target, error);
    }
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
    mut gradients: Gradients,
) {
    let plan = shape.plan();
    let (rows, dim, pixels) = (shape.rows(), shape.dim, shape.pixels());
    let scale = (2.0 * shape.weight() * f64::from(grad_loss)) as f32;
    let each = shape.grid() * dim;
    let prediction = Factor::new(compute, shape.weights_matrix(weights).t());
    let parts = plan.accumulate(shape.parameters(), grad_features, each, |chunk, grad_features, flat| {
        zero(flat);
        let gradients = Gradients::split(flat, shape);
        let begin = chunk.start * shape.grid();
        for group in plan.groups(chunk) {
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
