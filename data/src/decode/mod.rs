//! Bytes to pixels.
//!
//! * What an image is, its first bytes say, never its name: ImageNet has a PNG called `.JPEG`.
//! * JPEG by zune-jpeg and jpeg-decoder (baseline and progressive, all samplings and scans, CMYK and YCCK converted), PNG
//!   by png (every bit depth, palettes, interlacing), binary PGM and PPM by a small parser of ours, WebP, GIF, TIFF and
//!   BMP by image. Of several pictures in a file the first is taken; what comes after its end does not matter.
//! * More than four channels come from arrays of NumPy and from TIFFs of several samples or pages.
//! * The number of pixels, and what decoding them will take, is checked before anything of that size is allocated.
//! * EXIF orientation is ignored, as it is by the loaders published results were made with; so are colour profiles.
//! * Grey becomes RGB by repetition, RGB becomes grey by the luma of BT.601, transparency is composited on white unless
//!   four channels are wanted.
//! * A JPEG that stops before its end, or lacks scans, is an error. One that is damaged inside and still ends is decoded
//!   as far as it goes, as libjpeg does; against damage after packing there are checksums.
//! * A decoder that panics is a bad sample, not a dead run.

mod bands;
mod convert;
pub(crate) mod jpeg;
mod others;
mod png;
mod pnm;

use std::panic::{AssertUnwindSafe, catch_unwind};

pub(crate) use convert::luma;

use crate::image::{Excerpt, Image, Window};

/// Names the decoders and their versions. Decoders differ by one in some pixels, so this belongs in the fingerprint of
/// a run. A test holds it equal to the versions that were built.
pub const DECODER: &str = "zune-jpeg 0.5.15, jpeg-decoder 0.3.2, png 0.18.1, image 0.25.10 (image-webp 0.2.4, gif 0.14.2, tiff 0.11.3), pnm 1";

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
    /// Another number, of which nothing is known but the order.
    Bands(u16),
}

impl Channels {
    /// How many.
    pub fn count(self) -> usize {
        match self {
            Self::Grey => 1,
            Self::Rgb => 3,
            Self::Rgba => 4,
            Self::Bands(count) => usize::from(count),
        }
    }

    /// The channels that are `count`; `None` for 0 and for more than 65,535.
    pub fn of_count(count: usize) -> Option<Self> {
        match count {
            0 => None,
            1 => Some(Self::Grey),
            3 => Some(Self::Rgb),
            4 => Some(Self::Rgba),
            other => u16::try_from(other).ok().map(Self::Bands),
        }
    }
}

/// How finely a picture stores its colour, beside its luma.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Chroma {
    /// For each pixel: 4:4:4.
    #[default]
    Full,
    /// For two pixels of a row: 4:2:2.
    HalfWidth,
    /// For four pixels: 4:2:0.
    Quarter,
}

/// Asked which part of a picture is wanted, by its height and width; `None` wants all of it.
pub type Wanted<'a> = &'a dyn Fn(usize, usize) -> Option<Window>;

/// The formats that can be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// JPEG.
    Jpeg,
    /// PNG.
    Png,
    /// Binary PGM (`P5`) or PPM (`P6`), 8 bits.
    Pnm,
    /// WebP, of either compression.
    Webp,
    /// GIF.
    Gif,
    /// TIFF, of 8 or 16 bits.
    Tiff,
    /// BMP.
    Bmp,
    /// An array of NumPy.
    Npy,
}

