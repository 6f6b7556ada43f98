//! The training loop, which pre-training and fine-tuning share.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use convnext_core::{
    checkpoint::{Snapshot, State as Standing, Store},
    plan::Plan,
};
use convnext_data::ShardSet;

use super::{RunError, clock::Clock, warn_of};
use crate::{
    device::Device,
    input::{Course, Input},
    interrupt,
    progress::{Now, Progress},
    recipe::{NonFinitePolicy, Resolved, Run},
    records::{EvaluateRecord, Metric, RunKind, RunRecord, TrainRecord},
    run_dir::{MetricsLog, RunDir, Spent},
    stream::{Batch, Replaced, Stream},
    tell,
    trainer::{Aim, Outcome, State, Trainer},
};

/// Records of progress in an epoch.
const RECORDS_PER_EPOCH: u64 = 20;

/// What differs between one kind of training and another.
pub(crate) trait Task {
    /// What a batch is trained for.
    fn aim(&self, batch: &Batch) -> Result<Aim, RunError>;

    /// Measures what is trained after an epoch: one record for each set of weights, the one that counts last.
    fn evaluate(&self, trainer: &mut dyn Trainer, step: u64, epoch: u64) -> Result<Vec<EvaluateRecord>, RunError>;
}

/// Where the batches of a training run come from.
pub(crate) struct Source<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) recipe: &'a Resolved,
    pub(crate) run: &'a Run,
    pub(crate) shards: Arc<ShardSet>,
    pub(crate) quarantine: PathBuf,
    /// With masks, or with labels.
    pub(crate) masked: bool,
    /// As bytes, or normalised.
    pub(crate) bytes: bool,
}

impl Source<'_> {
    /// Batches from position `start`, up to which so much was replaced, to position `end`.
    pub(crate) fn stream(&self, start: u64, end: u64, replaced: Replaced) -> Result<Stream, RunError> {
        let training = self.recipe.training().expect("a recipe that trains");
        let input = Input { plan: self.plan, data: &self.recipe.data, workers: self.recipe.machine.workers };
        let course = Course {
            batch: self.run.batch,
            epoch: self.run.steps_per_epoch * self.run.images_per_step,
            start,
            end,
            seed: self.recipe.seed,
            quarantine: self.quarantine.clone(),
            replaced,
            bytes: self.bytes,
        };
        Ok(input.training(self.shards.clone(), &training.augment, self.masked, course)?)
    }
}

/// What a training loop needs beside its task.
pub(crate) struct Setting<'a> {
    pub(crate) kind: RunKind,
    pub(crate) plan: &'a Plan,
    pub(crate) run: &'a Run,
    pub(crate) dir: &'a RunDir,
    pub(crate) device: &'a Device,
    pub(crate) seed: u64,
    pub(crate) recipe_hash: String,
    pub(crate) resume: bool,
}

/// How far a run is.
struct Place {
    step: u64,
    position: u64,
    skipped: u64,
    /// Up to the position.
    replaced: Replaced,
}

/// The steps that are on their way: the first of them is the place's.
struct Ahead {
    /// Steps submitted since the run began.
    step: u64,
    /// Samples submitted.
    position: u64,
    /// For each step that is not known to be made: its learning rate, and the samples submitted when it was.
    steps: VecDeque<(f64, u64)>,
}

impl Ahead {
    fn of(place: &Place) -> Self {
        Self { step: place.step, position: place.position, steps: VecDeque::new() }
    }
}

