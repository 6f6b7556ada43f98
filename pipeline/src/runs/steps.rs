//! The training loop, which all tasks share.
//!
//! ```text
//! until the last step:   submit a step; collect those that are made: record them, leave them out, or go back
//! at the end of an epoch:   write the checkpoint, measure, add the metric to the checkpoint
//! at a signal:   write a checkpoint, unless it is written; end
//! ```
//!
//! A checkpoint is written before it is measured, so that nothing is lost by a signal. A measurement that did not come to
//! its end is made up for when the run is resumed: it leaves what a run leaves that nobody interrupted.

mod trouble;
mod window;

use std::{
    collections::{BTreeMap, VecDeque},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use convnext_core::plan::Plan;
use convnext_data::{Mixing, ShardSet};
use convnext_weights::checkpoint::{self, Snapshot, Store, Usage};

use serde::Serialize;
use trouble::Trouble;
use window::Window;

use super::{RunError, clock::Clock, patience, patience::Patience};
use crate::{
    device::Device,
    input::{Input, Span},
    notify::Lines,
    progress::Progress,
    recipe::{NonFinitePolicy, Resolved, Run},
    records::{ChangeRecord, EvaluateRecord, Line, MetricKind, RunRecord, StartRecord, TrainRecord},
    run_dir::{MetricsLog, RunDir, Spent},
    stream::{Replaced, Stream},
    tasks, tell,
    trainer::{ModelError, Outcome, State, Trainer},
};

/// Records of progress in an epoch.
const RECORDS_PER_EPOCH: u64 = 20;

/// Names of what a checkpoint counts of its samples.
const BAD_SAMPLES: &str = "bad_samples";
const SUBSTITUTED: &str = "substituted";

/// How what is trained is measured on the way.
pub(crate) trait Measurement {
    /// By what; the first decides which checkpoint is the best.
    fn metrics(&self) -> &'static [MetricKind];

    /// Whether it is due after `step` steps, at the end of epoch `epoch`.
    fn is_due(&self, step: u64, epoch: u64) -> bool;

    /// Measures what is trained after an epoch: one record for each set of weights, the one that counts last.
    ///
    /// # Errors
    /// [`ModelError::Stopped`] and [`ModelError::NotFinite`] are the measurement's alone: the loop goes on from them.
    fn records(&self, trainer: &mut dyn Trainer, step: u64, epoch: u64) -> Result<Vec<EvaluateRecord>, ModelError>;
}

/// Where the batches of a training run come from.
pub(crate) struct Source<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) recipe: &'a Resolved,
    pub(crate) run: &'a Run,
    pub(crate) shards: Arc<ShardSet>,
    pub(crate) mixing: Mixing,
    pub(crate) quarantine: PathBuf,
    /// As bytes, or normalised.
    pub(crate) bytes: bool,
}

impl Source<'_> {
    /// Batches from position `start`, up to which so much was replaced, to position `end`.
    pub(crate) fn stream(&self, start: u64, end: u64, replaced: Replaced) -> Result<Stream, RunError> {
        let training = self.recipe.training.as_ref().ok_or(RunError::NothingToTrain)?;
        let input = Input { plan: self.plan, data: &self.recipe.data, workers: self.recipe.machine.workers };
        let span = Span {
            batch: self.run.batch,
            epoch: self.run.steps_per_epoch * self.run.images_per_step,
            start,
            end,
            seed: self.recipe.seed,
            mixing: self.mixing,
            quarantine: self.quarantine.clone(),
            replaced,
            bytes: self.bytes,
        };
        Ok(input.training(self.shards.clone(), &training.augment, training.section.task().samples(self.plan), span)?)
    }
}

/// What the training loop is told of the run.
pub(crate) struct RunContext<'a> {
    /// The task.
    pub(crate) name: &'static str,
    /// The variant.
    pub(crate) model: &'static str,
    /// Of one image's forward pass.
    pub(crate) multiply_adds: u64,
    pub(crate) run: &'a Run,
    pub(crate) dir: &'a RunDir,
    pub(crate) device: &'a Device,
    pub(crate) seed: u64,
    pub(crate) recipe_hash: String,
    pub(crate) resume: bool,
    /// Who is told what the run does.
    pub(crate) notify: Option<&'a Lines>,
    /// How the model is to be used: checkpoints say so.
    pub(crate) usage: Usage,
    /// What it begins with.
    pub(crate) start: StartRecord,
    /// Whether the run is asked to stop.
    pub(crate) asked: &'a dyn Fn() -> bool,
}

