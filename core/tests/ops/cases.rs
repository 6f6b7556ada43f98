//! One row per operation and odd size. To test a new operation, implement [`Op`] and add rows.

use convnext_core::{
    cells::Cells,
    ops::{
        block::{self, Flavour},
        cross_entropy, densify, downsample, head, masked_mse, stem,
    },
    simd::Precision,
    visibility::Visibility,
};

/// An operation of one differentiable input and weights in one buffer.
pub(crate) trait Op: Sync {
    /// Lengths of weights, input and output.
    fn lengths(&self) -> [usize; 3];

    /// The reference version.
    fn reference(&self, weights: &[f64], x: &[f64]) -> Vec<f64>;

    /// Gradients of the reference version, added.
    fn reference_backward(&self, weights: &[f64], x: &[f64], grad: &[f64], grad_x: &mut [f64], grad_w: &mut [f64]);

    /// The fast version in this precision; with gradients if it gets that of the output, and where to add them.
    fn fast(&self, precision: Precision, weights: &[f32], x: &[f32], gradients: Option<Fast>) -> Vec<f32>;
}

/// Gradient of the output, and where those of the input and the weights are added.
pub(crate) type Fast<'a> = (Vec<f32>, &'a mut [f32], &'a mut [f32]);

pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) op: Box<dyn Op>,
}

impl Case {
    /// Weights, input, and gradient of the output.
    pub(crate) fn values(&self, seed: u64) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
        let [weights, x, out] = self.op.lengths();
        (random(seed, weights), random(seed + 100, x), random(seed + 200, out))
    }
}

/// Values between -1 and 1 that f32 represents exactly, so that both versions see the same.
pub(crate) fn random(seed: u64, length: usize) -> Vec<f64> {
    let value = |index: u64| {
        let mut bits = (seed << 32 | index).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits >> 43) as f64 / (1 << 20) as f64) - 1.0
    };
    (0..length as u64).map(value).collect()
}

pub(crate) fn narrow(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&value| value as f32).collect()
}

pub(crate) fn widen(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}

/// Visible patches that differ from sample to sample.
pub(crate) fn visibility(samples: usize, high: usize, wide: usize, visible: usize) -> Visibility {
    let mut mask = vec![1; samples * high * wide];
    for (sample, mask) in mask.chunks_exact_mut(high * wide).enumerate() {
        let order = random(sample as u64 + 900, high * wide);
        let mut patches: Vec<_> = (0..high * wide).collect();
        patches.sort_by(|&a, &b| order[a].total_cmp(&order[b]));
        patches[..visible].iter().for_each(|&patch| mask[patch] = 0);
    }
    Visibility::from_mask(&mask, high, wide, visible).unwrap()
}

/// Where an activation's rows lie, without a borrow.
#[derive(Debug, Clone)]
pub(crate) enum Grid {
    Dense(usize, usize),
    Sparse(usize, Visibility),
}

impl Grid {
    pub(crate) fn cells(&self) -> Cells<'_> {
        match self {
            Self::Dense(height, width) => Cells::Dense { height: *height, width: *width },
            Self::Sparse(side, visible) => Cells::Sparse { side: *side, visible },
        }
    }
}

pub(crate) struct Stem {
    pub(crate) samples: usize,
    pub(crate) grid: Grid,
    pub(crate) sizes: [usize; 3],
}

impl Stem {
    fn shape(&self) -> stem::Shape<'_> {
        let [stride, channels, dim] = self.sizes;
        stem::Shape { samples: self.samples, cells: self.grid.cells(), stride, channels, dim }
    }
}

impl Op for Stem {
    fn lengths(&self) -> [usize; 3] {
        [self.shape().parameters(), self.shape().input(), self.shape().output()]
    }

    fn reference(&self, weights: &[f64], x: &[f64]) -> Vec<f64> {
        stem::reference::forward(&self.shape(), &stem::Weights::split(weights, &self.shape()), x)
    }

    fn reference_backward(&self, weights: &[f64], x: &[f64], grad: &[f64], grad_x: &mut [f64], grad_w: &mut [f64]) {
        let shape = self.shape();
        let gradients = stem::Gradients::split(grad_w, &shape);
        stem::reference::backward(&shape, &stem::Weights::split(weights, &shape), x, grad, grad_x, gradients);
    }

