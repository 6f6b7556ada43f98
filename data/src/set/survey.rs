//! What the pictures of a set are like, seen from some of them.

use super::ShardSet;
use super::sample::Sample;
use crate::decode::{Channels, Decoder};
use crate::image::Image;
use crate::mixing::{Mixing, Neighbours};
use crate::shard::ShardError;

/// Sizes of pictures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Pictures that were looked at and have a header that can be read.
    pub pictures: u64,
    /// Pictures that were looked at and have none.
    pub unreadable: u64,
    /// The shorter of height and width, in pixels: of the smallest picture, of the one in the middle, of the largest.
    pub short_side: [usize; 3],
    /// The fewest channels that lose nothing of any of them: grey or RGB, or bands
    /// where one has them. Transparency does not count.
    pub channels: Channels,
}

/// Mean and deviation of pixels, which run from 0 to 1, with one value a channel. Each picture counts the same, whatever its
/// size.
#[derive(Clone, Debug, PartialEq)]
pub struct Colours {
    /// Pictures that were decoded.
    pub pictures: u64,
    /// Mean.
    pub mean: Vec<f64>,
    /// Standard deviation.
    pub deviation: Vec<f64>,
}

impl ShardSet {
    /// The sizes of up to `most` pictures at even distances, from their headers. `None` where no header can be read.
    pub fn sizes(&self, most: u64) -> Option<Sizes> {
        let (mut sides, mut unreadable, mut channels) = (Vec::new(), 0, Channels::Grey);
        let decoder = Decoder::new(Channels::Rgb);
        let mut scratch = Vec::new();
        for sample in self.some(most) {
            match sample.bytes(&mut scratch).ok().and_then(|bytes| decoder.info(bytes).ok()) {
                Some(info) => {
                    sides.push(info.height.min(info.width));
                    channels = match (channels, info.channels) {
                        (bands @ Channels::Bands(_), _) | (_, bands @ Channels::Bands(_)) => bands,
                        (Channels::Grey, Channels::Grey) => Channels::Grey,
                        _ => Channels::Rgb,
                    };
                }
                None => unreadable += 1,
            }
        }
        sides.sort_unstable();
        let short_side = [*sides.first()?, sides[sides.len() / 2], *sides.last()?];
        Some(Sizes { pictures: sides.len() as u64, unreadable, short_side, channels })
    }

    /// Mean and deviation of up to `most` pictures at even distances, decoded to `channels`. `None` where none can be decoded.
    pub fn colours(&self, channels: Channels, most: u64) -> Option<Colours> {
        let mut decoder = Decoder::new(channels);
        let (mut scratch, mut image) = (Vec::new(), Image::default());
        let mut sums = vec![[0.0; 2]; channels.count()];
        let mut pictures = 0;
        for sample in self.some(most) {
            if sample.decode_into(&mut decoder, &mut scratch, &mut image).is_ok() {
                pictures += 1;
                for (sum, moments) in sums.iter_mut().zip(moments(&image)) {
                    sum.iter_mut().zip(moments).for_each(|(sum, moment)| *sum += moment);
                }
            }
        }
        let count = Some(pictures).filter(|&pictures| pictures > 0)? as f64;
        let mean = sums.iter().map(|[first, _]| first / count).collect();
        let deviation = sums.iter().map(|[first, second]| (second / count - (first / count).powi(2)).max(0.0).sqrt());
        Some(Colours { pictures, deviation: deviation.collect(), mean })
    }

    /// The classes of neighbours, from the indices alone.
    ///
    /// # Errors
    /// The record of a shard lies.
    pub fn neighbours(&self) -> Result<Neighbours, ShardError> {
        Neighbours::of(self.len(), |id| Ok(self.sample(id)?.label()))
    }

    /// The blocks that an order of this set needs, so that its classes are mixed.
    ///
    /// # Errors
    /// The record of a shard lies.
    pub fn mixing(&self) -> Result<Mixing, ShardError> {
        let (bytes, count) = self.some(1024).fold((0, 0), |(bytes, count), sample| (bytes + sample.size(), count + 1));
        Ok(Mixing::of(&self.neighbours()?, bytes / count.max(1)))
    }

    /// How many samples each class has, class 0 first.
    ///
    /// # Errors
    /// The record of a shard lies.
    pub fn class_counts(&self) -> Result<Vec<u64>, ShardError> {
        let mut counts = vec![0; self.class_names().map_or(self.classes() as usize, <[String]>::len)];
        for id in 0..self.len() {
            if let Some(label) = self.sample(id)?.label() {
                counts[label as usize] += 1;
            }
        }
        Ok(counts)
    }

    /// Up to `most` samples at even distances, without those whose record lies.
    fn some(&self, most: u64) -> impl Iterator<Item = Sample<'_>> {
        let count = self.len().min(most);
        let id = move |place| (u128::from(place) * u128::from(self.len()) / u128::from(count)) as u64;
        (0..count).filter_map(move |place| self.sample(id(place)).ok())
    }
}

/// Of each channel the mean of its pixels and of their squares, 1 being the largest.
fn moments(image: &Image) -> impl Iterator<Item = [f64; 2]> {
    // Sums of whole numbers are exact.
    let mut sums = vec![[0u64; 2]; image.channels];
    for pixel in image.pixels.chunks_exact(image.channels) {
        for ([first, second], &value) in sums.iter_mut().zip(pixel) {
            let value = u64::from(value);
            (*first, *second) = (*first + value, *second + value * value);
        }
    }
    let pixels = (image.height * image.width) as f64;
    sums.into_iter().map(move |[first, second]| [first as f64 / pixels / 255.0, second as f64 / pixels / 255.0 / 255.0])
}
