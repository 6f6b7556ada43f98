//! Fine-tuning: supervised training of a classifier, from a pre-trained encoder or from scratch.

use std::{path::Path, sync::Arc};

use convnext_core::{
    dfdx::tensor::Cpu,
    nn::{ClassifierModule, Entry},
    optim::Layout,
};
use convnext_data::{Purpose, Random, ShardSet};
use convnext_weights::{
    checkpoint::Which,
    convert::{self, Take},
};

use super::{
    Place, RunError, check_input,
    evaluate::{Measure, check_classes, measure_classifier},
    finish, finished, has_checkpoint,
    train::{self, Setting, Source, Task},
    warn_of,
};
use crate::{
    ImageSize, Mix,
    device::Device,
    fingerprint::Fingerprint,
    input::{Input, usage, view_of},
    interrupt,
    recipe::{Evaluate, EvaluatedWeights, Finetune, Job, Resolved, Run, Start},
    records::{EvaluateRecord, MetricKind, RunKind, RunRecord, Weights},
    stream::Batch,
    tasks::classify::METRICS,
    tell,
    trainer::{Aim, CpuTrainer, CudaTrainer, Design, Kind, Model, Trainer},
};

/// Fine-tunes `entry` on `shards` by `recipe`, in `place`, on `device`; measures it on `validation` on the way, if that is
/// given.
///
/// # Errors
/// [`RunError`]; what is on the disk then is a run that can be resumed, or nothing.
pub fn finetune(
    entry: &Entry,
    recipe: Resolved,
    shards: Arc<ShardSet>,
    validation: Option<ShardSet>,
    place: &Place,
    device: &Device,
) -> Result<RunRecord, RunError> {
    // ---- everything that can be wrong is looked at before anything is written --------------------------------------
    let Job::Finetune { finetune: settings, evaluate: measured, .. } = recipe.job.clone() else {
        return Err(RunError::OtherKind { asked: RunKind::Finetune, kind: recipe.kind() });
    };
    let validation = validation.map(|set| relabelled(set, &shards)).transpose()?.map(Arc::new);
    for set in [Some(&shards), validation.as_ref()].into_iter().flatten() {
        set.require_labels()?;
        check_classes(entry, set)?;
    }
    let data = Fingerprint::of(&shards, validation.as_deref())?;
    let reopened = place.reopen(&recipe, &data)?;
    let run = recipe.run(shards.len(), 1)?;
    if let Some(record) = reopened.as_ref().map_or(Ok(None), |dir| finished(dir, &run))? {
        return Ok(record);
    }
    let (plan, bytes) = (&entry.plan, device.takes_bytes());
    check_input(plan, &recipe, &run, false, bytes)?;
    let view = view_of(recipe.training().map(|training| &training.augment), measured.crop);
    let usage = usage(plan, &recipe.data, view, shards.class_names().unwrap_or(&[]))?;
    if validation.is_some() {
        let input = Input { plan, data: &recipe.data, workers: recipe.machine.workers };
        input.check_evaluation(measured.batch as usize, view)?;
    }
    let measured_batch = validation.is_some().then_some(measured.batch as usize);
    let goes_on = reopened.as_ref().map_or(Ok(false), |dir| has_checkpoint(dir, &run))?;
    let mut trainer = trainer(entry, &recipe, &run, &settings, goes_on, measured_batch, device)?;

    // ---- the run ---------------------------------------------------------------------------------------------------
    let dir = place.open(reopened, &recipe, &data)?;
    let quarantine = dir.quarantine_path();
    let source = Source { plan, recipe: &recipe, run: &run, shards, quarantine, masked: false, bytes };
    let task = Finetuning { entry, settings, measured, recipe: &recipe, steps: run.steps(), validation };
    let setting = Setting {
        kind: RunKind::Finetune,
        plan,
        run: &run,
        dir: &dir,
        device,
        seed: recipe.seed,
        recipe_hash: recipe.hash(),
        resume: place.resume,
        usage,
        asked: &interrupt::asked,
    };
    let record = train::train(&task, &mut *trainer, &source, &setting)?;
    finish(&dir, &run, METRICS.first().map(|kind| kind.name), record)
}

/// The validation set with the numbers that the training set gives to its classes, by name.
fn relabelled(validation: ShardSet, train: &ShardSet) -> Result<ShardSet, RunError> {
    let (Some(expected), Some(names)) = (train.class_names(), validation.class_names()) else {
        let (known, found) = (train.classes(), validation.classes());
        if train.class_names().is_some() || validation.class_names().is_some() || found > known {
            tell::warn(format_args!(
                "the classes of training ({known}) and validation ({found}) do not both have names: equal numbers are taken \
                 for the same class; write names beside the shards to have them compared"
            ));
        }
        return Ok(validation);
    };
    if names != expected {
        let without = |these: &[String], those: &[String]| these.iter().filter(|name| !those.contains(name)).count();
        tell::warn(format_args!(
            "validation names {} classes and training {}, or in another order ({} of training's are not in validation); \
             labels are matched by name",
            names.len(),
            expected.len(),
            without(expected, names)
        ));
    }
    validation.relabelled(expected).map_err(RunError::ValidationClasses)
}

