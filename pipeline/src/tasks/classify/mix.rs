//! Soft targets, and the two augmentations that mix them.

use convnext_core::launch::kernels::images::mix;
use convnext_data::{
    Purpose, Random,
    augment::{blend_pairs, swap_in_pairs},
};
use rand_core::RngCore;
use rand_distr::{Beta, Distribution};

/// How labels become targets, and whether images of a batch are mixed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mix {
    /// Label smoothing, in `[0, 1)`: this much is spread evenly over all classes.
    pub smoothing: f32,
    /// Mixup's alpha (Zhang et al., arXiv 1710.09412); 0 for none.
    pub mixup: f64,
    /// CutMix's alpha (Yun et al., arXiv 1905.04899); 0 for none. With both, each batch draws one of them.
    pub cutmix: f64,
}

/// How the images of a batch are mixed: sample `n` with sample `N - 1 - n`, all by the same numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Mixing {
    /// Not at all.
    None,
    /// Every value is this share of its own image and the rest of the other.
    Blend(f32),
    /// The images of a pair change places inside of a rectangle.
    Cut {
        /// Rows.
        rows: (usize, usize),
        /// Columns.
        columns: (usize, usize),
        /// Share of the area that stays.
        stays: f32,
    },
}

/// Sizes of a batch of images `[N, H, W, C]`.
#[derive(Debug, Clone, Copy)]
pub struct ImageSize {
    /// Rows.
    pub height: usize,
    /// Pixels in a row.
    pub width: usize,
    /// Channels.
    pub channels: usize,
}

impl Mix {
    /// How a batch is mixed: a pure function of `random`, which is the run's seed, and the batch's epoch and position.
    pub fn draw(&self, size: ImageSize, random: (u64, u64, u64)) -> Mixing {
        if self.mixup == 0.0 && self.cutmix == 0.0 {
            return Mixing::None;
        }
        let (seed, epoch, position) = random;
        let mut random = Random::new(seed, epoch, position, Purpose::Mixup);
        let cut = self.mixup == 0.0 || (self.cutmix > 0.0 && random.chance(0.5));
        let share = beta(if cut { self.cutmix } else { self.mixup }, &mut random);
        if cut { rectangle(size, share, &mut random) } else { Mixing::Blend(share) }
    }

    /// Targets `[N, classes]` of `labels`, mixed as the images are.
    pub fn targets(&self, labels: &[u32], classes: usize, mixing: &Mixing) -> Vec<f32> {
        let mut targets = self.smoothed(labels, classes);
        match *mixing {
            Mixing::None => {}
            Mixing::Blend(share) | Mixing::Cut { stays: share, .. } => blend_pairs(&mut targets, labels.len(), share),
        }
        targets
    }

    fn smoothed(&self, labels: &[u32], classes: usize) -> Vec<f32> {
        let off = self.smoothing / classes as f32;
        let mut targets = vec![off; labels.len() * classes];
        for (row, &label) in targets.chunks_exact_mut(classes).zip(labels) {
            row[label as usize] += 1.0 - self.smoothing;
        }
        targets
    }
}

impl Mixing {
    /// Mixes `images [N, H, W, C]` in place.
    pub fn apply(&self, images: &mut [f32], samples: usize, size: ImageSize) {
        match *self {
            Self::None => {}
            Self::Blend(share) => blend_pairs(images, samples, share),
            Self::Cut { rows, columns, .. } => {
                swap_in_pairs(images, samples, (size.width, size.channels), rows, columns)
            }
        }
    }

    /// The same as a device takes it.
    pub fn on_device(&self) -> [f32; 5] {
        match *self {
            Self::None => mix(1.0, [0; 4]),
            Self::Blend(share) => mix(share, [0; 4]),
            Self::Cut { rows: (top, bottom), columns: (left, right), .. } => mix(1.0, [top, bottom, left, right]),
        }
    }
}

/// Adapts the counter-based generator to the distributions' crate.
struct Source<'a>(&'a mut Random);

impl RngCore for Source<'_> {
    fn next_u32(&mut self) -> u32 {
        self.0.next_u32()
    }

    fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.next_u64().to_le_bytes()[..chunk.len()]);
        }
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), rand_core::Error> {
        self.fill_bytes(bytes);
        Ok(())
    }
}

