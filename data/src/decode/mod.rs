//! Bytes to pixels.
//!
//! * What an image is, its first bytes say, never its name: ImageNet has a PNG called `.JPEG`.
//! * JPEG by zune-jpeg (baseline, progressive, CMYK and YCCK converted), PNG by png (every bit depth, palettes,
//!   interlacing; of an animation the first frame), binary PGM and PPM by a small parser of ours.
//! * The number of pixels is checked before anything of that size is allocated.
//! * EXIF orientation is ignored, as it is by the loaders published results were made with; so are colour profiles.
//! * Grey becomes RGB by repetition, RGB becomes grey by the luma of BT.601, transparency is composited on white unless
//!   four channels are wanted.
//! * A JPEG that stops before its end is an error. One that is damaged inside and still ends is decoded as far as it
//!   goes, as libjpeg does; against damage after packing there are checksums.
//! * A decoder that panics is a bad sample, not a dead run.

mod convert;
mod jpeg;
mod png;
mod pnm;

use std::panic::{AssertUnwindSafe, catch_unwind};

pub(crate) use convert::luma;
pub use pnm::raw_view;

use crate::image::Image;

/// Names the decoders and their versions. Decoders differ by one in some pixels, so this belongs in the fingerprint of
/// a run. A test holds it equal to the versions that were built.
pub const DECODER: &str = "zune-jpeg 0.5.15, png 0.18.1, pnm 1";

/// Colour channels of a decoded image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Channels {
    /// One: luma.
    Grey,
    /// Three: red, green, blue.
    #[default]
    Rgb,
    /// Four: red, green, blue, and opacity (not multiplied in).
    Rgba,
}

impl Channels {
    /// 1, 3 or 4.
    pub fn count(self) -> usize {
        match self {
            Self::Grey => 1,
            Self::Rgb => 3,
            Self::Rgba => 4,
        }
    }

    /// The channels that are `count`, for 1, 3 and 4.
    pub fn of_count(count: usize) -> Option<Self> {
        [Self::Grey, Self::Rgb, Self::Rgba].into_iter().find(|channels| channels.count() == count)
    }
}

/// The formats that can be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// JPEG.
    Jpeg,
    /// PNG.
    Png,
    /// Binary PGM (`P5`) or PPM (`P6`), 8 bits.
    Pnm,
}

impl Format {
    /// By the first bytes.
    pub fn sniff(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [0xFF, 0xD8, 0xFF, ..] => Some(Self::Jpeg),
            [0x89, b'P', b'N', b'G', ..] => Some(Self::Png),
            [b'P', b'5' | b'6', ..] => Some(Self::Pnm),
            _ => None,
        }
    }
}

/// What the header of an image says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Info {
    /// Its format.
    pub format: Format,
    /// Rows.
    pub height: usize,
    /// Pixels in a row.
    pub width: usize,
    /// The fewest channels that lose nothing: 1, 3 or 4.
    pub channels: Channels,
}

/// Turns bytes into pixels. Keeps its buffers: make one per thread.
#[derive(Clone, Debug)]
pub struct Decoder {
    channels: Channels,
    max_pixels: usize,
    scratch: Vec<u8>,
}

impl Decoder {
    /// Pixels an image may have where nothing else is said: 67 million, 200 MB of RGB.
    pub const MAX_PIXELS: usize = 1 << 26;

    /// A decoder to images of `channels`.
    pub fn new(channels: Channels) -> Self {
        Self { channels, max_pixels: Self::MAX_PIXELS, scratch: Vec::new() }
    }

    /// With another limit on height * width.
    pub fn with_max_pixels(mut self, max_pixels: usize) -> Self {
        self.max_pixels = max_pixels;
        self
    }

    /// The channels it decodes to.
    pub fn channels(&self) -> Channels {
        self.channels
    }

    /// Decodes to a new image.
    pub fn decode(&mut self, bytes: &[u8]) -> Result<Image, DecodeError> {
        let mut image = Image::default();
        self.decode_into(bytes, &mut image)?;
        Ok(image)
    }

