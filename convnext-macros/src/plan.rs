//! Every size, count and rate of a checked model. `convnext_core::plan` computes the same at run time.

use crate::ast::{Flavour, Fraction};
use crate::check::Model;

/// Everything fixed about a model.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) height: u64,
    pub(crate) width: u64,
    pub(crate) channels: u64,
    pub(crate) stem: u64,
    pub(crate) flavour: Flavour,
    pub(crate) stages: Vec<StagePlan>,
    pub(crate) classes: u64,
    pub(crate) drop_path: f32,
    pub(crate) fcmae: Option<FcmaePlan>,
    pub(crate) cost: Cost,
}

/// One stage.
#[derive(Debug)]
pub(crate) struct StagePlan {
    pub(crate) dim: u64,
    pub(crate) depth: u64,
    pub(crate) kernel: u64,
    pub(crate) height: u64,
    pub(crate) width: u64,
    pub(crate) drop_path: Vec<f32>,
    /// With the stem or the downsampling before the stage.
    pub(crate) cost: Cost,
}

/// The pre-training part.
#[derive(Debug)]
pub(crate) struct FcmaePlan {
    pub(crate) patch: u64,
    pub(crate) mask: f32,
    pub(crate) patches_high: u64,
    pub(crate) patches_wide: u64,
    pub(crate) visible: u64,
    pub(crate) decoder_dim: u64,
    pub(crate) decoder_depth: u64,
    pub(crate) decoder_kernel: u64,
    pub(crate) normalised: bool,
    /// Of the whole autoencoder.
    pub(crate) cost: Cost,
}

/// Parameters, and multiply-adds for one image.
///
/// Multiply-adds are those of convolutions and matrix products. 128 bits, as the largest sizes that the language
/// allows overflow 64; [`Cost::parameters`] and [`Cost::multiply_adds`] saturate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Cost {
    parameters: u128,
    multiply_adds: u128,
}

impl Cost {
    /// `parameters` in all and `products` multiply-adds at each of `cells` cells.
    fn new(parameters: u64, products: u64, cells: u64) -> Self {
        let multiply_adds = u128::from(products) * u128::from(cells);
        Self { parameters: parameters.into(), multiply_adds }
    }

    fn times(self, count: u64) -> Self {
        let count = u128::from(count);
        Self { parameters: self.parameters * count, multiply_adds: self.multiply_adds * count }
    }

    pub(crate) fn parameters(&self) -> u64 {
        self.parameters.try_into().unwrap_or(u64::MAX)
    }

    pub(crate) fn multiply_adds(&self) -> u64 {
        self.multiply_adds.try_into().unwrap_or(u64::MAX)
    }
}

impl std::ops::Add for Cost {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { parameters: self.parameters + other.parameters, multiply_adds: self.multiply_adds + other.multiply_adds }
    }
}

impl std::iter::Sum for Cost {
    fn sum<I: Iterator<Item = Self>>(costs: I) -> Self {
        costs.fold(Self::default(), |sum, cost| sum + cost)
    }
}

impl Plan {
    /// Plans a model whose sizes have been checked to divide.
    pub(crate) fn new(model: &Model) -> Self {
        let full = |stage: usize| (model.height / model.stride(stage)) * (model.width / model.stride(stage));
        let stages = stages(model, full);
        let [.., last] = model.stages.as_slice() else { unreachable!("a checked model has stages") };
        let encoder: Cost = stages.iter().map(|stage| stage.cost).sum();
        Self {
            height: model.height,
            width: model.width,
            channels: model.channels,
            stem: model.stem,
            flavour: model.flavour,
            classes: model.classes,
            drop_path: model.drop_path,
            fcmae: model.fcmae.as_ref().map(|_| fcmae(model)),
            cost: encoder + head(last.dim, model.classes),
            stages,
        }
    }

    /// Total stride of the encoder.
    pub(crate) fn stride(&self) -> u64 {
        self.stem << (self.stages.len() - 1)
    }

    /// The last stage.
    pub(crate) fn last(&self) -> &StagePlan {
        self.stages.last().expect("a checked model has stages")
    }
}

