//! Pixels to other pixels, with the targets that belong to them, and at last to numbers.
//!
//! One file per augmentation. Each is a plain struct of settings that implements [`Augment`]: it says what geometry it
//! makes of which before anything runs, and takes its randomness from the [`Draw`] it is given, so that a sample looks
//! the same whichever worker has it. One that moves pixels moves the target with them, or refuses targets that would have
//! to be moved.

mod axis;
mod centre_crop;
mod erase;
mod error;
mod flip;
mod mix;
mod normalise;
mod pad;
mod rand_augment;
mod random_resized_crop;

use std::fmt::Debug;

pub use centre_crop::CentreCrop;
pub use convnext_pixels::{Filter, Resample, Window};
pub use erase::{Erase, Fill};
pub use error::AugmentError;
pub use flip::Flip;
pub use mix::{blend_pairs, swap_in_pairs};
pub use normalise::Normalise;
pub use pad::Pad;
pub use rand_augment::{Operation, RandAugment};
pub use random_resized_crop::RandomResizedCrop;

use crate::image::Image;
use crate::random::Draw;
use crate::target::{Example, TargetKind};

/// What examples are like between two steps: known before any is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Height and width, where all images have the same.
    pub size: Option<(usize, usize)>,
    /// Values of a pixel.
    pub channels: usize,
    /// What comes with an image.
    pub target: TargetKind,
}

impl Geometry {
    /// Decoded images: any size, no target.
    pub fn decoded(channels: usize) -> Self {
        Self { size: None, channels, target: TargetKind::None }
    }

    /// The same with a target.
    pub fn with_target(self, target: TargetKind) -> Self {
        Self { target, ..self }
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

    /// Changes `example`. `draw` names the sample and decides everything random.
    fn apply(&self, example: &mut Example, draw: &Draw, scratch: &mut Scratch) -> Result<(), AugmentError>;

    /// The part that it will look at of an image of `height` x `width` for this draw; `None` where it needs all of it. What
    /// does not is given an [`Example`] that may be an [`Excerpt`](crate::image::Excerpt) with that part.
    fn looks_at(&self, _height: usize, _width: usize, _draw: &Draw) -> Option<Window> {
        None
    }

    /// The flip that this is, if it is one: see [`Chain::split_flip`].
    fn as_flip(&self) -> Option<Flip> {
        None
    }
}

/// Buffers that augmentations share. Make one per thread: in the steady state nothing is allocated per sample.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    /// Resamples.
    pub resample: Resample,
    /// Where a step writes its result before it swaps it with its input.
    pub image: Image,
    /// The source of each column of a segmentation.
    columns: Vec<Option<usize>>,
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

    /// The part that is needed of an image of `height` x `width` for this draw; `None` is all of it.
    pub fn looks_at(&self, height: usize, width: usize, draw: &Draw) -> Option<Window> {
        self.steps.first()?.looks_at(height, width, draw)
    }

    /// Takes the last step off the chain if it is a flip: who takes the images can mirror them on the way, as a GPU does,
    /// with [`Flip::leave_image`].
    pub fn split_flip(&mut self) -> Option<Flip> {
        let flip = self.steps.last()?.as_flip()?;
        self.steps.pop();
        Some(flip)
    }

    /// Runs all steps on `example`.
    pub fn apply(&self, example: &mut Example, draw: &Draw, scratch: &mut Scratch) -> Result<(), AugmentError> {
        self.steps.iter().try_for_each(|step| step.apply(example, draw, scratch))
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

    /// `image` after `augmentation`.
    pub(crate) fn applied(augmentation: &impl Augment, image: Image, sample: u64) -> Image {
        let mut example = Example::from(image);
        augmentation.apply(&mut example, &draw(sample), &mut Scratch::default()).unwrap();
        example.image
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
        let mut example = Example::from(testing::coordinates(100, 70));
        chain.apply(&mut example, &testing::draw(3), &mut Scratch::default()).unwrap();
        let Image { height, width, channels, .. } = example.image;
        assert_eq!((height, width, channels), (32, 48, 3));
    }

    #[test]
    fn a_flip_is_split_off_where_it_comes_last() {
        let chain = |steps: Vec<Box<dyn Augment>>| Chain::new(steps, Geometry::decoded(3)).unwrap();
        let crop = || Box::new(CentreCrop::new(8, 8));
        let mut last = chain(vec![crop(), Box::new(Flip { probability: 0.25 })]);
        assert_eq!(last.split_flip(), Some(Flip { probability: 0.25 }));
        assert_eq!(last.split_flip(), None);
        let mut first = chain(vec![crop(), Box::new(Flip::default()), Box::new(Erase::default())]);
        assert_eq!(first.split_flip(), None);
        // Whoever mirrors the image gets what the whole chain would have given.
        let whole = chain(vec![crop(), Box::new(Flip { probability: 0.25 })]);
        for sample in 0..50 {
            let (mut left, mut done) = (testing::coordinates(9, 8).into(), testing::coordinates(9, 8).into());
            last.apply(&mut left, &testing::draw(sample), &mut Scratch::default()).unwrap();
            whole.apply(&mut done, &testing::draw(sample), &mut Scratch::default()).unwrap();
            let flipped = Flip { probability: 0.25 }.leave_image(&mut left, &testing::draw(sample));
            assert_eq!(left != done, flipped);
        }
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
            let mut example = Example::from(testing::coordinates(60, 50));
            chain.apply(&mut example, &testing::draw(sample), scratch).unwrap();
            example
        };
        let mut used = Scratch::default();
        (0..50).for_each(|sample| drop(run(&mut used, sample)));
        for sample in 0..50 {
            assert_eq!(run(&mut used, sample), run(&mut Scratch::default(), sample));
        }
    }
}
