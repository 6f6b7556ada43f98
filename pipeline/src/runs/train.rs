//! The training loop, which pre-training and fine-tuning share.
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

use std::{collections::VecDeque, path::PathBuf, sync::Arc, time::Instant};

use convnext_core::plan::Plan;
use convnext_data::ShardSet;
use convnext_weights::checkpoint::{RunState as Standing, Snapshot, Store, Usage};

use trouble::Trouble;
use window::Window;

use super::{RunError, clock::Clock, warn_of};
use crate::{
    device::Device,
    input::{Course, Input},
    progress::Progress,
    recipe::{NonFinitePolicy, Resolved, Run},
    records::{ChangeRecord, EvaluateRecord, Line, MetricKind, RunKind, RunRecord, TrainRecord},
    run_dir::{MetricsLog, RunDir, Spent},
    stream::{Batch, Replaced, Stream},
    tell,
    trainer::{Aim, Outcome, State, Trainer},
};

/// Records of progress in an epoch.
const RECORDS_PER_EPOCH: u64 = 20;

/// Names of what a checkpoint counts of its samples.
const BAD_SAMPLES: &str = "bad_samples";
const SUBSTITUTED: &str = "substituted";

/// What differs between one kind of training and another.
pub(crate) trait Task {
    /// What a batch is trained for.
    fn aim(&self, batch: &Batch) -> Result<Aim, RunError>;

    /// What it is measured by; the first decides which checkpoint is the best.
    fn metrics(&self) -> &'static [MetricKind];

    /// Whether what is trained is measured after `step` steps, at the end of epoch `epoch`.
    fn measures(&self, step: u64, epoch: u64) -> bool;

    /// Measures what is trained after an epoch: one record for each set of weights, the one that counts last.
    ///
    /// # Errors
    /// [`RunError::Stopped`] and [`RunError::NonFiniteLogit`] are the measurement's alone: the loop goes on
    /// from them.
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
    /// How the model is to be used: checkpoints say so.
    pub(crate) usage: Usage,
    /// Whether the run is asked to stop.
    pub(crate) asked: &'a dyn Fn() -> bool,
}

/// How far a run is.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Place {
    step: u64,
    position: u64,
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
    fn of(place: Place) -> Self {
        Self { step: place.step, position: place.position, steps: VecDeque::new() }
    }
}

/// A run under way.
struct Training<'a> {
    task: &'a dyn Task,
    trainer: &'a mut dyn Trainer,
    source: &'a Source<'a>,
    setting: &'a Setting<'a>,
    store: Store,
    place: Place,
    /// The newest checkpoint, and the place that it holds.
    saved: Option<(PathBuf, Place)>,
    trouble: Trouble,
    ahead: Ahead,
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

    // ---- start or resume -------------------------------------------------------------------------------------------
    let (mut training, measured) = Training::begin(task, trainer, source, setting)?;
    if !measured {
        training.measure()?;
    }

    // ---- steps -----------------------------------------------------------------------------------------------------
    while training.place.step < run.steps() {
        if (setting.asked)() {
            training.stop()?;
        }
        training.submit()?;
        let ends = run.ends_epoch(training.ahead.step).is_some();
        let looks = ends || run.saves_after(training.ahead.step);
        let in_flight = if looks { 0 } else { training.trainer.lag() };
        if training.collect(in_flight)? && looks {
            training.look()?;
        }
    }
    training.finish()
}

impl<'a> Training<'a> {
    /// Opens everything, and goes on from the newest checkpoint if the run is resumed. Says whether what is to be measured
    /// there has been.
    fn begin(
        task: &'a dyn Task,
        trainer: &'a mut dyn Trainer,
        source: &'a Source<'a>,
        setting: &'a Setting<'a>,
    ) -> Result<(Self, bool), RunError> {
        let clock = Clock::start(if setting.resume { setting.dir.spent()? } else { Spent::default() });
        let store = setting.dir.checkpoints(setting.run.keep)?;
        let resumed = if setting.resume { restore(trainer, &store)? } else { None };
        let (saved, state) = match resumed {
            Some((path, state)) => {
                tell::say(format_args!("going on from {}", path.display()));
                (Some((path, Place::of(&state))), state)
            }
            None => {
                if setting.resume {
                    tell::say("the run has no checkpoint yet: it goes on from its start");
                }
                (None, Standing::default())
            }
        };
        let place = Place::of(&state);
        let mut log = setting.dir.metrics(place.step)?;
        let epoch = setting.run.ends_epoch(place.step);
        let measured = state.metric.is_some() || !epoch.is_some_and(|epoch| task.measures(place.step, epoch));
        if !measured {
            log.go_back(place.step, false)?;
        }
        tell_changes(setting.dir, &mut log, place.step)?;
        let stream = open(source, place, &state)?;
        let training = Self {
            task,
            trainer,
            source,
            setting,
            store,
            place,
            saved,
            trouble: Trouble::of(&state.counters),
            ahead: Ahead::of(place),
            stream,
            log,
            progress: Progress::new(setting.kind.name(), place.step, setting.run.steps()),
            window: Window::of(&state.counters),
            clock,
            measured: None,
            not_finite: None,
            skipped: None,
        };
        Ok((training, measured))
    }

