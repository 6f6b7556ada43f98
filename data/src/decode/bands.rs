//! Images of any number of bands: arrays of NumPy (`.npy`), and TIFFs of several samples a pixel or of several pages.
//!
//! An array is `[H, W, C]` or `[C, H, W]`, whichever makes `C` the smaller of its first and last side, or `[H, W]`. Bands
//! have 8 bits, or 16 of which the upper 8 are kept, as of all other formats.

use std::io::{Cursor, ErrorKind, Read, Seek};
use std::ops::Range;

use npyz::{NpyFile, Order};
use tiff::decoder::{Decoder as TiffDecoder, DecodingResult, Limits};
use tiff::{ColorType, TiffError};

use super::convert::convert;
use super::{Channels, DecodeError, Decoder, Format, Info};
use crate::image::Image;

/// Bytes that the header of an array may have; NumPy writes 128. It is parsed by recursion.
const HEADER: usize = 512;

/// What the header of an array says.
struct Array<'a> {
    height: usize,
    width: usize,
    bands: usize,
    /// Whether bands come first.
    planar: bool,
    depth: Depth,
    values: &'a [u8],
}

impl Array<'_> {
    fn lay_into(&self, image: &mut Image) {
        let &Self { height, width, bands, planar, depth, values } = self;
        image.reset(height, width, bands);
        match depth {
            Depth::Eight => lay(values.iter().copied(), planar, 0..bands, image),
            Depth::Sixteen { upper } => lay(values.chunks_exact(2).map(|value| value[upper]), planar, 0..bands, image),
        }
    }
}

/// Bits of a value, and where the upper eight of them are.
#[derive(Clone, Copy)]
enum Depth {
    Eight,
    Sixteen { upper: usize },
}

impl Depth {
    fn bytes(self) -> usize {
        match self {
            Self::Eight => 1,
            Self::Sixteen { .. } => 2,
        }
    }
}

pub(super) fn npy_info(decoder: &Decoder, bytes: &[u8]) -> Result<Info, DecodeError> {
    let Array { height, width, bands, .. } = array(decoder, bytes)?;
    let channels = Channels::of_count(bands).ok_or_else(|| npy(format!("it has {bands} bands")))?;
    Ok(Info { format: Format::Npy, height, width, channels })
}

pub(super) fn npy_decode(decoder: &mut Decoder, bytes: &[u8], image: &mut Image) -> Result<(), DecodeError> {
    let array = array(decoder, bytes)?;
    let Array { height, width, bands, .. } = array;
    let wanted = decoder.channels;
    // Grey, RGB and RGBA become one another, as in other formats; of other bands nobody knows what they are.
    let colours = |count| matches!(count, 1 | 3 | 4);
    if bands != wanted.count() && !(colours(bands) && colours(wanted.count())) {
        return Err(DecodeError::Bands { found: bands, wanted: wanted.count() });
    }
    if bands == wanted.count() {
        array.lay_into(image);
    } else {
        let mut whole = Image::default();
        array.lay_into(&mut whole);
        convert(&whole.pixels, bands, wanted, height, width, image);
    }
    Ok(())
}

/// Reads the header, and holds it to the limits and to the bytes that follow.
fn array<'a>(decoder: &Decoder, bytes: &'a [u8]) -> Result<Array<'a>, DecodeError> {
    let cut = || DecodeError::Truncated { format: Format::Npy, len: bytes.len() };
    // The length of the text: two bytes in the first version of the format, four in later ones.
    let text = match bytes.get(6..12).ok_or_else(cut)? {
        [1, _, low, high, ..] => usize::from(u16::from_le_bytes([*low, *high])),
        [_, _, length @ ..] => length.first_chunk().map_or(0, |&length| u32::from_le_bytes(length) as usize),
        [] | [_] => 0,
    };
    if text > HEADER {
        return Err(npy(format!("its header has {text} bytes; {HEADER} are allowed")));
    }
    let file = NpyFile::new(bytes).map_err(|error| match error.kind() {
        ErrorKind::UnexpectedEof => cut(),
        _ => npy(error.to_string()),
    })?;
    let depth = match file.dtype().descr().as_str() {
        "'|u1'" => Depth::Eight,
        "'<u2'" => Depth::Sixteen { upper: 1 },
        "'>u2'" => Depth::Sixteen { upper: 0 },
        other => return Err(npy(format!("its values are {other}; write it as uint8 or uint16"))),
    };
    if file.order() != Order::C {
        return Err(npy("its columns come first; write it by `numpy.ascontiguousarray`".to_owned()));
    }
    let side = |side: u64| usize::try_from(side).unwrap_or(usize::MAX);
    let (height, width, bands, planar) = match *file.shape() {
        [height, width] => (side(height), side(width), 1, false),
        [bands, height, width] if bands < width => (side(height), side(width), side(bands), true),
        [height, width, bands] => (side(height), side(width), side(bands), false),
        ref other => return Err(npy(format!("its shape is {other:?}; [H, W], [H, W, C] or [C, H, W] is wanted"))),
    };
    decoder.check_size(height, width)?;
    let size = height.saturating_mul(width).saturating_mul(bands).saturating_mul(depth.bytes());
    decoder.check_memory(size)?;
    let values = file.into_inner().get(..size).ok_or_else(cut)?;
    Ok(Array { height, width, bands, planar, depth, values })
}

