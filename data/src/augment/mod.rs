//! Pixels to other pixels, and at last to numbers.
//!
//! One file per augmentation. Each is a plain struct of settings that implements [`Augment`]: it says what geometry it
//! makes of which before anything runs, and takes its randomness from the [`Draw`] it is given, so that a sample looks
//! the same whichever worker has it.

mod centre_crop;
mod erase;
mod flip;
mod normalise;
mod pad;
mod rand_augment;
mod random_resized_crop;
mod resample;

use std::fmt::Debug;

pub use centre_crop::CentreCrop;
pub use erase::{Erase, Fill};
pub use flip::Flip;
pub use normalise::Normalise;
pub use pad::Pad;
pub use rand_augment::{Operation, RandAugment};
pub use random_resized_crop::RandomResizedCrop;
pub use resample::{Filter, Resample, Window};

use crate::error::AugmentError;
use crate::image::Image;
use crate::random::Draw;

/// The shape of images between two steps: what is known before any image is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Height and width, where all images have the same.
    pub size: Option<(usize, usize)>,
    /// Values of a pixel: 1, 3 or 4.
    pub channels: usize,
}

impl Geometry {
    /// Decoded images: any size.
    pub fn decoded(channels: usize) -> Self {
        Self { size: None, channels }
    }

    /// The same channels at a fixed size.
    pub fn resized(self, height: usize, width: usize) -> Self {
        Self { size: Some((height, width)), ..self }
    }
}

/// One step of augmentation.
pub trait Augment: Debug + Send + Sync {
    /// The geometry it makes of `input`.
    ///
    /// # Errors
    /// A setting is out of range, or it cannot work on `input`.
    fn output(&self, input: Geometry) -> Result<Geometry, AugmentError>;

    /// Changes `image`. `draw` names the sample and decides everything random.
    fn apply(&self, image: &mut Image, draw: &Draw, scratch: &mut Scratch) -> Result<(), AugmentError>;
}

/// Buffers that augmentations share. Make one per thread: in the steady state nothing is allocated per sample.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    /// Resamples.
    pub resample: Resample,
    /// Where a step writes its result before it swaps it with its input.
    pub image: Image,
}

/// Steps in sequence, checked to fit.
#[derive(Debug)]
pub struct Chain {
    steps: Vec<Box<dyn Augment>>,
    channels: usize,
    size: (usize, usize),
}

impl Chain {
    /// Joins `steps`, the first of which gets `input`.
    ///
    /// # Errors
    /// A step refuses what it would get, or images of any size would come out.
    pub fn new(steps: Vec<Box<dyn Augment>>, input: Geometry) -> Result<Self, AugmentError> {
        let output = steps.iter().try_fold(input, |geometry, step| step.output(geometry))?;
        let size = output.size.ok_or(AugmentError::AnySize)?;
        Ok(Self { steps, channels: output.channels, size })
    }

    /// Height, width and channels of every image that comes out.
    pub fn output(&self) -> (usize, usize, usize) {
        (self.size.0, self.size.1, self.channels)
    }

    /// Runs all steps on `image`.
    pub fn apply(&self, image: &mut Image, draw: &Draw, scratch: &mut Scratch) -> Result<(), AugmentError> {
        self.steps.iter().try_for_each(|step| step.apply(image, draw, scratch))
    }
}

/// Fails unless `holds`: for the checks of settings in [`Augment::output`].
fn setting(
    holds: bool,
    augmentation: &'static str,
    setting: &'static str,
    value: impl Debug,
    wanted: &'static str,
) -> Result<(), AugmentError> {
    if holds {
        return Ok(());
    }
    Err(AugmentError::Setting { augmentation, setting, value: format!("{value:?}"), wanted })
}

/// Fails for a height or width of zero, or one larger than a JPEG can have.
fn check_size(augmentation: &'static str, height: usize, width: usize) -> Result<(), AugmentError> {
    let sound = |side| (1..=65_535).contains(&side);
    setting(sound(height) && sound(width), augmentation, "size", (height, width), "1 to 65535")
}

/// Fails for a probability outside [0, 1].
fn check_probability(augmentation: &'static str, p: f64) -> Result<(), AugmentError> {
    setting((0.0..=1.0).contains(&p), augmentation, "probability", p, "from 0 to 1")
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// An image in which every pixel tells where it is: (y, x, 7).
    pub(crate) fn coordinates(height: usize, width: usize) -> Image {
        let pixels = (0..height).flat_map(|y| (0..width).flat_map(move |x| [y as u8, x as u8, 7])).collect();
        Image::from_pixels(height, width, 3, pixels).unwrap()
    }

    pub(crate) fn draw(sample: u64) -> Draw {
        Draw { seed: 1, epoch: 0, sample }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_tells_its_output_before_it_runs() {
        let chain =
            Chain::new(vec![Box::new(RandomResizedCrop::new(32, 48)), Box::new(Flip::default())], Geometry::decoded(3))
                .unwrap();
        assert_eq!(chain.output(), (32, 48, 3));
        let mut image = testing::coordinates(100, 70);
        chain.apply(&mut image, &testing::draw(3), &mut Scratch::default()).unwrap();
        assert_eq!((image.height, image.width, image.channels), (32, 48, 3));
    }

    #[test]
    fn a_chain_of_any_size_is_refused() {
        let chain = Chain::new(vec![Box::new(Flip::default())], Geometry::decoded(3));
        assert_eq!(chain.unwrap_err(), AugmentError::AnySize);
    }

    #[test]
    fn settings_are_checked_before_anything_runs() {
        let chain = Chain::new(vec![Box::new(RandomResizedCrop::new(0, 48))], Geometry::decoded(3));
        assert!(matches!(chain.unwrap_err(), AugmentError::Setting { setting: "size", .. }));
    }

    #[test]
    fn a_sample_is_the_same_whatever_came_before() {
        let chain = Chain::new(
            vec![
                Box::new(RandomResizedCrop::new(24, 24)),
                Box::new(Flip::default()),
                Box::new(RandAugment::default()),
                Box::new(Erase::default()),
            ],
            Geometry::decoded(3),
        )
        .unwrap();
        let run = |scratch: &mut Scratch, sample| {
            let mut image = testing::coordinates(60, 50);
            chain.apply(&mut image, &testing::draw(sample), scratch).unwrap();
            image
        };
        let mut used = Scratch::default();
        (0..50).for_each(|sample| drop(run(&mut used, sample)));
        for sample in 0..50 {
            assert_eq!(run(&mut used, sample), run(&mut Scratch::default(), sample));
        }
    }
}