/// Trains from the start or from the newest checkpoint to the end.
///
/// A step is submitted before it is known what became of those before it, as far as the trainer allows; where the run
/// looks at its weights, all are waited for.
pub(crate) fn train(
    task: &dyn Task,
    trainer: &mut dyn Trainer,
    source: &Source<'_>,
    setting: &Setting<'_>,
) -> Result<RunRecord, RunError> {
    let run = setting.run;
    let clock = Clock::start(if setting.resume { setting.dir.spent()? } else { Spent::default() });

    // ---- start or resume -------------------------------------------------------------------------------------------
    let store = setting.dir.checkpoints(run.keep)?;
    let mut place = Place { step: 0, position: 0, skipped: 0, replaced: Replaced::default() };
    if setting.resume && !go_back(trainer, &store, &mut place)? {
        tell::say("the run has no checkpoint yet: it goes on from its start");
    }
    let first = place.step;
    let mut log = setting.dir.metrics(first)?;
    let mut progress = Progress::new(setting.kind.name(), first, run.steps());
    let mut stream = open(source, &place)?;
    let mut ahead = Ahead::of(&place);
    let mut window = Window::new(&stream);
    let mut last_loss = f64::NAN;

    while place.step < run.steps() {
        // ---- the next step goes on its way -------------------------------------------------------------------------
        let lr = run.schedule.lr(ahead.step);
        for _ in 0..run.accumulation {
            let mut batch = stream.next().ok_or(RunError::Starved(ahead.step))??;
            let aim = task.aim(&batch)?;
            trainer.submit(&mut batch, aim, lr)?;
            ahead.position += batch.samples as u64;
            stream.recycle(batch);
        }
        ahead.step += 1;
        ahead.steps.push_back((lr, ahead.position));

        // ---- what became of steps: recorded, unless something is not finite ----------------------------------------
        let stop = interrupt::asked();
        let looks = stop || run.saves_after(ahead.step) || run.ends_epoch(ahead.step).is_some();
        let mut again = false;
        while let Some(outcome) = trainer.collect(if looks { 0 } else { trainer.lag() })? {
            let (lr, position) = ahead.steps.pop_front().expect("a step that was submitted");
            place.position = position;
            let (loss, norm) = match outcome {
                Outcome::Updated { loss, norm } => (loss, norm),
                Outcome::NonFinite { loss, what } => {
                    again = handle(trainer, &store, &mut place, run, what, &progress)?;
                    if again {
                        break;
                    }
                    (loss, f64::NAN)
                }
            };
            place.step += 1;
            last_loss = loss;
            window.add(loss, run.images_per_step);
            progress.show(window.now(&place, &stream));
            let every = (run.steps_per_epoch / RECORDS_PER_EPOCH).max(1);
            if place.step.is_multiple_of(every) || place.step == run.steps() {
                let record = window.record(&place, run, lr, norm, &stream, &clock);
                write_train(&mut log, &record)?;
            }
        }
        if again {
            stream = open(source, &place)?;
            log.go_back(place.step)?;
            ahead = Ahead::of(&place);
            continue;
        }
        if !looks {
            continue;
        }

        // ---- measurement -------------------------------------------------------------------------------------------
        let mut metric = None;
        if let Some(epoch) = run.ends_epoch(place.step) {
            for record in task.evaluate(trainer, place.step, epoch)? {
                progress.say(&format!(
                    "epoch {epoch}: top-1 {:.2} %  loss {:.4}  ({} weights)",
                    100.0 * record.top1,
                    record.loss,
                    record.weights.name()
                ));
                log.append(&Metric::Evaluate(record))?;
                log.scalars(place.step, &[("evaluate/top1", record.top1), ("evaluate/loss", record.loss)])?;
                metric = Some(record.top1);
            }
        }

        // ---- checkpoint --------------------------------------------------------------------------------------------
        if run.saves_after(place.step) || stop {
            log.sync()?;
            let metric = metric.or((setting.kind == RunKind::Pretrain).then_some(last_loss));
            place.replaced = stream.replaced();
            save(setting, &store, trainer, &place, metric)?;
            setting.dir.keep_spent(&clock.spent());
        }
        if stop && place.step < run.steps() {
            return Err(RunError::Interrupted { step: place.step, checkpoints: store.path().into() });
        }
    }
    drop(progress);
    let spent = clock.spent();

    Ok(RunRecord {
        kind: setting.kind,
        model: setting.plan.name.to_owned(),
        parameters: trainer.layout().len() as u64,
        multiply_adds: match (setting.kind, setting.plan.fcmae) {
            (RunKind::Pretrain, Some(fcmae)) => fcmae.multiply_adds,
            _ => setting.plan.multiply_adds,
        },
        seconds: spent.seconds,
        cpu_seconds: spent.cpu_seconds,
        images: place.step * run.images_per_step,
        threads: rayon::current_num_threads(),
        machine: setting.device.machine(),
        started: spent.started.unwrap_or_default(),
        bad_samples: place.replaced.bad_samples,
        substituted: place.replaced.substituted,
        evaluation: None,
        best: None,
    })
}

fn open(source: &Source<'_>, place: &Place) -> Result<Stream, RunError> {
    let left = (source.run.steps() - place.step) * source.run.images_per_step;
    source.stream(place.position, place.position + left, place.replaced)
}

/// Loads the newest checkpoint that verifies, if there is one; says aloud which ones do not.
fn go_back(trainer: &mut dyn Trainer, store: &Store, place: &mut Place) -> Result<bool, RunError> {
    let Some(loaded) = store.load_newest(trainer.layout())? else { return Ok(false) };
    warn_of(&loaded.skipped);
    tell::say(format_args!("going on from {}", loaded.path.display()));
    let state = loaded.state.clone();
    trainer.restore(State::of(loaded, trainer.averages())?)?;
    place.step = state.step;
    place.position = state.position;
    let counter = |name: &str| state.counters.get(name).map_or(0, |&count| count as u64);
    place.skipped = counter("skipped");
    place.replaced = Replaced { bad_samples: counter("bad_samples"), substituted: counter("substituted") };
    Ok(true)
}