/// A trainer with the weights that the run starts from: the same on every device. `measured` says how many images one
/// pass has when it is measured, if it is.
fn trainer(
    entry: &Entry,
    recipe: &Resolved,
    run: &Run,
    settings: &Finetune,
    goes_on: bool,
    measured: Option<usize>,
    device: &Device,
) -> Result<Box<dyn Trainer>, RunError> {
    let (plan, cpu) = (&entry.plan, Cpu::seed_from_u64(recipe.seed));
    let mut model = entry.classifier(&cpu)?;
    recipe.model.init.apply(&mut *model);
    recipe.model.precision.apply();
    start(&mut *model, settings, goes_on)?;
    let drop_path = settings.drop_path.map_or(plan.drop_path, |rate| rate as f32);
    model.set_drop_path(drop_path);
    match device {
        Device::Cpu => Ok(Box::new(CpuTrainer::new(Model::Classifier(model), cpu, plan, run)?)),
        Device::Cuda(device) => {
            let table = Input { plan, data: &recipe.data, workers: 0 }.table()?;
            let (precision, kind) = (recipe.model.precision, Kind::Classifier { drop_path, measured });
            let design = Design { device, plan, run, precision, table: &table, kind };
            let layout = model.layout();
            let mut parameters = vec![0.0; layout.len()];
            model.read(&mut parameters);
            Ok(Box::new(CudaTrainer::new(&design, layout, parameters)?))
        }
    }
}

/// Puts the first weights into the model: those of an earlier run or of a file, in any layout; the head's scaled. A run that
/// goes on from a checkpoint has no need of them.
fn start(model: &mut dyn ClassifierModule, settings: &Finetune, goes_on: bool) -> Result<(), RunError> {
    if goes_on {
        return Ok(());
    }
    let layout = model.layout();
    let mut values = vec![0.0; layout.len()];
    model.read(&mut values);
    if settings.start == Start::Pretrained {
        let weights = settings.weights.as_deref().ok_or(RunError::NoWeights)?;
        let loaded = convert::load_into(Path::new(weights), &layout, &mut values, Which::default(), Take::Encoder)?;
        warn_of(&loaded.skipped);
        tell::say(format_args!("starting from {}: {weights}", loaded.taken));
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
    recipe: &'a Resolved,
    /// Of the whole run.
    steps: u64,
    validation: Option<Arc<ShardSet>>,
}

impl Finetuning<'_> {
    fn mix(&self) -> Mix {
        let Finetune { smoothing, mixup, cutmix, .. } = self.settings;
        Mix { smoothing: smoothing as f32, mixup, cutmix }
    }

    /// One key a sample and epoch, from which every block draws its own decision.
    fn drop_path_keys(&self, batch: &Batch) -> Arc<[u64]> {
        let key = |(&id, &epoch)| Random::new(self.recipe.seed, epoch, id, Purpose::DropPath).next_u64();
        batch.ids.iter().zip(&batch.epochs).map(key).collect()
    }

    fn measure(
        &self,
        trainer: &mut dyn Trainer,
        weights: Weights,
        step: u64,
        epoch: f64,
    ) -> Result<Option<EvaluateRecord>, RunError> {
        let Some(validation) = &self.validation else { return Ok(None) };
        let measure = Measure {
            data: &self.recipe.data,
            view: view_of(self.recipe.training().map(|training| &training.augment), self.measured.crop),
            batch: self.measured.batch as usize,
            workers: self.recipe.machine.workers,
        };
        let mut record = None;
        trainer.measure(weights, &mut |classifier| {
            let (found, _) = measure_classifier(self.entry, classifier, validation, measure)?;
            record = Some(EvaluateRecord { step, epoch, metrics: found.metrics, weights });
            Ok(())
        })?;
        Ok(record)
    }
}

impl Task for Finetuning<'_> {
    fn aim(&self, batch: &Batch) -> Result<Aim, RunError> {
        let plan = &self.entry.plan;
        let labels: Vec<u32> = batch.targets.iter().map(|target| target.class().unwrap_or(0)).collect();
        let size = ImageSize { height: plan.height, width: plan.width, channels: plan.channels };
        let mix = self.mix();
        let mixing = mix.draw(size, (self.recipe.seed, batch.epochs[0], batch.position));
        let targets = mix.targets(&labels, plan.classes, &mixing);
        Ok(Aim::Labelled { targets, mixing, drop_path_keys: self.drop_path_keys(batch) })
    }

    fn metrics(&self) -> &'static [MetricKind] {
        &METRICS
    }

    fn measures(&self, step: u64, epoch: u64) -> bool {
        self.validation.is_some() && (epoch.is_multiple_of(self.measured.every_epochs) || step == self.steps)
    }

    fn evaluate(&self, trainer: &mut dyn Trainer, step: u64, epoch: u64) -> Result<Vec<EvaluateRecord>, RunError> {
        let (wanted, averages) = (self.measured.weights, trainer.averages());
        let mut records = Vec::new();
        if wanted == EvaluatedWeights::Raw || !averages {
            records.extend(self.measure(trainer, Weights::Model, step, epoch as f64)?);
        }
        if wanted != EvaluatedWeights::Raw && averages {
            records.extend(self.measure(trainer, Weights::Ema, step, epoch as f64)?);
        }
        Ok(records)
    }
}
