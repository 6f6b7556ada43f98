//! Left to right.

use super::{Augment, Geometry, Scratch, check_probability};
use crate::error::AugmentError;
use crate::image::Image;
use crate::random::{Draw, Purpose};

/// Mirrors the image left to right with a probability.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Flip {
    /// From 0 to 1.
    pub probability: f64,
}

impl Default for Flip {
    fn default() -> Self {
        Self { probability: 0.5 }
    }
}

impl Flip {
    /// Whether this sample is mirrored: for who mirrors it elsewhere.
    pub fn decides(&self, draw: &Draw) -> bool {
        draw.random(Purpose::Flip).chance(self.probability)
    }
}

impl Augment for Flip {
    fn output(&self, input: Geometry) -> Result<Geometry, AugmentError> {
        check_probability("flip", self.probability)?;
        Ok(input)
    }

    fn apply(&self, image: &mut Image, draw: &Draw, _: &mut Scratch) -> Result<(), AugmentError> {
        if self.decides(draw) {
            mirror(image);
        }
        Ok(())
    }
}

fn mirror(image: &mut Image) {
    match image.channels {
        1 => mirror_pixels::<1>(image),
        3 => mirror_pixels::<3>(image),
        4 => mirror_pixels::<4>(image),
        other => debug_assert!(false, "no image has {other} channels"),
    }
}

fn mirror_pixels<const C: usize>(image: &mut Image) {
    let (pixels, _) = image.pixels.as_chunks_mut::<C>();
    for row in pixels.chunks_exact_mut(image.width.max(1)) {
        row.reverse();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::augment::testing::{coordinates, draw};

    #[test]
    fn mirrors_columns_and_keeps_rows() {
        let mut image = coordinates(3, 5);
        Flip { probability: 1.0 }.apply(&mut image, &draw(0), &mut Scratch::default()).unwrap();
        assert_eq!(image.pixel(2, 0), [2, 4, 7]);
        assert_eq!(image.pixel(0, 4), [0, 0, 7]);
    }

    #[test]
    fn about_half_are_flipped() {
        let flipped = |sample| {
            let mut image = coordinates(1, 2);
            Flip::default().apply(&mut image, &draw(sample), &mut Scratch::default()).unwrap();
            image.pixel(0, 0)[1] == 1
        };
        let count = (0..1000).filter(|&sample| flipped(sample)).count();
        assert!((440..560).contains(&count), "{count}");
    }
}
