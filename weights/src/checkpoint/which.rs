//! Which weights are meant: one of a run's checkpoints, and of that the average or what is trained.

use std::fmt;

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
        /// Its first validation metric.
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
                write!(f, "{values} of step {step}, the best checkpoint ({metric:.4} in validation)")
            }
        }
    }
}
