//! Pixels as patches: targets, and predictions put together for those who look at them.

use rayon::prelude::*;

use super::Shape;
use crate::{
    epsilon,
    simd::{self, Level},
};

/// What the network should predict for every patch, and how to turn predictions back into pixels.
#[derive(Debug, Clone)]
pub struct Targets {
    /// Targets `[N, L, P * P * C]`, each patch `(py, px, c)` row-major.
    pub values: Vec<f32>,
    /// Mean of each patch's pixels, `[N, L]`; 0 if the target is not normalised.
    pub mean: Vec<f32>,
    /// `sqrt(variance + 1e-6)` of each patch's pixels, `[N, L]`; 1 if the target is not normalised.
    pub deviation: Vec<f32>,
}

impl Targets {
    /// Turns values in the target's scale, `[N, L, P * P * C]`, back into that of the pixels.
    pub fn restore(&self, patches: &mut [f32]) {
        assert_eq!(patches.len(), self.values.len(), "length of the patches");
        let length = patches.len() / self.mean.len().max(1);
        for (patch, (mean, deviation)) in
            patches.chunks_exact_mut(length.max(1)).zip(self.mean.iter().zip(&self.deviation))
        {
            for value in patch {
                *value = *value * deviation + mean;
            }
        }
    }
}

impl Shape<'_> {
    /// Where a patch's line of pixels begins in its image `[H, W, C]`: `(start, length)`.
    fn line(&self, patch: usize, line: usize) -> (usize, usize) {
        let (side, wide) = (self.side * self.stride, self.visible.patches_wide());
        let (y, x) = (patch / wide * side + line, patch % wide * side);
        ((y * wide * side + x) * self.channels, side * self.channels)
    }

    /// Copies a patch out of its image.
    pub(super) fn read_patch(&self, image: &[f32], patch: usize, values: &mut [f32]) {
        let length = self.side * self.stride * self.channels;
        for (line, values) in values.chunks_exact_mut(length).enumerate() {
            let start = self.line(patch, line).0;
            values.copy_from_slice(&image[start..start + length]);
        }
    }

    /// The target of one patch, its pixels given, in place; returns mean and deviation.
    pub(super) fn normalise(&self, values: &mut [f32]) -> (f32, f32) {
        if !self.normalised {
            return (0.0, 1.0);
        }
        let (level, count) = (Level::current(), values.len() as f64);
        let mean = simd::sum(level, values) / count;
        let squares = simd::sum_of_squares(level, values, mean);
        // A patch of one value has no unbiased variance; it counts as constant.
        let deviation = (squares / (count - 1.0).max(1.0) + epsilon::TARGET).sqrt();
        simd::standardise(level, values, mean, 1.0 / deviation);
        (mean as f32, deviation as f32)
    }

    fn image(&self) -> usize {
        self.grid() * self.pixels()
    }

    fn patches(&self) -> usize {
        self.visible.samples() * self.visible.patches_per_sample()
    }
}

/// The targets of all patches of `images [N, H, W, C]`, visible ones included.
pub fn targets(shape: &Shape, images: &[f32]) -> Targets {
    assert_eq!(images.len(), shape.images(), "length of the images");
    let per_sample = shape.visible.patches_per_sample();
    let mut values = vec![0.0; images.len()];
    let patches = values.par_chunks_exact_mut(shape.patch()).enumerate();
    let moments: Vec<(f32, f32)> = patches
        .map(|(patch, values)| {
            let image = &images[patch / per_sample * shape.image()..][..shape.image()];
            shape.read_patch(image, patch % per_sample, values);
            shape.normalise(values)
        })
        .collect();
    let (mean, deviation) = moments.into_iter().unzip();
    Targets { values, mean, deviation }
}

/// Predictions by cell, `[N, H, W, S * S * C]`, to patches `[N, L, P * P * C]`, each `(py, px, c)` row-major.
pub fn predictions_to_patches(shape: &Shape, predictions: &[f32]) -> Vec<f32> {
    assert_eq!(predictions.len(), shape.images(), "length of the predictions");
    let (side, stride, wide) = (shape.side, shape.stride, shape.visible.patches_wide());
    let (per_sample, line) = (shape.visible.patches_per_sample(), stride * shape.channels);
    let mut patches = vec![0.0; predictions.len()];
    for patch in 0..shape.patches() {
        let (sample, at) = (patch / per_sample, patch % per_sample);
        for (index, values) in patches[patch * shape.patch()..][..shape.patch()].chunks_exact_mut(line).enumerate() {
            let (py, cell_x) = (index / side, index % side);
            let (y, x) = (at / wide * side + py / stride, at % wide * side + cell_x);
            let cell = sample * shape.grid() + y * wide * side + x;
            let start = cell * shape.pixels() + py % stride * line;
            values.copy_from_slice(&predictions[start..start + line]);
        }
    }
    patches
}

/// Patches `[N, L, P * P * C]` to images `[N, H, W, C]`.
pub fn patches_to_images(shape: &Shape, patches: &[f32]) -> Vec<f32> {
    assert_eq!(patches.len(), shape.images(), "length of the patches");
    let per_sample = shape.visible.patches_per_sample();
    let mut images = vec![0.0; patches.len()];
    for (patch, values) in patches.chunks_exact(shape.patch()).enumerate() {
        let image = &mut images[patch / per_sample * shape.image()..][..shape.image()];
        for line in 0..shape.side * shape.stride {
            let (start, length) = shape.line(patch % per_sample, line);
            image[start..start + length].copy_from_slice(&values[line * length..][..length]);
        }
    }
    images
}
