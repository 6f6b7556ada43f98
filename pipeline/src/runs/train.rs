//! A training run, whatever it is trained for: everything is looked at, then the steps are made.

use std::{path::Path, sync::Arc};

use convnext_core::nn::Entry;
use convnext_data::{ShardSet, TargetKind};
use serde::Serialize;

use super::{
    Destination, RunError, finish, finished, has_checkpoint,
    steps::{self, Measurement, RunContext, Source},
};
use crate::{
    device::Device,
    fingerprint::Fingerprint,
    input::{Input, usage, view_of},
    interrupt,
    notify::Notifier,
    recipe::{Resolved, Training},
    records::{EvaluateRecord, MetricKind, RunRecord, StartRecord, Weights},
    run_dir,
    settings::{Evaluate, EvaluatedWeights, Run},
    tasks::{Measure, Setup, Task},
    tell,
    trainer::{ModelError, Trainer},
};

/// Trains `entry` on `shards` by `recipe`, in `destination`, on `device`; measures it on `validation` on the way, if that
/// is given and the task is measured.
///
/// # Errors
/// [`RunError`]; what is on the disk then is a run that can be resumed, or nothing.
pub fn train(
    entry: &Entry,
    recipe: Resolved,
    shards: Arc<ShardSet>,
    validation: Option<ShardSet>,
    destination: &Destination,
    device: &Device,
) -> Result<RunRecord, RunError> {
    // ---- everything that can be wrong is looked at before anything is written --------------------------------------
    let (entry, recipe) = &sized(entry, recipe, &shards, destination)?;
    let (plan, bytes) = (&entry.plan, device.takes_bytes());
    let Some(Training { section, augment, .. }) = &recipe.training else { return Err(RunError::NothingToTrain) };
    let task = section.task();
    let validation = task.accept(plan, &shards, validation)?.map(Arc::new);
    let mut data = Fingerprint::of(&shards, validation.as_deref())?;
    let reopened = destination.reopen(recipe, &data)?;
    if let Some(dir) = &reopened {
        data.mixing = dir.mixing();
    }
    let run = recipe.run(shards.len(), 1)?;
    if let Some(record) = reopened.as_ref().map_or(Ok(None), |dir| finished(dir, &run, task.metrics()))? {
        return Ok(record);
    }
    let input = Input { plan, data: &recipe.data, workers: recipe.machine.workers };
    input.table()?;
    input.check_training(augment, task.samples(plan), bytes, run.batch)?;
    let evaluate = recipe.evaluate.clone().unwrap_or_default();
    let view = view_of(Some(augment), evaluate.crop);
    let classes = shards.class_names().filter(|_| task.samples(plan).target != TargetKind::None);
    let usage = usage(plan, &recipe.data, view, classes.unwrap_or(&[]))?;
    let measured = validation.as_ref().map(|_| evaluate.batch as usize);
    if run.stop.is_some() && measured.is_none() {
        return Err(RunError::NothingToStopBy);
    }
    if let Some(batch) = measured {
        input.check_evaluation(batch, view, task.samples(plan))?;
    }
    let goes_on = reopened.as_ref().map_or(Ok(false), |dir| has_checkpoint(dir, &run))?;
    let (model, seed) = (&recipe.model, recipe.seed);
    let mut trainer =
        section.trainer(&Setup { entry, model, data: &recipe.data, seed, run: &run, device, goes_on, measured })?;

    // ---- the run ---------------------------------------------------------------------------------------------------
    let dir = destination.open(reopened, recipe, &data)?;
    let notifier = destination.notify.as_deref().map(Notifier::start).transpose().map_err(RunError::Notify)?;
    let labelled = task.samples(plan).target != TargetKind::None;
    let weights = section.starts_from().map_or_else(|| format!("random, seed {seed}"), str::to_owned);
    let start = beginning(&run, &shards, validation.as_deref(), labelled, weights);
    tell_start(plan.name, trainer.layout().len(), device, &start, dir.path());
    let quarantine = dir.quarantine_path();
    let source = Source { plan, recipe, run: &run, shards, mixing: data.mixing, quarantine, bytes };
    let measure = Measure { data: &recipe.data, view, batch: evaluate.batch as usize, workers: recipe.machine.workers };
    let held_out = HeldOut { task, entry, measure, evaluate, steps: run.steps(), validation };
    let context = RunContext {
        name: task.name(),
        model: plan.name,
        multiply_adds: task.multiply_adds(plan),
        run: &run,
        dir: &dir,
        device,
        seed: recipe.seed,
        recipe_hash: recipe.hash(),
        resume: destination.resume,
        notify: notifier.as_ref().map(Notifier::lines),
        usage,
        start,
        asked: &interrupt::asked,
    };
    let record = steps::train(&held_out, &mut *trainer, &source, &context)
        .and_then(|record| finish(&dir, &run, task.metrics().first().map(|metric| metric.name), record));
    if let Some(notifier) = notifier {
        notifier.lines().send(&End::of(&record));
        notifier.finish();
    }
    record
}

