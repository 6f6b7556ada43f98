//! A variant's parts with their parameters, and how activations and gradients pass through them.

use convnext_core::launch::{
    element::Element,
    geometry::{Geometry, Tables},
    schedule::{Parameter, Schedule, ScheduleError, View},
};
use convnext_core::{
    ops::{block, densify, downsample, head, masked_mse, stem},
    plan::{FcmaePlan, Plan},
};

/// Hidden features for each channel of a block.
const EXPANSION: usize = 4;

/// What a network is built for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Samples of a batch.
    pub samples: usize,
    /// Type of the activations: f32 or bf16.
    pub real: Element,
}

/// Gives a parameter its place: by its name in checkpoints, and its length.
pub type Get<'a> = dyn FnMut(&str, usize) -> Parameter + 'a;

/// A block, and its drop path's scales if it has any.
struct Block {
    shape: block::cuda::Shape,
    parameters: block::cuda::Parameters,
    drop: Option<View>,
}

/// Blocks in a row.
struct Blocks(Vec<Block>);

impl Blocks {
    fn forward(
        &self,
        schedule: &mut Schedule,
        tables: Option<&Tables>,
        mut x: View,
    ) -> Result<(View, Vec<block::cuda::Saved>), ScheduleError> {
        let mut saved = Vec::new();
        for Block { shape, parameters, drop } in &self.0 {
            let (out, kept) = block::cuda::forward(schedule, shape, parameters, tables, *drop, x)?;
            saved.push(kept);
            x = out;
        }
        Ok((x, saved))
    }

    fn infer(&self, schedule: &mut Schedule, x: View) -> Result<View, ScheduleError> {
        let mut blocks = self.0.iter();
        blocks
            .try_fold(x, |x, Block { shape, parameters, .. }| block::cuda::infer(schedule, shape, parameters, None, x))
    }

    fn backward(
        &self,
        schedule: &mut Schedule,
        tables: Option<&Tables>,
        saved: &[block::cuda::Saved],
        grad: View,
    ) -> Result<(), ScheduleError> {
        for (Block { shape, parameters, drop }, saved) in self.0.iter().zip(saved).rev() {
            block::cuda::backward(schedule, shape, parameters, tables, *drop, saved, grad)?;
        }
        Ok(())
    }
}

/// A downsampling.
type Downsample = (downsample::cuda::Shape, downsample::cuda::Parameters);

/// Stem and stages.
pub struct Encoder {
    stem: (stem::cuda::Shape, stem::cuda::Parameters),
    stages: Vec<(Option<Downsample>, Blocks)>,
}

/// What the encoder's backward pass needs.
pub struct EncoderSaved {
    images: View,
    stem: stem::cuda::Saved,
    stages: Vec<(Option<downsample::cuda::Saved>, Vec<block::cuda::Saved>)>,
}

/// The geometry of a stage: dense, or the visible patches of a pre-training.
fn geometry(plan: &Plan, stage: usize, fcmae: Option<&FcmaePlan>) -> Geometry {
    match fcmae {
        None => Geometry::Dense { height: plan.stages[stage].height, width: plan.stages[stage].width },
        Some(fcmae) => Geometry::Sparse {
            side: fcmae.patch / (plan.stem << stage),
            patches_high: fcmae.patches_high,
            patches_wide: fcmae.patches_wide,
            visible: fcmae.visible,
        },
    }
}

/// The parameters of a part, under its name.
fn within<'a>(prefix: &'a str, get: &'a mut Get) -> impl FnMut(&str, usize) -> Parameter + 'a {
    move |name, length| get(&format!("{prefix}.{name}"), length)
}

impl Encoder {
    /// The encoder of a variant; with `fcmae`, on visible patches. `drop_paths` gives each block, counted over all
    /// stages, its scales `[N]` if it has any.
    pub fn new(
        plan: &Plan,
        sizes: Sizes,
        fcmae: Option<&FcmaePlan>,
        drop_paths: &[Option<View>],
        get: &mut Get,
    ) -> Self {
        let Sizes { samples, real } = sizes;
        let dim = plan.stages[0].dim;
        let stem = stem::cuda::Shape {
            samples,
            geometry: geometry(plan, 0, fcmae),
            stride: plan.stem,
            channels: plan.channels,
            dim,
            real,
        };
        let parameters = stem::cuda::Parameters::named(&stem.layer(), within("encoder.stem", get));
        let mut drops = drop_paths.iter().copied().chain(std::iter::repeat(None));
        let stages = (0..plan.stages.len()).map(|stage| {
            let before = (stage > 0).then(|| downsample(plan, sizes, fcmae, stage, get));
            (before, blocks(plan, sizes, fcmae, stage, &mut drops, get))
        });
        Self { stages: stages.collect(), stem: (stem, parameters) }
    }

