//! A run directory, read.

use std::path::{Component, Path, PathBuf};

use super::ReportError;
use crate::records::{self, Evaluation, Metrics, RunKind, RunRecord, Weights};

/// Everything that a report says about one run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Run {
    /// Name of its directory.
    pub name: String,
    /// `run.json`.
    pub record: Option<RunRecord>,
    /// `recipe.toml`, as written.
    pub recipe: Option<String>,
    /// `metrics.jsonl`; empty if absent.
    pub metrics: Metrics,
    /// `evaluation.json`.
    pub evaluation: Option<Evaluation>,
    /// `pictures/reconstruction.png`, encoded.
    pub reconstruction: Option<Vec<u8>>,
    /// Pictures of the evaluation's mistakes, encoded; `None` where one is absent.
    pub mistakes: Vec<Option<Vec<u8>>>,
}

/// Mistakes that a page shows.
pub(super) const MISTAKES: usize = 36;

impl Run {
    /// Reads a run directory; only files that do not exist are left out.
    ///
    /// # Errors
    /// A file cannot be read or parsed, or the directory has none of a run's files.
    pub fn read(directory: &Path) -> Result<Self, ReportError> {
        let text = |name| -> Result<_, ReportError> {
            Ok(records::read(&directory.join(name))?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
        };
        let metrics = text(records::METRICS)?;
        let evaluation: Option<Evaluation> = records::read_json(&directory.join(records::EVALUATION))?;
        let run = Self {
            name: name(directory),
            record: records::read_json(&directory.join(records::RUN))?,
            recipe: text(records::RECIPE)?,
            reconstruction: records::read(&directory.join(records::RECONSTRUCTION))?,
            mistakes: mistakes(directory, evaluation.as_ref())?,
            metrics: metrics.as_deref().map(Metrics::parse).unwrap_or_default(),
            evaluation,
        };
        let found =
            metrics.is_some() || run.record.is_some() || run.evaluation.is_some() || run.reconstruction.is_some();
        if found { Ok(run) } else { Err(ReportError::NotARun(directory.to_owned())) }
    }

    /// What the run did: as recorded, or else as its files suggest.
    pub(super) fn kind(&self) -> RunKind {
        match &self.record {
            Some(record) => record.kind,
            None if self.metrics.is_empty() && self.evaluation.is_some() => RunKind::Evaluate,
            None if self.evaluation.is_some() || !self.metrics.evaluate.is_empty() => RunKind::Finetune,
            None => RunKind::Pretrain,
        }
    }

    /// Passes over the data, if it trained.
    pub(super) fn epochs(&self) -> Option<f64> {
        self.metrics.train.last().map(|record| record.epoch)
    }

    /// The last training loss.
    pub(super) fn train_loss(&self) -> Option<f64> {
        self.metrics.train.last().map(|record| record.loss)
    }

    /// Loss, top-1 and top-5 of the evaluation, or else of the last measurement while training.
    pub(super) fn measured(&self) -> Option<Measured> {
        let of_evaluation = |e: &Evaluation| Measured { loss: e.loss, top1: e.top1, top5: e.top5, weights: e.weights };
        let last = self.metrics.evaluate.last();
        let of_last = last.map(|e| Measured { loss: e.loss, top1: e.top1, top5: e.top5, weights: e.weights });
        self.evaluation.as_ref().map(of_evaluation).or(of_last)
    }

    /// Wall-clock time, in seconds.
    pub(super) fn seconds(&self) -> Option<f64> {
        let elapsed = || self.metrics.train.last().map(|record| record.elapsed_seconds);
        self.record.as_ref().map(|record| record.seconds).or_else(elapsed)
    }
}

/// What a table says of a classifier.
pub(super) struct Measured {
    pub(super) loss: f64,
    pub(super) top1: f64,
    pub(super) top5: f64,
    pub(super) weights: Weights,
}

/// `runs/a/` and `.` have names too.
fn name(directory: &Path) -> String {
    let absolute = directory.canonicalize().unwrap_or_else(|_| directory.to_owned());
    absolute.file_name().map_or_else(|| "run".to_owned(), |name| name.to_string_lossy().into_owned())
}

fn mistakes(directory: &Path, evaluation: Option<&Evaluation>) -> Result<Vec<Option<Vec<u8>>>, ReportError> {
    let shown = evaluation.into_iter().flat_map(|evaluation| &evaluation.mistakes).take(MISTAKES);
    let read = |path: PathBuf| Ok(records::read(&path)?);
    shown
        .map(|mistake| mistake.picture.as_deref().and_then(|picture| inside(directory, picture)).map(read).transpose())
        .map(|picture| picture.map(Option::flatten))
        .collect()
}

/// The path of a picture, if it lies inside the directory: a page must not carry other files of the machine out.
fn inside(directory: &Path, picture: &str) -> Option<PathBuf> {
    let plain = Path::new(picture).components().all(|part| matches!(part, Component::Normal(_)));
    let path = directory.join(picture);
    let links_out =
        || path.canonicalize().is_ok_and(|real| !real.starts_with(directory.canonicalize().unwrap_or_default()));
    (plain && !picture.is_empty() && !links_out()).then(|| path.clone())
}
