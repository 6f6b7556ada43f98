//! What a classifier learns: soft targets, on images that may be mixed.

use std::sync::Arc;

use convnext_core::{
    launch::operation::BatchShape,
    nn::{ClassifierModule, FrozenClassifier, PlainClassifier},
    plan::Plan,
    simd,
};
use convnext_cuda::{
    predictor::Predictor,
    trainer::BatchTargets,
    training::{Options, TrainingStep},
};
use convnext_data::{Purpose, Random};

use super::{Classify, ImageSize, Mix, Mixing, classifier::logits};
use crate::{
    settings::Precision,
    stream::Batch,
    tasks::Task,
    trainer::{ModelError, Objective, Pass, element, pass},
};

/// Where targets come from.
#[derive(Debug, Clone)]
pub enum Source {
    /// Labels, smoothed and mixed by the run's seed.
    Labels {
        /// How.
        mix: Mix,
        /// The run's.
        seed: u64,
    },
    /// Soft targets of all samples, `[SAMPLES, CLASSES]`, taken as they are by the samples' ids. Nothing is mixed.
    Given(Vec<f32>),
}

/// What a batch is trained towards.
#[derive(Debug, Clone)]
pub struct Targets {
    /// `[N, CLASSES]`, mixed.
    values: Vec<f32>,
    /// How the images are mixed, which has not been done yet.
    mixing: Mixing,
    /// One random key a sample, which its drop paths follow from.
    drop_path_keys: Arc<[u64]>,
}

/// Mean cross-entropy against soft targets.
#[derive(Debug, Clone)]
pub struct Classification {
    plan: Plan,
    drop_path: f32,
    source: Source,
}

impl Classification {
    /// For a model of `plan` whose last block has this drop-path rate.
    pub fn new(plan: &Plan, drop_path: f32, source: Source) -> Self {
        Self { plan: *plan, drop_path, source }
    }

    fn size(&self) -> ImageSize {
        ImageSize { height: self.plan.height, width: self.plan.width, channels: self.plan.channels }
    }
}

/// One key a sample and epoch, from which every block draws its own decision.
fn drop_path_keys(batch: &Batch, seed: u64) -> Arc<[u64]> {
    let key = |(&id, &epoch)| Random::new(seed, epoch, id, Purpose::DropPath).next_u64();
    batch.ids.iter().zip(&batch.epochs).map(key).collect()
}

impl Objective for Classification {
    type Module = dyn ClassifierModule;
    type Model = PlainClassifier;
    type Frozen<'a> = FrozenClassifier;
    type Targets = Targets;

    fn task(&self) -> &'static str {
        Classify.name()
    }

    fn targets(&self, batch: &Batch) -> Result<Targets, ModelError> {
        let classes = self.plan.classes;
        Ok(match &self.source {
            Source::Labels { mix, seed } => {
                let labels: Vec<u32> = batch.targets.iter().map(|target| target.class().unwrap_or(0)).collect();
                let epoch = batch.epochs.first().copied().unwrap_or_default();
                let mixing = mix.draw(self.size(), (*seed, epoch, batch.position));
                let values = mix.targets(&labels, classes, &mixing);
                Targets { values, mixing, drop_path_keys: drop_path_keys(batch, *seed) }
            }
            Source::Given(all) => {
                let rows = batch.ids.iter().map(|&id| &all[id as usize * classes..][..classes]);
                let values = rows.flatten().copied().collect();
                Targets { values, mixing: Mixing::None, drop_path_keys: drop_path_keys(batch, 0) }
            }
        })
    }

    fn model(module: &Self::Module, precision: simd::Precision) -> PlainClassifier {
        let mut model = module.plain();
        model.set_precision(precision);
        model
    }

    fn step(
        &self,
        model: &mut PlainClassifier,
        weights: &[f32],
        batch: &mut Batch,
        targets: Targets,
        gradients: &mut [f32],
    ) -> f32 {
        let Targets { values, mixing, drop_path_keys } = targets;
        mixing.apply(&mut batch.images, batch.samples, self.size());
        model.set_drop_path_keys(&drop_path_keys);
        model.step(weights, &batch.images, values, batch.samples, gradients)
    }

    fn freeze<'a>(&self, model: &'a PlainClassifier, weights: &'a [f32]) -> FrozenClassifier {
        model.freeze(weights.to_vec())
    }

    fn outputs(&self, model: &FrozenClassifier, batch: &mut Batch) -> Result<Vec<f32>, ModelError> {
        logits(model, pass(&self.plan), batch)
    }

    fn schedule(&self, options: &Options, batches: usize) -> Result<TrainingStep, ModelError> {
        Classify.schedule(&self.plan, options, batches)
    }

    fn on_device<'a>(&self, targets: &'a Targets) -> Result<(BatchTargets<'a>, [f32; 5]), ModelError> {
        let Targets { values, mixing, drop_path_keys } = targets;
        Ok((BatchTargets::Labelled { targets: values, drop_path_keys }, mixing.on_device()))
    }

    fn drop_path(&self) -> f32 {
        self.drop_path
    }

    fn predictor(&self, pass: &Pass<'_>) -> Result<Option<Predictor>, ModelError> {
        let Pass { device, layout, samples, precision } = *pass;
        let (batch, tf32) = (BatchShape { samples, real: element(precision) }, precision == Precision::Tf32);
        Ok(Some(Predictor::new(device, &self.plan, layout.clone(), batch, tf32)?))
    }
}
