//! Known mistakes of other implementations, one test each.

use convnext_core::{
    cells::Cells,
    ops::{
        block::{self, Flavour},
        cross_entropy, downsample, masked_mse, stem,
    },
    simd::Precision,
    visibility::Visibility,
};

use super::cases::{Block, Grid, MaskedMse, Op, narrow, random, visibility, widen};

fn block(samples: usize, grid: Grid, sizes: [usize; 3]) -> Block {
    Block { samples, grid, sizes, flavour: Flavour::V2, drop: None }
}

fn assert_near(a: &[f32], b: &[f32], tolerance: f32) {
    assert_eq!(a.len(), b.len());
    for (index, (a, b)) in a.iter().zip(b).enumerate() {
        assert!((a - b).abs() <= tolerance, "{index}: {a} and {b}");
    }
}

/// Both passes of an operation: output, gradient of the input, gradient of the weights.
fn run(op: &impl Op, weights: &[f32], x: &[f32], grad: &[f32]) -> [Vec<f32>; 3] {
    let (mut grad_x, mut grad_weights) = (vec![0.0; x.len()], vec![0.0; weights.len()]);
    let out = op.fast(Precision::F32, weights, x, Some((grad.to_vec(), &mut grad_x, &mut grad_weights)));
    [out, grad_x, grad_weights]
}

#[test]
fn grn_is_per_sample() {
    for (height, width) in [(12, 12), (3, 2)] {
        let (one, two) =
            (block(1, Grid::Dense(height, width), [8, 32, 3]), block(2, Grid::Dense(height, width), [8, 32, 3]));
        let [weights, length, _] = one.lengths();
        let (weights, x) = (narrow(&random(1, weights)), narrow(&random(2, 2 * length)));
        let grad = narrow(&random(3, 2 * length));
        let [together, grad_together, _] = run(&two, &weights, &x, &grad);
        let [alone, grad_alone, _] = run(&one, &weights, &x[..length], &grad[..length]);
        assert_near(&alone, &together[..length], 1e-5);
        assert_near(&grad_alone, &grad_together[..length], 1e-5);
    }
}

/// The paper's equation divides by the sum over channels; the code, and the published weights, by the mean.
#[test]
fn grn_uses_mean_over_channels() {
    // One cell, equal hidden features: every norm is the mean norm, so n = 1 and u = a (1 + gamma) + beta.
    let op = block(1, Grid::Dense(1, 1), [1, 4, 1]);
    let shape = op.shape();
    let mut flat = vec![0.0f32; shape.parameters()];
    let gradients = block::Gradients::split(&mut flat, &shape);
    gradients.pwconv1_bias.fill(2.0);
    gradients.grn_gamma.fill(0.5);
    gradients.pwconv2.fill(1.0);
    let out = op.fast(Precision::F32, &flat, &[0.25], None);
    let a = 2.0 * 0.977_249_87;
    assert_near(&out, &[0.25 + 4.0 * a * 1.5], 1e-5);
}

#[test]
fn grn_dead_channel_has_zero_gradient() {
    for (height, width) in [(12, 12), (2, 2)] {
        let op = block(1, Grid::Dense(height, width), [4, 8, 3]);
        let shape = op.shape();
        let mut weights = narrow(&random(1, shape.parameters()));
        // Features 0 and 1 are 0 in every row: without input, and far below zero.
        let split = block::Gradients::split(&mut weights, &shape);
        for row in split.pwconv1.chunks_exact_mut(8) {
            row[..2].fill(0.0);
        }
        split.pwconv1_bias[..2].copy_from_slice(&[0.0, -50.0]);
        let (x, grad) = (narrow(&random(2, shape.activation())), narrow(&random(3, shape.activation())));
        let [out, grad_x, grad_weights] = run(&op, &weights, &x, &grad);
        assert!([out, grad_x, grad_weights.clone()].concat().iter().all(|value| value.is_finite()));
        let gradients = block::Weights::split(&grad_weights, &shape);
        assert_eq!(gradients.grn_gamma[..2], [0.0, 0.0]);
        assert_eq!(gradients.pwconv1_bias[1], 0.0);
    }
}