    /// Puts the next step on its way.
    fn submit(&mut self) -> Result<(), RunError> {
        let run = self.setting.run;
        let lr = run.schedule.lr(self.ahead.step);
        for _ in 0..run.accumulation {
            let mut batch = self.stream.next().ok_or(RunError::Starved(self.ahead.step))??;
            let aim = self.task.aim(&batch)?;
            self.trainer.submit(&mut batch, aim, lr)?;
            self.ahead.position += batch.samples as u64;
            self.stream.recycle(batch);
        }
        self.ahead.step += 1;
        self.ahead.steps.push_back((lr, self.ahead.position));
        Ok(())
    }

    /// Records what became of steps, until no more than `in_flight` are left; says whether the run did not go back.
    fn collect(&mut self, in_flight: usize) -> Result<bool, RunError> {
        while let Some(outcome) = self.trainer.collect(in_flight)? {
            let (lr, position) = self.ahead.steps.pop_front().expect("a step that was submitted");
            self.place.position = position;
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
            self.place.step += 1;
            self.record_step(loss, lr, norm)?;
        }
        Ok(true)
    }

    fn record_step(&mut self, loss: f64, lr: f64, norm: f64) -> Result<(), RunError> {
        let run = self.setting.run;
        let (step, waited) = (self.place.step, self.stream.waited());
        self.window.add(loss);
        self.progress.show(self.window.now(step, run.images_per_step, waited));
        let every = (run.steps_per_epoch / RECORDS_PER_EPOCH).max(1);
        if step.is_multiple_of(every) || step == run.steps() {
            let record = self.window.record(step, run, lr, norm, waited, self.clock.spent().seconds);
            write_train(&mut self.log, &record)?;
        }
        Ok(())
    }

