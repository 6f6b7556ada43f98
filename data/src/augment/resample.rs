//! Resampling a part of an image to a size.

use fast_image_resize as fir;
use fir::images::{TypedCroppedImage, TypedImage, TypedImageRef};
use fir::pixels::{U8, U8x3, U8x4};
use fir::{FilterType, PixelTrait, ResizeAlg, ResizeOptions, Resizer};

use super::AugmentError;
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

/// Resamples with SIMD; keeps its buffers.
#[derive(Clone, Debug, Default)]
pub struct Resample {
    resizer: fir::Resizer,
}

impl Resample {
    /// Resamples `window` of `from` to `height` x `width`, written into `to`, in one step and without a copy of the
    /// window. Pixels outside the window have no influence, as if it had been cut out before.
    ///
    /// # Errors
    /// `from` has no pixels or not as many as it says, the window is empty or leaves it, or channels are not 1, 3 or 4.
    pub fn run(
        &mut self,
        from: ImageView<'_>,
        window: Window,
        (height, width): (usize, usize),
        filter: Filter,
        to: &mut Image,
    ) -> Result<(), AugmentError> {
        let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(match filter {
            Filter::Bicubic => FilterType::CatmullRom,
            Filter::Bilinear => FilterType::Bilinear,
        }));
        to.reset(height, width, from.channels);
        // By the type of the pixels: the resizer's own choice compiles thirteen of them.
        let resizer = &mut self.resizer;
        let done = match from.channels {
            1 => resize::<U8>(resizer, from, window, to, &options),
            3 => resize::<U8x3>(resizer, from, window, to, &options),
            4 => resize::<U8x4>(resizer, from, window, to, &options),
            _ => None,
        };
        done.ok_or(AugmentError::Image {
            height: from.height,
            width: from.width,
            channels: from.channels,
            bytes: from.pixels.len(),
            doing: "resampled",
        })
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

/// A side that is not empty.
fn side(pixels: usize) -> Option<u32> {
    u32::try_from(pixels).ok().filter(|&pixels| pixels > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::augment::testing::coordinates;
    use proptest::prelude::*;

    fn run(from: &Image, window: Window, size: (usize, usize)) -> Image {
        let mut to = Image::default();
        Resample::default().run(from.view(), window, size, Filter::Bicubic, &mut to).unwrap();
        to
    }

    #[test]
    fn the_same_size_is_the_same_image() {
        let image = coordinates(20, 30);
        assert_eq!(run(&image, Window::whole(image.view()), (20, 30)), image);
    }

    #[test]
    fn a_window_of_the_wanted_size_is_a_crop() {
        let image = coordinates(20, 30);
        let window = Window { top: 3, left: 5, height: 4, width: 6 };
        let crop = run(&image, window, (4, 6));
        assert_eq!(crop.pixel(0, 0), [3, 5, 7]);
        assert_eq!(crop.pixel(3, 5), [6, 10, 7]);
    }

    #[test]
    fn shrinking_is_antialiased() {
        // Stripes of one pixel: a filter that is not widened would return black or white.
        let pixels = (0..64 * 64).map(|i| if i % 2 == 0 { 0 } else { 255 }).collect();
        let stripes = Image::from_pixels(64, 64, 1, pixels).unwrap();
        let small = run(&stripes, Window::whole(stripes.view()), (8, 8));
        assert!(small.pixels.iter().all(|v| (120..136).contains(v)), "{:?}", small.pixels);
    }

    #[test]
    fn enlarging_keeps_a_ramp() {
        let image = coordinates(64, 64);
        let large = run(&image, Window::whole(image.view()), (128, 128));
        // Pixel 64 has its centre at 64.5 / 2 - 0.5 = 31.75.
        assert_eq!(large.pixel(64, 64), [32, 32, 7]);
    }

    #[test]
    fn a_window_outside_is_an_error() {
        let image = coordinates(8, 8);
        let window = Window { top: 4, left: 0, height: 8, width: 8 };
        let mut to = Image::default();
        let result = Resample::default().run(image.view(), window, (4, 4), Filter::Bicubic, &mut to);
        assert!(matches!(result, Err(AugmentError::Image { .. })));
    }

    /// Numbers from Pillow 12, `resize(..., BICUBIC)` and `crop((2, 1, 11, 9))` of `(3 x x + 17 y + 5 x y) % 256`, 12 wide and 10 high.
    #[test]
    fn is_what_pillow_does() {
        let value = |y: usize, x: usize| ((x * x * 3 + y * 17 + x * y * 5) % 256) as u8;
        let pixels = (0..10).flat_map(|y| (0..12).map(move |x| value(y, x))).collect();
        let image = Image::from_pixels(10, 12, 1, pixels).unwrap();
        let check = |to: Image, expected: &[u8]| {
            assert!(to.pixels.iter().zip(expected).all(|(a, b)| a.abs_diff(*b) <= 1), "{:?}", to.pixels);
        };
        let whole = Window::whole(image.view());
        let smaller = [
            7, 37, 105, 188, 110, 36, 80, 174, 150, 161, 66, 134, 187, 124, 165, 96, 179, 117, 148, 132, 134, 154, 103,
            123, 106, 165, 141, 151, 149, 95, 191, 126, 121, 117, 154,
        ];
        check(run(&image, whole, (7, 5)), &smaller);
        let first_row_larger = [0, 1, 6, 15, 27, 44, 64, 89, 117, 148, 184, 253, 147, 44, 106];
        check(run(&image, whole, (13, 15)), &first_row_larger);
        let window = Window { top: 1, left: 2, height: 8, width: 9 };
        let cropped = [68, 144, 182, 122, 133, 184, 120, 165, 180, 99, 141, 110, 154, 124, 157, 115];
        check(run(&image, window, (4, 4)), &cropped);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// Also the guard for reads outside buffers: sizes at which steps of the filter meet pixels exactly.
        #[test]
        fn every_window_and_size_works(
            (height, from_height, top) in side_and_part(), (width, from_width, left) in side_and_part(),
            to in (1usize..64, 1usize..64), channels in prop::sample::select(vec![1usize, 3, 4]),
        ) {
            let image = Image::from_pixels(height, width, channels, vec![200; height * width * channels]).unwrap();
            let window = Window { top, left, height: from_height, width: from_width };
            let small = run(&image, window, to);
            prop_assert!(small.pixels.iter().all(|&v| v.abs_diff(200) <= 1), "a flat image stays flat");
        }
    }

    fn side_and_part() -> impl Strategy<Value = (usize, usize, usize)> {
        (1usize..90)
            .prop_flat_map(|side| (Just(side), 1..=side))
            .prop_flat_map(|(side, part)| (Just(side), Just(part), 0..=side - part))
    }
}
