//! Pixels to the bytes of an image file.

mod huffman;
mod restarts;

use npyz::WriterBuilder;

pub use restarts::with_restarts;

use crate::decode::Chroma;
use crate::image::{ImageView, Jpeg};

/// Pixels that an encoder refuses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot be encoded: {0}")]
pub struct EncodeError(String);

impl EncodeError {
    pub(crate) fn new(why: String) -> Self {
        Self(why)
    }
}

/// Appends `image`, grey or RGB, as a JPEG of `quality` 1 to 100 and with colour as fine as `chroma` to `out`. One that is not
/// small has restart markers, as [`with_restarts`] sets them.
///
/// # Errors
/// Four channels, no pixels, or a side longer than 65535.
pub fn jpeg(image: ImageView<'_>, quality: u8, chroma: Chroma, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    size(image)?;
    let chroma = match chroma {
        Chroma::Full => (1, 1),
        Chroma::HalfWidth => (2, 1),
        Chroma::Quarter => (2, 2),
    };
    let mut plain = Vec::new();
    let jpeg = Jpeg { quality, chroma, restart_interval: 0 };
    jpeg.encode(image, &mut plain).map_err(|error| EncodeError(error.to_string()))?;
    let mut marked = Vec::new();
    out.append(if with_restarts(&plain, &mut marked) { &mut marked } else { &mut plain });
    Ok(())
}

/// Appends `image` as a PNG to `out`.
///
/// # Errors
/// No pixels, or channels that are not 1, 3 or 4.
pub fn png(image: ImageView<'_>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let (height, width) = size(image)?;
    let mut encoder = png::Encoder::new(out, width, height);
    encoder.set_color(match image.channels {
        1 => png::ColorType::Grayscale,
        3 => png::ColorType::Rgb,
        4 => png::ColorType::Rgba,
        other => return Err(EncodeError(format!("PNG has 1, 3 or 4 channels, not {other}"))),
    });
    let write = || -> Result<(), png::EncodingError> {
        let mut writer = encoder.write_header()?;
        writer.write_image_data(image.pixels)?;
        writer.finish()
    };
    write().map_err(|error| EncodeError(error.to_string()))
}

/// Appends `image`, grey or RGB, as a binary PGM or PPM to `out`.
///
/// # Errors
/// Four channels, or no pixels.
pub fn pnm(image: ImageView<'_>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let magic = match image.channels {
        1 => "P5",
        3 => "P6",
        other => return Err(EncodeError(format!("PGM and PPM have 1 or 3 channels, not {other}"))),
    };
    let (height, width) = size(image)?;
    out.extend_from_slice(format!("{magic}\n{width} {height}\n255\n").as_bytes());
    out.extend_from_slice(image.pixels);
    Ok(())
}

/// Appends `image`, of any number of channels, as an array of NumPy to `out`: `[height, width, channels]`, bytes.
///
/// # Errors
/// No pixels.
pub fn npy(image: ImageView<'_>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let (height, width) = size(image)?;
    let shape = [u64::from(height), u64::from(width), image.channels as u64];
    let write = || {
        let mut writer = npyz::WriteOptions::<u8>::new().default_dtype().shape(&shape).writer(out).begin_nd()?;
        writer.extend(image.pixels.iter().copied())?;
        writer.finish()
    };
    write().map_err(|error| EncodeError(error.to_string()))
}

/// Height and width, of an image that has as many pixels as it says.
fn size(image: ImageView<'_>) -> Result<(u32, u32), EncodeError> {
    let bytes = (image.height.checked_mul(image.width)).and_then(|size| size.checked_mul(image.channels));
    match (u32::try_from(image.height), u32::try_from(image.width)) {
        (Ok(height), Ok(width)) if bytes == Some(image.pixels.len()) && bytes != Some(0) => Ok((height, width)),
        _ => Err(EncodeError(format!(
            "{}x{}x{} pixels in {} bytes",
            image.height,
            image.width,
            image.channels,
            image.pixels.len()
        ))),
    }
}
