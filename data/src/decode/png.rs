//! PNG, by png.

use std::io::Cursor;

use png::{BitDepth, ColorType, DecodingError, Limits, Reader, Transformations};

use super::convert::convert;
use super::{Channels, DecodeError, Decoder, Format, Info};
use crate::image::Image;

pub(super) fn info(decoder: &Decoder, bytes: &[u8]) -> Result<Info, DecodeError> {
    let reader = open(decoder, bytes, EXPANDED)?;
    let (height, width) = size(&reader);
    Ok(Info {
        format: Format::Png,
        height,
        width,
        channels: match reader.output_color_type().0 {
            ColorType::Grayscale => Channels::Grey,
            ColorType::Rgb => Channels::Rgb,
            _ => Channels::Rgba,
        },
    })
}

pub(super) fn decode(decoder: &mut Decoder, bytes: &[u8], image: &mut Image) -> Result<(), DecodeError> {
    let mut reader = open(decoder, bytes, EXPANDED)?;
    let (height, width) = size(&reader);
    let channels = reader.output_color_type().0.samples();
    let mut read = |to: &mut [u8]| (reader.next_frame(to)).map_err(|error| damaged(error, bytes));
    if channels == decoder.channels.count() {
        image.reset(height, width, channels);
        read(&mut image.pixels)?;
        return Ok(());
    }
    let scratch = &mut decoder.scratch;
    scratch.resize(height * width * channels, 0);
    read(scratch)?;
    convert(scratch, channels, decoder.channels, height, width, image);
    Ok(())
}

/// The values as they are stored, a byte each.
pub(super) fn decode_classes(decoder: &mut Decoder, bytes: &[u8], map: &mut Image) -> Result<(), DecodeError> {
    let mut reader = open(decoder, bytes, Transformations::IDENTITY)?;
    let (height, width) = size(&reader);
    let (colour, depth) = reader.output_color_type();
    if !matches!(colour, ColorType::Grayscale | ColorType::Indexed) || depth == BitDepth::Sixteen {
        return Err(DecodeError::Segmentation { found: format!("{colour:?} PNG of {} bits a value", depth as u8) });
    }
    map.reset(height, width, 1);
    if depth == BitDepth::Eight {
        return reader.next_frame(&mut map.pixels).map(drop).map_err(|error| damaged(error, bytes));
    }
    let row = reader.output_line_size(width as u32).unwrap_or(width);
    let packed = &mut decoder.scratch;
    packed.resize(height * row, 0);
    reader.next_frame(packed).map_err(|error| damaged(error, bytes))?;
    for (packed, values) in packed.chunks_exact(row).zip(map.pixels.chunks_exact_mut(width)) {
        unpack(packed, depth as usize, values);
    }
    Ok(())
}

/// Values of `bits`, the first in the highest bits of a byte.
fn unpack(packed: &[u8], bits: usize, values: &mut [u8]) {
    let mask = (1u8 << bits) - 1;
    for (at, value) in values.iter_mut().enumerate() {
        let shift = 8 - bits - at * bits % 8;
        *value = (packed[at * bits / 8] >> shift) & mask;
    }
}

/// What comes out is 8 bits: palettes and transparent colours expanded, 16 bits cut.
const EXPANDED: Transformations = Transformations::EXPAND.union(Transformations::STRIP_16);

/// Reads everything before the pixels.
fn open<'a>(
    decoder: &Decoder,
    bytes: &'a [u8],
    transformations: Transformations,
) -> Result<Reader<Cursor<&'a [u8]>>, DecodeError> {
    // The decoder's own buffers: one row, its palette, chunks. The widest allowed row of 16-bit RGBA must fit.
    let limits = Limits { bytes: (1 << 26) + decoder.max_pixels.saturating_mul(8) };
    let mut header = png::Decoder::new_with_limits(Cursor::new(bytes), limits);
    header.set_transformations(transformations);
    header.set_ignore_text_chunk(true);
    header.set_ignore_iccp_chunk(true);
    let info = (header.read_header_info()).map_err(|error| damaged(error, bytes))?;
    decoder.check_size(info.height as usize, info.width as usize)?;
    header.read_info().map_err(|error| damaged(error, bytes))
}

fn size<R: std::io::BufRead + std::io::Seek>(reader: &Reader<R>) -> (usize, usize) {
    let info = reader.info();
    (info.height as usize, info.width as usize)
}

fn damaged(error: DecodingError, bytes: &[u8]) -> DecodeError {
    match error {
        DecodingError::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            DecodeError::Truncated { format: Format::Png, len: bytes.len() }
        }
        other => DecodeError::Png { why: other.to_string() },
    }
}
