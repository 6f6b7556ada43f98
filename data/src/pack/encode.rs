//! Encoding images anew, where that is asked for.

use std::path::PathBuf;

use crate::augment::{Filter, Resample, Window};
use crate::decode::{Channels, Chroma, DecodeError, Decoder, Format, Info};
use crate::encode::{self, EncodeError, with_restarts};
use crate::image::{Image, ImageView, ResampleError};
use crate::pack::{Options, PackError};
use crate::shard::Encoding;

/// How packed images are encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recode {
    /// As they are, but for restart markers in JPEGs ([`with_restarts`](crate::encode::with_restarts)); only those that must be
    /// resized are encoded anew: JPEG and WebP as JPEG of this quality, 1 to 100, PNM as PNM, images of other channels than 1, 3
    /// and 4 as NumPy arrays, all others as PNG.
    Keep(u8),
    /// As they are, to the byte; those that must be resized as with [`Recode::Keep`].
    Verbatim(u8),
    /// JPEG of this quality, 1 to 100, with colour as fine as the image's own. Transparency is composited on white.
    Jpeg(u8),
    /// PNG.
    Png,
    /// PGM or PPM: no decoding when read. Transparency is composited on white.
    Raw,
    /// An array of NumPy: no decoding when read, and any number of channels.
    Npy,
}

impl Default for Recode {
    /// Quality 92, where images are resized.
    fn default() -> Self {
        Self::Keep(92)
    }
}

/// Why an image was not packed, not yet knowing which.
pub(super) enum Failure {
    Decode(DecodeError),
    Encode(EncodeError),
}

impl Failure {
    pub(super) fn of(self, path: PathBuf) -> PackError {
        match self {
            Self::Decode(source) => PackError::Image { path, source },
            Self::Encode(source) => PackError::Encode { path, source },
        }
    }
}

impl From<DecodeError> for Failure {
    fn from(error: DecodeError) -> Self {
        Self::Decode(error)
    }
}

impl From<EncodeError> for Failure {
    fn from(error: EncodeError) -> Self {
        Self::Encode(error)
    }
}

impl From<ResampleError> for Failure {
    fn from(error: ResampleError) -> Self {
        Self::Encode(EncodeError::new(error.to_string()))
    }
}

/// What an image is encoded as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Jpeg(u8),
    Png,
    Raw,
    Npy,
}

/// Encodes one image after another; keeps its buffers.
pub(super) struct Encoder {
    recode: Recode,
    resize: Option<u32>,
    max_side: Option<u32>,
    channels: Option<Channels>,
    max_pixels: usize,
    resample: Resample,
    resized: Image,
    out: Vec<u8>,
}

impl Encoder {
    pub(super) fn new(&Options { recode, resize, max_side, channels, max_pixels, .. }: &Options) -> Self {
        let (resample, resized) = (Resample::default(), Image::default());
        Self { recode, resize, max_side, channels, max_pixels, resample, resized, out: Vec::new() }
    }

    fn decoder(&self, channels: Channels) -> Decoder {
        Decoder::new(channels).with_max_pixels(self.max_pixels)
    }

    /// Encoding and bytes of the image in `bytes`: `bytes` themselves where nothing has to change.
    pub(super) fn run<'a>(&'a mut self, bytes: &'a [u8]) -> Result<(Encoding, &'a [u8]), Failure> {
        let info = self.decoder(Channels::Rgb).info(bytes)?;
        let size = self.size(&info);
        let of_file = self.channels.unwrap_or(info.channels);
        let target = self.target(info.format, of_file);
        let kept =
            matches!(self.recode, Recode::Keep(_) | Recode::Verbatim(_)) || lossless(info.format) == Some(target);
        if size.is_none() && kept {
            let marked = matches!(self.recode, Recode::Keep(_)) && info.format == Format::Jpeg;
            // What is packed must decode, and nothing may change that can be seen.
            let mut decoder = self.decoder(of_file);
            let image = decoder.decode(bytes)?;
            let same =
                marked && with_restarts(bytes, &mut self.out) && decoder.decode(&self.out).as_ref() == Ok(&image);
            return Ok((info.format.into(), if same { &self.out } else { bytes }));
        }
        let channels = match (target, of_file) {
            (Target::Png | Target::Npy, channels) => channels,
            (_, Channels::Rgba) => Channels::Rgb,
            (_, channels) => channels,
        };
        let mut image = self.decoder(channels).decode(bytes)?;
        if let Some(size) = size {
            let whole = Window::whole(image.view());
            self.resample.run(image.view(), whole, size, Filter::Bicubic, &mut self.resized)?;
            std::mem::swap(&mut image, &mut self.resized);
        }
        self.out.clear();
        let encoding = write(target, image.view(), Decoder::chroma(bytes)?, &mut self.out)?;
        Ok((encoding, &self.out))
    }

    /// Height and width to resize to; `None` where the image is small enough.
    fn size(&self, info: &Info) -> Option<(usize, usize)> {
        let (short, long) = (info.height.min(info.width), info.height.max(info.width));
        let limits = [(self.resize, short), (self.max_side, long)];
        let limits = limits.into_iter().filter_map(|(limit, side)| Some((limit?.max(1) as usize, side)));
        // The one that shrinks most.
        let (wanted, side) =
            limits.filter(|(limit, side)| limit < side).min_by(|a, b| (a.0 * b.1).cmp(&(b.0 * a.1)))?;
        let scaled = |length: usize| (((length * wanted) as f64 / side as f64).round() as usize).max(1);
        Some((scaled(info.height), scaled(info.width)))
    }

    /// How to encode an image that comes as `format`.
    fn target(&self, format: Format, channels: Channels) -> Target {
        match (self.recode, format) {
            (Recode::Keep(quality) | Recode::Verbatim(quality), format) => match (format, channels) {
                (_, Channels::Bands(_)) | (Format::Npy, _) => Target::Npy,
                (Format::Jpeg | Format::Webp, _) => Target::Jpeg(quality),
                (Format::Pnm, _) => Target::Raw,
                _ => Target::Png,
            },
            (Recode::Jpeg(quality), _) => Target::Jpeg(quality),
            (Recode::Png, _) => Target::Png,
            (Recode::Raw, _) => Target::Raw,
            (Recode::Npy, _) => Target::Npy,
        }
    }
}

/// The target that `format` already is, where encoding anew would only cost time.
fn lossless(format: Format) -> Option<Target> {
    match format {
        Format::Png => Some(Target::Png),
        Format::Pnm => Some(Target::Raw),
        Format::Npy => Some(Target::Npy),
        _ => None,
    }
}

fn write(target: Target, image: ImageView<'_>, chroma: Chroma, out: &mut Vec<u8>) -> Result<Encoding, EncodeError> {
    match target {
        Target::Jpeg(quality) => encode::jpeg(image, quality, chroma, out).map(|()| Encoding::Jpeg),
        Target::Png => encode::png(image, out).map(|()| Encoding::Png),
        Target::Npy => encode::npy(image, out).map(|()| Encoding::Npy),
        Target::Raw => encode::pnm(image, out).map(|()| Encoding::Pnm),
    }
}
