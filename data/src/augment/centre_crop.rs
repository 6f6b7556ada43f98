//! What evaluation looks at.

use super::axis::{Axis, move_target};
use super::{Augment, AugmentError, Filter, Geometry, Scratch, Window, check_size, setting};
use crate::image::Image;
use crate::random::Draw;
use crate::target::Example;

const NAME: &str = "centre crop";

/// The image shrunk so that the wanted size is `fraction` of it, then its centre; or all of it, warped.
///
/// For a square size S: short side to `floor(S / fraction)`, then the centre S x S, as torchvision does it. Of images
/// more than sixteen times longer than that, only the middle is resampled; for fractions below a half sooner.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CentreCrop {
    /// Rows that come out.
    pub height: usize,
    /// Columns that come out.
    pub width: usize,
    /// Part of the shrunk image that is kept on its tighter side, from [`CentreCrop::LEAST_FRACTION`] to 1; `None` warps
    /// the whole image.
    pub fraction: Option<f64>,
    /// How to resample.
    pub filter: Filter,
}

impl CentreCrop {
    /// The smallest fraction: all of the image is resampled before it is cut, and a smaller part of it would be a few
    /// pixels, enlarged.
    pub const LEAST_FRACTION: f64 = 1.0 / 16.0;

    /// The paper's evaluation: below 384 a fraction of 0.875, from 384 on a warp. Bicubic.
    pub fn new(height: usize, width: usize) -> Self {
        let fraction = (height.min(width) < 384).then_some(0.875);
        Self { height, width, fraction, filter: Filter::Bicubic }
    }

    /// With another fraction, or a warp.
    pub fn with_fraction(self, fraction: Option<f64>) -> Self {
        Self { fraction, ..self }
    }

    /// The part of an image that is shrunk, and the size it is shrunk to.
    fn shrinking(&self, height: usize, width: usize) -> (Window, (usize, usize)) {
        let wanted = (self.height, self.width);
        let Some(fraction) = self.fraction else {
            return (Window { top: 0, left: 0, height, width }, wanted);
        };
        let covered = |side: usize| (side as f64 / fraction).floor();
        // A ribbon would grow out of all measure; what lies that far from its centre is cut off later anyway.
        let times = (32.0 * fraction).clamp(2.0, 16.0) as u128;
        let height_kept = height.min(most(width, times, self.height, self.width));
        let width_kept = width.min(most(height, times, self.width, self.height));
        let (h, w) = (height_kept as f64, width_kept as f64);
        let scale = (covered(self.height) / h).max(covered(self.width) / w);
        let shrunk = |side: f64, wanted: usize| ((side * scale + 1e-9).floor() as usize).max(wanted);
        let window = Window {
            top: (height - height_kept) / 2,
            left: (width - width_kept) / 2,
            height: height_kept,
            width: width_kept,
        };
        (window, (shrunk(h, self.height), shrunk(w, self.width)))
    }
}

/// The longest side worth shrinking for an image whose other side is `other`: so many times what is looked at.
fn most(other: usize, times: u128, wanted: usize, wanted_other: usize) -> usize {
    (other as u128 * times * wanted as u128).div_ceil(wanted_other as u128).min(usize::MAX as u128) as usize
}

/// Where the centre begins. Python rounds a half to the even number, and torchvision with it.
fn centre(side: usize, wanted: usize) -> usize {
    ((side - wanted) as f64 / 2.0).round_ties_even() as usize
}

/// Cuts the centre out of `image`, in place.
fn cut_centre(image: &mut Image, height: usize, width: usize) {
    let (top, left) = (centre(image.height, height), centre(image.width, width));
    let row = width * image.channels;
    for y in 0..height {
        let from = ((top + y) * image.width + left) * image.channels;
        image.pixels.copy_within(from..from + row, y * row);
    }
    image.reset(height, width, image.channels);
}