#[test]
fn everything_dead_is_still_finite() {
    let op = block(2, Grid::Dense(3, 3), [4, 8, 3]);
    let weights = vec![0.0; op.shape().parameters()];
    let x = vec![0.0; op.shape().activation()];
    let grad = vec![1.0; op.shape().activation()];
    assert!(run(&op, &weights, &x, &grad).concat().iter().all(|value| value.is_finite()));
}

/// In half precision the sum of squares of 56 x 56 cells overflows from features of 5 on.
#[test]
fn grn_large_values_do_not_overflow() {
    let op = block(1, Grid::Dense(56, 56), [4, 16, 3]);
    let shape = op.shape();
    let mut weights = narrow(&random(1, shape.parameters()));
    block::Gradients::split(&mut weights, &shape).pwconv1_bias.fill(1e5);
    let (x, grad) = (narrow(&random(2, shape.activation())), narrow(&random(3, shape.activation())));
    let [out, grad_x, grad_weights] = run(&op, &weights, &x, &grad);
    assert!([&grad_x[..], &grad_weights].concat().iter().all(|value| value.is_finite()));
    let exact = narrow(&op.reference(&widen(&weights), &widen(&x)));
    let largest = exact.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
    assert_near(&out, &exact, largest * 1e-5);
}

/// Sizes of a small encoder: stem, block, downsampling, block.
struct Encoder {
    samples: usize,
    patches: [usize; 2],
    channels: usize,
    weights: [Vec<f32>; 4],
}

const STRIDE: usize = 2;
const SIDE: usize = 4;
const DIMS: [usize; 2] = [8, 12];

impl Encoder {
    fn new(samples: usize, patches: [usize; 2], channels: usize) -> Self {
        let mut this = Self { samples, patches, channels, weights: Default::default() };
        let dense = this.dense();
        let lengths = [
            this.stem(dense).parameters(),
            this.block(dense, DIMS[0]).parameters(),
            this.downsample(dense).parameters(),
            this.block(dense.halved(), DIMS[1]).parameters(),
        ];
        this.weights = lengths.map(|length| narrow(&random(length as u64, length)));
        this
    }

    fn dense(&self) -> Cells<'static> {
        Cells::Dense { height: SIDE * self.patches[0], width: SIDE * self.patches[1] }
    }

    fn pixels(&self) -> usize {
        self.samples * self.patches[0] * self.patches[1] * SIDE * SIDE * STRIDE * STRIDE * self.channels
    }

    fn stem<'a>(&self, cells: Cells<'a>) -> stem::Shape<'a> {
        stem::Shape { samples: self.samples, cells, stride: STRIDE, channels: self.channels, dim: DIMS[0] }
    }

    fn block<'a>(&self, cells: Cells<'a>, channels: usize) -> block::Shape<'a> {
        let (samples, hidden) = (self.samples, 4 * channels);
        block::Shape { samples, cells, channels, hidden, kernel: 7, flavour: Flavour::V2 }
    }

    fn downsample<'a>(&self, cells: Cells<'a>) -> downsample::Shape<'a> {
        downsample::Shape { samples: self.samples, cells, channels: DIMS[0], dim: DIMS[1] }
    }

    /// Forward pass; `after` sees the rows after the stem, the blocks and the downsampling.
    fn run(&self, images: &[f32], cells: Cells, mut after: impl FnMut(Cells, usize, &mut [f32])) -> Vec<f32> {
        let rows = |cells: Cells, dim| vec![0.0; self.samples * cells.rows() * dim];
        let stem = self.stem(cells);
        let mut x = rows(cells, DIMS[0]);
        stem::forward(Precision::F32, &stem, &stem::Weights::split(&self.weights[0], &stem), images, &mut x, None);
        after(cells, DIMS[0], &mut x);
        let mut x = self.blocks(cells, DIMS[0], &self.weights[1], x);
        after(cells, DIMS[0], &mut x);
        let downsample = self.downsample(cells);
        let mut y = rows(cells.halved(), DIMS[1]);
        downsample::forward(
            Precision::F32,
            &downsample,
            &downsample::Weights::split(&self.weights[2], &downsample),
            &x,
            &mut y,
        );
        after(cells.halved(), DIMS[1], &mut y);
        let mut y = self.blocks(cells.halved(), DIMS[1], &self.weights[3], y);
        after(cells.halved(), DIMS[1], &mut y);
        y
    }

    fn blocks(&self, cells: Cells, dim: usize, weights: &[f32], x: Vec<f32>) -> Vec<f32> {
        let shape = self.block(cells, dim);
        let mut out = vec![0.0; x.len()];
        block::forward(Precision::F32, &shape, &block::Weights::split(weights, &shape), None, &x, &mut out, None);
        out
    }

    fn sparse(&self, images: &[f32], visible: &Visibility) -> Vec<f32> {
        self.run(images, Cells::Sparse { side: SIDE, visible }, |_, _, _| {})
    }
}

