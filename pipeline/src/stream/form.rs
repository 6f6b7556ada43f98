//! What flows between two stages: said by every stage before anything runs.

use std::fmt;

/// The form of a sample at one point of the pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A number in a set.
    Stored,
    /// The bytes of a file.
    Encoded,
    /// Bytes `[H, W, C]` of any height and width.
    Image {
        /// Channels.
        channels: usize,
    },
    /// Bytes `[H, W, C]` of one size.
    Sized {
        /// Rows.
        height: usize,
        /// Pixels in a row.
        width: usize,
        /// Channels.
        channels: usize,
    },
    /// Floats `[H, W, C]`, normalised.
    Pixels {
        /// Rows.
        height: usize,
        /// Pixels in a row.
        width: usize,
        /// Channels.
        channels: usize,
    },
    /// Bytes or floats `[H, W, C]` with a mask `[L]`.
    Masked {
        /// Whether they are floats.
        normalised: bool,
        /// Rows.
        height: usize,
        /// Pixels in a row.
        width: usize,
        /// Channels.
        channels: usize,
        /// Patches `L` of the mask.
        patches: usize,
    },
}

impl Form {
    /// Whether the pixels are floats.
    pub fn normalised(self) -> bool {
        matches!(self, Self::Pixels { .. } | Self::Masked { normalised: true, .. })
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Stored => write!(f, "samples of a set"),
            Self::Encoded => write!(f, "encoded bytes"),
            Self::Image { channels } => write!(f, "images of any size with {channels} channels"),
            Self::Sized { height, width, channels } => write!(f, "images of {height}x{width}x{channels}"),
            Self::Pixels { height, width, channels } => write!(f, "normalised images of {height}x{width}x{channels}"),
            Self::Masked { height, width, channels, patches, .. } => {
                write!(f, "images of {height}x{width}x{channels} with masks of {patches} patches")
            }
        }
    }
}

/// Two stages that do not fit: found before anything runs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the pipeline does not fit together: `{stage}` takes {takes}, but gets {gets}")]
pub struct Mismatch {
    /// The stage that refuses its input.
    pub stage: &'static str,
    /// What it takes.
    pub takes: String,
    /// What the stage before it, or the shards, would give it.
    pub gets: Form,
}