impl Format {
    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Jpeg => "JPEG",
            Self::Png => "PNG",
            Self::Pnm => "PNM",
            Self::Webp => "WebP",
            Self::Gif => "GIF",
            Self::Tiff => "TIFF",
            Self::Bmp => "BMP",
            Self::Npy => "NumPy array",
        }
    }

    /// By the first bytes.
    pub fn sniff(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [0xFF, 0xD8, 0xFF, ..] => Some(Self::Jpeg),
            [0x89, b'P', b'N', b'G', ..] => Some(Self::Png),
            [b'P', b'5' | b'6', ..] => Some(Self::Pnm),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some(Self::Webp),
            [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some(Self::Gif),
            [0x93, b'N', b'U', b'M', b'P', b'Y', ..] => Some(Self::Npy),
            [b'I', b'I', 42 | 43, 0, ..] | [b'M', b'M', 0, 42 | 43, ..] => Some(Self::Tiff),
            // Two letters are few: the size of the header that follows is looked at too.
            [b'B', b'M', rest @ ..] => match rest.get(12..16)? {
                [12 | 40 | 52 | 56 | 64 | 108 | 124, 0, 0, 0] => Some(Self::Bmp),
                _ => None,
            },
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
    /// The fewest channels that lose nothing. Of a TIFF, those of its first page.
    pub channels: Channels,
}

/// Turns bytes into pixels. Keeps its buffers: make one per thread.
#[derive(Clone, Debug)]
pub struct Decoder {
    channels: Channels,
    max_pixels: usize,
    scratch: Vec<u8>,
    /// A part of an encoded picture.
    part: Vec<u8>,
}

impl Decoder {
    /// Pixels an image may have where nothing else is said: 67 million, 200 MB of RGB.
    pub const MAX_PIXELS: usize = 1 << 26;

    /// Most bytes that are kept for the next image: a huge one is rare, and its room would stay with each thread.
    const KEPT: usize = 64 << 20;

    /// What decoding may take for each pixel that the limit allows.
    const BYTES_PER_PIXEL: usize = 8;

    /// A decoder to images of `channels`.
    pub fn new(channels: Channels) -> Self {
        Self { channels, max_pixels: Self::MAX_PIXELS, scratch: Vec::new(), part: Vec::new() }
    }

    /// With another limit on height * width. Memory is limited with it: decoding may take eight bytes for each of so
    /// many pixels.
    pub fn with_max_pixels(mut self, max_pixels: usize) -> Self {
        self.max_pixels = max_pixels;
        self
    }

    /// The channels it decodes to.
    pub fn channels(&self) -> Channels {
        self.channels
    }

    /// Most pixels of an image.
    pub fn max_pixels(&self) -> usize {
        self.max_pixels
    }

    /// Decodes to a new image.
    pub fn decode(&mut self, bytes: &[u8]) -> Result<Image, DecodeError> {
        let mut image = Image::default();
        self.decode_into(bytes, &mut image)?;
        Ok(image)
    }

    /// Decodes into `image`, reusing its allocation. After an error its content is unspecified.
    pub fn decode_into(&mut self, bytes: &[u8], image: &mut Image) -> Result<(), DecodeError> {
        self.decode_part_into(bytes, &|_, _| None, image).map(drop)
    }

    /// Decodes at least the part that is wanted, and more where less cannot be had: says which part that is, or `None` for all
    /// of the picture. Its pixels are those that decoding all of it gives. Damage outside of it may be passed over.
    pub fn decode_part_into(
        &mut self,
        bytes: &[u8],
        wanted: Wanted<'_>,
        image: &mut Image,
    ) -> Result<Option<Excerpt>, DecodeError> {
        for buffer in [&mut self.scratch, &mut self.part] {
            if buffer.capacity() > Self::KEPT {
                *buffer = Vec::new();
            }
        }
        let format = sniff(bytes)?;
        match (format, self.channels) {
            (Format::Jpeg | Format::Pnm, Channels::Bands(wanted)) => {
                return Err(DecodeError::NoBands { format, wanted });
            }
            (Format::Jpeg, _) => return guarded("JPEG", || jpeg::decode(self, bytes, wanted, image)),
            (Format::Pnm, _) => return pnm::decode(self, bytes, wanted, image),
            (Format::Npy, _) => guarded("NumPy", || bands::npy_decode(self, bytes, image)),
            (Format::Tiff, Channels::Bands(wanted)) => {
                guarded("TIFF", || bands::tiff_decode(self, usize::from(wanted), bytes, image))
            }
            (format, Channels::Bands(wanted)) => Err(DecodeError::NoBands { format, wanted }),
            (Format::Png, _) => guarded("PNG", || png::decode(self, bytes, image)),
            (format, _) => guarded(format.name(), || others::decode(self, format, bytes, image)),
        }?;
        Ok(None)
    }

    /// Decodes a segmentation into `map`, of one channel: the values of a grey PNG, or the numbers in the palette of one
    /// that has a palette, are classes. After an error its content is unspecified.
    ///
    /// # Errors
    /// It is no PNG of one channel and at most 8 bits, or cannot be decoded.
    pub fn decode_classes_into(&mut self, bytes: &[u8], map: &mut Image) -> Result<(), DecodeError> {
        match sniff(bytes)? {
            Format::Png => guarded("PNG", || png::decode_classes(self, bytes, map)),
            format => Err(DecodeError::Segmentation { found: format.name().to_owned() }),
        }
    }

    /// Reads the header only.
    pub fn info(&self, bytes: &[u8]) -> Result<Info, DecodeError> {
        match sniff(bytes)? {
            Format::Jpeg => guarded("JPEG", || jpeg::info(self, bytes)),
            Format::Png => guarded("PNG", || png::info(self, bytes)),
            Format::Pnm => pnm::info(self, bytes),
            Format::Npy => guarded("NumPy", || bands::npy_info(self, bytes)),
            format => guarded(format.name(), || others::info(self, format, bytes)),
        }
    }

    /// How finely `bytes` store colour.
    ///
    /// # Errors
    /// They are no image, or a JPEG without a header.
    pub fn chroma(bytes: &[u8]) -> Result<Chroma, DecodeError> {
        match sniff(bytes)? {
            Format::Jpeg => jpeg::chroma(bytes),
            // The lossy kind of WebP has no other.
            Format::Webp if bytes.get(12..16) == Some(b"VP8 ") => Ok(Chroma::Quarter),
            _ => Ok(Chroma::Full),
        }
    }

    fn max_bytes(&self) -> usize {
        Self::BYTES_PER_PIXEL.saturating_mul(self.max_pixels)
    }

    /// Fails if decoding will take more than the limit.
    fn check_memory(&self, needed: usize) -> Result<(), DecodeError> {
        match self.max_bytes() {
            limit if needed > limit => Err(DecodeError::TooMuchMemory { needed: Some(needed), limit }),
            _ => Ok(()),
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
    #[error(
        "is no JPEG, PNG, WebP, GIF, TIFF, BMP, PGM (P5), PPM (P6) or NumPy array: {len} bytes that begin with {first:02x?}"
    )]
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
    #[error(
        "has {height}x{width} pixels, more than the limit of {max_pixels}; if it is what it should be, raise the limit \
         (`pack --max-pixels`, with `--resize` for training; `data.max_pixels` in a recipe)"
    )]
    TooLarge {
        /// Rows.
        height: usize,
        /// Pixels in a row.
        width: usize,
        /// The limit.
        max_pixels: usize,
    },
    /// Decoding would take more memory than the limit on pixels allows for. Nothing was allocated.
    #[error(
        "takes {} to decode, and {} MB are allowed; if it is what it should be, raise the limit (`pack --max-pixels`, \
         `data.max_pixels` in a recipe), which allows 8 bytes a pixel", megabytes(*.needed, *.limit), limit / 1_000_000
    )]
    TooMuchMemory {
        /// Bytes, where that can be told.
        needed: Option<usize>,
        /// Bytes that are allowed.
        limit: usize,
    },
    /// The bytes stop before the image does.
    #[error("is cut: a {} that stops after {len} bytes", format.name())]
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
    /// A JPEG of a kind that is not supported.
    #[error("is a JPEG with {kind}, which is not supported; write it anew with another program")]
    JpegKind {
        /// What it has.
        kind: String,
    },
    /// A PNG that does not follow the standard.
    #[error("is a damaged PNG: {why}")]
    Png {
        /// What the decoder said.
        why: String,
    },
    /// Pixels that are no classes.
    #[error(
        "is no segmentation: a PNG of one channel (grey, or with a palette) and at most 8 bits is wanted, and this is a {found}"
    )]
    Segmentation {
        /// What it is.
        found: String,
    },
    /// Another number of bands.
    #[error("has {found} bands, and {wanted} channels are wanted")]
    Bands {
        /// Bands there are, as far as they were counted.
        found: usize,
        /// Channels of the model.
        wanted: usize,
    },
    /// A format that has at most four channels.
    #[error("is a {}, and {wanted} channels are wanted; those come from NumPy arrays (`.npy`) or TIFF", format.name())]
    NoBands {
        /// Its format.
        format: Format,
        /// Channels of the model.
        wanted: u16,
    },
    /// A PGM or PPM that is not understood.
    #[error("is no PGM or PPM of 8 bits: {why}")]
    Pnm {
        /// What is wrong.
        why: &'static str,
    },
    /// An image of another format that does not follow it, or has values that cannot be taken.
    #[error("is a {} that cannot be decoded: {why}", format.name())]
    Other {
        /// Its format.
        format: Format,
        /// What the decoder said.
        why: String,
    },
    /// The decoder itself failed.
    #[error("makes the {decoder} decoder fail; please report this image")]
    Panicked {
        /// Which decoder.
        decoder: &'static str,
    },
}

fn megabytes(needed: Option<usize>, limit: usize) -> String {
    needed.map_or_else(
        || format!("more than {} MB", limit / 1_000_000),
        |bytes| format!("{} MB", bytes.div_ceil(1_000_000)),
    )
}

#[cfg(test)]
mod tests;
