//! Random erasing: a rectangle of the image is lost. Its target stays.

use super::normalise::IMAGENET;
use super::{Augment, AugmentError, Geometry, Scratch, check_probability, setting};
use crate::image::Image;
use crate::random::{Draw, Purpose, Random};
use crate::target::Example;

const NAME: &str = "random erasing";
/// Tries to find a rectangle that fits; after them the image stays whole.
const TRIES: usize = 10;
/// Mean and standard deviation of noise on grey images.
const GREY: [(f32, f32); 1] = [(118.0, 57.6)];
/// The same of each channel: ImageNet's colours, opaque.
const RGBA: [(f32, f32); 4] = [of_bytes(IMAGENET[0]), of_bytes(IMAGENET[1]), of_bytes(IMAGENET[2]), (255.0, 0.0)];

const fn of_bytes((mean, deviation): (f64, f64)) -> (f32, f32) {
    ((255.0 * mean) as f32, (255.0 * deviation) as f32)
}

/// What takes the place of erased pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fill {
    /// One colour; the first `channels` values are used, and again from the first for more than four.
    Colour([u8; 4]),
    /// Normal noise about ImageNet's mean and deviation per channel, cut to 0..=255: the official recipe's, whose
    /// noise is standard normal after normalisation.
    Noise,
}

/// Erases one rectangle with a probability (Zhong et al., *Random erasing data augmentation*, 2017).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Erase {
    /// From 0 to 1; the official recipe has 0.25.
    pub probability: f64,
    /// Smallest and largest part of the image's area.
    pub area: (f64, f64),
    /// Smallest and largest width / height, log-uniform.
    pub ratio: (f64, f64),
    /// What takes their place.
    pub fill: Fill,
}

impl Default for Erase {
    fn default() -> Self {
        Self { probability: 0.25, area: (0.02, 1.0 / 3.0), ratio: (0.3, 1.0 / 0.3), fill: Fill::Noise }
    }
}

impl Erase {
    /// Top, left, height, width; `None` where no try fits.
    fn rectangle(&self, image: &Image, random: &mut Random) -> Option<[usize; 4]> {
        let whole = (image.height * image.width) as f64;
        (0..TRIES).find_map(|_| {
            let area = whole * random.between(self.area.0, self.area.1);
            let aspect = random.between(self.ratio.0.ln(), self.ratio.1.ln()).exp();
            let height = (area / aspect).sqrt().round() as usize;
            let width = (area * aspect).sqrt().round() as usize;
            (height < image.height && width < image.width).then(|| {
                let top = random.range((image.height - height) as u64 + 1) as usize;
                let left = random.range((image.width - width) as u64 + 1) as usize;
                [top, left, height, width]
            })
        })
    }
}

impl Augment for Erase {
    fn output(&self, input: Geometry) -> Result<Geometry, AugmentError> {
        check_probability(NAME, self.probability)?;
        let (low, high) = self.area;
        setting(0.0 < low && low <= high && high <= 1.0, NAME, "area", self.area, "rising, in (0, 1]")?;
        let (low, high) = self.ratio;
        setting(0.0 < low && low <= high && high <= 100.0, NAME, "ratio", self.ratio, "rising, in (0, 100]")?;
        Ok(input)
    }

    fn apply(&self, example: &mut Example, draw: &Draw, _: &mut Scratch) -> Result<(), AugmentError> {
        let image = &mut example.image;
        let mut random = draw.random(Purpose::Erase);
        if !random.chance(self.probability) {
            return Ok(());
        }
        if let Some([top, left, height, width]) = self.rectangle(image, &mut random) {
            let c = image.channels;
            for y in top..top + height {
                let start = (y * image.width + left) * c;
                let row = &mut image.pixels[start..start + width * c];
                row.chunks_exact_mut(c).for_each(|pixel| fill(self.fill, pixel, &mut random));
            }
        }
        Ok(())
    }
}

fn fill(fill: Fill, pixel: &mut [u8], random: &mut Random) {
    match fill {
        Fill::Colour(colour) => pixel.iter_mut().zip(colour.iter().cycle()).for_each(|(to, &value)| *to = value),
        Fill::Noise => {
            let statistics = if matches!(pixel.len(), 3 | 4) { &RGBA[..] } else { &GREY };
            for (value, (mean, deviation)) in pixel.iter_mut().zip(statistics.iter().cycle()) {
                *value = (mean + deviation * random.normal()).round() as u8; // `as` saturates
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::augment::testing::applied;

    #[test]
    fn erases_a_rectangle_of_the_stated_area() {
        let erase = Erase { probability: 1.0, fill: Fill::Colour([255; 4]), ..Erase::default() };
        for sample in 0..200 {
            let image = applied(&erase, Image::new(64, 64, 3), sample);
            let erased = image.pixels.iter().filter(|&&v| v == 255).count() as f64 / 3.0 / 4096.0;
            assert!((0.015..0.35).contains(&erased), "{erased}");
        }
    }

    #[test]
    fn happens_as_often_as_stated() {
        let erased = |sample| {
            let image = applied(&Erase::default(), Image::new(16, 16, 1), sample);
            image.pixels.iter().any(|&v| v != 0)
        };
        let count = (0..1000).filter(|&sample| erased(sample)).count();
        assert!((200..300).contains(&count), "{count}");
    }
}
