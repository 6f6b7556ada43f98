//! The head on the CPU: small, so samples are simply the rows of one product. That product is f32 in every precision:
//! logits want the digits.

use rayon::prelude::*;

use super::{Gradients, Saved, Shape, Weights};
use crate::{
    ops::parallel::{Chunking, split, zero},
    scratch::Buffer,
    simd::{self, Compute, Level, Matrix, product},
};

impl Shape {
    fn chunking(&self) -> Chunking {
        Chunking::new(self.samples, 1, self.parameters())
    }
}

pub(super) fn forward(
    level: Level,
    shape: &Shape,
    weights: &Weights,
    x: &[f32],
    logits: &mut [f32],
    saved: Option<&mut Saved>,
) {
    let mut pooled = Buffer::zeros(shape.samples * shape.dim);
    pool(level, shape, x, &mut pooled);
    let groups = shape.chunking().all_groups();
    let parts = split(logits, &groups, shape.classes);
    let jobs: Vec<_> = groups.into_iter().zip(parts).collect();
    jobs.into_par_iter().with_max_len(1).for_each(|(group, logits)| {
        let pooled = &pooled[group.start * shape.dim..group.end * shape.dim];
        let mut z = Buffer::new(pooled.len());
        simd::layer_norm(level, pooled, weights.norm, weights.norm_bias, &mut z);
        simd::fill_rows(logits, weights.linear_bias);
        let linear = Matrix::new(weights.linear, shape.dim, shape.classes);
        product(Compute::exact(level), Matrix::new(&z, group.len(), shape.dim), linear, true, logits);
    });
    if let Some(saved) = saved {
        saved.pooled = pooled;
    }
}

pub(super) fn features(level: Level, shape: &Shape, weights: &Weights, x: &[f32]) -> Vec<f32> {
    let mut pooled = Buffer::zeros(shape.samples * shape.dim);
    pool(level, shape, x, &mut pooled);
    let mut z = vec![0.0; pooled.len()];
    simd::layer_norm(level, &pooled, weights.norm, weights.norm_bias, &mut z);
    z
}

/// Mean over the rows of each sample; `pooled [N, D]` is zero before.
fn pool(level: Level, shape: &Shape, x: &[f32], pooled: &mut [f32]) {
    let samples = pooled.par_chunks_exact_mut(shape.dim).zip(x.par_chunks_exact(shape.rows * shape.dim));
    samples.for_each(|(pooled, x)| {
        simd::add_columns(level, x, pooled);
        for value in pooled.iter_mut() {
            *value /= shape.rows as f32;
        }
    });
}

pub(super) fn backward(
    level: Level,
    shape: &Shape,
    weights: &Weights,
    saved: &Saved,
    grad_logits: &[f32],
    grad_x: &mut [f32],
    mut gradients: Gradients,
) {
    let chunking = shape.chunking();
    let (dim, classes, each) = (shape.dim, shape.classes, shape.rows * shape.dim);
    let parts = chunking.accumulate(shape.parameters(), grad_x, each, |chunk, grad_x, flat| {
        zero(flat);
        let gradients = Gradients::split(flat, shape);
        let begin = chunk.start;
        for group in chunking.groups(chunk) {
            let pooled = &saved.pooled[group.start * dim..group.end * dim];
            let grad = &grad_logits[group.start * classes..group.end * classes];
            let (mut z, mut grad_z) = (Buffer::new(pooled.len()), Buffer::new(pooled.len()));
            simd::layer_norm(level, pooled, weights.norm, weights.norm_bias, &mut z);
            simd::add_columns(level, grad, gradients.linear_bias);
            let grad = Matrix::new(grad, group.len(), classes);
            product(Compute::exact(level), Matrix::new(&z, group.len(), dim).t(), grad, true, gradients.linear);
            product(Compute::exact(level), grad, Matrix::new(weights.linear, dim, classes).t(), false, &mut grad_z);
            let (norm, norm_bias) = (&mut *gradients.norm, &mut *gradients.norm_bias);
            simd::layer_norm_backward(level, pooled, weights.norm, &mut grad_z, norm, norm_bias);
            for (sample, grad) in group.zip(grad_z.chunks_exact_mut(dim)) {
                for value in grad.iter_mut() {
                    *value /= shape.rows as f32;
                }
                simd::add_bias(level, &mut grad_x[(sample - begin) * each..][..each], grad);
            }
        }
    });
    gradients.add(&parts);
}
