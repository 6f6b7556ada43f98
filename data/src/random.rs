//! Randomness as a pure function of `(seed, epoch, sample, purpose)`.
//!
//! Nothing here has a state that outlives a sample: a run that resumes, or that has another number of workers, draws
//! the same numbers. The generator is Philox4x32-10 (Salmon et al., *Parallel random numbers: as easy as 1, 2, 3*,
//! SC 2011): the key is mixed from seed, epoch and purpose, the counter is `(block, sample)`.

use rand_xoshiro::{
    SplitMix64,
    rand_core::{Rng, SeedableRng},
};

/// What random numbers are for. Two purposes never share a stream.
///
/// The numbers are part of what makes a run repeatable: add at the end, never renumber.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Purpose {
    /// The order of samples.
    Order = 0,
    /// Which part of an image is cropped.
    Crop = 1,
    /// Whether an image is flipped.
    Flip = 2,
    /// Which patches are removed.
    Mask = 3,
    /// Which residual branches are dropped.
    DropPath = 4,
    /// Mixing coefficient and partner of mixup and CutMix.
    Mixup = 5,
    /// Colour and geometry operations.
    Augment = 6,
    /// Random erasing.
    Erase = 7,
    /// The first values of parameters.
    Initialise = 8,
    /// Which sample stands in for a bad one.
    Substitute = 9,
    /// Which samples a subset holds.
    Subset = 10,
    /// The shift of a padded image.
    Shift = 11,
    /// Which samples are held out for validation.
    Split = 12,
}

/// Names a sample at a time: everything random about it follows from this and a [`Purpose`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Draw {
    /// Seed of the run.
    pub seed: u64,
    /// Epoch, from 0.
    pub epoch: u64,
    /// Sample id.
    pub sample: u64,
}

impl Draw {
    /// The stream of this sample, at this epoch, for `purpose`.
    pub fn random(&self, purpose: Purpose) -> Random {
        Random::new(self.seed, self.epoch, self.sample, purpose)
    }
}

/// A stream of random numbers. Cheap to create: make one wherever randomness is needed and pass none around.
#[derive(Clone, Debug)]
pub struct Random {
    key: [u32; 2],
    sample: u64,
    block: u64,
    buffer: [u32; 4],
    used: usize,
}

impl Random {
    /// The stream of `(seed, epoch, sample, purpose)`.
    pub fn new(seed: u64, epoch: u64, sample: u64, purpose: Purpose) -> Self {
        let key = mix(mix(mix(seed) ^ epoch) ^ purpose as u64);
        Self { key: split(key), sample, block: 0, buffer: [0; 4], used: 4 }
    }

    /// The next 32 bits.
    pub fn next_u32(&mut self) -> u32 {
        if self.used == 4 {
            let ([b0, b1], [s0, s1]) = (split(self.block), split(self.sample));
            self.buffer = philox([b0, b1, s0, s1], self.key);
            self.block += 1;
            self.used = 0;
        }
        self.used += 1;
        self.buffer[self.used - 1]
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        u64::from(self.next_u32()) | u64::from(self.next_u32()) << 32
    }

    /// Uniform in `[0, 1)`, with 24 bits.
    pub fn uniform(&mut self) -> f32 {
        (self.next_u32() >> 8) as f32 * (1.0 / (1 << 24) as f32)
    }

    /// Uniform in `[0, 1)`, with 53 bits.
    pub fn uniform_f64(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Uniform in `[low, high)`; `low` where the two are equal.
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.uniform_f64()
    }

    /// Uniform in `0..end`, without bias (Lemire's method); 0 for `end <= 1`.
    pub fn range(&mut self, end: u64) -> u64 {
        if end <= 1 {
            return 0;
        }
        let biased = end.wrapping_neg() % end;
        loop {
            let product = u128::from(self.next_u64()) * u128::from(end);
            if product as u64 >= biased {
                return (product >> 64) as u64;
            }
        }
    }