/// Sets the rows of removed cells, in a dense activation, to a value.
fn cover(cells: Cells, visible: &Visibility, dim: usize, x: &mut [f32], value: f32) {
    let side = cells.height() / visible.patches_high();
    for (row, x) in x.chunks_exact_mut(dim).enumerate() {
        let (sample, (y, left)) = (row / cells.rows(), cells.cell(0, row % cells.rows()));
        if visible.slot(sample, y / side, left / side).is_none() {
            x.fill(value);
        }
    }
}

/// The rows of visible cells of a dense activation, in sparse order.
fn gather(dense: Cells, sparse: Cells, samples: usize, dim: usize, x: &[f32]) -> Vec<f32> {
    let mut out = Vec::new();
    for sample in 0..samples {
        for row in 0..sparse.rows() {
            let (y, left) = sparse.cell(sample, row);
            let from = sample * dense.rows() + dense.row(sample, y, left).unwrap();
            out.extend(&x[from * dim..][..dim]);
        }
    }
    out
}

/// A block on the whole grid that zeroes removed cells before and after the convolution, and in GRN's sums: how other
/// implementations emulate the sparse one. Plain loops in f64, sharing nothing with the crate.
fn masked_dense_block(op: &Block, visible: &Visibility, weights: &[f32], x: &[f32]) -> Vec<f32> {
    let shape = op.shape();
    let ([dim, hidden, kernel], cells) = (op.sizes, shape.cells);
    let (height, width, side) = (cells.height(), cells.width(), cells.height() / visible.patches_high());
    let flat = widen(weights);
    let w = block::Weights::split(&flat, &shape);
    let mut out = Vec::new();
    for sample in 0..op.samples {
        let keep =
            |row: usize| f64::from(u8::from(visible.slot(sample, row / width / side, row % width / side).is_some()));
        let x = |row: usize, c: usize| f64::from(x[(sample * height * width + row) * dim + c]) * keep(row);
        let activations: Vec<Vec<f64>> = (0..height * width)
            .map(|row| {
                let mut y = w.dwconv_bias.to_vec();
                for from in 0..height * width {
                    let ky = (from / width + kernel / 2).wrapping_sub(row / width);
                    let kx = (from % width + kernel / 2).wrapping_sub(row % width);
                    if ky < kernel && kx < kernel {
                        (0..dim).for_each(|c| y[c] += x(from, c) * w.dwconv[(ky * kernel + kx) * dim + c]);
                    }
                }
                y.iter_mut().for_each(|y| *y *= keep(row));
                let mean = y.iter().sum::<f64>() / dim as f64;
                let variance = y.iter().map(|y| (y - mean).powi(2)).sum::<f64>() / dim as f64;
                let z = |c: usize| (y[c] - mean) / (variance + 1e-6).sqrt() * w.norm[c] + w.norm_bias[c];
                let h = |f: usize| w.pwconv1_bias[f] + (0..dim).map(|c| z(c) * w.pwconv1[c * hidden + f]).sum::<f64>();
                let gelu = |h: f64| 0.5 * h * (1.0 + libm::erf(h / 2f64.sqrt()));
                (0..hidden).map(|f| gelu(h(f)) * keep(row)).collect()
            })
            .collect();
        let norm = |f: usize| activations.iter().map(|a| a[f].powi(2)).sum::<f64>().sqrt();
        let norms: Vec<f64> = (0..hidden).map(norm).collect();
        let mean = norms.iter().sum::<f64>() / hidden as f64 + 1e-6;
        for (row, a) in activations.iter().enumerate() {
            let u = |f: usize| a[f] * (1.0 + w.grn_gamma[f] * norms[f] / mean) + w.grn_beta[f];
            for c in 0..dim {
                let branch = w.pwconv2_bias[c] + (0..hidden).map(|f| u(f) * w.pwconv2[f * dim + c]).sum::<f64>();
                out.push((x(row, c) + branch * keep(row)) as f32);
            }
        }
    }
    out
}