    /// `images [N, H, W, C]`, f32, to the last stage's output.
    ///
    /// # Errors
    /// [`ScheduleError`] if the batch is too large.
    pub fn forward(
        &self,
        schedule: &mut Schedule,
        tables: Option<&Tables>,
        images: View,
    ) -> Result<(View, EncoderSaved), ScheduleError> {
        let (mut x, stem) = stem::cuda::forward(schedule, &self.stem.0, &self.stem.1, tables, images)?;
        let mut stages = Vec::new();
        for (before, blocks) in &self.stages {
            let mut kept = None;
            if let Some((shape, parameters)) = before {
                let (out, saved) = downsample::cuda::forward(schedule, shape, parameters, x)?;
                (x, kept) = (out, Some(saved));
            }
            let (out, saved) = blocks.forward(schedule, tables, x)?;
            x = out;
            stages.push((kept, saved));
        }
        Ok((x, EncoderSaved { images, stem, stages }))
    }

    /// The same of a dense encoder, with nothing for a backward pass, and without drop path.
    ///
    /// # Errors
    /// [`ScheduleError`] if the batch is too large.
    pub fn infer(&self, schedule: &mut Schedule, images: View) -> Result<View, ScheduleError> {
        let (mut x, _) = stem::cuda::forward(schedule, &self.stem.0, &self.stem.1, None, images)?;
        for (before, blocks) in &self.stages {
            if let Some((shape, parameters)) = before {
                (x, _) = downsample::cuda::forward(schedule, shape, parameters, x)?;
            }
            x = blocks.infer(schedule, x)?;
        }
        Ok(x)
    }

    /// Adds the gradients of all parameters. `grad`, that of the output, is used up.
    ///
    /// # Errors
    /// [`ScheduleError`] if the batch is too large.
    pub fn backward(
        &self,
        schedule: &mut Schedule,
        tables: Option<&Tables>,
        saved: &EncoderSaved,
        mut grad: View,
    ) -> Result<(), ScheduleError> {
        for ((before, blocks), (kept, saved)) in self.stages.iter().zip(&saved.stages).rev() {
            blocks.backward(schedule, tables, saved, grad)?;
            if let (Some((shape, parameters)), Some(kept)) = (before, kept) {
                grad = downsample::cuda::backward(schedule, shape, parameters, kept, grad)?;
            }
        }
        let (shape, parameters) = &self.stem;
        stem::cuda::backward(schedule, shape, parameters, tables, saved.images, &saved.stem, grad, None)
    }
}

fn downsample(plan: &Plan, sizes: Sizes, fcmae: Option<&FcmaePlan>, stage: usize, get: &mut Get) -> Downsample {
    let shape = downsample::cuda::Shape {
        samples: sizes.samples,
        geometry: geometry(plan, stage - 1, fcmae),
        channels: plan.stages[stage - 1].dim,
        dim: plan.stages[stage].dim,
        real: sizes.real,
    };
    let prefix = format!("encoder.stages.{stage}.downsample");
    (shape, downsample::cuda::Parameters::named(&shape.layer(), within(&prefix, get)))
}

fn blocks(
    plan: &Plan,
    sizes: Sizes,
    fcmae: Option<&FcmaePlan>,
    stage: usize,
    drops: &mut impl Iterator<Item = Option<View>>,
    get: &mut Get,
) -> Blocks {
    let (geometry, declared) = (geometry(plan, stage, fcmae), plan.stages[stage]);
    let shape = block_shape(plan, sizes, geometry, declared.dim, declared.kernel);
    let block = |index: usize| {
        let prefix = format!("encoder.stages.{stage}.blocks.{index}");
        let parameters = block::cuda::Parameters::named(&shape.layer(), within(&prefix, get));
        Block { shape, parameters, drop: drops.next().flatten() }
    };
    Blocks((0..declared.depth).map(block).collect())
}

fn block_shape(plan: &Plan, sizes: Sizes, geometry: Geometry, channels: usize, kernel: usize) -> block::cuda::Shape {
    let Sizes { samples, real } = sizes;
    block::cuda::Shape {
        samples,
        geometry,
        channels,
        hidden: EXPANSION * channels,
        kernel,
        flavour: plan.flavour,
        real,
    }
}

/// The classifier's head.
pub struct Head {
    shape: head::cuda::Shape,
    parameters: head::cuda::Parameters,
}

