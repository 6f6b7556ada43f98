//! Fine-tuning: supervised training of a classifier, from a pre-trained encoder or from scratch.

use std::{path::Path, sync::Arc};

use convnext_core::{
    checkpoint::Which,
    convert::{self, Take},
    dfdx::tensor::{Cpu, Gradients},
    nn::{ClassifierModule, Entry, Flat},
    optim::Layout,
};
use convnext_data::{Purpose, Random, ShardSet};

use super::{
    Place, RunError,
    evaluate::{Measure, check_classes, measure_classifier},
    train::{self, Setting, Source, Task, write_json},
    warn_of,
};
use crate::{
    input::View,
    learner::Learner,
    mix::{Images, Mix},
    recipe::{Evaluate, EvaluatedWeights, Finetune, Job, Resolved, Start},
    records::{self, EvaluateRecord, RunKind, RunRecord, Weights},
    stream::Batch,
};

/// Fine-tunes `entry` on `shards` by `recipe`, in `place`; measures it on `validation` on the way, if that is given.
///
/// # Errors
/// [`RunError`]; what is on the disk then is a run that can be resumed, or nothing.
pub fn finetune(
    entry: &Entry,
    recipe: Resolved,
    shards: Arc<ShardSet>,
    validation: Option<Arc<ShardSet>>,
    place: &Place,
) -> Result<RunRecord, RunError> {
    // ---- everything that can be wrong is looked at before anything is written --------------------------------------
    shards.require_labels()?;
    let run = recipe.run(shards.len(), 1)?;
    let (settings, measured) = match &recipe.job {
        Job::Finetune { finetune, evaluate, .. } => (finetune.clone(), evaluate.clone()),
        _ => unreachable!("the command line asks for fine-tuning recipes"),
    };
    for set in [Some(&shards), validation.as_ref()].into_iter().flatten() {
        check_classes(entry, set)?;
    }
    let device = Cpu::seed_from_u64(recipe.seed);
    let mut model = entry.classifier(&device)?;
    recipe.model.init.apply(&mut *model);
    recipe.model.precision.apply();
    start(&mut *model, &settings, place.resume)?;
    if let Some(rate) = settings.drop_path {
        model.set_drop_path(rate as f32);
    }

    // ---- the run ---------------------------------------------------------------------------------------------------
    let (dir, recipe) = place.open(recipe)?;
    let quarantine = dir.quarantine_path();
    let source = Source { plan: &entry.plan, recipe: &recipe, run: &run, shards, quarantine, masked: false };
    let mut task = Finetuning { entry, settings, measured, source, validation, device, model };
    let setting = Setting {
        kind: RunKind::Finetune,
        plan: &entry.plan,
        run: &run,
        dir: &dir,
        seed: recipe.seed,
        recipe_hash: recipe.hash(),
        resume: place.resume,
    };
    let record = train::train(&mut task, &setting)?;
    write_json(&dir.path().join(records::RUN), &record)?;
    Ok(record)
}

/// Puts the first weights into the model: those of an earlier run or of a file, in any layout; the head's scaled.
fn start(model: &mut dyn ClassifierModule, settings: &Finetune, resume: bool) -> Result<(), RunError> {
    if resume {
        return Ok(());
    }
    let layout = model.layout();
    let mut values = vec![0.0; layout.len()];
    model.read(&mut values);
    if settings.start == Start::Pretrained {
        let weights = settings.weights.as_deref().ok_or(RunError::NoWeights)?;
        let loaded = convert::load_into(Path::new(weights), &layout, &mut values, Which::Best, Take::Encoder)?;
        warn_of(&loaded.skipped);
    }
    scale_head(&layout, &mut values, settings.head_scale as f32);
    model.write(&values);
    Ok(())
}

fn scale_head(layout: &Layout, values: &mut [f32], scale: f32) {
    for segment in layout.segments().iter().filter(|segment| segment.name.starts_with("head.linear.")) {
        values[segment.range.clone()].iter_mut().for_each(|value| *value *= scale);
    }
}

struct Finetuning<'a> {
    entry: &'a Entry,
    settings: Finetune,
    measured: Evaluate,
    source: Source<'a>,
    validation: Option<Arc<ShardSet>>,
    device: Cpu,
    model: Box<dyn ClassifierModule>,
}

impl Finetuning<'_> {
    fn mix(&self) -> Mix {
        let Finetune { smoothing, mixup, cutmix, .. } = self.settings;
        Mix { smoothing: smoothing as f32, mixup, cutmix }
    }

    /// One key a sample and epoch, from which every block draws its own decision.
    fn drop_path_keys(&self, batch: &Batch) -> Arc<[u64]> {
        let key = |(&id, &epoch)| Random::new(self.source.recipe.seed, epoch, id, Purpose::DropPath).next_u64();
        batch.ids.iter().zip(&batch.epochs).map(key).collect()
    }

    fn measure(&self, weights: Weights, step: u64, epoch: f64) -> Result<Option<EvaluateRecord>, RunError> {
        let Some(validation) = &self.validation else { return Ok(None) };
        let augment = self.source.recipe.training().map(|training| &training.augment);
        let measure = Measure {
            data: &self.source.recipe.data,
            view: View::of(augment, self.measured.crop),
            batch: self.measured.batch as usize,
            workers: self.source.recipe.machine.workers,
        };
        let found = measure_classifier(self.entry, &*self.model, &self.device, validation, measure)?;
        Ok(Some(EvaluateRecord { step, epoch, loss: found.loss, top1: found.top1, top5: found.top5, weights }))
    }
}

impl Task for Finetuning<'_> {
    fn model(&mut self) -> &mut dyn Flat {
        &mut *self.model
    }

    fn source(&self) -> &Source<'_> {
        &self.source
    }

    fn step(
        &mut self,
        batch: &mut Batch,
        gradients: Gradients<f32, Cpu>,
    ) -> Result<(f32, Gradients<f32, Cpu>), RunError> {
        let plan = &self.entry.plan;
        let labels: Vec<u32> = batch.labels.iter().map(|label| label.unwrap_or(0)).collect();
        let size = Images { height: plan.height, width: plan.width, channels: plan.channels };
        let draw = (self.source.recipe.seed, batch.epochs[0], batch.position);
        let targets = self.mix().apply(&labels, plan.classes, &mut batch.images, size, draw);
        let keys = self.drop_path_keys(batch);
        self.model.set_drop_path_keys(&keys);
        Ok(self.model.step(&self.device, batch.images.clone(), targets, batch.samples, gradients)?)
    }

    fn evaluate(&mut self, learner: &Learner, step: u64, epoch: u64) -> Result<Vec<EvaluateRecord>, RunError> {
        let due = epoch.is_multiple_of(self.measured.every_epochs) || step == self.source.run.steps();
        if !due || self.validation.is_none() {
            return Ok(Vec::new());
        }
        let mut records = Vec::new();
        let average = learner.optimizer().ema();
        if self.measured.weights == EvaluatedWeights::Raw || average.is_none() {
            records.extend(self.measure(Weights::Model, step, epoch as f64)?);
        }
        if let Some(average) = average.filter(|_| self.measured.weights != EvaluatedWeights::Raw) {
            self.model.write(average);
            let record = self.measure(Weights::Ema, step, epoch as f64);
            self.model.write(learner.parameters());
            records.extend(record?);
        }
        Ok(records)
    }
}
