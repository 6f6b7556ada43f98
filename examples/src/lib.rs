//! What the lessons share: pictures that need no download.

use std::ops::Range;

use convnext_data::{Purpose, Random};

/// Height and width of a picture, in pixels.
pub const SIDE: usize = 16;

/// The classes, by number.
pub const CLASSES: [&str; 2] = ["lying", "standing"];

/// Picture number `sample`: grey stripes that lie or stand, of some width, phase and noise. `[16, 16, 1]` bytes, and its
/// class. Even numbers lie.
pub fn picture(sample: u64) -> (Vec<u8>, usize) {
    let mut random = Random::new(1, 0, sample, Purpose::Augment);
    let class = (sample % 2) as usize;
    let (width, phase) = (1.0 + random.range(3) as f32, random.range(7) as f32);
    let pixels = (0..SIDE * SIDE).map(|pixel| {
        let along = if class == 0 { pixel / SIDE } else { pixel % SIDE };
        let stripe = ((along as f32 + phase) / width).sin();
        (127.0 + 80.0 * stripe + 20.0 * random.normal()) as u8
    });
    (pixels.collect(), class)
}

/// Pictures as a model reads them: `[N, 16, 16, 1]` from -1 to 1, and their classes.
pub fn batch(samples: Range<u64>) -> (Vec<f32>, Vec<usize>) {
    let (pictures, classes): (Vec<_>, Vec<_>) = samples.map(picture).unzip();
    (pictures.concat().into_iter().map(|byte| f32::from(byte) / 127.5 - 1.0).collect(), classes)
}