#[test]
fn sparse_equals_dense_masked_before_and_after_each_convolution() {
    let visible = visibility(3, 3, 2, 2);
    for (side, channels) in [(1, 5), (2, 8), (4, 8), (8, 3)] {
        let sparse = block(3, Grid::Sparse(side, visible.clone()), [channels, 16, 7]);
        let dense = block(3, Grid::Dense(3 * side, 2 * side), [channels, 16, 7]);
        let (cells, rows) = (dense.shape().cells, sparse.shape().cells);
        let weights = narrow(&random(1, dense.shape().parameters()));
        let x = narrow(&random(2, dense.shape().activation()));
        let full = masked_dense_block(&dense, &visible, &weights, &x);
        let full = gather(cells, rows, 3, channels, &full);
        let packed = sparse.fast(Precision::F32, &weights, &gather(cells, rows, 3, channels, &x), None);
        let largest = full.iter().fold(1.0f32, |largest, value| largest.max(value.abs()));
        assert_near(&packed, &full, 1e-5 * largest);
    }
}

/// Removed cells whose hidden features are zero add nothing to GRN's sums, so there the dense block agrees.
#[test]
fn grn_ignores_removed_cells() {
    let visible = visibility(2, 2, 2, 3);
    let sparse = block(2, Grid::Sparse(2, visible.clone()), [4, 8, 1]);
    let dense = block(2, Grid::Dense(4, 4), [4, 8, 1]);
    let (cells, rows) = (dense.shape().cells, sparse.shape().cells);
    let mut weights = narrow(&random(1, dense.shape().parameters()));
    // A 1 x 1 kernel and no biases: a cell of zeros stays zero through convolution, normalisation and GELU.
    let split = block::Gradients::split(&mut weights, &dense.shape());
    for bias in [split.dwconv_bias, split.norm_bias, split.pwconv1_bias] {
        bias.fill(0.0);
    }
    let mut x = narrow(&random(2, dense.shape().activation()));
    cover(cells, &visible, 4, &mut x, 0.0);
    let full = dense.fast(Precision::F32, &weights, &x, None);
    let packed = sparse.fast(Precision::F32, &weights, &gather(cells, rows, 2, 4, &x), None);
    assert_near(&packed, &gather(cells, rows, 2, 4, &full), 1e-5);
}

#[test]
fn result_does_not_depend_on_pixels_under_the_mask() {
    let encoder = Encoder::new(2, [2, 3], 3);
    let visible = visibility(2, 2, 3, 2);
    let images = narrow(&random(1, encoder.pixels()));
    let before = encoder.sparse(&images, &visible);
    let mut covered = images.clone();
    let pixels = Cells::Dense { height: 2 * SIDE * STRIDE, width: 3 * SIDE * STRIDE };
    // NaN would survive a multiplication by zero.
    cover(pixels, &visible, 3, &mut covered, f32::NAN);
    assert!(covered.iter().any(|pixel| pixel.is_nan()));
    assert_eq!(before, encoder.sparse(&covered, &visible));
    // And the mask does matter: masking once after the stem, and running dense, is another function.
    let dense = encoder.run(&images, encoder.dense(), |cells, dim, x| {
        if cells.height() == 2 * SIDE {
            cover(cells, &visible, dim, x, 0.0);
        }
    });
    let last = Cells::Sparse { side: SIDE / 2, visible: &visible };
    let dense = gather(encoder.dense().halved(), last, 2, DIMS[1], &dense);
    assert!(dense.iter().zip(&before).any(|(a, b)| (a - b).abs() > 1e-3));
}

