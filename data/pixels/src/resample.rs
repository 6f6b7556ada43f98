//! Resampling a part of an image to a size.

use fast_image_resize as fir;
use fir::images::{TypedCroppedImage, TypedImage, TypedImageRef};
use fir::pixels::{U8, U8x3};
use fir::{FilterType, PixelTrait, ResizeAlg, ResizeOptions, Resizer};

use crate::image::{Image, ImageView};

/// How pixels between pixels are made. All are widened when shrinking (antialiased), as Pillow does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Filter {
    /// Bicubic with a = -0.5 (Catmull-Rom): the paper's.
    #[default]
    Bicubic,
    /// Bilinear.
    Bilinear,
}

/// A part of an image, in whole pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// First row.
    pub top: usize,
    /// First column.
    pub left: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl Window {
    /// All of an image.
    pub fn whole(image: ImageView<'_>) -> Self {
        Self { top: 0, left: 0, height: image.height, width: image.width }
    }
}

/// An image with no pixels, or one whose pixels are not as many as it says, or a window that is empty or leaves it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an image of {height}x{width}x{channels} with {bytes} bytes cannot be resampled; decode it again")]
pub struct ResampleError {
    /// Rows.
    pub height: usize,
    /// Pixels in a row.
    pub width: usize,
    /// Values of a pixel.
    pub channels: usize,
    /// Bytes it has.
    pub bytes: usize,
}

/// Resamples with SIMD; keeps its buffers.
#[derive(Clone, Debug, Default)]
pub struct Resample {
    resizer: fir::Resizer,
    /// One band of an image that is neither grey nor of three, and what becomes of it.
    band: [Image; 2],
}

impl Resample {
    /// Lets go of buffers that hold more than `bytes`: after a picture that was larger than most.
    pub fn keep_at_most(&mut self, bytes: usize) {
        if self.resizer.size_of_internal_buffers() > bytes {
            self.resizer.reset_internal_buffers();
        }
        for band in &mut self.band {
            if band.pixels.capacity() > bytes {
                *band = Image::default();
            }
        }
    }

    /// Resamples `window` of `from` to `height` x `width`, written into `to`, in one step and without a copy of the
    /// window. Pixels outside the window have no influence, as if it had been cut out before.
    ///
    /// # Errors
    /// `from` has no pixels or not as many as it says, the window is empty or leaves it, or it has no channels.
    pub fn run(
        &mut self,
        from: ImageView<'_>,
        window: Window,
        (height, width): (usize, usize),
        filter: Filter,
        to: &mut Image,
    ) -> Result<(), ResampleError> {
        let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(match filter {
            Filter::Bicubic => FilterType::CatmullRom,
            Filter::Bilinear => FilterType::Bilinear,
        }));
        to.reset(height, width, from.channels);
        // By the type of the pixels: the resizer's own choice compiles thirteen of them. Of four values the fourth would be
        // an alpha to it, which multiplies the others; here it is a band like them, infrared say.
        let resizer = &mut self.resizer;
        let done = match from.channels {
            1 => resize::<U8>(resizer, from, window, to, &options),
            3 => resize::<U8x3>(resizer, from, window, to, &options),
            0 => None,
            _ => resize_bands(resizer, &mut self.band, from, window, to, &options),
        };
        let ImageView { height, width, channels, pixels } = from;
        done.ok_or(ResampleError { height, width, channels, bytes: pixels.len() })
    }
}

/// The window is passed as an image of its own and not as the resizer's crop box: with some of those, version 6.1 reads
/// outside its buffers (its intermediate image is as wide as the last pixel needs, and an earlier one may need more). For
/// whole images first and last pixel always need the first and last column.
fn resize<P: PixelTrait>(
    resizer: &mut Resizer,
    from: ImageView<'_>,
    window: Window,
    to: &mut Image,
    options: &ResizeOptions,
) -> Option<()> {
    let view = TypedImageRef::<P>::from_buffer(side(from.width)?, side(from.height)?, from.pixels).ok()?;
    let (left, top) = (u32::try_from(window.left).ok()?, u32::try_from(window.top).ok()?);
    let part = TypedCroppedImage::from_ref(&view, left, top, side(window.width)?, side(window.height)?).ok()?;
    let mut to = TypedImage::<P>::from_buffer(side(to.width)?, side(to.height)?, &mut to.pixels).ok()?;
    resizer.resize_typed(&part, &mut to, options).ok()
}

/// One band after another: they are independent.
fn resize_bands(
    resizer: &mut Resizer,
    [band, resized]: &mut [Image; 2],
    from: ImageView<'_>,
    window: Window,
    to: &mut Image,
    options: &ResizeOptions,
) -> Option<()> {
    if from.pixels.len() != from.height * from.width * from.channels {
        return None;
    }
    for at in 0..from.channels {
        band.reset(from.height, from.width, 1);
        let values = from.pixels.iter().skip(at).step_by(from.channels);
        band.pixels.iter_mut().zip(values).for_each(|(to, &value)| *to = value);
        resized.reset(to.height, to.width, 1);
        resize::<U8>(resizer, band.view(), window, resized, options)?;
        to.pixels.iter_mut().skip(at).step_by(from.channels).zip(&resized.pixels).for_each(|(to, &value)| *to = value);
    }
    Some(())
}

/// A side that is not empty.
fn side(pixels: usize) -> Option<u32> {
    u32::try_from(pixels).ok().filter(|&pixels| pixels > 0)
}