impl Head {
    /// The head of a variant.
    pub fn new(plan: &Plan, sizes: Sizes, get: &mut Get) -> Self {
        let last = plan.stages[plan.stages.len() - 1];
        let shape = head::cuda::Shape {
            samples: sizes.samples,
            rows: last.height * last.width,
            dim: last.dim,
            classes: plan.classes,
            real: sizes.real,
        };
        Self { shape, parameters: head::cuda::Parameters::named(&shape.layer(), within("head", get)) }
    }

    /// Logits `[N, CLASSES]`.
    ///
    /// # Errors
    /// [`ScheduleError`] if the batch is too large.
    pub fn forward(&self, schedule: &mut Schedule, x: View) -> Result<(View, head::cuda::Saved), ScheduleError> {
        head::cuda::forward(schedule, &self.shape, &self.parameters, x)
    }

    /// The gradient of the encoder's output.
    ///
    /// # Errors
    /// [`ScheduleError`] if the batch is too large.
    pub fn backward(
        &self,
        schedule: &mut Schedule,
        saved: &head::cuda::Saved,
        grad_logits: View,
    ) -> Result<View, ScheduleError> {
        head::cuda::backward(schedule, &self.shape, &self.parameters, saved, grad_logits)
    }
}

/// The pre-training's decoder: mask tokens, blocks, prediction.
pub struct Decoder {
    densify: (densify::cuda::Shape, densify::cuda::Parameters),
    blocks: Blocks,
    prediction: (masked_mse::cuda::Shape, masked_mse::cuda::Parameters),
}

/// What the decoder's backward pass needs.
pub struct DecoderSaved {
    x: View,
    blocks: Vec<block::cuda::Saved>,
    prediction: masked_mse::cuda::Saved,
}

impl Decoder {
    /// The decoder of a variant.
    pub fn new(plan: &Plan, sizes: Sizes, fcmae: &FcmaePlan, get: &mut Get) -> Self {
        let Sizes { samples, real } = sizes;
        let (stage, last) = (plan.stages.len() - 1, plan.stages[plan.stages.len() - 1]);
        let visible = geometry(plan, stage, Some(fcmae));
        let densify =
            densify::cuda::Shape { samples, geometry: visible, channels: last.dim, dim: fcmae.decoder_dim, real };
        let densify_parameters = densify::cuda::Parameters::named(&densify.layer(), within("densify", get));
        let grid = Geometry::Dense { height: last.height, width: last.width };
        let shape = block_shape(plan, sizes, grid, fcmae.decoder_dim, fcmae.decoder_kernel);
        let block = |index: usize| {
            let prefix = format!("decoder.{index}");
            let parameters = block::cuda::Parameters::named(&shape.layer(), within(&prefix, get));
            Block { shape, parameters, drop: None }
        };
        let blocks = Blocks((0..fcmae.decoder_depth).map(block).collect());
        let prediction = masked_mse::cuda::Shape {
            samples,
            patches_high: fcmae.patches_high,
            patches_wide: fcmae.patches_wide,
            visible: fcmae.visible,
            stride: plan.stride(),
            side: fcmae.patch / plan.stride(),
            channels: plan.channels,
            dim: fcmae.decoder_dim,
            normalised: fcmae.normalised,
            real,
        };
        let parameters = masked_mse::cuda::Parameters::named(&prediction.layer(), within("prediction", get));
        Self { densify: (densify, densify_parameters), blocks, prediction: (prediction, parameters) }
    }

    /// The loss on removed patches, written to `loss [1]`.
    ///
    /// # Errors
    /// [`ScheduleError`] if the batch is too large.
    pub fn forward(
        &self,
        schedule: &mut Schedule,
        tables: &Tables,
        x: View,
        images: View,
        loss: View,
    ) -> Result<DecoderSaved, ScheduleError> {
        let grid = densify::cuda::forward(schedule, &self.densify.0, &self.densify.1, tables, x)?;
        let (features, blocks) = self.blocks.forward(schedule, None, grid)?;
        let (shape, parameters) = &self.prediction;
        let prediction = masked_mse::cuda::forward(schedule, shape, parameters, tables, features, images, 1.0, loss)?;
        Ok(DecoderSaved { x, blocks, prediction })
    }

    /// The gradient of the encoder's output.
    ///
    /// # Errors
    /// [`ScheduleError`] if the batch is too large.
    pub fn backward(
        &self,
        schedule: &mut Schedule,
        tables: &Tables,
        saved: &DecoderSaved,
    ) -> Result<View, ScheduleError> {
        let (shape, parameters) = &self.prediction;
        let grad = masked_mse::cuda::backward(schedule, shape, parameters, tables, &saved.prediction)?;
        self.blocks.backward(schedule, None, &saved.blocks, grad)?;
        densify::cuda::backward(schedule, &self.densify.0, &self.densify.1, tables, saved.x, grad)
    }
}