/// The first that a command is told.
#[derive(Serialize)]
#[serde(tag = "kind", rename = "start")]
struct Start<'a> {
    run: &'a Path,
    task: &'static str,
    model: &'static str,
    step: u64,
    #[serde(flatten)]
    start: &'a StartRecord,
    settings: BTreeMap<String, toml::Value>,
}

impl<'a> Start<'a> {
    fn of(recipe: &Resolved, context: &'a RunContext<'_>, step: u64) -> Self {
        let RunContext { name: task, model, dir, ref start, .. } = *context;
        Self { run: dir.path(), task, model, step, start, settings: recipe.settings().into_iter().collect() }
    }
}

/// How far a run has come.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Reached {
    step: u64,
    position: u64,
}

/// The steps that were submitted and are not known to be made; the first of them is the next to be reached.
struct InFlight {
    /// Steps submitted since the run began.
    step: u64,
    /// Samples submitted.
    position: u64,
    /// For each step that is not known to be made: its learning rate, and the samples submitted when it was.
    steps: VecDeque<(f64, u64)>,
}

impl InFlight {
    fn of(reached: Reached) -> Self {
        Self { step: reached.step, position: reached.position, steps: VecDeque::new() }
    }
}

/// A run under way.
struct Training<'a> {
    measurement: &'a dyn Measurement,
    trainer: &'a mut dyn Trainer,
    source: &'a Source<'a>,
    context: &'a RunContext<'a>,
    store: Store,
    reached: Reached,
    /// The newest checkpoint, and what it holds.
    saved: Option<(PathBuf, Reached)>,
    trouble: Trouble,
    patience: Patience,
    submitted: InFlight,
    stream: Stream,
    log: MetricsLog,
    progress: Progress,
    window: Window,
    clock: Clock,
    /// The last measurement.
    measured: Option<EvaluateRecord>,
    /// Why the last measurement has no result.
    not_finite: Option<String>,
    /// Why the last step was skipped.
    skipped: Option<String>,
    /// When the steps of this process began, and the time since then that was no step's.
    begun: Instant,
    aside: Duration,
}

/// Trains from the start or from the newest checkpoint to the end.
///
/// A step is submitted before it is known what became of those before it, as far as the trainer allows; where the run
/// looks at its weights, all are waited for.
pub(crate) fn train(
    measurement: &dyn Measurement,
    trainer: &mut dyn Trainer,
    source: &Source<'_>,
    context: &RunContext<'_>,
) -> Result<RunRecord, RunError> {
    let run = context.run;

    // ---- start or resume -------------------------------------------------------------------------------------------
    let (mut training, measured) = Training::begin(measurement, trainer, source, context)?;
    if !measured {
        training.measure()?;
    }

    // ---- steps -----------------------------------------------------------------------------------------------------
    while training.reached.step < run.steps() && training.patience.ended().is_none() {
        if (context.asked)() {
            training.stop()?;
        }
        training.submit()?;
        let ends = run.ends_epoch(training.submitted.step).is_some();
        let pauses = ends || run.saves_after(training.submitted.step);
        let in_flight = if pauses { 0 } else { training.trainer.lag() };
        if training.collect(in_flight)? && pauses {
            training.save_and_measure()?;
        }
    }
    training.finish()
}

impl<'a> Training<'a> {
    /// Opens everything, and goes on from the newest checkpoint if the run is resumed. Says whether what is to be measured
    /// there has been.
    fn begin(
        measurement: &'a dyn Measurement,
        trainer: &'a mut dyn Trainer,
        source: &'a Source<'a>,
        context: &'a RunContext<'a>,
    ) -> Result<(Self, bool), RunError> {
        let clock = Clock::start(if context.resume { context.dir.spent()? } else { Spent::default() });
        let store = context.dir.checkpoints(context.run.keep)?;
        let resumed = if context.resume { restore(trainer, &store)? } else { None };
        let (saved, state) = match resumed {
            Some((path, state)) => {
                tell::say(format_args!("going on from {}", path.display()));
                (Some((path, Reached::of(&state))), state)
            }
            None => {
                if context.resume {
                    tell::say("the run has no checkpoint yet: it goes on from its start");
                }
                (None, checkpoint::RunState::default())
            }
        };
        let reached = Reached::of(&state);
        let mut log = context.dir.metrics(reached.step)?;
        log.hyperparameters(source.recipe)?;
        if let Some(lines) = context.notify {
            lines.send(&Start::of(source.recipe, context, reached.step));
            log.pass_on(lines.clone());
        }
        let epoch = context.run.ends_epoch(reached.step);
        let measured = state.metric.is_some() || !epoch.is_some_and(|epoch| measurement.is_due(reached.step, epoch));
        if !measured {
            log.go_back(reached.step, false)?;
        }
        tell_changes(context.dir, &mut log, reached.step)?;
        let patience = patience(context.dir, context.run, measurement.metrics(), reached.step)?;
        let stream = open(source, reached, &state)?;
        let training = Self {
            measurement,
            trainer,
            source,
            context,
            store,
            reached,
            saved,
            trouble: Trouble::of(&state.counters),
            patience,
            submitted: InFlight::of(reached),
            stream,
            log,
            progress: Progress::new(context.name, reached.step, context.run.steps(), context.run.steps_per_epoch),
            window: Window::of(&state.counters),
            clock,
            measured: None,
            not_finite: None,
            skipped: None,
            begun: Instant::now(),
            aside: Duration::ZERO,
        };
        Ok((training, measured))
    }

