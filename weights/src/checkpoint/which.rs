//! Which weights are meant: one of a run's checkpoints, and of that the average or what is trained.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use crate::pytorch::Section;

/// Which weights are meant. A plain file has only one kind; a checkpoint has values to choose from, a run checkpoints too.
///
/// By default the best checkpoint if there is one, else the last, and of it the average if there is one, else the
/// trained weights. What a path asks for behind its `@` comes before [`checkpoint`](Self::checkpoint).
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
    /// The one with the best validation metric; the last where none has one, as in pre-training.
    #[default]
    BestOrLast,
    /// The one with the best validation metric: `RUN@best`.
    Best,
    /// The one with the highest step: `RUN@last`.
    Last,
    /// The one of a step: `RUN@step-800`.
    Step(u64),
}

impl WhichCheckpoint {
    /// What stands behind the `@`; `None` for other words.
    fn of(word: &str) -> Option<Self> {
        match word {
            "best" => Some(Self::Best),
            "last" => Some(Self::Last),
            _ => {
                let step = word.strip_prefix("step-").filter(|step| step.bytes().all(|byte| byte.is_ascii_digit()))?;
                step.parse().ok().map(Self::Step)
            }
        }
    }
}

/// The path before the `@` in `RUN@best`, `RUN@last` and `RUN@step-800`, and the word behind it. A file or a folder that has
/// the whole name is meant itself.
pub fn named(path: &Path) -> (PathBuf, Option<Named<'_>>) {
    let split = path.to_str().filter(|_| path.symlink_metadata().is_err()).and_then(|text| text.rsplit_once('@'));
    match split {
        Some((before, word)) if !before.is_empty() && Path::new(before).exists() => {
            (PathBuf::from(before), Some(Named { word, checkpoint: WhichCheckpoint::of(word) }))
        }
        _ => (path.to_owned(), None),
    }
}

/// What stands behind the `@` of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Named<'a> {
    /// As it was written.
    pub word: &'a str,
    /// What it means; `None` for a word that means none.
    pub checkpoint: Option<WhichCheckpoint>,
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
    /// The last of several.
    Last {
        /// Its step.
        step: u64,
    },
    /// The best of several.
    Best {
        /// Its step.
        step: u64,
        /// Its first validation metric.
        metric: f64,
    },
}

impl Origin {
    /// The checkpoint's step; `None` of a plain file.
    pub fn step(self) -> Option<u64> {
        match self {
            Self::File => None,
            Self::Checkpoint { step } | Self::Last { step } | Self::Best { step, .. } => Some(step),
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
            Origin::Last { step } => write!(f, "{values} of step {step}, the last checkpoint"),
            Origin::Best { step, metric } => {
                write!(f, "{values} of step {step}, the best checkpoint ({metric:.4} in validation)")
            }
        }
    }
}
