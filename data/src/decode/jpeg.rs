//! JPEG, by zune-jpeg.

use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;
use zune_jpeg::errors::DecodeErrors;

use super::convert::convert;
use super::{Channels, DecodeError, Decoder, Format, Info};
use crate::image::Image;

type Reader<'a> = JpegDecoder<ZCursor<&'a [u8]>>;

pub(super) fn info(decoder: &Decoder, bytes: &[u8]) -> Result<Info, DecodeError> {
    let (_, header) = open(decoder, bytes)?;
    Ok(Info {
        format: Format::Jpeg,
        height: header.height,
        width: header.width,
        channels: match header.space {
            ColorSpace::Luma => Channels::Grey,
            _ => Channels::Rgb,
        },
    })
}

pub(super) fn decode(decoder: &mut Decoder, bytes: &[u8], image: &mut Image) -> Result<(), DecodeError> {
    let (mut reader, Header { height, width, space }) = open(decoder, bytes)?;
    if !ends(bytes) {
        // The decoder would fill what is missing with grey.
        return Err(DecodeError::Truncated { format: Format::Jpeg, len: bytes.len() });
    }
    let out = output_space(space, decoder.channels)?;
    reader.set_options(reader.options().jpeg_set_out_colorspace(out));
    let decoded = if out == ColorSpace::Luma { Channels::Grey } else { Channels::Rgb };
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

/// Whether the last mark is the end of an image and not the start of a scan. Neither occurs inside compressed data,
/// where 0xFF is always followed by 0 or a restart mark, and an embedded thumbnail comes before the image's own scan.
fn ends(bytes: &[u8]) -> bool {
    let mark = bytes.windows(2).rev().find(|pair| pair[0] == 0xFF && matches!(pair[1], 0xD9 | 0xDA));
    mark.is_some_and(|mark| mark[1] == 0xD9)
}

struct Header {
    height: usize,
    width: usize,
    space: ColorSpace,
}

fn open<'a>(decoder: &Decoder, bytes: &'a [u8]) -> Result<(Reader<'a>, Header), DecodeError> {
    let most = usize::from(u16::MAX);
    let options = DecoderOptions::default().set_strict_mode(false).set_max_width(most).set_max_height(most);
    let mut reader = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    reader.decode_headers().map_err(|error| damaged(error, bytes))?;
    let (Some(info), Some(space)) = (reader.info(), reader.input_colorspace()) else {
        return Err(damaged("no header".into(), bytes));
    };
    let header = Header { height: usize::from(info.height), width: usize::from(info.width), space };
    decoder.check_size(header.height, header.width)?;
    Ok((reader, header))
}

/// What to ask the decoder for: luma where it is there to be taken, else RGB. (Its conversions from CMYK to RGBA are
/// not used: they step by three.)
fn output_space(space: ColorSpace, wanted: Channels) -> Result<ColorSpace, DecodeError> {
    match space {
        ColorSpace::Luma => Ok(ColorSpace::Luma),
        ColorSpace::YCbCr if wanted == Channels::Grey => Ok(ColorSpace::Luma),
        ColorSpace::YCbCr | ColorSpace::RGB | ColorSpace::CMYK | ColorSpace::YCCK => Ok(ColorSpace::RGB),
        other => Err(DecodeError::JpegColour { space: format!("{other:?}") }),
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
