//! The training loop, which pre-training and fine-tuning share.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use convnext_core::{
    checkpoint::{Snapshot, State, Store},
    dfdx::tensor::{Cpu, Gradients},
    nn::Flat,
    plan::Plan,
};
use convnext_data::ShardSet;
use cpu_time::ProcessTime;

use super::{RunError, error::describe, warn_of};
use crate::{
    input::{Course, Input},
    interrupt,
    learner::{Learner, Outcome},
    progress::{Now, Progress},
    recipe::{NonFinitePolicy, Resolved, Run},
    records::{EvaluateRecord, Metric, RunKind, RunRecord, TrainRecord},
    run_dir::{MetricsLog, RunDir},
    stream::{Batch, Stream},
};

/// Records of progress in an epoch.
const RECORDS_PER_EPOCH: u64 = 20;

/// What differs between one kind of training and another.
pub(crate) trait Task {
    /// The model's parameters.
    fn model(&mut self) -> &mut dyn Flat;

    /// Where the batches come from.
    fn source(&self) -> &Source<'_>;

    /// Adds the gradients of a batch, and returns its mean loss with them.
    fn step(
        &mut self,
        batch: &mut Batch,
        gradients: Gradients<f32, Cpu>,
    ) -> Result<(f32, Gradients<f32, Cpu>), RunError>;

    /// Measures the model after an epoch: one record for each set of weights, the one that counts last.
    fn evaluate(&mut self, learner: &Learner, step: u64, epoch: u64) -> Result<Vec<EvaluateRecord>, RunError>;
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
}