/// With nothing removed, sparse is dense in another order.
#[test]
fn all_visible_equals_dense() {
    let encoder = Encoder::new(2, [2, 3], 1);
    let visible = Visibility::all(2, 2, 3).unwrap();
    let images = narrow(&random(1, encoder.pixels()));
    let dense = encoder.run(&images, encoder.dense(), |_, _, _| {});
    let last = Cells::Sparse { side: SIDE / 2, visible: &visible };
    let dense = gather(encoder.dense().halved(), last, 2, DIMS[1], &dense);
    let largest = dense.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
    assert_near(&encoder.sparse(&images, &visible), &dense, 1e-5 * largest);
}

/// A patch is visible because the mask says so: one of zeros still has a bias, and counts in GRN.
#[test]
fn zero_pixel_stays_visible() {
    let encoder = Encoder::new(1, [1, 2], 3);
    let visible = Visibility::from_mask(&[0, 1], 1, 2, 1).unwrap();
    let out = encoder.sparse(&vec![0.0; encoder.pixels()], &visible);
    assert!(out.iter().all(|value| *value != 0.0 && value.is_finite()));
}

/// Two masks at once, interleaved: there is no hidden state.
#[test]
fn the_mask_is_an_argument() {
    let encoder = Encoder::new(2, [2, 2], 3);
    let (first, second) = (visibility(2, 2, 2, 1), visibility(2, 2, 2, 3));
    let images = narrow(&random(1, encoder.pixels()));
    let alone = [encoder.sparse(&images, &first), encoder.sparse(&images, &second)];
    let (a, b) = rayon::join(|| encoder.sparse(&images, &first), || encoder.sparse(&images, &second));
    assert_eq!(alone, [a, b]);
}

#[test]
fn a_sample_does_not_depend_on_its_batch_mates() {
    let encoder = Encoder::new(5, [2, 3], 3);
    let visible = visibility(5, 2, 3, 2);
    let mut images = narrow(&random(1, encoder.pixels()));
    let before = encoder.sparse(&images, &visible);
    let each = images.len() / 5;
    images[each..].iter_mut().for_each(|pixel| *pixel = 3.0 - *pixel);
    assert_eq!(before[..before.len() / 5], encoder.sparse(&images, &visible)[..before.len() / 5]);
}

fn masked(channels: usize, normalised: bool) -> MaskedMse {
    MaskedMse { visible: visibility(2, 2, 3, 2), sizes: [2, 3, channels, 5], normalised }
}

/// Patches of a grid that is not square, of one and of five channels.
#[test]
fn targets_are_the_patches_of_any_image() {
    for channels in [1, 5] {
        let op = masked(channels, false);
        let images = narrow(&op.images());
        let targets = masked_mse::targets(&op.shape(), &images);
        // Sample 1, patch 4 of 2 x 3 (row 1, column 1), pixel (5, 2) of 6 x 6, last channel.
        let (y, x, c) = (6 + 5, 6 + 2, channels - 1);
        let pixel = images[((12 + y) * 18 + x) * channels + c];
        assert_eq!(targets.values[(6 + 4) * op.shape().patch() + (5 * 6 + 2) * channels + c], pixel);
        assert_eq!(masked_mse::patches_to_images(&op.shape(), &targets.values), images);
    }
}

#[test]
fn normalised_target_can_be_turned_off() {
    let (plain, normal) = (masked(3, false), masked(3, true));
    let images = narrow(&plain.images());
    let targets = masked_mse::targets(&normal.shape(), &images);
    let patch = &targets.values[..normal.shape().patch()];
    let mean = patch.iter().sum::<f32>() / patch.len() as f32;
    let variance = patch.iter().map(|value| (value - mean).powi(2)).sum::<f32>() / (patch.len() - 1) as f32;
    assert!(mean.abs() < 1e-6 && (variance - 1.0).abs() < 1e-4, "{mean} {variance}");
    // A viewer can undo it, and what is not normalised is left alone.
    let plain_targets = masked_mse::targets(&plain.shape(), &images);
    let mut restored = targets.values.clone();
    targets.restore(&mut restored);
    assert_near(&restored, &plain_targets.values, 1e-5);
    let mut same = plain_targets.values.clone();
    plain_targets.restore(&mut same);
    assert_eq!(same, plain_targets.values);
}

