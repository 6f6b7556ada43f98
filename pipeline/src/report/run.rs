//! A run directory, read.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::{ReportError, files::Files};
use crate::{
    recipe::Resolved,
    records::{Evaluation, History, MetricKind, Metrics, RunRecord, Weights},
    tasks::{self, Task},
};

/// Everything that a report says about one run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Run {
    /// Name of its directory, with as many of the folders around it as tell it from other runs on the page.
    pub name: String,
    /// Its directory, from the root.
    pub path: PathBuf,
    /// `run.json`.
    pub record: Option<RunRecord>,
    /// `recipe.toml`, as written.
    pub recipe: Option<String>,
    /// `metrics.jsonl`; empty if absent.
    pub history: History,
    /// `evaluation.json`.
    pub evaluation: Option<Evaluation>,
    /// The pictures that tasks [name](tasks::Picture), by file, encoded.
    pub pictures: BTreeMap<&'static str, Vec<u8>>,
    /// Pictures of the evaluation's mistakes, encoded; `None` where one is absent.
    pub mistakes: Vec<Option<Vec<u8>>>,
    /// The first lines of `quarantine.tsv`.
    pub quarantine: Vec<String>,
    /// Whether `quarantine.tsv` has more lines.
    pub has_more_bad_samples: bool,
    /// Files that are left out, and why.
    pub notes: Vec<String>,
}

/// Mistakes that a page shows.
pub(super) const MISTAKES: usize = 36;
/// Bad samples that a page lists.
const BAD_SAMPLES: usize = 10;

impl Run {
    /// Reads a run directory. Files that do not exist are left out, and so are links, pipes, folders and files larger
    /// than a run's, with a note.
    ///
    /// # Errors
    /// `run.json` or `evaluation.json` cannot be parsed, or the directory has none of a run's files.
    pub fn read(given: &Path) -> Result<Self, ReportError> {
        let mut files = Files::of(given);
        let history = files.history();
        let record: Option<RunRecord> = files.record()?;
        let evaluation: Option<Evaluation> = files.evaluation()?;
        let named = tasks::ALL.iter().filter_map(|task| task.picture());
        let pictures: BTreeMap<_, _> =
            named.filter_map(|named| Some((named.file, files.picture(named.file)?))).collect();
        if history.is_none() && record.is_none() && evaluation.is_none() && pictures.is_empty() {
            let notes = files.notes.join("; ");
            return Err(ReportError::NotARun { path: given.to_owned(), notes });
        }
        let (quarantine, has_more_bad_samples) = files.quarantine(BAD_SAMPLES);
        // `runs/a/` and `.` have names too.
        let directory = given.canonicalize().unwrap_or_else(|_| given.to_owned());
        Ok(Self {
            name: name(&directory, 1),
            path: directory,
            recipe: files.recipe(),
            mistakes: mistakes(&mut files, evaluation.as_ref()),
            record,
            history: history.unwrap_or_default(),
            evaluation,
            pictures,
            quarantine,
            has_more_bad_samples,
            notes: files.notes,
        })
    }

    /// What the run did: as recorded, or else as its files suggest. A task's name, or `evaluate`.
    pub(super) fn kind(&self) -> &str {
        match &self.record {
            Some(record) => &record.kind,
            None if self.history.is_empty() && self.evaluation.is_some() => Resolved::EVALUATE,
            None => self.suggested().map_or(Resolved::EVALUATE, Task::name),
        }
    }