    fn fast(&self, precision: Precision, weights: &[f32], x: &[f32], gradients: Option<Fast>) -> Vec<f32> {
        let (shape, mut saved) = (self.shape(), stem::Saved::default());
        let weights = stem::Weights::split(weights, &shape);
        let mut out = vec![f32::NAN; shape.output()];
        stem::forward(precision, &shape, &weights, x, &mut out, gradients.is_some().then_some(&mut saved));
        if let Some((grad, grad_x, grad_w)) = gradients {
            let gradients = stem::Gradients::split(grad_w, &shape);
            stem::backward(precision, &shape, &weights, x, &saved, &grad, Some(grad_x), gradients);
        }
        out
    }
}

pub(crate) struct Block {
    pub(crate) samples: usize,
    pub(crate) grid: Grid,
    pub(crate) sizes: [usize; 3],
    pub(crate) flavour: Flavour,
    pub(crate) drop: Option<Vec<f64>>,
}

impl Block {
    pub(crate) fn shape(&self) -> block::Shape<'_> {
        let [channels, hidden, kernel] = self.sizes;
        let (samples, cells, flavour) = (self.samples, self.grid.cells(), self.flavour);
        block::Shape { samples, cells, channels, hidden, kernel, flavour }
    }
}

impl Op for Block {
    fn lengths(&self) -> [usize; 3] {
        [self.shape().parameters(), self.shape().activation(), self.shape().activation()]
    }

    fn reference(&self, weights: &[f64], x: &[f64]) -> Vec<f64> {
        let weights = block::Weights::split(weights, &self.shape());
        block::reference::forward(&self.shape(), &weights, self.drop.as_deref(), x)
    }

    fn reference_backward(&self, weights: &[f64], x: &[f64], grad: &[f64], grad_x: &mut [f64], grad_w: &mut [f64]) {
        let (shape, drop) = (self.shape(), self.drop.as_deref());
        let gradients = block::Gradients::split(grad_w, &shape);
        block::reference::backward(&shape, &block::Weights::split(weights, &shape), drop, x, grad, grad_x, gradients);
    }

    fn fast(&self, precision: Precision, weights: &[f32], x: &[f32], gradients: Option<Fast>) -> Vec<f32> {
        let (shape, mut saved) = (self.shape(), block::Saved::default());
        let weights = block::Weights::split(weights, &shape);
        let drop = self.drop.as_deref().map(narrow);
        let drop = drop.as_deref();
        let mut out = vec![f32::NAN; shape.activation()];
        block::forward(precision, &shape, &weights, drop, x, &mut out, gradients.is_some().then_some(&mut saved));
        if let Some((grad, grad_x, grad_w)) = gradients {
            let gradients = block::Gradients::split(grad_w, &shape);
            block::backward(precision, &shape, &weights, drop, x, &saved, &grad, grad_x, gradients);
        }
        out
    }
}

pub(crate) struct Downsample {
    pub(crate) samples: usize,
    pub(crate) grid: Grid,
    pub(crate) sizes: [usize; 2],
}

impl Downsample {
    fn shape(&self) -> downsample::Shape<'_> {
        let [channels, dim] = self.sizes;
        downsample::Shape { samples: self.samples, cells: self.grid.cells(), channels, dim }
    }
}

impl Op for Downsample {
    fn lengths(&self) -> [usize; 3] {
        [self.shape().parameters(), self.shape().input(), self.shape().output()]
    }

    fn reference(&self, weights: &[f64], x: &[f64]) -> Vec<f64> {
        downsample::reference::forward(&self.shape(), &downsample::Weights::split(weights, &self.shape()), x)
    }

    fn reference_backward(&self, weights: &[f64], x: &[f64], grad: &[f64], grad_x: &mut [f64], grad_w: &mut [f64]) {
        let shape = self.shape();
        let gradients = downsample::Gradients::split(grad_w, &shape);
        let weights = downsample::Weights::split(weights, &shape);
        downsample::reference::backward(&shape, &weights, x, grad, grad_x, gradients);
    }

    fn fast(&self, precision: Precision, weights: &[f32], x: &[f32], gradients: Option<Fast>) -> Vec<f32> {
        let shape = self.shape();
        let weights = downsample::Weights::split(weights, &shape);
        let mut out = vec![f32::NAN; shape.output()];
        downsample::forward(precision, &shape, &weights, x, &mut out);
        if let Some((grad, grad_x, grad_w)) = gradients {
            let gradients = downsample::Gradients::split(grad_w, &shape);
            downsample::backward(precision, &shape, &weights, x, &grad, grad_x, gradients);
        }
        out
    }
}