    /// Decodes into `image`, reusing its allocation. After an error its content is unspecified.
    pub fn decode_into(&mut self, bytes: &[u8], image: &mut Image) -> Result<(), DecodeError> {
        match sniff(bytes)? {
            Format::Jpeg => guarded("JPEG", || jpeg::decode(self, bytes, image)),
            Format::Png => guarded("PNG", || png::decode(self, bytes, image)),
            Format::Pnm => pnm::decode(self, bytes, image),
        }
    }

    /// Reads the header only.
    pub fn info(&self, bytes: &[u8]) -> Result<Info, DecodeError> {
        match sniff(bytes)? {
            Format::Jpeg => guarded("JPEG", || jpeg::info(self, bytes)),
            Format::Png => guarded("PNG", || png::info(self, bytes)),
            Format::Pnm => pnm::info(self, bytes),
        }
    }

    fn check_size(&self, height: usize, width: usize) -> Result<(), DecodeError> {
        if height == 0 || width == 0 {
            return Err(DecodeError::NoPixels { height, width });
        }
        if height.checked_mul(width).is_none_or(|pixels| pixels > self.max_pixels) {
            return Err(DecodeError::TooLarge { height, width, max_pixels: self.max_pixels });
        }
        Ok(())
    }
}

fn sniff(bytes: &[u8]) -> Result<Format, DecodeError> {
    Format::sniff(bytes)
        .ok_or_else(|| DecodeError::Unknown { len: bytes.len(), first: bytes.iter().take(8).copied().collect() })
}

/// Runs a decoder we did not write; a panic in it becomes an error. Its buffers hold plain bytes, whatever happened.
fn guarded<T>(decoder: &'static str, run: impl FnOnce() -> Result<T, DecodeError>) -> Result<T, DecodeError> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or(Err(DecodeError::Panicked { decoder }))
}

/// Why bytes are no image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The first bytes are of no known format.
    #[error("is no JPEG, PNG, PGM (P5) or PPM (P6): {len} bytes that begin with {first:02x?}")]
    Unknown {
        /// Bytes.
        len: usize,
        /// The first eight of them.
        first: Vec<u8>,
    },
    /// No height or no width.
    #[error("has no pixels ({height}x{width})")]
    NoPixels {
        /// Rows.
        height: usize,
        /// Pixels in a row.
        width: usize,
    },
    /// More pixels than the limit: perhaps a bomb. Nothing was allocated.
    #[error("has {height}x{width} pixels, more than the limit of {max_pixels}")]
    TooLarge {
        /// Rows.
        height: usize,
        /// Pixels in a row.
        width: usize,
        /// The limit.
        max_pixels: usize,
    },
    /// The bytes stop before the image does.
    #[error("is cut: a {format:?} that stops after {len} bytes")]
    Truncated {
        /// Its format.
        format: Format,
        /// Bytes there are.
        len: usize,
    },
    /// A JPEG that does not follow the standard.
    #[error("is a damaged JPEG: {why}")]
    Jpeg {
        /// What the decoder said.
        why: String,
    },
    /// A JPEG in a colour space that has no agreed conversion.
    #[error("is a JPEG in colour space {space}, which cannot be converted")]
    JpegColour {
        /// The colour space.
        space: String,
    },
    /// A PNG that does not follow the standard.
    #[error("is a damaged PNG: {why}")]
    Png {
        /// What the decoder said.
        why: String,
    },
    /// A PGM or PPM that is not understood.
    #[error("is no PGM or PPM of 8 bits: {why}")]
    Pnm {
        /// What is wrong.
        why: &'static str,
    },
    /// The decoder itself failed.
    #[error("makes the {decoder} decoder fail; please report this image")]
    Panicked {
        /// Which decoder.
        decoder: &'static str,
    },
}

#[cfg(test)]
mod tests;
