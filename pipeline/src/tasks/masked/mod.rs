//! Masked pre-training: a fully convolutional autoencoder learns to fill in removed patches.

mod measure;
mod reconstruct;

use std::sync::Arc;

use convnext_core::{
    dfdx::tensor::Cpu,
    launch::kernels::images::mix,
    nn::{AutoencoderModule, Entry, Flat, PlainAutoencoder},
    ops::masked_mse::{self, Targets},
    plan::{FcmaePlan, Patches, Plan},
    simd,
    visibility::Visibility,
};
use convnext_cuda::{
    trainer::BatchTargets,
    training::{Options, TrainingStep, accumulating_autoencoder},
};
use convnext_data::{Purpose, Random, ShardSet, random_mask};

pub use measure::RECONSTRUCTION_LOSS;
pub use reconstruct::{MOST as MOST_RECONSTRUCTED, Reconstructed, Subject, reconstruct};

use super::{Defaults, Flag, Measure, Picture, Setup, Task, TaskSettings, VALIDATION};
use crate::{
    input::Samples,
    interrupt,
    records::{self, Evaluation, MetricKind},
    settings::{Course, training_section},
    stream::{Batch, Mask},
    trainer::{self, Inference, ModelError, Objective, Trainer, pass},
};

/// Masked-autoencoder pre-training.
#[derive(Debug, Clone, Copy)]
pub struct Masked;

training_section! {
    /// Masked-autoencoder pre-training. The mask ratio belongs to the variant.
    pub struct Pretrain {}
}

/// The masking grid of a variant.
fn patches(plan: &Plan) -> Result<Patches, ModelError> {
    plan.patches().ok_or(ModelError::NoFcmae(plan.name))
}

fn autoencoder(entry: &Entry, cpu: &Cpu) -> Result<Box<dyn AutoencoderModule>, ModelError> {
    entry.autoencoder(cpu)?.ok_or(ModelError::NoFcmae(entry.plan.name))
}

impl Task for Masked {
    fn name(&self) -> &'static str {
        "pretrain"
    }

    fn title(&self) -> &'static str {
        "Pre-training"
    }

    fn about(&self) -> &'static str {
        "Pre-trains a variant as a masked autoencoder; labels are not needed"
    }

    fn examples(&self) -> &'static str {
        "\
Example:
  convnext pretrain --model micro --data 'data/train-*.tar' --recipe micro-pretrain --out runs/pretrain
  convnext pretrain --out runs/pretrain --resume"
    }

    fn flags(&self) -> &'static [Flag] {
        &[VALIDATION]
    }

    fn defaults(&self) -> Defaults {
        Defaults { beta2: 0.95, smallest_crop: 0.2 }
    }

    fn samples(&self, plan: &Plan) -> Samples {
        let mut samples = Samples::default();
        if let Some((fcmae, patches)) = plan.fcmae.zip(plan.patches()) {
            samples.stages.push(Box::new(Mask { patch: fcmae.patch, visible: patches.visible }));
        }
        samples
    }

    fn accept(&self, plan: &Plan, _: &ShardSet, validation: Option<ShardSet>) -> Result<Option<ShardSet>, ModelError> {
        patches(plan).map(|_| validation)
    }

    fn fill(&self, plan: &Plan, batch: &mut Batch, step: u64) -> Result<(), ModelError> {
        batch.masks = draw_masks(patches(plan)?, batch.samples, 0, step);
        Ok(())
    }

    fn model(&self, entry: &Entry, cpu: &Cpu) -> Result<Box<dyn Flat>, ModelError> {
        Ok(autoencoder(entry, cpu)?)
    }

    fn multiply_adds(&self, plan: &Plan) -> u64 {
        plan.autoencoder().unwrap_or(plan.classifier()).multiply_adds()
    }

    fn schedule(&self, plan: &Plan, options: &Options, batches: usize) -> Result<TrainingStep, ModelError> {
        patches(plan)?;
        Ok(accumulating_autoencoder(plan, options, batches)?)
    }

    fn metrics(&self) -> &'static [MetricKind] {
        &[RECONSTRUCTION_LOSS]
    }

    fn measure(
        &self,
        plan: &Plan,
        model: &mut dyn Inference,
        shards: &Arc<ShardSet>,
        how: Measure<'_>,
    ) -> Result<Evaluation, ModelError> {
        measure::measure(plan, model, shards, how)
    }

    fn loss(&self) -> &'static str {
        "Mean squared error of the removed patches' pixels."
    }

    fn picture(&self) -> Option<&'static Picture> {
        const RECONSTRUCTION: Picture = Picture {
            file: records::RECONSTRUCTION,
            title: "Reconstruction",
            alt: "Masked and reconstructed images",
            caption: "One image a row. The grey patches were removed and the model was asked to fill them. Its prediction, \
                      in the third column, means something on those patches only: the loss never looks at the visible \
                      ones. Where targets were normalised, the model predicts each patch without its mean and deviation: \
                      the third column has those of the visible patches instead, and the last column, beside the visible \
                      patches, the removed patches' true ones.",
            columns: &["original", "what the model saw", "what it filled in", "both, at the true mean and deviation"],
            command: "convnext reconstruct",
        };
        Some(&RECONSTRUCTION)
    }

    fn next(&self) -> &'static [&'static str] {
        &["finetune --weights RUN --recipe RECIPE --data GLOB --out OUT", "reconstruct RUN", "report RUN"]
    }

    fn benchmark(&self) -> &'static str {
        "Steps of masked pre-training"
    }
}