    /// Puts the next step on its way.
    fn submit(&mut self) -> Result<(), RunError> {
        let run = self.context.run;
        let lr = run.schedule.lr(self.submitted.step);
        for _ in 0..run.accumulation {
            let mut batch = self.stream.next().ok_or(RunError::Starved(self.submitted.step))??;
            self.trainer.submit(&mut batch, lr)?;
            self.submitted.position += batch.samples as u64;
            self.stream.recycle(batch);
        }
        self.submitted.step += 1;
        self.submitted.steps.push_back((lr, self.submitted.position));
        Ok(())
    }

    /// Records what became of steps, until no more than `in_flight` are left; says whether the run did not go back.
    fn collect(&mut self, in_flight: usize) -> Result<bool, RunError> {
        while let Some(outcome) = self.trainer.collect(in_flight)? {
            let (lr, position) = self.submitted.steps.pop_front().expect("a step that was submitted");
            self.reached.position = position;
            let (loss, norm) = match outcome {
                Outcome::Updated { loss, norm } => {
                    self.trouble.updated();
                    self.skipped = None;
                    (loss, norm)
                }
                Outcome::NonFinite { loss, what } => {
                    if self.handle(what)? {
                        return Ok(false);
                    }
                    (loss, f64::NAN)
                }
            };
            self.reached.step += 1;
            self.record_step(loss, lr, norm)?;
        }
        Ok(true)
    }

    fn record_step(&mut self, loss: f64, lr: f64, norm: f64) -> Result<(), RunError> {
        let run = self.context.run;
        let (step, busy) = (self.reached.step, self.stream.busy());
        self.window.add(loss);
        self.progress.show(self.window.now(step, run.images_per_step, &busy));
        let every = (run.steps_per_epoch / RECORDS_PER_EPOCH).max(1);
        if step.is_multiple_of(every) || step == run.steps() {
            let record = self.window.record(step, run, lr, norm, busy, self.clock.spent().seconds);
            write_train(&mut self.log, &record)?;
        }
        Ok(())
    }

    /// Follows the policy for a step that is not finite; says whether the run went back to a checkpoint.
    fn handle(&mut self, what: String) -> Result<bool, RunError> {
        let (step, run) = (self.reached.step, self.context.run);
        self.progress.say(&format!("warning: step {step}: {what}"));
        match run.non_finite {
            NonFinitePolicy::Stop => Err(RunError::NonFinite { step, what, newest: self.newest() }),
            NonFinitePolicy::Skip if self.trouble.skip(run) => {
                self.skipped = Some(what);
                Ok(false)
            }
            NonFinitePolicy::Skip => {
                let steps = self.trouble.in_a_row();
                Err(RunError::SkippedInVain { step, steps, what, newest: self.newest() })
            }
            NonFinitePolicy::Rollback if self.trouble.go_back(step) => self.go_back(what).map(|()| true),
            NonFinitePolicy::Rollback => {
                let (times, furthest) = (self.trouble.rollbacks(), self.trouble.furthest());
                Err(RunError::WentBackInVain { step, times, furthest, what, newest: self.newest() })
            }
        }
    }

