//! What can go wrong with augmentations.

use convnext_pixels::ResampleError;

use crate::target::TargetKind;

/// An augmentation that cannot be: found before anything runs, except where noted.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AugmentError {
    /// A setting is outside its range.
    #[error("{augmentation}: {setting} is {value}, should be {wanted}")]
    Setting {
        /// Which augmentation.
        augmentation: &'static str,
        /// Which setting.
        setting: &'static str,
        /// What it is.
        value: String,
        /// What it may be.
        wanted: &'static str,
    },
    /// A step works on another number of channels.
    #[error("{augmentation} wants {wanted} channels, and gets {found}")]
    Channels {
        /// Which augmentation.
        augmentation: &'static str,
        /// The numbers it works on.
        wanted: &'static str,
        /// What it would get.
        found: usize,
    },
    /// A step moves the pixels of a picture, and cannot move its target with them.
    #[error("{augmentation} moves pixels, and cannot move {target} with them; leave it out")]
    Target {
        /// Which augmentation.
        augmentation: &'static str,
        /// What it would have to move.
        target: TargetKind,
    },
    /// The chain ends with images of any size, and a batch wants one size.
    #[error("the augmentations leave images of any size; end with one that fixes it (a crop, a resize, a pad)")]
    AnySize,
    /// While running: an image with no pixels, or one whose pixels are not as many as it says.
    #[error("an image of {height}x{width}x{channels} with {bytes} bytes cannot be {doing}; decode it again")]
    Image {
        /// Rows.
        height: usize,
        /// Pixels in a row.
        width: usize,
        /// Values of a pixel.
        channels: usize,
        /// Bytes it has.
        bytes: usize,
        /// What was tried.
        doing: &'static str,
    },
}

impl From<ResampleError> for AugmentError {
    fn from(ResampleError { height, width, channels, bytes }: ResampleError) -> Self {
        Self::Image { height, width, channels, bytes, doing: "resampled" }
    }
}