impl Source<'_> {
    /// Batches from position `start` to position `end`.
    pub(crate) fn stream(&self, start: u64, end: u64) -> Result<Stream, RunError> {
        let training = self.recipe.training().expect("a recipe that trains");
        let input = Input { plan: self.plan, data: &self.recipe.data, workers: self.recipe.machine.workers };
        let course = Course {
            batch: self.run.batch,
            epoch: self.run.steps_per_epoch * self.run.images_per_step,
            start,
            end,
            seed: self.recipe.seed,
            quarantine: self.quarantine.clone(),
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
    pub(crate) seed: u64,
    pub(crate) recipe_hash: String,
    pub(crate) resume: bool,
}

/// How far a run is.
struct Place {
    step: u64,
    position: u64,
    skipped: u64,
}

/// Trains from the start or from the newest checkpoint to the end.
pub(crate) fn train(task: &mut dyn Task, setting: &Setting<'_>) -> Result<RunRecord, RunError> {
    let run = setting.run;
    let (started, wall, processor) = (std::time::SystemTime::now(), Instant::now(), ProcessTime::now());

    // ---- start or resume -------------------------------------------------------------------------------------------
    let store = setting.dir.checkpoints(run.keep);
    let mut learner = Learner::new(task.model(), setting.plan, run)?;
    let mut place = Place { step: 0, position: 0, skipped: 0 };
    if setting.resume {
        go_back(task, &mut learner, &store, &mut place)?;
    }
    let first = place.step;
    let mut log = setting.dir.metrics(first)?;
    let mut progress = Progress::new(setting.kind.name(), first, run.steps());
    let mut gradients = Gradients::leaky();
    let mut stream = open(task, run, &place)?;
    let mut window = Window::new(&stream);

    // ---- steps -----------------------------------------------------------------------------------------------------
    while place.step < run.steps() {
        let lr = run.schedule.lr(place.step);
        let mut losses = 0.0;
        for _ in 0..run.accumulation {
            let mut batch = stream.next().ok_or(RunError::Starved(place.step))??;
            let (loss, added) = task.step(&mut batch, gradients)?;
            (gradients, losses) = (added, losses + f64::from(loss));
            place.position += batch.samples as u64;
            stream.recycle(batch);
        }
        let loss = losses / run.accumulation as f64;

        // ---- the update, unless something is not finite ------------------------------------------------------------
        let outcome = match loss.is_finite() {
            true => learner.update(task.model(), &mut gradients, run.accumulation, lr)?,
            false => Outcome::NonFinite(None),
        };
        let norm = match outcome {
            Outcome::Updated { norm } => norm,
            Outcome::NonFinite(fault) => {
                let what = if loss.is_finite() { describe(fault) } else { format!("the loss is {loss}") };
                gradients = Gradients::leaky();
                let again = handle(task, &mut learner, &store, &mut place, run, what, &progress)?;
                if again {
                    stream = open(task, run, &place)?;
                    log = setting.dir.metrics(place.step)?;
                    continue;
                }
                f64::NAN
            }
        };
        place.step += 1;

        // ---- records -----------------------------------------------------------------------------------------------
        window.add(loss, run.images_per_step);
        progress.show(window.now(&place, &stream));
        let every = (run.steps_per_epoch / RECORDS_PER_EPOCH).max(1);
        if place.step.is_multiple_of(every) || place.step == run.steps() {
            let record = window.record(&place, run, lr, norm, &stream, wall);
            write_train(&mut log, &record)?;
        }
        let mut metric = None;
        if let Some(epoch) = run.ends_epoch(place.step) {
            for record in task.evaluate(&learner, place.step, epoch)? {
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
        let stop = interrupt::asked();
        if run.saves_after(place.step) || stop {
            log.sync()?;
            let metric = metric.or((setting.kind == RunKind::Pretrain).then_some(loss));
            save(setting, &store, &learner, &place, metric)?;
        }
        if stop && place.step < run.steps() {
            return Err(RunError::Interrupted { step: place.step, checkpoints: store.path().into() });
        }
    }
    drop(progress);

    Ok(RunRecord {
        kind: setting.kind,
        model: setting.plan.name.to_owned(),
        parameters: learner.layout().len() as u64,
        multiply_adds: match (setting.kind, setting.plan.fcmae) {
            (RunKind::Pretrain, Some(fcmae)) => fcmae.multiply_adds,
            _ => setting.plan.multiply_adds,
        },
        seconds: wall.elapsed().as_secs_f64(),
        cpu_seconds: processor.elapsed().as_secs_f64(),
        images: (run.steps() - first) * run.images_per_step,
        threads: rayon::current_num_threads(),
        machine: convnext_core::simd::Level::current().to_string(),
        started: humantime::format_rfc3339_seconds(started).to_string(),
    })
}

fn open(task: &dyn Task, run: &Run, place: &Place) -> Result<Stream, RunError> {
    let left = (run.steps() - place.step) * run.images_per_step;
    task.source().stream(place.position, place.position + left)
}

/// Loads the newest checkpoint that verifies, if there is one; says aloud which ones do not.
fn go_back(task: &mut dyn Task, learner: &mut Learner, store: &Store, place: &mut Place) -> Result<bool, RunError> {
    let Some(loaded) = store.load_newest(learner.layout())? else { return Ok(false) };
    warn_of(&loaded.skipped);
    eprintln!("going on from {}", loaded.path.display());
    let state = loaded.state.clone();
    learner.restore(task.model(), loaded)?;
    place.step = state.step;
    place.position = state.position;
    place.skipped = state.counters.get("skipped").map_or(0, |&skipped| skipped as u64);
    Ok(true)
}

/// Follows the policy for a step that is not finite. Returns whether the run went back to a checkpoint.
fn handle(
    task: &mut dyn Task,
    learner: &mut Learner,
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
            if !go_back(task, learner, store, place)? {
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
    learner: &Learner,
    place: &Place,
    metric: Option<f64>,
) -> Result<(), RunError> {
    let optimizer = learner.optimizer();
    let state = State {
        step: place.step,
        updates: optimizer.updates(),
        epoch: place.step / setting.run.steps_per_epoch,
        position: place.position,
        seed: setting.seed,
        model: setting.plan.name.to_owned(),
        recipe: setting.recipe_hash.clone(),
        metric,
        counters: [("skipped".to_owned(), place.skipped as f64)].into(),
    };
    store.save(&Snapshot {
        layout: learner.layout(),
        weights: learner.parameters(),
        moments: Some((optimizer.m(), optimizer.v())),
        ema: optimizer.ema(),
        state: &state,
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

    fn record(&mut self, place: &Place, run: &Run, lr: f64, norm: f64, stream: &Stream, wall: Instant) -> TrainRecord {
        let now = self.now(place, stream);
        let record = TrainRecord {
            step: place.step,
            epoch: place.step as f64 / run.steps_per_epoch as f64,
            loss: now.loss,
            lr,
            gradient_norm: norm,
            images_per_second: now.images_per_second,
            waited_seconds: (stream.waited().as_secs_f64() - self.waited).max(0.0),
            elapsed_seconds: wall.elapsed().as_secs_f64(),
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