    /// Goes back to the newest checkpoint. The stretch that led here is left out: the samples go on, the steps are made
    /// again with others.
    fn go_back(&mut self, what: String) -> Result<(), RunError> {
        let Some((path, state)) = restore(self.trainer, &self.store)? else {
            return Err(RunError::NothingToRollBackTo { step: self.reached.step, what });
        };
        self.progress.say(&format!("going back to {}", path.display()));
        self.saved = Some((path, Reached::of(&state)));
        self.reached.step = state.step;
        self.log.go_back(state.step, true)?;
        self.patience.forget_after(state.step);
        self.stream = open(self.source, self.reached, &state)?;
        self.submitted = InFlight::of(self.reached);
        self.window = Window::of(&state.counters);
        Ok(())
    }

    /// The checkpoint that is due and the measurement, whose time is no step's.
    fn save_and_measure(&mut self) -> Result<(), RunError> {
        let begun = Instant::now();
        if self.context.run.saves_after(self.reached.step) {
            self.save()?;
        }
        let epoch = self.context.run.ends_epoch(self.reached.step);
        if epoch.is_some_and(|epoch| self.measurement.is_due(self.reached.step, epoch)) {
            self.measure()?;
        }
        self.aside += begun.elapsed();
        self.window.leave_out(begun.elapsed());
        self.progress.leave_out(begun.elapsed());
        Ok(())
    }

    /// Writes a checkpoint of where the run is, without a metric.
    fn save(&mut self) -> Result<(), RunError> {
        self.log.sync()?;
        let (reached, context) = (self.reached, self.context);
        let layout = self.trainer.layout().clone();
        let state = self.trainer.state()?;
        let Replaced { bad_samples, substituted } = self.stream.replaced();
        let replaced = [(BAD_SAMPLES, bad_samples), (SUBSTITUTED, substituted)];
        let mut counters = self.trouble.counters();
        counters.extend(replaced.map(|(name, count)| (name.to_owned(), count as f64)));
        counters.extend(self.window.counters());
        let saving = checkpoint::RunState {
            step: reached.step,
            updates: state.updates,
            epoch: reached.step / context.run.steps_per_epoch,
            position: reached.position,
            seed: context.seed,
            model: context.model.to_owned(),
            recipe: context.recipe_hash.clone(),
            metric: None,
            counters,
        };
        let saved = self.store.save(&Snapshot {
            layout: &layout,
            weights: &state.parameters,
            moments: Some((&state.m, &state.v)),
            ema: state.average.as_deref(),
            state: &saving,
            usage: Some(&context.usage),
        })?;
        tell::detail(format_args!("saved {}", saved.path.display()));
        self.saved = Some((saved.path, reached));
        context.dir.keep_spent(&self.clock.spent());
        Ok(())
    }