    /// Follows the policy for a step that is not finite; says whether the run went back to a checkpoint.
    fn handle(&mut self, what: String) -> Result<bool, RunError> {
        let (step, run) = (self.place.step, self.setting.run);
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
            return Err(RunError::NothingToRollBackTo { step: self.place.step, what });
        };
        self.progress.say(&format!("going back to {}", path.display()));
        self.saved = Some((path, Place::of(&state)));
        self.place.step = state.step;
        self.log.go_back(state.step, true)?;
        self.stream = open(self.source, self.place, &state)?;
        self.ahead = Ahead::of(self.place);
        self.window = Window::of(&state.counters);
        Ok(())
    }

    /// The checkpoint that is due and the measurement, whose time is no step's.
    fn look(&mut self) -> Result<(), RunError> {
        let looking = Instant::now();
        if self.setting.run.saves_after(self.place.step) {
            self.save()?;
        }
        let epoch = self.setting.run.ends_epoch(self.place.step);
        if epoch.is_some_and(|epoch| self.task.measures(self.place.step, epoch)) {
            self.measure()?;
        }
        self.window.leave_out(looking.elapsed());
        self.progress.leave_out(looking.elapsed());
        Ok(())
    }

    /// Writes a checkpoint of this place, without a metric.
    fn save(&mut self) -> Result<(), RunError> {
        self.log.sync()?;
        let (place, setting) = (self.place, self.setting);
        let layout = self.trainer.layout().clone();
        let state = self.trainer.state()?;
        let Replaced { bad_samples, substituted } = self.stream.replaced();
        let replaced = [(BAD_SAMPLES, bad_samples), (SUBSTITUTED, substituted)];
        let mut counters = self.trouble.counters();
        counters.extend(replaced.map(|(name, count)| (name.to_owned(), count as f64)));
        counters.extend(self.window.counters());
        let standing = Standing {
            step: place.step,
            updates: state.updates,
            epoch: place.step / setting.run.steps_per_epoch,
            position: place.position,
            seed: setting.seed,
            model: setting.plan.name.to_owned(),
            recipe: setting.recipe_hash.clone(),
            metric: None,
            counters,
        };
        let saved = self.store.save(&Snapshot {
            layout: &layout,
            weights: &state.parameters,
            moments: Some((&state.m, &state.v)),
            ema: state.average.as_deref(),
            state: &standing,
            usage: Some(&setting.usage),
        })?;
        self.saved = Some((saved.path, place));
        setting.dir.keep_spent(&self.clock.spent());
        Ok(())
    }

    /// Measures what is trained, and adds the metric to the checkpoint.
    fn measure(&mut self) -> Result<(), RunError> {
        let (step, run) = (self.place.step, self.setting.run);
        let epoch = run.ends_epoch(step).expect("measurements are made at the end of epochs");
        if (self.setting.asked)() {
            return self.stop();
        }
        let records = match self.task.evaluate(self.trainer, step, epoch) {
            Ok(records) => records,
            Err(RunError::Stopped) => return self.stop(),
            Err(RunError::NonFiniteLogit { image, class, value }) => {
                let what = format!("{image}: the logit of class {class} is {value}");
                self.progress.say(&format!("warning: epoch {epoch}: the measurement has no result: {what}"));
                self.not_finite = Some(what);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        for record in &records {
            self.record_measurement(epoch, record)?;
        }
        let Some(last) = records.last() else { return Ok(()) };
        (self.measured, self.not_finite) = (Some(last.clone()), None);
        let decides = self.task.metrics().first().and_then(|kind| last.metrics.get(kind.name));
        if let (Some((path, _)), Some(metric)) = (self.saved.as_ref().filter(|_| run.saves_after(step)), decides) {
            self.log.sync()?;
            self.store.record_metric(path, metric.value, metric.better)?;
        }
        Ok(())
    }

    fn record_measurement(&mut self, epoch: u64, record: &EvaluateRecord) -> Result<(), RunError> {
        let said = record.metrics.describe(self.task.metrics(), "  ");
        self.progress.say(&format!("epoch {epoch}: {said}  ({} weights)", record.weights.name()));
        self.log.append(&Line::Evaluate(record.clone()))?;
        let tags: Vec<(String, f64)> =
            record.metrics.iter().map(|metric| (format!("evaluate/{}", metric.name), metric.value)).collect();
        let values: Vec<(&str, f64)> = tags.iter().map(|(tag, value)| (tag.as_str(), *value)).collect();
        Ok(self.log.scalars(record.step, &values)?)
    }

    /// Ends the run where it stands, for a signal: what is not saved is saved.
    fn stop(&mut self) -> Result<(), RunError> {
        self.collect(0)?;
        let place = self.place;
        if place != Place::default() && self.saved.as_ref().is_none_or(|(_, saved)| *saved != place) {
            self.save()?;
        }
        Err(RunError::Interrupted { step: place.step, newest: self.newest() })
    }

    fn newest(&self) -> Option<PathBuf> {
        self.saved.as_ref().map(|(path, _)| path.clone())
    }

    /// What the run did, if what it ended with is of use.
    fn finish(self) -> Result<RunRecord, RunError> {
        let (setting, newest) = (self.setting, self.newest());
        if let Some(what) = self.not_finite {
            return Err(RunError::EndsNotFinite { what, newest });
        }
        let measured = self.measured.as_ref().is_some_and(|record| record.step == self.place.step);
        if let Some(what) = self.skipped.filter(|_| self.trouble.ends_badly() && !measured) {
            let (step, steps) = (self.place.step - 1, self.trouble.in_a_row());
            return Err(RunError::SkippedInVain { step, steps, what, newest });
        }
        let (spent, replaced) = (self.clock.spent(), self.stream.replaced());
        Ok(RunRecord {
            kind: setting.kind,
            model: setting.plan.name.to_owned(),
            parameters: self.trainer.layout().len() as u64,
            multiply_adds: match (setting.kind, setting.plan.autoencoder()) {
                (RunKind::Pretrain, Some(network)) => network.multiply_adds(),
                _ => setting.plan.classifier().multiply_adds(),
            },
            seconds: spent.seconds,
            cpu_seconds: spent.cpu_seconds,
            images: self.place.step * setting.run.images_per_step,
            threads: rayon::current_num_threads(),
            machine: setting.device.machine(),
            started: spent.started.unwrap_or_default(),
            bad_samples: replaced.bad_samples,
            substituted: replaced.substituted,
            evaluation: self.measured,
            best: None,
        })
    }
}

impl Place {
    fn of(state: &Standing) -> Self {
        Self { step: state.step, position: state.position }
    }
}

/// Batches from `place` on; up to there so much was replaced as the checkpoint says.
fn open(source: &Source<'_>, place: Place, state: &Standing) -> Result<Stream, RunError> {
    let counter = |name: &str| state.counters.get(name).map_or(0, |&count| count as u64);
    let replaced = Replaced { bad_samples: counter(BAD_SAMPLES), substituted: counter(SUBSTITUTED) };
    let left = source.run.steps().saturating_sub(place.step) * source.run.images_per_step;
    source.stream(place.position, place.position + left, replaced)
}

/// Loads the newest checkpoint that verifies, if there is one; says aloud which ones do not.
fn restore(trainer: &mut dyn Trainer, store: &Store) -> Result<Option<(PathBuf, Standing)>, RunError> {
    let Some(loaded) = store.load_newest(trainer.layout())? else { return Ok(None) };
    warn_of(&loaded.skipped);
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
    log.append(&Line::Train(*record))?;
    let values = [
        ("train/loss", record.loss),
        ("train/lr", record.lr),
        ("train/gradient_norm", record.gradient_norm),
        ("train/images_per_second", record.images_per_second),
    ];
    Ok(log.scalars(record.step, &values)?)
}

#[cfg(test)]
mod tests;
