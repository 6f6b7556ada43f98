//! Pixels to JPEGs.

use jpeg_encoder::{ColorType, Encoder, SamplingFactor};

use crate::image::ImageView;

/// Pixels that cannot be a JPEG.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct JpegError(String);

/// How a JPEG is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jpeg {
    /// From 1, the smallest file, to 100, the least loss; in the scale of libjpeg.
    pub quality: u8,
    /// Columns and rows, 1 or 2, that share a value of colour.
    pub chroma: (u8, u8),
    /// Smallest coded units between two restart markers; 0 sets none.
    pub restart_interval: u16,
}

impl Jpeg {
    /// Appends `image`, grey or RGB, to `out`: one scan, the codes of the standard's examples.
    ///
    /// # Errors
    /// Other channels, no pixels or not as many as it says, a side longer than 65535, or a `chroma` of other numbers.
    pub fn encode(&self, image: ImageView<'_>, out: &mut Vec<u8>) -> Result<(), JpegError> {
        let colour = match image.channels {
            1 => ColorType::Luma,
            3 => ColorType::Rgb,
            other => return Err(JpegError(format!("JPEG has 1 or 3 channels, not {other}"))),
        };
        let side =
            |side| u16::try_from(side).map_err(|_| JpegError(format!("{side} pixels, and a JPEG has at most 65535")));
        let (height, width) = (side(image.height)?, side(image.width)?);
        let (columns, rows) = self.chroma;
        let sampling = SamplingFactor::from_factors(columns, rows).filter(|_| columns.max(rows) <= 2);
        let mut encoder = Encoder::new(out, self.quality.clamp(1, 100));
        encoder.set_sampling_factor(sampling.ok_or_else(|| JpegError(format!("no chroma of {columns}x{rows}")))?);
        if self.restart_interval > 0 {
            encoder.set_restart_interval(self.restart_interval);
        }
        encoder.encode(image.pixels, width, height, colour).map_err(|error| JpegError(error.to_string()))
    }
}
