//! The ways to give the first convolution another number of input channels, by name.

use std::{fmt, str::FromStr};

use thiserror::Error;

/// How the first convolution is given another number of input channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdaptChannels {
    /// Summed, to one channel.
    Sum,
    /// Repeated in order and scaled by old / new, to several channels.
    Repeat,
}

/// A word that names no way to adapt channels.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("no way `{0}` to adapt channels; known: sum, repeat")]
pub struct ParseAdaptError(String);

impl FromStr for AdaptChannels {
    type Err = ParseAdaptError;

    fn from_str(word: &str) -> Result<Self, ParseAdaptError> {
        match word {
            "sum" => Ok(Self::Sum),
            "repeat" => Ok(Self::Repeat),
            _ => Err(ParseAdaptError(word.to_owned())),
        }
    }
}

impl fmt::Display for AdaptChannels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Sum => "sum",
            Self::Repeat => "repeat",
        })
    }
}

impl AdaptChannels {
    /// The one that leads to `channels`.
    pub(super) fn to(channels: usize) -> Self {
        if channels == 1 { Self::Sum } else { Self::Repeat }
    }
}
