//! JPEG: by zune-jpeg what cameras and programs make as a rule, by jpeg-decoder the rest.
//!
//! zune-jpeg 0.5 is the faster one, and returns garbage without an error for baseline pictures whose components come in
//! scans of their own, and for sampling factors other than those in [`is_common`]. jpeg-decoder is right on all that
//! libjpeg's `cjpeg` can make (the tests hold both to it), slower, and asks for more memory.

pub(crate) mod layout;
mod part;

use jpeg_decoder::ColorTransform;
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;
use zune_jpeg::errors::DecodeErrors;

use super::convert::convert;
use super::{Channels, Chroma, DecodeError, Decoder, Format, Info, Wanted};
use crate::image::{Excerpt, Image};
use layout::{Colour, Layout};
use part::Part;

type Reader<'a> = JpegDecoder<ZCursor<&'a [u8]>>;

pub(super) fn info(decoder: &Decoder, bytes: &[u8]) -> Result<Info, DecodeError> {
    let layout = Layout::header(bytes)?;
    decoder.check_size(layout.height, layout.width)?;
    Ok(Info {
        format: Format::Jpeg,
        height: layout.height,
        width: layout.width,
        channels: if layout.colour() == Colour::Grey { Channels::Grey } else { Channels::Rgb },
    })
}

pub(super) fn chroma(bytes: &[u8]) -> Result<Chroma, DecodeError> {
    let Layout { components, .. } = Layout::header(bytes)?;
    let factors: Vec<_> = components.iter().map(|part| (part.horizontal, part.vertical)).collect();
    Ok(match factors[..] {
        [(2, 1), (1, 1), (1, 1)] => Chroma::HalfWidth,
        [(2, 2), (1, 1), (1, 1)] => Chroma::Quarter,
        _ => Chroma::Full,
    })
}

/// Decodes all of a picture, or the part of it that is wanted where that can be cut out.
pub(super) fn decode(
    decoder: &mut Decoder,
    bytes: &[u8],
    wanted: Wanted<'_>,
    image: &mut Image,
) -> Result<Option<Excerpt>, DecodeError> {
    let layout = Layout::header(bytes)?;
    decoder.check_size(layout.height, layout.width)?;
    let layout = Layout::read(bytes)?;
    let mut copy = Vec::new();
    let bytes = layout.plain(bytes, &mut copy);
    if is_common(&layout) {
        let window = wanted(layout.height, layout.width);
        let part = window.and_then(|window| Part::of(&layout, window));
        let mut cut = std::mem::take(&mut decoder.part);
        let (bytes, size) = match &part {
            Some(part) => {
                part.write(&layout, bytes, &mut cut);
                (cut.as_slice(), part.size)
            }
            None => (bytes, (layout.height, layout.width)),
        };
        let decoded = open(bytes).and_then(|mut reader| {
            let known = reader.input_colorspace() == Some(space(layout.colour()));
            known.then(|| decode_common(decoder, &layout, size, &mut reader, bytes, image)).transpose()
        });
        decoder.part = cut;
        if decoded?.is_some() {
            return Ok(part.map(|part| part.excerpt));
        }
    }
    decode_any(decoder, &layout, bytes, image)?;
    Ok(None)
}

/// Whether zune-jpeg is known to decode it right: one scan, or progressive; chroma at one sample, luma at one to eight.
fn is_common(layout: &Layout) -> bool {
    let factors: Vec<_> = layout.components.iter().map(|part| (part.horizontal, part.vertical)).collect();
    let (luma, chroma) = (factors[0], &factors[1..]);
    let sampled = match chroma.len() {
        2 => matches!(luma, (1, 1 | 2 | 4) | (2, 1 | 2 | 4) | (4, 1 | 2)),
        _ => luma == (1, 1),
    };
    sampled && chroma.iter().all(|&factors| factors == (1, 1)) && (layout.progressive || layout.interleaved)
}

