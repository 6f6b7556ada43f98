//! Training runs: what is looked at before one starts, its steps, and what it leaves behind.

mod clock;
mod error;
mod patience;
mod steps;
mod train;

use std::{io::BufReader, path::PathBuf};

use convnext_weights::checkpoint::Store;

pub use error::RunError;
pub use train::train;

use patience::Patience;

use crate::{
    fingerprint::Fingerprint,
    inside,
    recipe::{Resolved, Run},
    records::{self, BestRecord, History, Metric, MetricKind, RunRecord},
    run_dir::{self, RunDir, RunDirError},
    tell,
    trainer::ModelError,
};

/// Where a run goes.
#[derive(Debug, Clone)]
pub struct Destination {
    /// The run directory.
    pub out: PathBuf,
    /// Whether to go on with the run that is there.
    pub resume: bool,
    /// A command that is told what the run does, as JSON lines on its standard input; run by a shell.
    pub notify: Option<String>,
}

impl Destination {
    /// The run that is to go on, held to its recipe and its data; `None` for a new one, for which there is room.
    fn reopen(&self, recipe: &Resolved, data: &Fingerprint) -> Result<Option<RunDir>, RunDirError> {
        if self.resume {
            return RunDir::resume(&self.out, recipe, Some(data)).map(Some);
        }
        run_dir::require_free(&self.out)?;
        Ok(None)
    }

    /// The run directory, with recipe and data written: to be called when nothing can be wrong with them any more.
    fn open(&self, reopened: Option<RunDir>, recipe: &Resolved, data: &Fingerprint) -> Result<RunDir, RunDirError> {
        let Some(run) = reopened else { return RunDir::create(&self.out, recipe, Some(data)) };
        run.adopt(recipe, Some(data))?;
        Ok(run)
    }
}

/// Largest file of a run that is read at its end.
const MOST_BYTES: u64 = 1 << 30;

/// The record of the run in `dir`, if it is at its end already.
fn finished(dir: &RunDir, run: &Run, metrics: &[MetricKind]) -> Result<Option<RunRecord>, RunError> {
    let Some(record) = dir.json(records::RUN, MOST_BYTES)? else { return Ok(None) };
    let Ok((checkpoint, _)) = dir.checkpoints(run.keep)?.newest() else { return Ok(None) };
    let step = checkpoint.state().step;
    let why = match step >= run.steps() {
        true => Some(format!("all {} steps are done", run.steps())),
        false => patience(dir, run, metrics, step)?.ended(),
    };
    let Some(why) = why else { return Ok(None) };
    let path = dir.path().display();
    tell::say(format_args!("{path}: the run is finished, {why}; nothing is left to do"));
    Ok(Some(record))
}

/// How long the run in `dir` goes on, from what was measured up to `step`.
fn patience(dir: &RunDir, run: &Run, metrics: &[MetricKind], step: u64) -> Result<Patience, RunError> {
    let so_far = if run.stop.is_some() { history(dir)?.evaluate } else { Vec::new() };
    let mut patience = Patience::new(run.stop, metrics, &so_far);
    patience.forget_after(step);
    Ok(patience)
}

/// What the run in `dir` has recorded.
fn history(dir: &RunDir) -> Result<History, RunError> {
    let path = dir.path().join(records::METRICS);
    let read = inside::open(dir.path(), records::METRICS).and_then(|file| History::read(BufReader::new(file)));
    Ok(read.map_err(|source| ModelError::Read { path, source })?)
}

/// Whether the run in `dir` has a checkpoint to go on from.
fn has_checkpoint(dir: &RunDir, run: &Run) -> Result<bool, RunError> {
    Ok(!dir.checkpoints(run.keep)?.list()?.is_empty())
}

/// Completes the record of a run that has ended with what its directory tells, and writes it there; `metric` names what
/// decides which checkpoint is the best.
fn finish(dir: &RunDir, run: &Run, metric: Option<&str>, mut record: RunRecord) -> Result<RunRecord, RunError> {
    let history = history(dir)?;
    record.evaluation = history.evaluate.last().cloned();
    record.best = best(&dir.checkpoints(run.keep)?, &history, metric)?;
    dir.put_json(records::RUN, &record)?;
    Ok(record)
}

/// The checkpoint with the best measurement, of those that are there; the newer of equals.
fn best(store: &Store, history: &History, metric: Option<&str>) -> Result<Option<BestRecord>, RunError> {
    let Some(metric) = metric else { return Ok(None) };
    let measured = store.list()?.into_iter().filter_map(|path| {
        let name = path.file_name()?.to_str()?;
        let step: u64 = name.strip_prefix("step-")?.split('.').next()?.parse().ok()?;
        let record = history.evaluate.iter().rev().find(|record| record.step == step)?;
        Some((record.metrics.get(metric)?, step, format!("checkpoints/{name}")))
    });
    let better = |next: &Metric, best: &Metric| next.is_better_than(best);
    let best = measured.reduce(|best, next| if better(next.0, best.0) { next } else { best });
    Ok(best.map(|(metric, step, checkpoint)| BestRecord { step, metrics: metric.clone().into(), checkpoint }))
}