    /// Measures what is trained, and adds the metric to the checkpoint.
    fn measure(&mut self) -> Result<(), RunError> {
        let (step, run) = (self.reached.step, self.context.run);
        let epoch = run.ends_epoch(step).expect("measurements are made at the end of epochs");
        if (self.context.asked)() {
            return self.stop();
        }
        let records = match self.measurement.records(self.trainer, step, epoch) {
            Ok(records) => records,
            Err(ModelError::Stopped) => return self.stop(),
            Err(ModelError::NotFinite { image, what }) => {
                let what = format!("{image}: {what}");
                self.progress.say(&format!("warning: epoch {epoch}: the measurement has no result: {what}"));
                self.not_finite = Some(what);
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        for record in &records {
            self.record_measurement(epoch, record)?;
            self.patience.add(record);
        }
        let Some(last) = records.last() else { return Ok(()) };
        (self.measured, self.not_finite) = (Some(last.clone()), None);
        let ends = self.patience.ended();
        if ends.is_some() && self.saved.as_ref().is_none_or(|(_, saved)| *saved != self.reached) {
            self.save()?;
        }
        let decides = self.measurement.metrics().first().and_then(|kind| last.metrics.get(kind.name));
        let saved = self.saved.as_ref().filter(|_| ends.is_some() || run.saves_after(step));
        if let (Some((path, _)), Some(metric)) = (saved, decides) {
            self.log.sync()?;
            self.store.record_metric(path, metric.value, metric.better)?;
        }
        Ok(())
    }

    fn record_measurement(&mut self, epoch: u64, record: &EvaluateRecord) -> Result<(), RunError> {
        let said = record.metrics.describe(self.measurement.metrics(), "  ");
        self.progress.say(&format!("epoch {epoch}: {said}  ({} weights)", record.weights.name()));
        self.log.append(&Line::Evaluate(record.clone()))?;
        let tags: Vec<(String, f64)> =
            record.metrics.iter().map(|metric| (format!("val/{}", metric.name), metric.value)).collect();
        let values: Vec<(&str, f64)> = tags.iter().map(|(tag, value)| (tag.as_str(), *value)).collect();
        Ok(self.log.scalars(record.step, &values)?)
    }

    /// Ends the run where it stands, for a signal: what is not saved is saved.
    fn stop(&mut self) -> Result<(), RunError> {
        self.collect(0)?;
        let reached = self.reached;
        if reached != Reached::default() && self.saved.as_ref().is_none_or(|(_, saved)| *saved != reached) {
            self.save()?;
        }
        Err(RunError::Interrupted { step: reached.step, newest: self.newest() })
    }

    fn newest(&self) -> Option<PathBuf> {
        self.saved.as_ref().map(|(path, _)| path.clone())
    }

    /// What the run did, if what it ended with is of use.
    fn finish(self) -> Result<RunRecord, RunError> {
        let (context, newest) = (self.context, self.newest());
        if let Some(what) = self.not_finite {
            return Err(RunError::EndsNotFinite { what, newest });
        }
        let measured = self.measured.as_ref().is_some_and(|record| record.step == self.reached.step);
        if let Some(what) = self.skipped.filter(|_| self.trouble.ends_badly() && !measured) {
            let (step, steps) = (self.reached.step - 1, self.trouble.in_a_row());
            return Err(RunError::SkippedInVain { step, steps, what, newest });
        }
        let (spent, replaced) = (self.clock.spent(), self.stream.replaced());
        let training = self.begun.elapsed().saturating_sub(self.aside);
        if let Some(why) = self.stream.busy().bottleneck(training.as_secs_f64()) {
            tell::say(why);
        }
        Ok(RunRecord {
            kind: context.name.to_owned(),
            model: context.model.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            parameters: self.trainer.layout().len() as u64,
            multiply_adds: context.multiply_adds,
            seconds: spent.seconds,
            cpu_seconds: spent.cpu_seconds,
            images: self.reached.step * context.run.images_per_step,
            threads: rayon::current_num_threads(),
            machine: context.device.machine(),
            started: spent.started.unwrap_or_default(),
            bad_samples: replaced.bad_samples,
            substituted: replaced.substituted,
            evaluation: self.measured,
            best: None,
            start: Some(context.start.clone()),
            stopped: self.patience.ended().filter(|_| self.reached.step < context.run.steps()),
        })
    }
}

impl Reached {
    fn of(state: &checkpoint::RunState) -> Self {
        Self { step: state.step, position: state.position }
    }
}

/// Batches from where the run is; up to there so much was replaced as the checkpoint says.
fn open(source: &Source<'_>, reached: Reached, state: &checkpoint::RunState) -> Result<Stream, RunError> {
    let counter = |name: &str| state.counters.get(name).map_or(0, |&count| count as u64);
    let replaced = Replaced { bad_samples: counter(BAD_SAMPLES), substituted: counter(SUBSTITUTED) };
    let left = source.run.steps().saturating_sub(reached.step) * source.run.images_per_step;
    source.stream(reached.position, reached.position + left, replaced)
}

/// Loads the newest checkpoint that verifies, if there is one; says aloud which ones do not.
fn restore(trainer: &mut dyn Trainer, store: &Store) -> Result<Option<(PathBuf, checkpoint::RunState)>, RunError> {
    let Some(loaded) = store.load_newest(trainer.layout())? else { return Ok(None) };
    tasks::warn_of(&loaded.skipped);
    let (path, state) = (loaded.path.clone(), loaded.state.clone());
    trainer.restore(State::of(loaded, trainer.averages())?)?;
    Ok(Some((path, state)))
}

/// Says and records what of the recipe changed with this process.
fn tell_changes(dir: &RunDir, log: &mut MetricsLog, step: u64) -> Result<(), RunError> {
    for change in dir.changes() {
        tell::say(format_args!("goes on with {change}"));
        let (key, now, was) = (change.key.clone(), change.now.clone(), change.was.clone());
        log.append(&Line::Change(ChangeRecord { step, key, now, was }))?;
    }
    Ok(())
}

fn write_train(log: &mut MetricsLog, record: &TrainRecord) -> Result<(), RunError> {
    log.append(&Line::Train(record.clone()))?;
    let values = [
        ("train/loss", record.loss),
        ("train/learning_rate", record.lr),
        ("train/gradient_norm", record.gradient_norm),
        ("train/images_per_second", record.images_per_second),
    ];
    Ok(log.scalars(record.step, &values)?)
}

#[cfg(test)]
mod tests;