/// The stages, with the cost of computing `cells` of each.
fn stages(model: &Model, cells: impl Fn(usize) -> u64) -> Vec<StagePlan> {
    let blocks = model.stages.iter().map(|stage| stage.depth).sum();
    let mut first = 0;
    let mut plans = Vec::with_capacity(model.stages.len());
    for (index, stage) in model.stages.iter().enumerate() {
        let before = match index {
            0 => stem(model.stem, model.channels, stage.dim, cells(0)),
            _ => downsample(model.stages[index - 1].dim, stage.dim, cells(index)),
        };
        let block = block(model.flavour, stage.dim, stage.kernel, cells(index));
        plans.push(StagePlan {
            dim: stage.dim,
            depth: stage.depth,
            kernel: stage.kernel,
            height: model.height / model.stride(index),
            width: model.width / model.stride(index),
            drop_path: (first..first + stage.depth).map(|block| drop_path(model.drop_path, block, blocks)).collect(),
            cost: before + block.times(stage.depth),
        });
        first += stage.depth;
    }
    plans
}

/// Rate of one block: linear from 0 at the first to `rate` at the last.
fn drop_path(rate: f32, block: u64, blocks: u64) -> f32 {
    match blocks {
        1 => 0.0,
        _ => rate * block as f32 / (blocks - 1) as f32,
    }
}

/// The autoencoder; its encoder and projection run on visible cells only, its decoder on all.
fn fcmae(model: &Model) -> FcmaePlan {
    let fcmae = model.fcmae.as_ref().expect("called for a model with a pre-training part");
    let (high, wide) = (model.height / fcmae.patch, model.width / fcmae.patch);
    let visible = visible(high * wide, &fcmae.mask);
    let last = model.stages.len() - 1;
    let stride = model.stride(last);
    let seen = |stage: usize| visible * (fcmae.patch / model.stride(stage)).pow(2);
    let cells = (model.height / stride) * (model.width / stride);
    let (dim, decoder) = (model.stages[last].dim, fcmae.decoder_dim);
    // Every tap of a depthwise kernel is counted, also the skipped ones over removed cells: an upper bound.
    let encoder: Cost = stages(model, seen).iter().map(|stage| stage.cost).sum();
    let cost = encoder
        + densify(dim, decoder, seen(last))
        + block(model.flavour, decoder, fcmae.decoder_kernel, cells).times(fcmae.decoder_depth)
        + linear(decoder, stride * stride * model.channels, cells);
    FcmaePlan {
        patch: fcmae.patch,
        mask: fcmae.mask.as_f32(),
        patches_high: high,
        patches_wide: wide,
        visible,
        decoder_dim: decoder,
        decoder_depth: fcmae.decoder_depth,
        decoder_kernel: fcmae.decoder_kernel,
        normalised: fcmae.normalised,
        cost,
    }
}

/// `floor(patches * (1 - mask))`, in whole numbers: 10 patches at 0.3 leave 7, where floating point finds 6.99... .
pub(crate) fn visible(patches: u64, mask: &Fraction) -> u64 {
    let kept = u128::from(mask.one().saturating_sub(mask.digits));
    (u128::from(patches) * kept / u128::from(mask.one())) as u64
}

fn linear(input: u64, output: u64, cells: u64) -> Cost {
    Cost::new(input * output + output, input * output, cells)
}

fn norm(dim: u64) -> Cost {
    Cost::new(2 * dim, 0, 0)
}

fn stem(side: u64, channels: u64, dim: u64, cells: u64) -> Cost {
    linear(side * side * channels, dim, cells) + norm(dim)
}

fn downsample(input: u64, output: u64, cells: u64) -> Cost {
    norm(input) + linear(4 * input, output, cells)
}

fn block(flavour: Flavour, dim: u64, kernel: u64, cells: u64) -> Cost {
    let hidden = 4 * dim;
    let depthwise = Cost::new(kernel * kernel * dim + dim, kernel * kernel * dim, cells);
    let scale = match flavour {
        Flavour::V1 => dim,
        Flavour::V2 => 2 * hidden,
    };
    depthwise + norm(dim) + linear(dim, hidden, cells) + linear(hidden, dim, cells) + Cost::new(scale, 0, 0)
}

fn head(dim: u64, classes: u64) -> Cost {
    norm(dim) + linear(dim, classes, 1)
}

fn densify(dim: u64, decoder: u64, cells: u64) -> Cost {
    let mask_token = Cost::new(decoder, 0, 0);
    linear(dim, decoder, cells) + mask_token
}