    /// True with probability `p`; always for `p >= 1`, never for `p <= 0`.
    pub fn chance(&mut self, p: f64) -> bool {
        self.uniform_f64() < p
    }

    /// Standard normal (Box-Muller).
    pub fn normal(&mut self) -> f32 {
        let radius = (-2.0 * (1.0 - self.uniform_f64()).ln()).sqrt();
        (radius * (std::f64::consts::TAU * self.uniform_f64()).cos()) as f32
    }
}

/// The first number of SplitMix64 from this seed: a bijection of 64 bits in which every output bit depends on every input bit.
pub(crate) fn mix(value: u64) -> u64 {
    SplitMix64::seed_from_u64(value).next_u64()
}

fn split(value: u64) -> [u32; 2] {
    [value as u32, (value >> 32) as u32]
}

fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let left = u64::from(counter[0]) * 0xD251_1F53;
        let right = u64::from(counter[2]) * 0xCD9E_8D57;
        counter = [
            (right >> 32) as u32 ^ counter[1] ^ key[0],
            right as u32,
            (left >> 32) as u32 ^ counter[3] ^ key[1],
            left as u32,
        ];
        key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
    }
    counter
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers published with the Random123 library.
    #[test]
    fn philox_gives_the_published_answers() {
        assert_eq!(philox([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(philox([u32::MAX; 4], [u32::MAX; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        assert_eq!(
            philox([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0]),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn a_stream_depends_on_each_part_of_its_name() {
        let first = |seed, epoch, sample, purpose| Random::new(seed, epoch, sample, purpose).next_u64();
        let base = first(1, 2, 3, Purpose::Crop);
        assert_eq!(base, first(1, 2, 3, Purpose::Crop));
        assert_ne!(base, first(2, 2, 3, Purpose::Crop));
        assert_ne!(base, first(1, 3, 3, Purpose::Crop));
        assert_ne!(base, first(1, 2, 4, Purpose::Crop));
        assert_ne!(base, first(1, 2, 3, Purpose::Flip));
    }

    #[test]
    fn uniform_fills_its_bins_evenly() {
        // Chi squared over 64 bins; 63 degrees of freedom, 0.999 quantile 103.4. First draws of neighbouring samples,
        // which is where a weak counter-based generator shows.
        let draws = 64_000;
        let mut bins = [0u32; 64];
        for sample in 0..draws {
            bins[(Random::new(7, 0, sample, Purpose::Crop).uniform() * 64.0) as usize] += 1;
        }
        let expected = draws as f64 / 64.0;
        let chi: f64 = bins.iter().map(|&n| (f64::from(n) - expected).powi(2) / expected).sum();
        assert!(chi < 103.4, "chi squared {chi}");
    }

    #[test]
    fn normal_has_mean_zero_and_variance_one() {
        let mut random = Random::new(1, 0, 0, Purpose::Initialise);
        let values: Vec<f64> = (0..100_000).map(|_| f64::from(random.normal())).collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64;
        let kurtosis = values.iter().map(|v| v.powi(4)).sum::<f64>() / values.len() as f64;
        assert!(mean.abs() < 0.015, "mean {mean}");
        assert!((variance - 1.0).abs() < 0.02, "variance {variance}");
        assert!((kurtosis - 3.0).abs() < 0.2, "fourth moment {kurtosis}");
    }

    #[test]
    fn range_is_uniform_and_stays_inside() {
        let mut random = Random::new(3, 1, 4, Purpose::Augment);
        let mut bins = [0u32; 7];
        for _ in 0..70_000 {
            bins[random.range(7) as usize] += 1;
        }
        assert!(bins.iter().all(|&n| (9_600..10_400).contains(&n)), "{bins:?}");
        assert_eq!(random.range(0), 0);
        assert_eq!(random.range(1), 0);
    }

    #[test]
    fn chance_keeps_its_ends() {
        let mut random = Random::new(0, 0, 0, Purpose::Flip);
        assert!((0..1000).all(|_| random.chance(1.0) && !random.chance(0.0)));
    }
}