pub(crate) struct Head(pub(crate) [usize; 4]);

impl Head {
    fn shape(&self) -> head::Shape {
        let [samples, rows, dim, classes] = self.0;
        head::Shape { samples, rows, dim, classes }
    }
}

impl Op for Head {
    fn lengths(&self) -> [usize; 3] {
        [self.shape().parameters(), self.shape().input(), self.shape().output()]
    }

    fn reference(&self, weights: &[f64], x: &[f64]) -> Vec<f64> {
        head::reference::forward(&self.shape(), &head::Weights::split(weights, &self.shape()), x)
    }

    fn reference_backward(&self, weights: &[f64], x: &[f64], grad: &[f64], grad_x: &mut [f64], grad_w: &mut [f64]) {
        let shape = self.shape();
        let gradients = head::Gradients::split(grad_w, &shape);
        head::reference::backward(&shape, &head::Weights::split(weights, &shape), x, grad, grad_x, gradients);
    }

    fn fast(&self, _: Precision, weights: &[f32], x: &[f32], gradients: Option<Fast>) -> Vec<f32> {
        let (shape, mut saved) = (self.shape(), head::Saved::default());
        let weights = head::Weights::split(weights, &shape);
        let mut out = vec![f32::NAN; shape.output()];
        head::forward(&shape, &weights, x, &mut out, gradients.is_some().then_some(&mut saved));
        if let Some((grad, grad_x, grad_w)) = gradients {
            head::backward(&shape, &weights, &saved, &grad, grad_x, head::Gradients::split(grad_w, &shape));
        }
        out
    }
}

pub(crate) struct Densify {
    pub(crate) visible: Visibility,
    pub(crate) sizes: [usize; 3],
}

impl Densify {
    fn shape(&self) -> densify::Shape<'_> {
        let [side, channels, dim] = self.sizes;
        densify::Shape { visible: &self.visible, side, channels, dim }
    }
}

impl Op for Densify {
    fn lengths(&self) -> [usize; 3] {
        [self.shape().parameters(), self.shape().input(), self.shape().output()]
    }

    fn reference(&self, weights: &[f64], x: &[f64]) -> Vec<f64> {
        densify::reference::forward(&self.shape(), &densify::Weights::split(weights, &self.shape()), x)
    }

    fn reference_backward(&self, weights: &[f64], x: &[f64], grad: &[f64], grad_x: &mut [f64], grad_w: &mut [f64]) {
        let shape = self.shape();
        let gradients = densify::Gradients::split(grad_w, &shape);
        densify::reference::backward(&shape, &densify::Weights::split(weights, &shape), x, grad, grad_x, gradients);
    }

    fn fast(&self, precision: Precision, weights: &[f32], x: &[f32], gradients: Option<Fast>) -> Vec<f32> {
        let shape = self.shape();
        let weights = densify::Weights::split(weights, &shape);
        let mut out = vec![f32::NAN; shape.output()];
        densify::forward(precision, &shape, &weights, x, &mut out);
        if let Some((grad, grad_x, grad_w)) = gradients {
            densify::backward(precision, &shape, &weights, x, &grad, grad_x, densify::Gradients::split(grad_w, &shape));
        }
        out
    }
}

pub(crate) struct MaskedMse {
    pub(crate) visible: Visibility,
    pub(crate) sizes: [usize; 4],
    pub(crate) normalised: bool,
}

impl MaskedMse {
    pub(crate) fn shape(&self) -> masked_mse::Shape<'_> {
        let [stride, side, channels, dim] = self.sizes;
        masked_mse::Shape { visible: &self.visible, stride, side, channels, dim, normalised: self.normalised }
    }

    pub(crate) fn images(&self) -> Vec<f64> {
        random(77, self.shape().images())
    }
}

impl Op for MaskedMse {
    fn lengths(&self) -> [usize; 3] {
        [self.shape().parameters(), self.shape().features(), 1]
    }

    fn reference(&self, weights: &[f64], x: &[f64]) -> Vec<f64> {
        let weights = masked_mse::Weights::split(weights, &self.shape());
        vec![masked_mse::reference::forward(&self.shape(), &weights, x, &self.images())]
    }