fn decode_common(
    decoder: &mut Decoder,
    layout: &Layout,
    (height, width): (usize, usize),
    reader: &mut Reader<'_>,
    bytes: &[u8],
    image: &mut Image,
) -> Result<(), DecodeError> {
    // Luma where it is there to be taken, else RGB. (The conversions from CMYK to RGBA step by three: they are not used.)
    let grey = match layout.colour() {
        Colour::Grey => true,
        Colour::YCbCr => decoder.channels == Channels::Grey,
        _ => false,
    };
    let (space, decoded) = if grey { (ColorSpace::Luma, Channels::Grey) } else { (ColorSpace::RGB, Channels::Rgb) };
    // Progressive pictures have their coefficients, of two bytes, in memory.
    let coefficients = if layout.progressive { 2 * layout.samples() } else { 0 };
    decoder.check_memory(coefficients + height * width * decoded.count())?;
    reader.set_options(reader.options().jpeg_set_out_colorspace(space));
    if decoded == decoder.channels {
        image.reset(height, width, decoded.count());
        return reader.decode_into(&mut image.pixels).map_err(|error| damaged(error, bytes));
    }
    let scratch = &mut decoder.scratch;
    scratch.resize(height * width * decoded.count(), 0);
    reader.decode_into(scratch).map_err(|error| damaged(error, bytes))?;
    convert(scratch, decoded.count(), decoder.channels, height, width, image);
    Ok(())
}

fn decode_any(decoder: &mut Decoder, layout: &Layout, bytes: &[u8], image: &mut Image) -> Result<(), DecodeError> {
    let (height, width, colour) = (layout.height, layout.width, layout.colour());
    let channels = layout.components.len();
    // Coefficients of two bytes, the planes made of them, and the pixels.
    decoder.check_memory(3 * layout.samples() + height * width * channels)?;
    let mut reader = jpeg_decoder::Decoder::new(bytes);
    reader.set_color_transform(match colour {
        Colour::Grey => ColorTransform::Grayscale,
        Colour::YCbCr => ColorTransform::YCbCr,
        Colour::Rgb => ColorTransform::RGB,
        Colour::Cmyk => ColorTransform::CMYK,
        Colour::Ycck => ColorTransform::YCCK,
    });
    let mut pixels = reader.decode().map_err(|error| damaged_otherwise(error, bytes))?;
    let mut channels = channels;
    if channels == 4 {
        pixels = pixels.as_chunks().0.iter().flat_map(|&ink| on_paper(ink)).collect();
        channels = 3;
    }
    if pixels.len() != height * width * channels {
        return Err(DecodeError::Jpeg { why: format!("{} values for {height}x{width} pixels", pixels.len()) });
    }
    convert(&pixels, channels, decoder.channels, height, width, image);
    Ok(())
}

/// RGB of an amount of each ink.
fn on_paper([c, m, y, k]: [u8; 4]) -> [u8; 3] {
    let light = |ink: u8| (u32::from(255 - ink) * u32::from(255 - k) + 127) / 255;
    [c, m, y].map(|ink| light(ink) as u8)
}

fn open(bytes: &[u8]) -> Result<Reader<'_>, DecodeError> {
    let most = usize::from(u16::MAX);
    let options = DecoderOptions::default().set_strict_mode(false).set_max_width(most).set_max_height(most);
    let mut reader = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    reader.decode_headers().map_err(|error| damaged(error, bytes))?;
    Ok(reader)
}

fn space(colour: Colour) -> ColorSpace {
    match colour {
        Colour::Grey => ColorSpace::Luma,
        Colour::YCbCr => ColorSpace::YCbCr,
        Colour::Rgb => ColorSpace::RGB,
        Colour::Cmyk => ColorSpace::CMYK,
        Colour::Ycck => ColorSpace::YCCK,
    }
}

fn damaged(error: DecodeErrors, bytes: &[u8]) -> DecodeError {
    match error {
        DecodeErrors::ExhaustedData | DecodeErrors::IoErrors(_) => {
            DecodeError::Truncated { format: Format::Jpeg, len: bytes.len() }
        }
        other => DecodeError::Jpeg { why: other.to_string() },
    }
}

fn damaged_otherwise(error: jpeg_decoder::Error, bytes: &[u8]) -> DecodeError {
    use jpeg_decoder::{Error, UnsupportedFeature};
    match error {
        Error::Io(_) => DecodeError::Truncated { format: Format::Jpeg, len: bytes.len() },
        Error::Unsupported(UnsupportedFeature::NonIntegerSubsamplingRatio) => {
            DecodeError::JpegKind { kind: "sampling factors that do not divide each other".to_owned() }
        }
        other => DecodeError::Jpeg { why: other.to_string() },
    }
}
