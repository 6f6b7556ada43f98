//! Binary PGM and PPM of 8 bits: `P5` or `P6`, width, height, 255, one white space, pixels.

use super::convert::convert;
use super::{Channels, DecodeError, Decoder, Format, Info, Wanted};
use crate::image::{Excerpt, Image, ImageView, Window};

/// The pixels of a PGM or PPM where they lie, without a copy.
///
/// # Errors
/// The bytes are no PGM or PPM of 8 bits, or fewer than the header says.
pub(super) fn raw_view(bytes: &[u8]) -> Result<ImageView<'_>, DecodeError> {
    let (header, pixels) = parse(bytes)?;
    let (height, width, channels) = (header.height, header.width, header.channels.count());
    if height == 0 || width == 0 {
        return Err(DecodeError::NoPixels { height, width });
    }
    (height.checked_mul(width))
        .and_then(|size| pixels.get(..size.checked_mul(channels)?))
        .map(|pixels| ImageView { height, width, channels, pixels })
        .ok_or(DecodeError::Truncated { format: Format::Pnm, len: bytes.len() })
}

pub(super) fn info(decoder: &Decoder, bytes: &[u8]) -> Result<Info, DecodeError> {
    let (header, _) = parse(bytes)?;
    decoder.check_size(header.height, header.width)?;
    Ok(header)
}

/// Copies all of it, or the part that is wanted where its channels are.
pub(super) fn decode(
    decoder: &mut Decoder,
    bytes: &[u8],
    wanted: Wanted<'_>,
    image: &mut Image,
) -> Result<Option<Excerpt>, DecodeError> {
    info(decoder, bytes)?;
    let ImageView { height, width, channels, pixels } = raw_view(bytes)?;
    let fits = |part: &Window| {
        part.height.min(part.width) > 0 && part.top + part.height <= height && part.left + part.width <= width
    };
    if channels == decoder.channels.count()
        && let Some(part) = wanted(height, width).filter(fits)
    {
        image.reset(part.height, part.width, channels);
        let lines = pixels.chunks_exact(width * channels).skip(part.top);
        for (to, line) in image.pixels.chunks_exact_mut(part.width * channels).zip(lines) {
            to.copy_from_slice(&line[part.left * channels..][..part.width * channels]);
        }
        return Ok(Some(Excerpt { top: part.top, left: part.left, height, width }));
    }
    convert(pixels, channels, decoder.channels, height, width, image);
    Ok(None)
}

/// The header, and all that follows it.
fn parse(bytes: &[u8]) -> Result<(Info, &[u8]), DecodeError> {
    let channels = match bytes {
        [b'P', b'5', ..] => Channels::Grey,
        [b'P', b'6', ..] => Channels::Rgb,
        _ => return Err(wrong("it begins with neither P5 nor P6")),
    };
    let (width, rest) = number(&bytes[2..])?;
    let (height, rest) = number(rest)?;
    let (depth, rest) = number(rest)?;
    if depth != 255 {
        return Err(wrong("its largest value is not 255"));
    }
    let [space, pixels @ ..] = rest else {
        return Err(wrong("the header is cut"));
    };
    if !space.is_ascii_whitespace() {
        return Err(wrong("no white space between header and pixels"));
    }
    let info = Info { format: Format::Pnm, height, width, channels };
    Ok((info, pixels))
}

/// White space and comments, then a number.
fn number(mut bytes: &[u8]) -> Result<(usize, &[u8]), DecodeError> {
    loop {
        match bytes {
            [b'#', ..] => {
                let end = bytes.iter().position(|&c| c == b'\n');
                bytes = &bytes[end.unwrap_or(bytes.len())..];
            }
            [c, rest @ ..] if c.is_ascii_whitespace() => bytes = rest,
            _ => break,
        }
    }
    let digits = bytes.iter().take_while(|c| c.is_ascii_digit()).count();
    let (digits, rest) = bytes.split_at(digits);
    (std::str::from_utf8(digits).ok())
        .and_then(|digits| digits.parse::<u32>().ok())
        .map(|value| (value as usize, rest))
        .ok_or(wrong("a number is missing or too large in its header"))
}

fn wrong(why: &'static str) -> DecodeError {
    DecodeError::Pnm { why }
}