    fn reference_backward(&self, weights: &[f64], x: &[f64], grad: &[f64], grad_x: &mut [f64], grad_w: &mut [f64]) {
        let shape = self.shape();
        let weights = masked_mse::Weights::split(weights, &shape);
        let gradients = masked_mse::Gradients::split(grad_w, &shape);
        masked_mse::reference::backward(&shape, &weights, x, &self.images(), grad[0], grad_x, gradients);
    }

    fn fast(&self, precision: Precision, weights: &[f32], x: &[f32], gradients: Option<Fast>) -> Vec<f32> {
        let (shape, mut saved) = (self.shape(), masked_mse::Saved::default());
        let weights = masked_mse::Weights::split(weights, &shape);
        let keep = gradients.is_some().then_some(&mut saved);
        let loss = masked_mse::forward(precision, &shape, &weights, x, &narrow(&self.images()), keep);
        if let Some((grad, grad_x, grad_w)) = gradients {
            let gradients = masked_mse::Gradients::split(grad_w, &shape);
            masked_mse::backward(precision, &shape, &weights, x, &saved, grad[0], grad_x, gradients);
        }
        vec![loss]
    }
}

struct CrossEntropy {
    samples: usize,
    classes: usize,
}

impl CrossEntropy {
    /// Soft targets, of sums that are not 1.
    fn targets(&self) -> Vec<f64> {
        random(55, self.samples * self.classes).into_iter().map(f64::abs).collect()
    }
}

impl Op for CrossEntropy {
    fn lengths(&self) -> [usize; 3] {
        [0, self.samples * self.classes, 1]
    }

    fn reference(&self, _: &[f64], x: &[f64]) -> Vec<f64> {
        vec![cross_entropy::reference::forward(self.classes, x, &self.targets())]
    }

    fn reference_backward(&self, _: &[f64], x: &[f64], grad: &[f64], grad_x: &mut [f64], _: &mut [f64]) {
        cross_entropy::reference::backward(self.classes, x, &self.targets(), grad[0], grad_x);
    }

    fn fast(&self, _: Precision, _: &[f32], x: &[f32], gradients: Option<Fast>) -> Vec<f32> {
        let targets = narrow(&self.targets());
        if let Some((grad, grad_x, _)) = gradients {
            cross_entropy::backward(self.classes, x, &targets, grad[0], grad_x);
        }
        vec![cross_entropy::forward(self.classes, x, &targets)]
    }
}

pub(crate) fn case(name: String, op: impl Op + 'static) -> Case {
    Case { name, op: Box::new(op) }
}

fn stems(list: &mut Vec<Case>, rows: &[(usize, Grid, [usize; 3])]) {
    for (samples, grid, sizes) in rows.iter().cloned() {
        list.push(case(format!("stem {samples} {sizes:?} {grid:?}"), Stem { samples, grid, sizes }));
    }
}

fn blocks(list: &mut Vec<Case>, rows: &[(usize, Grid, [usize; 3])]) {
    for (samples, grid, sizes) in rows.iter().cloned() {
        for flavour in [Flavour::V1, Flavour::V2] {
            let scales = [1.25, 0.0, 0.5].into_iter().cycle().take(samples).collect();
            for drop in [None, Some(scales)] {
                let name = format!("block {samples} {sizes:?} {flavour:?} {drop:?} {grid:?}");
                list.push(case(name, Block { samples, grid: grid.clone(), sizes, flavour, drop }));
            }
        }
    }
}

fn downsamples(list: &mut Vec<Case>, rows: &[(usize, Grid, [usize; 2])]) {
    for (samples, grid, sizes) in rows.iter().cloned() {
        list.push(case(format!("downsample {samples} {sizes:?} {grid:?}"), Downsample { samples, grid, sizes }));
    }
}

fn ends(list: &mut Vec<Case>, rows: &[(Visibility, usize, usize)]) {
    for (visible, side, stride) in rows.iter().cloned() {
        let name = format!("side {side} stride {stride} {visible:?}");
        let densify = Densify { visible: visible.clone(), sizes: [side, 5, 3] };
        list.push(case(format!("densify {name}"), densify));
        for normalised in [false, true] {
            let op = MaskedMse { visible: visible.clone(), sizes: [stride, side, 2, 5], normalised };
            list.push(case(format!("masked_mse {normalised} {name}"), op));
        }
    }
}