impl Augment for CentreCrop {
    fn output(&self, input: Geometry) -> Result<Geometry, AugmentError> {
        check_size(NAME, self.height, self.width)?;
        let sound = self.fraction.is_none_or(|f| (Self::LEAST_FRACTION..=1.0).contains(&f));
        setting(sound, NAME, "fraction", self.fraction, "from 0.0625 to 1")?;
        Ok(input.resized(self.height, self.width))
    }

    fn apply(&self, example: &mut Example, _: &Draw, scratch: &mut Scratch) -> Result<(), AugmentError> {
        let Example { image, target, .. } = example;
        let (window, size) = self.shrinking(image.height, image.width);
        scratch.resample.run(image.view(), window, size, self.filter, &mut scratch.image)?;
        std::mem::swap(image, &mut scratch.image);
        cut_centre(image, self.height, self.width);
        let axis = |start, part, length, canvas| {
            let offset = -(centre(length, canvas) as isize);
            Axis { start, part, length, offset, canvas }
        };
        let rows = axis(window.top, window.height, size.0, self.height);
        let columns = axis(window.left, window.width, size.1, self.width);
        move_target(target, rows, columns, scratch);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::augment::testing::{applied, coordinates};
    use proptest::prelude::*;

    #[test]
    fn equals_resizing_and_then_cropping() {
        let image = coordinates(200, 250);
        let mut scratch = Scratch::default();
        // Short side to 128 / 0.875 = 146, so 146 x 182, then the centre: 9 rows and 27 columns in.
        let mut resized = Image::default();
        let whole = Window::whole(image.view());
        scratch.resample.run(image.view(), whole, (146, 182), Filter::Bicubic, &mut resized).unwrap();
        let cropped = applied(&CentreCrop::new(128, 128), image, 0);
        for (y, x) in [(0, 0), (0, 127), (127, 0), (64, 64), (127, 127)] {
            assert_eq!(cropped.pixel(y, x), resized.pixel(y + 9, x + 27));
        }
    }

    #[test]
    fn a_ribbon_stays_small() {
        let (window, size) = CentreCrop::new(224, 224).shrinking(1, 1 << 26);
        assert_eq!(window, Window { top: 0, left: (1 << 25) - 8, height: 1, width: 16 });
        assert_eq!(size, (256, 4096));
    }

    #[test]
    fn a_tiny_fraction_is_refused_and_the_least_one_stays_small() {
        for fraction in [1e-9, 0.06, 0.0, -1.0, f64::NAN, f64::INFINITY] {
            let crop = CentreCrop::new(224, 224).with_fraction(Some(fraction));
            assert!(crop.output(Geometry::decoded(3)).is_err(), "{fraction}");
        }
        let least = CentreCrop::new(224, 224).with_fraction(Some(CentreCrop::LEAST_FRACTION));
        assert!(least.output(Geometry::decoded(3)).is_ok());
        for (height, width) in [(1, 65_535), (65_535, 1), (1, 1), (65_535, 1000)] {
            let (_, (h, w)) = least.shrinking(height, width);
            assert!(h * w <= 2 * (16 * 224usize).pow(2), "{height}x{width} becomes {h}x{w}");
        }
    }

    #[test]
    fn from_384_on_the_whole_image_is_warped() {
        let shrinking = CentreCrop::new(384, 384).shrinking(100, 300);
        assert_eq!(shrinking, (Window { top: 0, left: 0, height: 100, width: 300 }, (384, 384)));
    }

    proptest! {
        #[test]
        fn every_size_works(
            height in 1usize..200, width in 1usize..200, to_height in 1usize..64, to_width in 1usize..64,
            fraction in 0.1f64..=1.0,
        ) {
            let crop = CentreCrop::new(to_height, to_width).with_fraction(Some(fraction));
            let image = applied(&crop, coordinates(height, width), 0);
            prop_assert_eq!((image.height, image.width), (to_height, to_width));
        }
    }
}
