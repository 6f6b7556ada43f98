//! Left to right.

use super::{Augment, AugmentError, Geometry, Scratch, check_probability};
use crate::image::Image;
use crate::random::{Draw, Purpose};
use crate::target::{Example, Target};

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
    /// Mirrors the target alone, and says whether the image is still to be mirrored: by who takes it.
    pub fn leave_image(&self, example: &mut Example, draw: &Draw) -> bool {
        let flipped = draw.random(Purpose::Flip).chance(self.probability);
        if flipped {
            mirror_target(&mut example.target, example.image.width);
        }
        flipped
    }
}

impl Augment for Flip {
    fn output(&self, input: Geometry) -> Result<Geometry, AugmentError> {
        check_probability("flip", self.probability)?;
        Ok(input)
    }

    fn apply(&self, example: &mut Example, draw: &Draw, _: &mut Scratch) -> Result<(), AugmentError> {
        if self.leave_image(example, draw) {
            mirror(&mut example.image);
        }
        Ok(())
    }

    fn as_flip(&self) -> Option<Flip> {
        Some(*self)
    }
}

/// Of a picture that is `width` pixels wide.
fn mirror_target(target: &mut Target, width: usize) {
    match target {
        Target::None | Target::Class(_) | Target::Classes(_) => {}
        Target::Segmentation(map) => mirror(map),
        Target::Boxes(boxes) => {
            for object in boxes {
                (object.left, object.right) = (width as f32 - object.right, width as f32 - object.left);
            }
        }
    }
}

fn mirror(image: &mut Image) {
    match image.channels {
        1 => mirror_pixels::<1>(image),
        3 => mirror_pixels::<3>(image),
        4 => mirror_pixels::<4>(image),
        _ => mirror_bands(image),
    }
}

fn mirror_pixels<const C: usize>(image: &mut Image) {
    let (pixels, _) = image.pixels.as_chunks_mut::<C>();
    for row in pixels.chunks_exact_mut(image.width.max(1)) {
        row.reverse();
    }
}

fn mirror_bands(image: &mut Image) {
    let bands = image.channels;
    for row in image.pixels.chunks_exact_mut((image.width * bands).max(1)) {
        for left in 0..image.width / 2 {
            let right = image.width - 1 - left;
            for band in 0..bands {
                row.swap(left * bands + band, right * bands + band);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::augment::testing::{applied, coordinates};

    #[test]
    fn bands_are_mirrored_as_colours_are() {
        let three = coordinates(3, 5);
        let mut bands = three.clone();
        mirror_bands(&mut bands);
        assert_eq!(bands, applied(&Flip { probability: 1.0 }, three, 0));
    }

    #[test]
    fn mirrors_columns_and_keeps_rows() {
        let image = applied(&Flip { probability: 1.0 }, coordinates(3, 5), 0);
        assert_eq!(image.pixel(2, 0), [2, 4, 7]);
        assert_eq!(image.pixel(0, 4), [0, 0, 7]);
    }

    #[test]
    fn about_half_are_flipped() {
        let flipped = |sample| applied(&Flip::default(), coordinates(1, 2), sample).pixel(0, 0)[1] == 1;
        let count = (0..1000).filter(|&sample| flipped(sample)).count();
        assert!((440..560).contains(&count), "{count}");
    }
}
