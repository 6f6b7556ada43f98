//! Stochastic depth (Huang et al., arXiv 1603.09382): a block's residual branch is dropped for a sample at random.

use std::sync::Arc;

use rand_xoshiro::{
    SplitMix64,
    rand_core::{Rng, SeedableRng},
};

/// One block's drop path: how often it drops, and where its randomness comes from.
#[derive(Debug, Clone, Default)]
pub struct DropPath {
    rate: f32,
    block: u64,
    keys: Option<Arc<[u64]>>,
}

impl DropPath {
    /// Sets the probability of dropping, in `[0, 1)`, and the block's number in its model.
    pub fn configure(&mut self, rate: f32, block: usize) {
        assert!((0.0..1.0).contains(&rate), "a drop-path rate lies in [0, 1), not {rate}");
        (self.rate, self.block) = (rate, block as u64);
    }

    /// Sets one random key a sample for the next training passes; the decision is a pure function of key and block.
    ///
    /// Without keys a training pass draws from the device's generator.
    pub fn set_keys(&mut self, keys: Option<Arc<[u64]>>) {
        self.keys = keys;
    }

    /// The scale of each sample's residual branch, `[N]`: 0 if dropped, else `1 / (1 - rate)`. `None` if none can drop.
    ///
    /// # Panics
    /// If there are keys, and not one for each sample.
    pub fn scales(&self, samples: usize, mut draw: impl FnMut() -> u64) -> Option<Vec<f32>> {
        if self.rate == 0.0 {
            return None;
        }
        let keep = 1.0 / (1.0 - self.rate);
        let scale = |key| if uniform(key, self.block) < self.rate { 0.0 } else { keep };
        Some(match &self.keys {
            Some(keys) => {
                assert_eq!(keys.len(), samples, "drop-path keys for each sample of the batch");
                keys.iter().map(|&key| scale(key)).collect()
            }
            None => (0..samples).map(|_| scale(draw())).collect(),
        })
    }
}

/// What SplitMix64 adds to its state before each number.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Uniform in `[0, 1)`: the number of SplitMix64 at the state that key and block make.
fn uniform(key: u64, block: u64) -> f32 {
    let state = key ^ (block + 1).wrapping_mul(STEP);
    let mixed = SplitMix64::seed_from_u64(state.wrapping_sub(STEP)).next_u64();
    (mixed >> 40) as f32 / (1_u32 << 24) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_at_its_rate_and_keeps_the_mean() {
        let mut drop_path = DropPath::default();
        drop_path.configure(0.3, 5);
        drop_path.set_keys(Some((0..20_000).collect()));
        let scales = drop_path.scales(20_000, || unreachable!()).unwrap();
        let dropped = scales.iter().filter(|&&scale| scale == 0.0).count() as f64 / 20_000.0;
        // Standard error sqrt(0.3 * 0.7 / 20000) = 0.0032; five of them.
        assert!((dropped - 0.3).abs() < 0.0162, "{dropped}");
        assert!(scales.iter().all(|&scale| scale == 0.0 || (scale - 1.0 / 0.7).abs() < 1e-6));
    }

    #[test]
    fn blocks_decide_independently() {
        let decide = |block| {
            let mut drop_path = DropPath::default();
            drop_path.configure(0.5, block);
            drop_path.set_keys(Some((0..4096).collect()));
            drop_path.scales(4096, || unreachable!()).unwrap()
        };
        let (a, b) = (decide(0), decide(1));
        let equal = a.iter().zip(&b).filter(|(a, b)| a == b).count();
        // Standard error 32; five of them.
        assert!(equal.abs_diff(2048) < 160, "{equal}");
    }
}