/// Decodes all bands of all pages to an image of `wanted` channels.
pub(super) fn tiff_decode(
    decoder: &mut Decoder,
    wanted: usize,
    bytes: &[u8],
    image: &mut Image,
) -> Result<(), DecodeError> {
    let failed = |error: TiffError| damaged(&error, bytes);
    let mut limits = Limits::default();
    limits.decoding_buffer_size = decoder.max_bytes();
    limits.intermediate_buffer_size = decoder.max_bytes();
    let mut file = TiffDecoder::new(Cursor::new(bytes)).map_err(failed)?.with_limits(limits);
    let size = page_size(&mut file).map_err(failed)?;
    decoder.check_size(size.0, size.1)?;
    decoder.check_memory(size.0.saturating_mul(size.1).saturating_mul(wanted))?;
    image.reset(size.0, size.1, wanted);
    let (mut filled, mut values) = (0, DecodingResult::U8(Vec::new()));
    loop {
        let page = page_size(&mut file).map_err(failed)?;
        if page != size {
            let (page, first) = (format!("{}x{}", page.0, page.1), format!("{}x{}", size.0, size.1));
            return Err(tiff_fault(format!("a page of {page} follows one of {first}; bands have one size")));
        }
        let bands = filled..filled + samples(file.colortype().map_err(failed)?)?;
        if bands.end > wanted {
            return Err(DecodeError::Bands { found: bands.end, wanted });
        }
        filled = bands.end;
        decoder.check_memory(file.image_buffer_layout().map_err(failed)?.complete_len)?;
        let planar = file.read_image_to_buffer(&mut values).map_err(failed)?.planes > 1;
        let whole = size.0 * size.1 * bands.len();
        match &values {
            DecodingResult::U8(values) if values.len() == whole => lay(values.iter().copied(), planar, bands, image),
            DecodingResult::U16(values) if values.len() == whole => {
                lay(values.iter().map(|value| (value >> 8) as u8), planar, bands, image);
            }
            _ => return Err(tiff_fault("its values are no whole numbers of 8 or 16 bits".to_owned())),
        }
        if !file.more_images() {
            break;
        }
        file.next_image().map_err(failed)?;
    }
    if filled == wanted { Ok(()) } else { Err(DecodeError::Bands { found: filled, wanted }) }
}

/// Height and width of the page that comes next.
fn page_size<R: Read + Seek>(file: &mut TiffDecoder<R>) -> Result<(usize, usize), TiffError> {
    file.dimensions().map(|(width, height)| (height as usize, width as usize))
}

/// Values of a pixel.
fn samples(colour: ColorType) -> Result<usize, DecodeError> {
    match colour {
        ColorType::Gray(8 | 16) => Ok(1),
        ColorType::RGB(8 | 16) => Ok(3),
        ColorType::RGBA(8 | 16) => Ok(4),
        ColorType::Multiband { bit_depth: 8 | 16, num_samples } => Ok(usize::from(num_samples)),
        other => Err(tiff_fault(format!("its values are {other:?}; bands have 8 or 16 bits"))),
    }
}

/// Puts values, band after band if `planar` and else pixel after pixel, into those channels of `image`.
fn lay(values: impl Iterator<Item = u8>, planar: bool, bands: Range<usize>, image: &mut Image) {
    let (channels, pixels) = (image.channels, image.height * image.width);
    let count = bands.len();
    if !planar && count == channels {
        // As they lie in the image.
        return image.pixels.iter_mut().zip(values).for_each(|(to, value)| *to = value);
    }
    for (at, value) in values.enumerate() {
        let (pixel, band) = if planar { (at % pixels, at / pixels) } else { (at / count, at % count) };
        image.pixels[pixel * channels + bands.start + band] = value;
    }
}

fn npy(why: String) -> DecodeError {
    DecodeError::Other { format: Format::Npy, why }
}

fn tiff_fault(why: String) -> DecodeError {
    DecodeError::Other { format: Format::Tiff, why }
}

fn damaged(error: &TiffError, bytes: &[u8]) -> DecodeError {
    match error {
        TiffError::IoError(error) if error.kind() == ErrorKind::UnexpectedEof => {
            DecodeError::Truncated { format: Format::Tiff, len: bytes.len() }
        }
        other => tiff_fault(other.to_string()),
    }
}