/// Follows the policy for a step that is not finite. Returns whether the run went back to a checkpoint.
fn handle(
    trainer: &mut dyn Trainer,
    store: &Store,
    place: &mut Place,
    run: &Run,
    what: String,
    progress: &Progress,
) -> Result<bool, RunError> {
    let step = place.step;
    progress.say(&format!("warning: step {step}: {what}"));
    match run.non_finite {
        NonFinitePolicy::Stop => Err(RunError::NonFinite { step, what, checkpoints: store.path().into() }),
        NonFinitePolicy::Skip => {
            place.skipped += 1;
            Ok(false)
        }
        NonFinitePolicy::Rollback => {
            let bad = place.position;
            if !go_back(trainer, store, place)? {
                return Err(RunError::NothingToRollBackTo { step, what });
            }
            // The stretch that led here is left out: the samples go on, the steps are made again with others.
            place.position = bad;
            Ok(true)
        }
    }
}

fn save(
    setting: &Setting<'_>,
    store: &Store,
    trainer: &mut dyn Trainer,
    place: &Place,
    metric: Option<f64>,
) -> Result<(), RunError> {
    let layout = trainer.layout().clone();
    let State { parameters, m, v, average, updates } = trainer.state()?;
    let state = Standing {
        step: place.step,
        updates,
        epoch: place.step / setting.run.steps_per_epoch,
        position: place.position,
        seed: setting.seed,
        model: setting.plan.name.to_owned(),
        recipe: setting.recipe_hash.clone(),
        metric,
        counters: [
            ("skipped", place.skipped),
            ("bad_samples", place.replaced.bad_samples),
            ("substituted", place.replaced.substituted),
        ]
        .map(|(name, count)| (name.to_owned(), count as f64))
        .into(),
    };
    store.save(&Snapshot {
        layout: &layout,
        weights: &parameters,
        moments: Some((&m, &v)),
        ema: average.as_deref(),
        state: &state,
        usage: None,
    })?;
    Ok(())
}

fn write_train(log: &mut MetricsLog, record: &TrainRecord) -> Result<(), RunError> {
    log.append(&Metric::Train(*record))?;
    let values = [
        ("train/loss", record.loss),
        ("train/lr", record.lr),
        ("train/gradient_norm", record.gradient_norm),
        ("train/images_per_second", record.images_per_second),
    ];
    Ok(log.scalars(record.step, &values)?)
}

/// What has happened since the last record.
struct Window {
    begin: Instant,
    waited: f64,
    losses: f64,
    steps: u64,
    images: u64,
}

impl Window {
    fn new(stream: &Stream) -> Self {
        Self { begin: Instant::now(), waited: stream.waited().as_secs_f64(), losses: 0.0, steps: 0, images: 0 }
    }

    fn add(&mut self, loss: f64, images: u64) {
        self.losses += loss;
        self.steps += 1;
        self.images += images;
    }

    fn now(&self, place: &Place, stream: &Stream) -> Now {
        let seconds = self.begin.elapsed().as_secs_f64().max(1e-9);
        Now {
            step: place.step,
            loss: self.losses / self.steps.max(1) as f64,
            images_per_second: self.images as f64 / seconds,
            waiting: (stream.waited().as_secs_f64() - self.waited).max(0.0) / seconds,
        }
    }

    fn record(&mut self, place: &Place, run: &Run, lr: f64, norm: f64, stream: &Stream, clock: &Clock) -> TrainRecord {
        let now = self.now(place, stream);
        let record = TrainRecord {
            step: place.step,
            epoch: place.step as f64 / run.steps_per_epoch as f64,
            loss: now.loss,
            lr,
            gradient_norm: norm,
            images_per_second: now.images_per_second,
            waited_seconds: (stream.waited().as_secs_f64() - self.waited).max(0.0),
            elapsed_seconds: clock.spent().seconds,
        };
        *self = Self::new(stream);
        record
    }
}

/// Writes a record of a run as JSON.
pub(crate) fn write_json(path: &Path, record: &impl serde::Serialize) -> Result<(), RunError> {
    let bytes = serde_json::to_vec_pretty(record).map_err(std::io::Error::other);
    bytes
        .and_then(|bytes| std::fs::write(path, bytes))
        .map_err(|source| RunError::Write { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests;
