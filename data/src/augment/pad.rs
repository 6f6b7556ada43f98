//! An image on a canvas of another size, shifted at random: for small images, where a crop would lose too much.

use super::{Augment, Geometry, Scratch, check_size, setting};
use crate::error::AugmentError;
use crate::image::Image;
use crate::random::{Draw, Purpose};

const NAME: &str = "pad";

/// Puts the image in the middle of a canvas, off by up to `shift` pixels each way. What leaves the canvas is cut.
///
/// 28x28 to 32x32: `Pad { height: 32, width: 32, shift: 2, fill: 0 }` moves it without cutting anything; `shift: 0`
/// centres it, for evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pad {
    /// Rows that come out.
    pub height: usize,
    /// Columns that come out.
    pub width: usize,
    /// Pixels it may be off, up, down, left and right.
    pub shift: usize,
    /// Value of the canvas, in every channel.
    pub fill: u8,
}

impl Augment for Pad {
    fn output(&self, input: Geometry) -> Result<Geometry, AugmentError> {
        check_size(NAME, self.height, self.width)?;
        let most = self.height.min(self.width);
        setting(self.shift < most, NAME, "shift", self.shift, "less than the size")?;
        Ok(input.resized(self.height, self.width))
    }

    fn apply(&self, image: &mut Image, draw: &Draw, scratch: &mut Scratch) -> Result<(), AugmentError> {
        let mut random = draw.random(Purpose::Shift);
        let mut shift = || random.range(2 * self.shift as u64 + 1) as isize - self.shift as isize;
        let top = centred(self.height, image.height) + shift();
        let left = centred(self.width, image.width) + shift();
        let (to_y, from_y, rows) = overlap(top, image.height, self.height);
        let (to_x, from_x, columns) = overlap(left, image.width, self.width);

        let (canvas, c) = (&mut scratch.image, image.channels);
        canvas.reset(self.height, self.width, c);
        canvas.pixels.fill(self.fill);
        for row in 0..rows {
            let to = ((to_y + row) * self.width + to_x) * c;
            let from = ((from_y + row) * image.width + from_x) * c;
            canvas.pixels[to..to + columns * c].copy_from_slice(&image.pixels[from..from + columns * c]);
        }
        std::mem::swap(image, canvas);
        Ok(())
    }
}

fn centred(canvas: usize, image: usize) -> isize {
    (canvas as isize - image as isize).div_euclid(2)
}

/// Where on the canvas, from where in the image, and how many, for an image that starts at `start`.
fn overlap(start: isize, image: usize, canvas: usize) -> (usize, usize, usize) {
    let (to, from) = (start.max(0) as usize, (-start).max(0) as usize);
    let count = canvas.saturating_sub(to).min(image.saturating_sub(from));
    if count == 0 { (0, 0, 0) } else { (to, from, count) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::augment::testing::{coordinates, draw};
    use proptest::prelude::*;

    fn apply(pad: Pad, mut image: Image, sample: u64) -> Image {
        pad.apply(&mut image, &draw(sample), &mut Scratch::default()).unwrap();
        image
    }

    #[test]
    fn without_shift_it_is_centred() {
        let padded = apply(Pad { height: 32, width: 32, shift: 0, fill: 9 }, coordinates(28, 28), 0);
        assert_eq!(padded.pixel(1, 1), [9, 9, 9]);
        assert_eq!(padded.pixel(2, 2), [0, 0, 7]);
        assert_eq!(padded.pixel(29, 29), [27, 27, 7]);
        assert_eq!(padded.pixel(30, 30), [9, 9, 9]);
    }

    #[test]
    fn a_smaller_canvas_crops() {
        let cropped = apply(Pad { height: 4, width: 6, shift: 0, fill: 9 }, coordinates(8, 8), 0);
        assert_eq!(cropped.pixel(0, 0), [2, 1, 7]);
        assert_eq!(cropped.pixel(3, 5), [5, 6, 7]);
    }

    #[test]
    fn every_shift_happens() {
        let pad = Pad { height: 6, width: 6, shift: 1, fill: 255 };
        let mut places: Vec<_> = (0..200)
            .map(|sample| {
                let image = apply(pad, coordinates(4, 4), sample);
                image.pixels.chunks(3).position(|p| p == [0, 0, 7]).unwrap()
            })
            .collect();
        places.sort_unstable();
        places.dedup();
        assert_eq!(places, [0, 1, 2, 6, 7, 8, 12, 13, 14]);
    }

    proptest! {
        #[test]
        fn every_size_works(h in 1usize..40, w in 1usize..40, to_h in 1usize..40, to_w in 1usize..40, shift in 0usize..60, s: u64) {
            let image = apply(Pad { height: to_h, width: to_w, shift, fill: 0 }, coordinates(h, w), s);
            prop_assert_eq!(image.pixels.len(), to_h * to_w * 3);
        }
    }
}
