//! WebP, GIF, TIFF and BMP, by the image crate. Of several pictures in a file the first.

use std::io::{Cursor, ErrorKind};

use image::codecs::{bmp::BmpDecoder, gif::GifDecoder, tiff::TiffDecoder, webp::WebPDecoder};
use image::error::LimitErrorKind;
use image::{ColorType, ImageDecoder, ImageError, Limits};

use super::convert::convert;
use super::{Channels, DecodeError, Decoder, Format, Info};
use crate::image::Image;

pub(super) fn info(decoder: &Decoder, format: Format, bytes: &[u8]) -> Result<Info, DecodeError> {
    let reader = open(decoder, format, bytes)?;
    let (width, height) = reader.dimensions();
    let channels = match reader.color_type() {
        ColorType::L8 | ColorType::L16 => Channels::Grey,
        ColorType::Rgb8 | ColorType::Rgb16 => Channels::Rgb,
        _ => Channels::Rgba,
    };
    Ok(Info { format, height: height as usize, width: width as usize, channels })
}

pub(super) fn decode(
    decoder: &mut Decoder,
    format: Format,
    bytes: &[u8],
    image: &mut Image,
) -> Result<(), DecodeError> {
    let reader = open(decoder, format, bytes)?;
    let (width, height) = reader.dimensions();
    let (channels, deep) = match reader.color_type() {
        ColorType::L8 => (1, false),
        ColorType::La8 => (2, false),
        ColorType::Rgb8 => (3, false),
        ColorType::Rgba8 => (4, false),
        ColorType::L16 => (1, true),
        ColorType::La16 => (2, true),
        ColorType::Rgb16 => (3, true),
        ColorType::Rgba16 => (4, true),
        other => {
            return Err(DecodeError::Other { format, why: format!("its values are {other:?}, not of 8 or 16 bits") });
        }
    };
    let size = usize::try_from(reader.total_bytes()).unwrap_or(usize::MAX);
    decoder.check_memory(size)?;
    let pixels = &mut decoder.scratch;
    pixels.clear();
    pixels.resize(size, 0);
    reader.read_image_boxed(pixels).map_err(|error| damaged(format, error, bytes, decoder.max_pixels))?;
    if deep {
        cut_to_eight_bits(pixels);
    }
    convert(pixels, channels, decoder.channels, height as usize, width as usize, image);
    Ok(())
}

/// Reads everything before the pixels, and holds the size to the limit.
fn open<'a>(decoder: &Decoder, format: Format, bytes: &'a [u8]) -> Result<Box<dyn ImageDecoder + 'a>, DecodeError> {
    let from = Cursor::new(bytes);
    let failed = |error| damaged(format, error, bytes, decoder.max_pixels);
    let mut reader: Box<dyn ImageDecoder> = match format {
        Format::Webp => {
            check_frames(decoder, bytes)?;
            Box::new(WebPDecoder::new(from).map_err(failed)?)
        }
        Format::Gif => Box::new(GifDecoder::new(from).map_err(failed)?),
        Format::Tiff => Box::new(TiffDecoder::new(from).map_err(failed)?),
        _ => Box::new(BmpDecoder::new(from).map_err(failed)?),
    };
    let (width, height) = reader.dimensions();
    decoder.check_size(height as usize, width as usize)?;
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(decoder.max_bytes() as u64);
    reader.set_limits(limits).map_err(failed)?;
    Ok(reader)
}

/// Holds a WebP to its length, and its frames to the limit: they say their size for themselves, and are decoded before it
/// is compared with that of the whole.
fn check_frames(decoder: &Decoder, bytes: &[u8]) -> Result<(), DecodeError> {
    let whole = bytes.get(4..).and_then(<[u8]>::first_chunk).map_or(0, |&len| u32::from_le_bytes(len) as usize + 8);
    if whole > bytes.len() {
        return Err(DecodeError::Truncated { format: Format::Webp, len: bytes.len() });
    }
    let mut rest = bytes.get(12..).unwrap_or(&[]);
    while let Some((head, body)) = rest.split_at_checked(8) {
        let len = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        let body = &body[..len.min(body.len())];
        let frame = if &head[..4] == b"ANMF" { body.get(16..) } else { Some(rest) };
        if let Some((height, width)) = frame.and_then(frame_size) {
            decoder.check_size(height, width)?;
        }
        rest = rest.get(8 + len.next_multiple_of(2)..).unwrap_or(&[]);
    }
    Ok(())
}

/// Height and width of the frame that `chunk`, with its header, holds; `None` where it holds none.
fn frame_size(chunk: &[u8]) -> Option<(usize, usize)> {
    let body = chunk.get(8..)?;
    let number = |at: usize| Some(u32::from_le_bytes(*body.get(at..)?.first_chunk()?));
    match chunk.first_chunk()? {
        b"VP8 " => {
            let sides = number(6)?;
            Some(((sides >> 16 & 0x3FFF) as usize, (sides & 0x3FFF) as usize))
        }
        b"VP8L" => {
            let sides = number(1)?;
            Some(((sides >> 14 & 0x3FFF) as usize + 1, (sides & 0x3FFF) as usize + 1))
        }
        _ => None,
    }
}

/// Keeps the upper byte of each value, in the first half of the buffer.
fn cut_to_eight_bits(values: &mut Vec<u8>) {
    for at in 0..values.len() / 2 {
        values[at] = (u16::from_ne_bytes([values[2 * at], values[2 * at + 1]]) >> 8) as u8;
    }
    values.truncate(values.len() / 2);
}

fn damaged(format: Format, error: ImageError, bytes: &[u8], max_pixels: usize) -> DecodeError {
    match error {
        ImageError::IoError(error) if error.kind() == ErrorKind::UnexpectedEof => {
            DecodeError::Truncated { format, len: bytes.len() }
        }
        ImageError::Limits(limit) if limit.kind() == LimitErrorKind::InsufficientMemory => {
            DecodeError::TooMuchMemory { needed: None, limit: Decoder::BYTES_PER_PIXEL.saturating_mul(max_pixels) }
        }
        other => DecodeError::Other { format, why: other.to_string() },
    }
}
