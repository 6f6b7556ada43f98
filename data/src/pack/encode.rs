//! Encoding images anew, where that is asked for.

use std::path::PathBuf;

use crate::augment::{Filter, Resample, Window};
use crate::decode::{Channels, DecodeError, Decoder, Format, Info};
use crate::encode::{self, EncodeError};
use crate::image::{Image, ImageView, ResampleError};
use crate::pack::{Options, PackError};
use crate::shard::Encoding;

/// How packed images are encoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Recode {
    /// As they are; only those that must be resized are encoded anew: JPEG and WebP as JPEG of quality 92, PNM as PNM,
    /// images of other channels than 1, 3 and 4 as NumPy arrays, all others as PNG.
    #[default]
    Keep,
    /// JPEG of this quality, 1 to 100. Transparency is composited on white.
    Jpeg(u8),
    /// PNG.
    Png,
    /// PGM or PPM: no decoding when read. Transparency is composited on white.
    Raw,
    /// An array of NumPy: no decoding when read, and any number of channels.
    Npy,
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

/// Quality of JPEGs that are resized and otherwise kept.
const KEPT_QUALITY: u8 = 92;

/// Encodes one image after another; keeps its buffers.
pub(super) struct Encoder {
    recode: Recode,
    resize: Option<u32>,
    channels: Option<Channels>,
    max_pixels: usize,
    resample: Resample,
    resized: Image,
    out: Vec<u8>,
}

impl Encoder {
    pub(super) fn new(&Options { recode, resize, channels, max_pixels, .. }: &Options) -> Self {
        let (resample, resized) = (Resample::default(), Image::default());
        Self { recode, resize, channels, max_pixels, resample, resized, out: Vec::new() }
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
        if size.is_none() && (self.recode == Recode::Keep || target == lossless(info.format)) {
            // Nothing changes, but what is packed must decode.
            self.decoder(of_file).decode(bytes)?;
            return Ok((info.format.into(), bytes));
        }
        let channels = match (target, of_file) {
            (Recode::Png | Recode::Npy, channels) => channels,
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
        let encoding = write(target, image.view(), &mut self.out)?;
        Ok((encoding, &self.out))
    }

    /// Height and width to resize to; `None` where the image is small enough.
    fn size(&self, info: &Info) -> Option<(usize, usize)> {
        let short = info.height.min(info.width);
        let wanted = self.resize.map(|side| side.max(1) as usize).filter(|&side| side < short)?;
        let scaled = |side: usize| ((side * wanted) as f64 / short as f64).round() as usize;
        Some((scaled(info.height), scaled(info.width)))
    }

    /// How to encode an image that comes as `format`; never `Keep`.
    fn target(&self, format: Format, channels: Channels) -> Recode {
        match (self.recode, format) {
            (Recode::Keep, _) if matches!(channels, Channels::Bands(_)) => Recode::Npy,
            (Recode::Keep, Format::Npy) => Recode::Npy,
            (Recode::Keep, Format::Jpeg | Format::Webp) => Recode::Jpeg(KEPT_QUALITY),
            (Recode::Keep, Format::Pnm) => Recode::Raw,
            (Recode::Keep, _) => Recode::Png,
            (other, _) => other,
        }
    }
}

/// The target that `format` already is, where encoding anew would only cost time.
fn lossless(format: Format) -> Recode {
    match format {
        Format::Png => Recode::Png,
        Format::Pnm => Recode::Raw,
        Format::Npy => Recode::Npy,
        _ => Recode::Keep,
    }
}

fn write(target: Recode, image: ImageView<'_>, out: &mut Vec<u8>) -> Result<Encoding, EncodeError> {
    match target {
        Recode::Jpeg(quality) => encode::jpeg(image, quality, out).map(|()| Encoding::Jpeg),
        Recode::Png => encode::png(image, out).map(|()| Encoding::Png),
        Recode::Npy => encode::npy(image, out).map(|()| Encoding::Npy),
        Recode::Keep | Recode::Raw => encode::pnm(image, out).map(|()| Encoding::Pnm),
    }
}