impl TaskSettings for Pretrain {
    fn task(&self) -> &'static dyn Task {
        &Masked
    }

    fn course(&self) -> Course {
        self.course()
    }

    fn trainer(&self, setup: &Setup<'_>) -> Result<Box<dyn Trainer>, ModelError> {
        let cpu = Cpu::seed_from_u64(setup.seed);
        let mut model = autoencoder(setup.entry, &cpu)?;
        setup.begin(&mut *model);
        trainer::trainer(Masking::new(&setup.entry.plan)?, &*model, &setup.workplace())
    }
}

/// Masks `[N, L]` of `samples` images, 0 = keep, 1 = remove: a pure function of seed, epoch and place in the batch.
fn draw_masks(patches: Patches, samples: usize, seed: u64, epoch: u64) -> Vec<u8> {
    let mut masks = vec![0; samples * patches.count()];
    for (sample, mask) in masks.chunks_exact_mut(patches.count()).enumerate() {
        random_mask(&mut Random::new(seed, epoch, sample as u64, Purpose::Mask), patches.visible, mask);
    }
    masks
}

/// Mean squared error on the patches that a mask removes.
#[derive(Debug, Clone)]
pub struct Masking {
    plan: Plan,
    fcmae: FcmaePlan,
    patches: Patches,
}

impl Masking {
    /// For a model of `plan`.
    ///
    /// # Errors
    /// [`ModelError::NoFcmae`].
    pub fn new(plan: &Plan) -> Result<Self, ModelError> {
        let fcmae = plan.fcmae.ok_or(ModelError::NoFcmae(plan.name))?;
        Ok(Self { plan: *plan, fcmae, patches: patches(plan)? })
    }

    fn visibility(&self, masks: &[u8]) -> Result<Arc<Visibility>, ModelError> {
        let Patches { high, wide, visible } = self.patches;
        Ok(Arc::new(Visibility::from_mask(masks, high, wide, visible)?))
    }

    /// How patches are laid out for the loss.
    fn shape<'a>(&self, visible: &'a Visibility) -> masked_mse::Shape<'a> {
        let Self { plan, fcmae, .. } = self;
        masked_mse::Shape {
            visible,
            stride: plan.stride(),
            side: fcmae.patch / plan.stride(),
            channels: plan.channels,
            dim: fcmae.decoder_dim,
            normalised: fcmae.normalised,
        }
    }

    /// What is to be predicted of images `[N, H, W, C]` under `masks`.
    fn pixels(&self, images: &[f32], masks: &[u8]) -> Result<Targets, ModelError> {
        Ok(masked_mse::targets(&self.shape(&*self.visibility(masks)?), images))
    }

    /// Predictions `[N, L, P * P * C]` of images `[N, H, W, C]` under `masks`, a few at a time, so that a signal is heard.
    fn predictions(
        &self,
        model: &PlainAutoencoder,
        weights: &[f32],
        images: &[f32],
        masks: &[u8],
    ) -> Result<Vec<f32>, ModelError> {
        let pass = pass(&self.plan);
        let (image, patches) = (self.plan.height * self.plan.width * self.plan.channels, self.patches.count());
        let mut predictions = Vec::new();
        for (images, masks) in images.chunks(pass * image).zip(masks.chunks(pass * patches)) {
            if interrupt::asked() {
                return Err(ModelError::Stopped);
            }
            predictions.extend(model.predictions(weights, images, &self.visibility(masks)?));
        }
        Ok(predictions)
    }
}

impl Objective for Masking {
    type Module = dyn AutoencoderModule;
    type Model = PlainAutoencoder;
    type Frozen<'a> = (&'a PlainAutoencoder, &'a [f32]);
    type Targets = Arc<Visibility>;

    fn task(&self) -> &'static str {
        Masked.name()
    }

    fn targets(&self, batch: &Batch) -> Result<Arc<Visibility>, ModelError> {
        self.visibility(&batch.masks)
    }

    fn model(module: &Self::Module, precision: simd::Precision) -> PlainAutoencoder {
        let mut model = module.plain();
        model.set_precision(precision);
        model
    }

    fn step(
        &self,
        model: &mut PlainAutoencoder,
        weights: &[f32],
        batch: &mut Batch,
        visible: Arc<Visibility>,
        gradients: &mut [f32],
    ) -> f32 {
        model.step(weights, &batch.images, &visible, gradients)
    }

    fn freeze<'a>(&self, model: &'a PlainAutoencoder, weights: &'a [f32]) -> Self::Frozen<'a> {
        (model, weights)
    }

    fn outputs(&self, &(model, weights): &Self::Frozen<'_>, batch: &mut Batch) -> Result<Vec<f32>, ModelError> {
        self.predictions(model, weights, &batch.images, &batch.masks)
    }

    fn schedule(&self, options: &Options, batches: usize) -> Result<TrainingStep, ModelError> {
        Masked.schedule(&self.plan, options, batches)
    }

    fn on_device<'a>(&self, visible: &'a Arc<Visibility>) -> Result<(BatchTargets<'a>, [f32; 5]), ModelError> {
        Ok((BatchTargets::Masked(visible), mix(1.0, [0; 4])))
    }
}
