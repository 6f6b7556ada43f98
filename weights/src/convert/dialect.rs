//! The layouts that are known, by name.

use std::{fmt, str::FromStr};

use convnext_core::optim::Layout;
use thiserror::Error;

use super::{hf, mmpretrain, official, sparse, table::Naming, timm};

/// A way to name tensors and to order their axes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// This crate's: the names and shapes of a model's own [`Layout`].
    Ours,
    /// The official code's, dense.
    Official,
    /// The official pre-training files': sparse convolutions in the encoder. Autoencoders and their encoders only.
    Sparse,
    /// timm's. Classifiers and encoders only.
    Timm,
    /// Hugging Face transformers'. Classifiers and encoders only.
    HuggingFace,
    /// mmpretrain's. Classifiers and encoders only.
    MmPretrain,
}

/// A name that no layout has.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("no layout `{name}`; known: {}", Dialect::names())]
pub struct ParseDialectError {
    name: String,
}

impl Dialect {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Ours, Self::Official, Self::Sparse, Self::Timm, Self::HuggingFace, Self::MmPretrain];

    /// Name, as the command line takes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Official => "official",
            Self::Sparse => "sparse",
            Self::Timm => "timm",
            Self::HuggingFace => "hf",
            Self::MmPretrain => "mmpretrain",
        }
    }

    pub(super) fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }

    /// Its tables for a model of `layout`, one for each kind that it has names for. `None` where names are ours.
    pub(super) fn namings(self, layout: &Layout) -> &'static [Option<&'static Naming>] {
        match self {
            Self::Ours => const { &[None] },
            Self::Official => const { &[Some(&official::CLASSIFIER), Some(&official::PRETRAINING)] },
            Self::Sparse => const { &[Some(&sparse::PRETRAINING)] },
            Self::Timm if timm::is_small(layout) => const { &[Some(&timm::SMALL_CLASSIFIER), Some(&timm::FEATURES)] },
            Self::Timm => const { &[Some(&timm::CLASSIFIER), Some(&timm::FEATURES)] },
            Self::HuggingFace => const { &[Some(&hf::CLASSIFIER), Some(&hf::CLASSIFIER_V1), Some(&hf::ENCODER_ALONE)] },
            Self::MmPretrain => const { &[Some(&mmpretrain::CLASSIFIER)] },
        }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Dialect {
    type Err = ParseDialectError;

    fn from_str(name: &str) -> Result<Self, ParseDialectError> {
        let found = Self::ALL.into_iter().find(|dialect| dialect.name() == name);
        found.ok_or_else(|| ParseDialectError { name: name.to_owned() })
    }
}