    /// The task that the run was trained for, if it was.
    pub(super) fn task(&self) -> Option<&'static dyn Task> {
        tasks::named(self.kind())
    }

    /// The task whose section its recipe has; without a recipe the first that is measured by what the run was.
    fn suggested(&self) -> Option<&'static dyn Task> {
        let recipe: Option<toml::Table> = self.recipe.as_ref().and_then(|recipe| recipe.parse().ok());
        let measured = self.measured().map(|(metrics, _)| metrics);
        let named = |task: &&&dyn Task| recipe.as_ref().is_some_and(|recipe| recipe.contains_key(task.name()));
        let alike = |task: &&&dyn Task| {
            let has = |kind: &MetricKind| measured.is_none_or(|metrics| metrics.get(kind.name).is_some());
            task.metrics().iter().any(has)
        };
        tasks::ALL.iter().find(named).or_else(|| tasks::ALL.iter().find(alike)).copied()
    }

    /// Passes over the data, if it trained.
    pub(super) fn epochs(&self) -> Option<f64> {
        self.history.train.last().map(|record| record.epoch)
    }

    /// Passes over the data that its recipe asks for.
    pub(super) fn planned_epochs(&self) -> Option<f64> {
        let recipe: toml::Table = self.recipe.as_ref()?.parse().ok()?;
        let epochs = recipe.get(self.kind())?.get("epochs")?;
        epochs.as_float().or(epochs.as_integer().map(|epochs| epochs as f64))
    }

    /// Where the recipe says that the images of `set` lie.
    pub(super) fn data(&self, set: &str) -> String {
        let patterns = || {
            let recipe: toml::Table = self.recipe.as_ref()?.parse().ok()?;
            let patterns = recipe.get("data")?.get(set)?;
            let several = patterns.as_array().map(|all| all.iter().filter_map(toml::Value::as_str).collect::<Vec<_>>());
            several.map(|all| all.join(", ")).or_else(|| patterns.as_str().map(str::to_owned))
        };
        patterns().unwrap_or_default()
    }

    /// Whether it came to its end.
    pub fn is_finished(&self) -> bool {
        self.record.is_some()
    }

    /// Whether it trained and has not come to its end: the record is written there.
    pub(super) fn is_unfinished(&self) -> bool {
        self.record.is_none() && !self.history.train.is_empty()
    }

    /// Whether any of its losses or norms is not finite.
    pub(super) fn diverged(&self) -> bool {
        let trained = self.history.train.iter().any(|r| !r.loss.is_finite() || !r.gradient_norm.is_finite());
        trained || self.measured().is_some_and(|(metrics, _)| metrics.iter().any(|metric| !metric.value.is_finite()))
    }

    /// The last training loss.
    pub(super) fn train_loss(&self) -> Option<f64> {
        self.history.train.last().map(|record| record.loss)
    }

    /// The metrics of the evaluation, or else of the last measurement while training, and the weights that were measured.
    pub(super) fn measured(&self) -> Option<(&Metrics, Weights)> {
        let last = self.history.evaluate.last().map(|last| (&last.metrics, last.weights));
        self.evaluation.as_ref().map(|evaluation| (&evaluation.metrics, evaluation.weights)).or(last)
    }

    /// Wall-clock time, in seconds.
    pub(super) fn seconds(&self) -> Option<f64> {
        let elapsed = || self.history.train.last().map(|record| record.elapsed_seconds);
        self.record.as_ref().map(|record| record.seconds).or_else(elapsed)
    }
}

/// Names runs of one name by more of their paths, until they differ or there is no more.
pub(super) fn tell_apart(mut runs: Vec<Run>) -> Vec<Run> {
    let deepest = runs.iter().map(|run| run.path.components().count()).max().unwrap_or(1);
    for parts in 2..=deepest {
        let names: Vec<String> = runs.iter().map(|run| run.name.clone()).collect();
        for run in runs.iter_mut().filter(|run| names.iter().filter(|name| **name == run.name).count() > 1) {
            run.name = name(&run.path, parts);
        }
    }
    runs
}

/// The last `parts` of a path.
fn name(path: &Path, parts: usize) -> String {
    let names = path.iter().skip(1).collect::<Vec<_>>();
    let last: PathBuf = names[names.len().saturating_sub(parts)..].iter().collect();
    if last.as_os_str().is_empty() { "run".to_owned() } else { last.to_string_lossy().into_owned() }
}

/// The pictures of the mistakes that a page shows; a page must not carry other files of the machine out.
fn mistakes(files: &mut Files<'_>, evaluation: Option<&Evaluation>) -> Vec<Option<Vec<u8>>> {
    let shown = evaluation.into_iter().flat_map(|evaluation| &evaluation.mistakes).take(MISTAKES);
    let pictures = shown.map(|mistake| mistake.picture.as_deref().filter(|picture| !picture.is_empty()));
    pictures.map(|picture| files.picture(picture?)).collect()
}