/// What a run begins with.
fn beginning(
    run: &Run,
    shards: &ShardSet,
    validation: Option<&ShardSet>,
    labelled: bool,
    weights: String,
) -> StartRecord {
    StartRecord {
        images: shards.len(),
        validation: validation.map(ShardSet::len),
        classes: labelled.then(|| shards.classes().into()),
        batch: run.batch as u64,
        accumulation: run.accumulation as u64,
        epochs: run.epochs,
        steps: run.steps(),
        weights,
    }
}

/// The last that a command is told.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum End<'a> {
    End { record: &'a RunRecord },
    Failed { error: String },
}

impl<'a> End<'a> {
    fn of(result: &'a Result<RunRecord, RunError>) -> Self {
        match result {
            Ok(record) => Self::End { record },
            Err(error) => Self::Failed { error: error.to_string() },
        }
    }
}

/// Says what a run begins with, as a table.
fn tell_start(model: &str, parameters: usize, device: &Device, start: &StartRecord, out: &Path) {
    let StartRecord { images, validation, classes, batch, accumulation, epochs, steps, weights } = start;
    let classes = classes.map(|classes| format!(" in {classes} classes")).unwrap_or_default();
    let validation = validation.map(|images| format!("; measured on {images}")).unwrap_or_default();
    let batches = if *accumulation > 1 { format!("{accumulation} batches of {batch}") } else { format!("{batch}") };
    let threads = rayon::current_num_threads();
    tell::say(format_args!(
        "model      {model}, {:.2} M parameters\n\
         device     {}; threads: {threads}\n\
         images     {images}{classes}{validation}\n\
         steps      {steps}, of {batches} images; epochs: {epochs}, of {} steps\n\
         weights    {weights}\n\
         writes to  {}",
        parameters as f64 / 1e6,
        device.machine(),
        steps / epochs.max(&1),
        out.display()
    ));
}

/// The variant with the classes that the recipe asks for, else those of the run that goes on, else those of the data; and the
/// recipe that says so where they are not the declared ones.
fn sized(
    entry: &Entry,
    mut recipe: Resolved,
    shards: &ShardSet,
    destination: &Destination,
) -> Result<(Entry, Resolved), RunError> {
    let Some(Training { section, .. }) = &recipe.training else { return Err(RunError::NothingToTrain) };
    if !section.task().has_classes() {
        return Ok((*entry, recipe));
    }
    let of_data = section.task().classes(&entry.plan, shards);
    let declared = entry.plan.classes;
    let classes = match (recipe.model.classes, destination.resume) {
        (Some(asked), _) => asked,
        (None, true) => run_dir::read_recipe(&destination.out)?.model.classes.unwrap_or(declared),
        (None, false) => {
            if of_data != declared {
                tell::say(format_args!(
                    "the data have {of_data} classes: the head of `{}` is made for these, not for the {declared} that it \
                     declares; --classes {declared}, or classes in [model], keeps it",
                    entry.plan.name
                ));
            }
            of_data
        }
    };
    recipe.model.classes = Some(classes).filter(|&classes| classes != declared);
    Ok((entry.with_classes(classes), recipe))
}

/// A validation set, if there is one, and how the run is measured on it.
struct HeldOut<'a> {
    task: &'a dyn Task,
    entry: &'a Entry,
    measure: Measure<'a>,
    evaluate: Evaluate,
    /// Of the whole run.
    steps: u64,
    validation: Option<Arc<ShardSet>>,
}

impl HeldOut<'_> {
    fn record(
        &self,
        trainer: &mut dyn Trainer,
        weights: Weights,
        step: u64,
        epoch: f64,
    ) -> Result<Option<EvaluateRecord>, ModelError> {
        let Some(validation) = &self.validation else { return Ok(None) };
        let mut record = None;
        trainer.measure(weights, &mut |model| {
            let found = self.task.measure(&self.entry.plan, model, validation, self.measure)?;
            record = Some(EvaluateRecord { step, epoch, metrics: found.metrics, weights });
            Ok(())
        })?;
        Ok(record)
    }
}

impl Measurement for HeldOut<'_> {
    fn metrics(&self) -> &'static [MetricKind] {
        self.task.metrics()
    }

    fn is_due(&self, step: u64, epoch: u64) -> bool {
        self.validation.is_some() && (epoch.is_multiple_of(self.evaluate.every_epochs) || step == self.steps)
    }

    fn records(&self, trainer: &mut dyn Trainer, step: u64, epoch: u64) -> Result<Vec<EvaluateRecord>, ModelError> {
        let (wanted, averages) = (self.evaluate.weights, trainer.averages());
        let mut records = Vec::new();
        if wanted == EvaluatedWeights::Raw || !averages {
            records.extend(self.record(trainer, Weights::Model, step, epoch as f64)?);
        }
        if wanted != EvaluatedWeights::Raw && averages {
            records.extend(self.record(trainer, Weights::Ema, step, epoch as f64)?);
        }
        Ok(records)
    }
}