/// The loss, by hand, from what viewers are given: mean over removed patches of mean over their values.
#[test]
fn the_loss_is_the_mean_over_removed_patches() {
    for normalised in [false, true] {
        let op = masked(3, normalised);
        let (shape, images) = (op.shape(), narrow(&op.images()));
        let (weights, features) = (narrow(&random(1, shape.parameters())), narrow(&random(2, shape.features())));
        let split = masked_mse::Weights::split(&weights, &shape);
        let mut predictions = vec![0.0; shape.images()];
        masked_mse::predict(Precision::F32, &shape, &split, &features, &mut predictions);
        let predictions = masked_mse::predictions_to_patches(&shape, &predictions);
        let targets = masked_mse::targets(&shape, &images).values;
        let error = |patch: usize| -> f32 {
            let values = patch * shape.patch()..(patch + 1) * shape.patch();
            let pairs = predictions[values.clone()].iter().zip(&targets[values]);
            pairs.map(|(a, b)| (a - b).powi(2)).sum::<f32>() / shape.patch() as f32
        };
        let removed = |sample: usize| op.visible.removed_patches(sample).map(move |patch| sample * 6 + patch);
        let errors: Vec<f32> = (0..2).flat_map(removed).map(error).collect();
        let loss = masked_mse::forward(Precision::F32, &shape, &split, &features, &images, None);
        assert_near(&[loss], &[errors.iter().sum::<f32>() / errors.len() as f32], 1e-5);
    }
}

/// int(49 * 0.4): others round to 20.
#[test]
fn nineteen_of_forty_nine_patches_are_visible() {
    let mut mask = [1; 49];
    mask[..19].fill(0);
    assert_eq!(Visibility::from_mask(&mask, 7, 7, 19).unwrap().removed(), 30);
    assert!(Visibility::from_mask(&mask, 7, 7, 20).is_err());
}

#[test]
fn without_a_removed_patch_the_loss_is_zero() {
    let mut op = masked(3, true);
    op.visible = Visibility::all(2, 2, 3).unwrap();
    let shape = op.shape();
    let (weights, features) = (vec![1.0; shape.parameters()], vec![1.0; shape.features()]);
    let [loss, grad_x, grad_weights] = run(&op, &weights, &features, &[1.0]);
    assert_eq!(loss, [0.0]);
    assert!([grad_x, grad_weights].concat().iter().all(|value| *value == 0.0));
}

#[test]
fn cross_entropy_does_not_overflow() {
    let logits = [1e4, -1e4, 0.0];
    assert_eq!(cross_entropy::forward(3, &logits, &[1.0, 0.0, 0.0]), 0.0);
    assert_eq!(cross_entropy::forward(3, &logits, &[0.0, 1.0, 0.0]), 2e4);
    let mut grad = [0.0; 3];
    cross_entropy::backward(3, &logits, &[0.0, 1.0, 0.0], 1.0, &mut grad);
    assert_eq!(grad, [1.0, -1.0, 0.0]);
}

/// A dropped sample passes through, whatever its branch would have been.
#[test]
fn a_dropped_sample_passes_through() {
    let mut op = block(2, Grid::Dense(12, 12), [4, 8, 3]);
    op.drop = Some(vec![0.0, 2.0]);
    let weights = narrow(&random(1, op.shape().parameters()));
    let x = narrow(&random(2, op.shape().activation()));
    let half = x.len() / 2;
    let [out, grad_x, _] = run(&op, &weights, &x, &x);
    assert_eq!((&out[..half], &grad_x[..half]), (&x[..half], &x[..half]));
    assert_ne!(out[half..], x[half..]);
}
