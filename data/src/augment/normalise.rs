//! Bytes to numbers.

use super::{AugmentError, setting};
use crate::image::ImageView;

const NAME: &str = "normalise";
/// Mean and standard deviation of red, green and blue in ImageNet's training images, from 0 to 1.
pub(super) const IMAGENET: [(f64, f64); 3] = [(0.485, 0.229), (0.456, 0.224), (0.406, 0.225)];

/// `(x / 255 - mean) / deviation`, per channel.
#[derive(Clone, Debug)]
pub struct Normalise {
    /// What each value of each channel becomes. A table is exact, and as fast as memory for 256 values.
    tables: Vec<[f32; 256]>,
}

impl Normalise {
    /// Mean of ImageNet's training images, RGB, in 0..1.
    pub const IMAGENET_MEAN: [f32; 3] = [IMAGENET[0].0 as f32, IMAGENET[1].0 as f32, IMAGENET[2].0 as f32];
    /// Their standard deviation.
    pub const IMAGENET_DEVIATION: [f32; 3] = [IMAGENET[0].1 as f32, IMAGENET[1].1 as f32, IMAGENET[2].1 as f32];

    /// One mean and one deviation a channel, in units of the largest value.
    ///
    /// # Errors
    /// Their numbers differ or are 0, or a deviation is not positive.
    pub fn new(mean: &[f32], deviation: &[f32]) -> Result<Self, AugmentError> {
        setting(!mean.is_empty(), NAME, "mean", mean, "one number a channel")?;
        let sound = |d: &f32| d.is_finite() && *d > 0.0;
        let sound = deviation.len() == mean.len() && deviation.iter().all(sound);
        setting(sound, NAME, "deviation", deviation, "one positive number a channel")?;
        setting(mean.iter().all(|m| m.is_finite()), NAME, "mean", mean, "finite")?;
        let table =
            |(mean, deviation): (&f32, &f32)| std::array::from_fn(|value| (value as f32 / 255.0 - mean) / deviation);
        Ok(Self { tables: mean.iter().zip(deviation).map(table).collect() })
    }

    /// Number of channels.
    pub fn channels(&self) -> usize {
        self.tables.len()
    }

    /// Writes `image` into `out: [H, W, C]`.
    ///
    /// # Errors
    /// `image` has other channels, or `out` is not as long as `image` has values.
    pub fn run(&self, image: ImageView<'_>, out: &mut [f32]) -> Result<(), AugmentError> {
        self.write(image, false, out)
    }

    /// The same, mirrored left to right.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn run_mirrored(&self, image: ImageView<'_>, out: &mut [f32]) -> Result<(), AugmentError> {
        self.write(image, true, out)
    }

    fn write(&self, image: ImageView<'_>, mirrored: bool, out: &mut [f32]) -> Result<(), AugmentError> {
        if image.channels != self.channels() || image.pixels.len() != out.len() {
            let ImageView { height, width, channels, pixels } = image;
            let (bytes, doing) = (pixels.len(), "normalised into this slice");
            return Err(AugmentError::Image { height, width, channels, bytes, doing });
        }
        match self.tables.as_slice() {
            [grey] => look_up([grey], image, mirrored, out),
            [r, g, b] => look_up([r, g, b], image, mirrored, out),
            [r, g, b, a] => look_up([r, g, b, a], image, mirrored, out),
            tables => {
                let count = tables.len();
                let pixel = |(out, pixel): (&mut [f32], &[u8])| {
                    out.iter_mut().zip(pixel).zip(tables).for_each(|((out, &byte), table)| *out = table[byte as usize]);
                };
                let row = (image.width * count).max(1);
                for (from, to) in image.pixels.chunks_exact(row).zip(out.chunks_exact_mut(row)) {
                    let (from, to) = (from.chunks_exact(count), to.chunks_exact_mut(count));
                    if mirrored { to.zip(from.rev()).for_each(pixel) } else { to.zip(from).for_each(pixel) }
                }
            }
        }
        Ok(())
    }
}

fn look_up<const C: usize>(tables: [&[f32; 256]; C], image: ImageView<'_>, mirrored: bool, out: &mut [f32]) {
    let (pixels, _) = image.pixels.as_chunks::<C>();
    let (out, _) = out.as_chunks_mut::<C>();
    let pixel = |(out, pixel): (&mut [f32; C], &[u8; C])| {
        *out = std::array::from_fn(|c| tables[c][usize::from(pixel[c])]);
    };
    if !mirrored {
        return out.iter_mut().zip(pixels).for_each(pixel);
    }
    let width = image.width.max(1);
    for (from, to) in pixels.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
        to.iter_mut().zip(from.iter().rev()).for_each(pixel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::augment::{
        Flip,
        testing::{applied, coordinates},
    };
    use crate::image::Image;

    #[test]
    fn follows_the_formula() {
        let image = coordinates(2, 3);
        let (mean, deviation) = (Normalise::IMAGENET_MEAN, Normalise::IMAGENET_DEVIATION);
        let mut out = [0.0; 18];
        Normalise::new(&mean, &deviation).unwrap().run(image.view(), &mut out).unwrap();
        for (i, (value, pixel)) in out.iter().zip(&image.pixels).enumerate() {
            let c = i % 3;
            assert_eq!(*value, (f32::from(*pixel) / 255.0 - mean[c]) / deviation[c]);
        }
    }

    /// Of every number of channels that has a way of its own, and of one that has none.
    #[test]
    fn mirrors_as_a_flip_does() {
        for channels in [1, 3, 4, 5] {
            let pixels = (0..4 * 7 * channels).map(|value| (value * 11) as u8).collect();
            let image = Image::from_pixels(4, 7, channels, pixels).unwrap();
            let flipped = applied(&Flip { probability: 1.0 }, image.clone(), 0);
            let normalise = Normalise::new(&vec![0.4; channels], &vec![0.2; channels]).unwrap();
            let run = |image: &Image, mirrored| {
                let mut out = vec![0.0; image.pixels.len()];
                normalise.write(image.view(), mirrored, &mut out).unwrap();
                out
            };
            assert_eq!(run(&image, true), run(&flipped, false));
            assert_ne!(run(&image, true), run(&image, false));
        }
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let image = coordinates(2, 3);
        let normalise = Normalise::new(&[0.5; 3], &[0.5; 3]).unwrap();
        assert!(normalise.run(image.view(), &mut [0.0; 17]).is_err());
        assert!(Normalise::new(&[0.5], &[0.5]).unwrap().run(image.view(), &mut [0.0; 18]).is_err());
        assert!(Normalise::new(&[], &[]).is_err());
        assert!(Normalise::new(&[0.5; 12], &[0.5; 11]).is_err());
        assert!(Normalise::new(&[0.5; 3], &[0.5, 0.5, 0.0]).is_err());
        assert!(Normalise::new(&[f32::NAN], &[1.0]).is_err());
    }
}
