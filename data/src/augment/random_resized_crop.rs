//! A random part of the image, of random area and aspect, at a fixed size.

use super::axis::{Axis, move_target};
use super::{Augment, AugmentError, Filter, Geometry, Scratch, Window, check_size, setting};
use crate::random::{Draw, Purpose, Random};
use crate::target::Example;

const NAME: &str = "random resized crop";
/// Tries before the centre is taken.
const TRIES: usize = 10;

/// Torchvision's `RandomResizedCrop`: area uniform in `scale` times the image's, aspect log-uniform in `ratio`, ten
/// tries, then the largest centred part with an aspect inside `ratio`. Crop and resize are one resampling.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RandomResizedCrop {
    /// Rows that come out.
    pub height: usize,
    /// Columns that come out.
    pub width: usize,
    /// Smallest and largest part of the area, in (0, 1].
    pub scale: (f64, f64),
    /// Smallest and largest width / height.
    pub ratio: (f64, f64),
    /// How to resample.
    pub filter: Filter,
}

impl RandomResizedCrop {
    /// The paper's pre-training crop: 0.2 to 1 of the area, aspect 3/4 to 4/3, bicubic.
    pub fn new(height: usize, width: usize) -> Self {
        Self { height, width, scale: (0.2, 1.0), ratio: (3.0 / 4.0, 4.0 / 3.0), filter: Filter::Bicubic }
    }

    /// The window for an image of `height` x `width`.
    pub fn window(&self, height: usize, width: usize, random: &mut Random) -> Window {
        let (ratio_low, ratio_high) = (self.ratio.0.ln(), self.ratio.1.ln());
        let area = (height * width) as f64;
        for _ in 0..TRIES {
            let part = area * random.between(self.scale.0, self.scale.1);
            let aspect = random.between(ratio_low, ratio_high).exp();
            let (h, w) = (round((part / aspect).sqrt()), round((part * aspect).sqrt()));
            if (1..=height).contains(&h) && (1..=width).contains(&w) {
                return Window {
                    top: random.range((height - h) as u64 + 1) as usize,
                    left: random.range((width - w) as u64 + 1) as usize,
                    height: h,
                    width: w,
                };
            }
        }
        self.centre(height, width)
    }

    fn centre(&self, height: usize, width: usize) -> Window {
        let aspect = width as f64 / height as f64;
        let (h, w) = if aspect < self.ratio.0 {
            (round(width as f64 / self.ratio.0).clamp(1, height), width)
        } else if aspect > self.ratio.1 {
            (height, round(height as f64 * self.ratio.1).clamp(1, width))
        } else {
            (height, width)
        };
        Window { top: (height - h) / 2, left: (width - w) / 2, height: h, width: w }
    }
}

fn round(side: f64) -> usize {
    side.round() as usize
}

impl Augment for RandomResizedCrop {
    fn output(&self, input: Geometry) -> Result<Geometry, AugmentError> {
        check_size(NAME, self.height, self.width)?;
        let (low, high) = self.scale;
        setting(0.0 < low && low <= high && high <= 1.0, NAME, "scale", self.scale, "rising, in (0, 1]")?;
        let (low, high) = self.ratio;
        setting(0.0 < low && low <= high && high <= 100.0, NAME, "ratio", self.ratio, "rising, in (0, 100]")?;
        Ok(input.resized(self.height, self.width))
    }

    fn looks_at(&self, height: usize, width: usize, draw: &Draw) -> Option<Window> {
        Some(self.window(height, width, &mut draw.random(Purpose::Crop)))
    }

    fn apply(&self, example: &mut Example, draw: &Draw, scratch: &mut Scratch) -> Result<(), AugmentError> {
        let placed = example.placed();
        let Example { image, target, excerpt } = example;
        let window = self.window(placed.height, placed.width, &mut draw.random(Purpose::Crop));
        // A window outside of the excerpt is refused by the resampler.
        let (top, left) = (window.top.wrapping_sub(placed.top), window.left.wrapping_sub(placed.left));
        let inside = Window { top, left, ..window };
        scratch.resample.run(image.view(), inside, (self.height, self.width), self.filter, &mut scratch.image)?;
        std::mem::swap(image, &mut scratch.image);
        *excerpt = None;
        let rows = Axis::resized(window.top, window.height, self.height);
        let columns = Axis::resized(window.left, window.width, self.width);
        move_target(target, rows, columns, scratch);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::augment::testing::draw;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn windows_lie_inside(height in 1usize..400, width in 1usize..400, sample: u64) {
            let crop = RandomResizedCrop::new(8, 8);
            let w = crop.window(height, width, &mut draw(sample).random(Purpose::Crop));
            prop_assert!(w.height >= 1 && w.width >= 1);
            prop_assert!(w.top + w.height <= height && w.left + w.width <= width);
        }
    }

    #[test]
    fn area_and_aspect_keep_their_ranges() {
        let crop = RandomResizedCrop::new(8, 8);
        let windows = (0..2000).map(|s| crop.window(1000, 1000, &mut draw(s).random(Purpose::Crop)));
        let (mut mean, mut count) = (0.0, 0.0);
        for w in windows {
            let (area, aspect) = ((w.height * w.width) as f64 / 1e6, w.width as f64 / w.height as f64);
            assert!((0.199..=1.0).contains(&area), "area {area}");
            assert!((0.74..=1.34).contains(&aspect), "aspect {aspect}");
            (mean, count) = (mean + area, count + 1.0);
        }
        // Large areas fit less often, so that the mean is a little below that of a uniform distribution, 0.6.
        assert!((0.5..0.6).contains(&(mean / count)), "mean area {}", mean / count);
    }

    #[test]
    fn a_ribbon_falls_back_to_its_centre() {
        let crop = RandomResizedCrop::new(8, 8);
        let window = crop.window(10, 1000, &mut draw(0).random(Purpose::Crop));
        assert_eq!(window, Window { top: 0, left: 493, height: 10, width: 13 });
    }
}
