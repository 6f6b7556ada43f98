//! An image on a canvas, shifted at random: for small images, where a crop would lose too much.
//!
//! An image that is larger than the canvas is shrunk to fit into it, in training as in evaluation. Its middle alone would
//! be another picture than the one that its label is of, and would show the two another part of the world.

use super::axis::{Axis, move_target};
use super::{Augment, AugmentError, Filter, Geometry, Scratch, Window, check_size, setting};
use crate::image::Image;
use crate::random::{Draw, Purpose};
use crate::target::Example;

const NAME: &str = "pad";

/// Puts the image in the middle of a canvas, off by up to `shift` pixels each way. What the shift moves off the canvas is
/// cut. An image with a side that is longer than the canvas's is shrunk first, bicubic and antialiased, with its aspect
/// kept, until both fit; one that fits keeps its pixels.
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

    fn apply(&self, example: &mut Example, draw: &Draw, scratch: &mut Scratch) -> Result<(), AugmentError> {
        let Example { image, target, .. } = example;
        let (height, width) = (image.height, image.width);
        self.shrink(image, scratch)?;
        let mut random = draw.random(Purpose::Shift);
        let mut shift = || random.range(2 * self.shift as u64 + 1) as isize - self.shift as isize;
        let top = centred(self.height, image.height) + shift();
        let left = centred(self.width, image.width) + shift();
        let rows = Axis { start: 0, part: height, length: image.height, offset: top, canvas: self.height };
        let columns = Axis { start: 0, part: width, length: image.width, offset: left, canvas: self.width };
        self.lay(image, (top, left), scratch);
        move_target(target, rows, columns, scratch);
        Ok(())
    }
}

impl Pad {
    /// Puts the image on the canvas, its first pixel at `(top, left)`.
    fn lay(&self, image: &mut Image, (top, left): (isize, isize), scratch: &mut Scratch) {
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
    }

    fn shrink(&self, image: &mut Image, scratch: &mut Scratch) -> Result<(), AugmentError> {
        if image.height <= self.height && image.width <= self.width {
            return Ok(());
        }
        let scale = (self.height as f64 / image.height as f64).min(self.width as f64 / image.width as f64);
        let shrunk = |side: usize, most: usize| ((side as f64 * scale).round() as usize).clamp(1, most);
        let size = (shrunk(image.height, self.height), shrunk(image.width, self.width));
        let whole = Window::whole(image.view());
        scratch.resample.run(image.view(), whole, size, Filter::Bicubic, &mut scratch.image)?;
        std::mem::swap(image, &mut scratch.image);
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
    use crate::augment::testing::{applied, coordinates};
    use proptest::prelude::*;

    #[test]
    fn without_shift_it_is_centred() {
        let padded = applied(&Pad { height: 32, width: 32, shift: 0, fill: 9 }, coordinates(28, 28), 0);
        assert_eq!(padded.pixel(1, 1), [9, 9, 9]);
        assert_eq!(padded.pixel(2, 2), [0, 0, 7]);
        assert_eq!(padded.pixel(29, 29), [27, 27, 7]);
        assert_eq!(padded.pixel(30, 30), [9, 9, 9]);
    }

    /// Expected values from Pillow 13: `resize((32, 16), BICUBIC)` of 40 rows of 80, pixel (3y, 2x), on black.
    #[test]
    fn a_larger_image_is_shrunk_into_the_canvas() {
        let pixels = (0..40).flat_map(|y| (0..80).flat_map(move |x| [3 * y as u8, 2 * x as u8, 7])).collect();
        let image = Image::from_pixels(40, 80, 3, pixels).unwrap();
        let padded = applied(&Pad { height: 32, width: 32, shift: 0, fill: 0 }, image, 0);
        assert_eq!((padded.height, padded.width), (32, 32));
        assert_eq!(padded.pixel(7, 16), [0, 0, 0]);
        assert_eq!(padded.pixel(24, 16), [0, 0, 0]);
        let expected =
            [((8, 0), [2, 1, 7]), ((8, 31), [2, 157, 7]), ((16, 16), [62, 82, 7]), ((23, 31), [115, 157, 7])];
        for ((y, x), expected) in expected {
            let near = padded.pixel(y, x).iter().zip(expected).all(|(a, b)| a.abs_diff(b) <= 1);
            assert!(near, "({y}, {x}): {:?}, expected {expected:?}", padded.pixel(y, x));
        }
    }

    #[test]
    fn the_border_of_a_larger_image_stays() {
        // A white frame of a tenth around black: its middle alone would be black.
        let border = |at: usize| !(32..288).contains(&at);
        let pixels = (0..320 * 320).map(|i| if border(i / 320) || border(i % 320) { 255 } else { 0 }).collect();
        let image = Image::from_pixels(320, 320, 1, pixels).unwrap();
        let padded = applied(&Pad { height: 32, width: 32, shift: 0, fill: 0 }, image, 0);
        assert!(padded.pixel(0, 0)[0] > 250 && padded.pixel(16, 1)[0] > 250 && padded.pixel(16, 16)[0] < 5);
    }

    #[test]
    fn a_ribbon_keeps_a_pixel() {
        let padded = applied(&Pad { height: 8, width: 8, shift: 0, fill: 9 }, Image::new(1, 60_000, 3), 0);
        assert_eq!((padded.pixel(3, 0), padded.pixel(4, 0)), (&[0; 3][..], &[9; 3][..]));
    }

    #[test]
    fn every_shift_happens() {
        let pad = Pad { height: 6, width: 6, shift: 1, fill: 255 };
        let mut places: Vec<_> = (0..200)
            .map(|sample| {
                let image = applied(&pad, coordinates(4, 4), sample);
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
            let image = applied(&Pad { height: to_h, width: to_w, shift, fill: 0 }, coordinates(h, w), s);
            prop_assert_eq!(image.pixels.len(), to_h * to_w * 3);
        }
    }
}