/// Sizes small enough to try every derivative.
pub(crate) fn differentiable() -> Vec<Case> {
    use Grid::{Dense, Sparse};
    let mut list = Vec::new();
    stems(&mut list, &[(2, Dense(2, 1), [2, 3, 5]), (2, Sparse(1, visibility(2, 2, 2, 3)), [2, 1, 3])]);
    blocks(
        &mut list,
        &[
            (2, Dense(3, 2), [5, 7, 3]),
            (1, Dense(1, 1), [3, 12, 7]),
            (2, Sparse(2, visibility(2, 2, 3, 2)), [3, 5, 3]),
            (1, Sparse(1, visibility(1, 3, 3, 4)), [2, 8, 5]),
        ],
    );
    downsamples(&mut list, &[(2, Dense(2, 4), [3, 5]), (2, Sparse(2, visibility(2, 2, 2, 1)), [5, 2])]);
    list.push(case("head".into(), Head([3, 4, 5, 7])));
    ends(&mut list, &[(visibility(2, 2, 2, 1), 1, 2), (visibility(1, 1, 3, 2), 2, 3)]);
    list.push(case("cross_entropy".into(), CrossEntropy { samples: 3, classes: 5 }));
    list
}

/// Odd sizes: channels that fill no vector, one cell, one sample, one visible patch, kernels larger than the grid,
/// samples that are worked on alone and together, several chunks.
pub(crate) fn cases() -> Vec<Case> {
    use Grid::{Dense, Sparse};
    let mut list = differentiable();
    stems(
        &mut list,
        &[
            (3, Dense(12, 15), [4, 3, 40]),
            (1, Dense(1, 1), [7, 1, 33]),
            (9, Sparse(8, visibility(9, 7, 7, 19)), [2, 3, 5]),
        ],
    );
    blocks(
        &mut list,
        &[
            (3, Dense(12, 15), [40, 160, 7]),
            (1, Dense(1, 1), [33, 132, 7]),
            (5, Dense(3, 5), [5, 20, 7]),
            (11, Dense(7, 7), [24, 96, 5]),
            (2, Dense(23, 17), [17, 31, 3]),
            (3, Dense(4, 9), [8, 32, 1]),
            (2, Dense(6, 5), [9, 36, 9]),
            (2, Sparse(8, visibility(2, 7, 7, 19)), [40, 160, 7]),
            (4, Sparse(4, visibility(4, 5, 3, 1)), [33, 64, 7]),
            (5, Sparse(2, visibility(5, 4, 4, 6)), [16, 64, 5]),
            (30, Sparse(1, visibility(30, 7, 7, 19)), [40, 160, 7]),
            (1, Sparse(1, visibility(1, 7, 7, 1)), [16, 64, 7]),
            (2, Sparse(3, visibility(2, 3, 3, 9)), [16, 64, 9]),
            // Channels enough to keep the hidden features, of large samples and of small ones.
            (2, Dense(12, 12), [136, 272, 3]),
            (7, Dense(4, 5), [130, 260, 3]),
            // Matrices large enough for panels.
            (3, Dense(3, 5), [184, 720, 7]),
            (4, Sparse(1, visibility(4, 3, 3, 4)), [190, 690, 7]),
        ],
    );
    downsamples(
        &mut list,
        &[
            (3, Dense(14, 28), [40, 80]),
            (1, Dense(2, 2), [33, 5]),
            (9, Sparse(8, visibility(9, 7, 7, 19)), [16, 33]),
            (5, Sparse(2, visibility(5, 3, 2, 1)), [5, 40]),
        ],
    );
    list.push(case("head of one cell".into(), Head([1, 1, 33, 10])));
    list.push(case("head of many samples".into(), Head([300, 4, 40, 10])));
    ends(
        &mut list,
        &[
            (visibility(20, 7, 7, 19), 1, 4),
            (visibility(3, 3, 5, 1), 2, 4),
            (visibility(2, 2, 2, 3), 3, 1),
            (visibility(1, 1, 2, 1), 1, 1),
        ],
    );
    // Matrices large enough for panels.
    for (visible, sizes) in [(visibility(3, 3, 3, 2), [20, 1, 3, 112]), (visibility(2, 2, 3, 4), [10, 2, 3, 440])] {
        let op = MaskedMse { visible, sizes, normalised: true };
        list.push(case(format!("masked_mse in panels {sizes:?}"), op));
    }
    list.push(case("cross_entropy of one".into(), CrossEntropy { samples: 1, classes: 1000 }));
    list
}
