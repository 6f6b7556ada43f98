//! Which weights are meant: one of a run's checkpoints, and of that the average or what is trained.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use super::{
    Checkpoint, CheckpointError, Skipped, Store,
    manifest::{EMA, MANIFEST},
    tensors::TensorFile,
};
use crate::pytorch::Section;

/// Which weights are meant. A plain file has only one kind; a checkpoint has values to choose from, a run checkpoints too.
///
/// By default the best checkpoint if there is one, else the newest, and of it the average if there is one, else the
/// trained weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Which {
    /// Of a folder of checkpoints.
    pub checkpoint: WhichCheckpoint,
    /// Of a checkpoint.
    pub values: WhichValues,
}

/// Which of a run's checkpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WhichCheckpoint {
    /// The one with the best validation metric; the newest where none has one, as in pre-training.
    #[default]
    Best,
    /// The one with the highest step.
    Newest,
}

/// Which of a checkpoint's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WhichValues {
    /// The moving average if there is one, else those that are trained.
    #[default]
    AverageIfThere,
    /// The moving average; an error if there is none.
    Ema,
    /// Those that are trained.
    Raw,
}

impl WhichValues {
    /// The same choice among the dicts of a `.pt` file.
    pub(super) fn section(self) -> Section<'static> {
        match self {
            Self::AverageIfThere => Section::Best,
            Self::Ema => Section::Average,
            Self::Raw => Section::Trained,
        }
    }
}

impl From<WhichValues> for Which {
    fn from(values: WhichValues) -> Self {
        Self { values, ..Self::default() }
    }
}

/// What was taken: to be said, since a run has more than one answer, and so has a file of PyTorch.
#[derive(Debug, Clone, PartialEq)]
pub struct Taken {
    /// Where from.
    pub from: Origin,
    /// Whether it is the moving average, not what was trained.
    pub average: bool,
    /// Of a `.pt` file: which of its dicts, where it has several. Keys, joined by dots.
    pub section: Option<String>,
}

/// Where weights were taken from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Origin {
    /// A plain file.
    File,
    /// The very checkpoint that was asked for.
    Checkpoint {
        /// Its step.
        step: u64,
    },
    /// The newest of several.
    Newest {
        /// Its step.
        step: u64,
    },
    /// The best of several.
    Best {
        /// Its step.
        step: u64,
        /// Its validation metric: the share of images that were told right, 0 to 1.
        metric: f64,
    },
}

impl Origin {
    /// The checkpoint's step; `None` of a plain file.
    pub fn step(self) -> Option<u64> {
        match self {
            Self::File => None,
            Self::Checkpoint { step } | Self::Newest { step } | Self::Best { step, .. } => Some(step),
        }
    }
}

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values = if self.average { "moving average" } else { "trained weights" };
        if let Some(section) = &self.section {
            let values = if self.average { values } else { "weights" };
            return write!(f, "{values} of a file, its `{section}`");
        }
        match self.from {
            Origin::File if self.average => write!(f, "{values}"),
            Origin::File => write!(f, "weights of a file"),
            Origin::Checkpoint { step } => write!(f, "{values} of step {step}"),
            Origin::Newest { step } => write!(f, "{values} of step {step}, the newest checkpoint"),
            Origin::Best { step, metric } => {
                write!(f, "{values} of step {step}, the best checkpoint ({:.2} % in validation)", 100.0 * metric)
            }
        }
    }
}

/// A file of tensors that was looked for.
pub(super) struct Found {
    pub(super) path: PathBuf,
    pub(super) taken: Taken,
    /// Checkpoints that were passed over.
    pub(super) skipped: Vec<Skipped>,
}

/// What a folder of transformers calls its weights, the first that is there being taken.
const TRANSFORMERS: [&str; 4] =
    ["model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"];

/// The file of tensors that `path` means, opened.
pub(super) fn find(path: &Path, which: Which, section: Section<'_>) -> Result<(Found, TensorFile), CheckpointError> {
    if !path.is_dir() {
        return plain(path, section);
    }
    if path.join(MANIFEST).exists() {
        let (checkpoint, file) = Checkpoint::open_values(path, which.values)?;
        let found = Found::new(&checkpoint, file, |step| Origin::Checkpoint { step });
        let file = TensorFile::open(&found.path, section)?;
        return Ok((found, file));
    }
    let inner = path.join("checkpoints");
    let store = Store::reading(if inner.is_dir() { inner } else { path.into() });
    if store.path() == path && store.list()?.is_empty() {
        let files = TRANSFORMERS.iter().map(|name| path.join(name));
        if let Some(file) = files.into_iter().find(|file| file.exists()) {
            return plain(&file, section);
        }
    }
    of_store(&store, which, section)
}

fn plain(path: &Path, section: Section<'_>) -> Result<(Found, TensorFile), CheckpointError> {
    let average = path.file_name().is_some_and(|name| name == EMA);
    let taken = Taken { from: Origin::File, average, section: None };
    Ok((Found { path: path.into(), taken, skipped: Vec::new() }, TensorFile::open(path, section)?))
}

fn of_store(store: &Store, which: Which, section: Section<'_>) -> Result<(Found, TensorFile), CheckpointError> {
    let best = which.checkpoint == WhichCheckpoint::Best;
    let open = |path: &Path| {
        let (checkpoint, file) = Checkpoint::open_values(path, which.values)?;
        let metric = checkpoint.validation().filter(|_| best);
        let origin = |step| metric.map_or(Origin::Newest { step }, |metric| Origin::Best { step, metric });
        let found = Found::new(&checkpoint, file, origin);
        let file = TensorFile::open(&found.path, section)?;
        Ok((found, file))
    };
    let ((found, file), skipped) = match which.checkpoint {
        WhichCheckpoint::Newest => store.first_sound(Store::list, open)?,
        WhichCheckpoint::Best => store.first_sound(Store::list_best_first, open)?,
    };
    Ok((Found { skipped, ..found }, file))
}

impl Found {
    fn new(checkpoint: &Checkpoint, file: &str, origin: impl FnOnce(u64) -> Origin) -> Self {
        let taken = Taken { from: origin(checkpoint.state().step), average: file == EMA, section: None };
        Self { path: checkpoint.path().join(file), taken, skipped: Vec::new() }
    }
}