fn beta(alpha: f64, random: &mut Random) -> f32 {
    Beta::new(alpha, alpha).map_or(1.0, |beta| beta.sample(&mut Source(random)) as f32)
}

/// A rectangle of about `1 - share` of the area.
fn rectangle(size: ImageSize, share: f32, random: &mut Random) -> Mixing {
    let ImageSize { height, width, .. } = size;
    let side = (1.0 - share).sqrt();
    let span = |length: usize, random: &mut Random| {
        let half = (length as f32 * side / 2.0) as usize;
        let centre = random.range(length as u64) as usize;
        (centre.saturating_sub(half), (centre + half).min(length))
    };
    let (rows, columns) = (span(height, random), span(width, random));
    let area = (rows.1 - rows.0) * (columns.1 - columns.0);
    Mixing::Cut { rows, columns, stays: 1.0 - area as f32 / (height * width) as f32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Mix = Mix { smoothing: 0.0, mixup: 0.0, cutmix: 0.0 };
    const SIZE: ImageSize = ImageSize { height: 4, width: 4, channels: 1 };

    fn images() -> Vec<f32> {
        (0..48).map(|value| (value / 16) as f32).collect()
    }

    /// Targets, with the images mixed in place.
    fn apply(mix: Mix, labels: &[u32], classes: usize, images: &mut [f32], random: (u64, u64, u64)) -> Vec<f32> {
        let mixing = mix.draw(SIZE, random);
        mixing.apply(images, labels.len(), SIZE);
        mix.targets(labels, classes, &mixing)
    }

    #[test]
    fn smoothing_keeps_a_distribution() {
        let targets = apply(Mix { smoothing: 0.1, ..PLAIN }, &[2], 4, &mut [0.0; 16], (0, 0, 0));
        assert!((targets.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        assert!((targets[2] - 0.925).abs() < 1e-6 && (targets[0] - 0.025).abs() < 1e-6);
    }

    #[test]
    fn mixup_mixes_images_and_targets_by_one_share() {
        let mut mixed = images();
        let targets = apply(Mix { mixup: 0.8, ..PLAIN }, &[0, 1, 2], 3, &mut mixed, (1, 2, 3));
        // ImageSize hold their number, so a pixel of the first is (1 - share) * 2.
        let share = targets[0];
        assert!((mixed[0] - (1.0 - share) * 2.0).abs() < 1e-6);
        assert_eq!((targets[4], mixed[16]), (1.0, 1.0));
    }

    #[test]
    fn cutmix_targets_follow_the_area() {
        for position in 0..50 {
            let mut mixed = images();
            let targets = apply(Mix { cutmix: 1.0, ..PLAIN }, &[0, 1, 2], 3, &mut mixed, (1, 2, position));
            let stayed = mixed[..16].iter().filter(|&&value| value == 0.0).count() as f32 / 16.0;
            assert!((targets[0] - stayed).abs() < 1e-6, "{targets:?} {stayed}");
        }
    }

    #[test]
    fn a_device_gets_the_same_numbers() {
        assert_eq!(PLAIN.draw(SIZE, (1, 2, 3)).on_device(), [1.0, 0.0, 0.0, 0.0, 0.0]);
        let Mixing::Blend(share) = Mix { mixup: 0.8, ..PLAIN }.draw(SIZE, (1, 2, 3)) else { panic!() };
        assert_eq!(Mixing::Blend(share).on_device()[..3], [share, 0.0, 0.0]);
        let cut = Mix { cutmix: 1.0, ..PLAIN }.draw(SIZE, (1, 2, 3));
        let Mixing::Cut { rows, columns, .. } = cut else { panic!() };
        let corners = [rows.0, rows.1, columns.0, columns.1].map(|corner| corner as f32);
        assert_eq!((cut.on_device()[0], &cut.on_device()[1..]), (1.0, &corners[..]));
    }

    #[test]
    fn the_share_of_mixup_is_a_beta_variable() {
        let mean = |alpha: f64| {
            (0..4000).map(|n| beta(alpha, &mut Random::new(5, 0, n, Purpose::Mixup))).sum::<f32>() / 4000.0
        };
        // Standard deviation at most 0.5; five standard errors.
        assert!((mean(0.8) - 0.5).abs() < 0.04);
        assert!((mean(1.0) - 0.5).abs() < 0.04);
    }
}
