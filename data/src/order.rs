//! The order of samples: a keyed bijection of the position, in constant memory.
//!
//! An epoch's order is built in two steps, both Feistel networks with cycle walking (so that any length will do):
//!
//! 1. samples are cut into blocks of `block` neighbours, and the blocks are permuted;
//! 2. each `window` of permuted blocks is one run of positions, and the samples inside it are permuted.
//!
//! Neighbours are therefore read close to each other in time (a disk sees runs of `block` samples, at most `window` of
//! them at once), while a batch mixes samples of `window` random places. With `block = 1` it is one permutation of
//! everything. To resume is to remember one number, the position.

use crate::random::{Purpose, Random, mix};

/// The order in which samples are visited: a pure function of `(seed, epoch, position)`.
///
/// ```
/// use convnext_data::Order;
///
/// let order = Order::new(1000, 42, 64, 8);
/// let mut seen: Vec<u64> = (0..1000).map(|position| order.at(0, position)).collect();
/// seen.sort();
/// assert!(seen.into_iter().eq(0..1000));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    len: u64,
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Sequential,
    Shuffled { seed: u64, block: u64, window: u64 },
}

impl Order {
    /// A shuffled order of `len` samples. `block` (samples) and `window` (blocks) are at least 1; 0 is taken as 1.
    pub fn new(len: u64, seed: u64, block: u64, window: u64) -> Self {
        let block = block.clamp(1, len.max(1));
        let window = window.clamp(1, len.div_ceil(block).max(1));
        Self { len, kind: Kind::Shuffled { seed, block, window } }
    }

    /// The order as stored, the same every epoch: evaluation.
    pub fn sequential(len: u64) -> Self {
        Self { len, kind: Kind::Sequential }
    }

    /// Number of samples in an epoch.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are no samples.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The sample at `position` of `epoch`.
    ///
    /// # Panics
    /// When `position >= len`.
    pub fn at(&self, epoch: u64, position: u64) -> u64 {
        self.epoch(epoch).at(position)
    }

    /// The order of one epoch, prepared: for many positions of the same epoch.
    pub fn epoch(&self, epoch: u64) -> EpochOrder {
        EpochOrder {
            len: self.len,
            blocks: match self.kind {
                Kind::Sequential => None,
                Kind::Shuffled { seed, block, window } => Some(Blocks::new(self.len, seed, epoch, block, window)),
            },
        }
    }
}

/// The order of one epoch. See [`Order::epoch`].
#[derive(Clone, Debug)]
pub struct EpochOrder {
    len: u64,
    blocks: Option<Blocks>,
}

impl EpochOrder {
    /// The sample at `position`.
    ///
    /// # Panics
    /// When `position >= len`.
    pub fn at(&self, position: u64) -> u64 {
        assert!(position < self.len, "position {position} is beyond an epoch of {} samples", self.len);
        match &self.blocks {
            None => position,
            Some(blocks) => blocks.at(position),
        }
    }
}

/// Blocks permuted, then samples permuted inside windows of blocks. The last block may be short; it lands in some slot
/// like any other, and everything after it starts earlier by what it lacks.
#[derive(Clone, Debug)]
struct Blocks {
    len: u64,
    block: u64,
    window: u64,
    key: u64,
    permutation: Feistel,
    /// The slot in which the last block lies.
    short_slot: u64,
    /// How many samples the last block lacks.
    lacking: u64,
}

impl Blocks {
    fn new(len: u64, seed: u64, epoch: u64, block: u64, window: u64) -> Self {
        let count = len.div_ceil(block).max(1);
        let key = Random::new(seed, epoch, 0, Purpose::Order).next_u64();
        let permutation = Feistel::new(count, key);
        Self {
            len,
            block,
            window,
            key,
            short_slot: permutation.inverse(count - 1),
            lacking: count * block - len,
            permutation,
        }
    }

    fn at(&self, position: u64) -> u64 {
        let window = self.window_of(position);
        let (start, end) = (self.start(window), self.start(window + 1));
        let inside = Feistel::new(end - start, mix(self.key ^ mix(window)));
        let (slot, offset) = self.slot_of(start + inside.forward(position - start));
        self.permutation.forward(slot) * self.block + offset
    }

    /// The slot that holds `position`, and where in it.
    fn slot_of(&self, position: u64) -> (u64, u64) {
        let before = self.short_slot * self.block + (self.block - self.lacking);
        let padded = position + if position < before { 0 } else { self.lacking };
        (padded / self.block, padded % self.block)
    }

    fn window_of(&self, position: u64) -> u64 {
        self.slot_of(position).0 / self.window
    }

    /// The first position of `window`.
    fn start(&self, window: u64) -> u64 {
        let slot = window * self.window;
        let lacking = if slot > self.short_slot { self.lacking } else { 0 };
        (slot * self.block - lacking).min(self.len)
    }
}

/// A keyed bijection of `0..len`: a balanced Feistel network over the next even number of bits, walked until it lands
/// inside (fewer than four steps on average).
#[derive(Clone, Copy, Debug)]
struct Feistel {
    len: u64,
    half: u32,
    key: u64,
}

impl Feistel {
    const ROUNDS: u64 = 6;

    fn new(len: u64, key: u64) -> Self {
        let bits = 64 - len.saturating_sub(1).leading_zeros();
        Self { len, half: bits.div_ceil(2).max(1), key }
    }

    fn forward(&self, index: u64) -> u64 {
        self.walk(index, |value| {
            let (mut left, mut right) = self.split(value);
            for round in 0..Self::ROUNDS {
                (left, right) = (right, left ^ self.round(round, right));
            }
            left << self.half | right
        })
    }

    fn inverse(&self, index: u64) -> u64 {
        self.walk(index, |value| {
            let (mut left, mut right) = self.split(value);
            for round in (0..Self::ROUNDS).rev() {
                (left, right) = (right ^ self.round(round, left), left);
            }
            left << self.half | right
        })
    }

    fn walk(&self, index: u64, step: impl Fn(u64) -> u64) -> u64 {
        debug_assert!(index < self.len);
        let mut value = step(index);
        while value >= self.len {
            value = step(value);
        }
        value
    }

    fn split(&self, value: u64) -> (u64, u64) {
        (value >> self.half, value & self.mask())
    }

    fn round(&self, round: u64, half: u64) -> u64 {
        mix(self.key ^ mix(half << 3 | round)) & self.mask()
    }

    fn mask(&self) -> u64 {
        (1 << self.half) - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn is_bijection(order: &Order, epoch: u64) -> bool {
        let epoch = order.epoch(epoch);
        let mut seen = vec![false; order.len() as usize];
        (0..order.len()).for_each(|position| seen[epoch.at(position) as usize] = true);
        seen.into_iter().all(|s| s)
    }

    #[test]
    fn every_length_is_a_bijection() {
        for len in 1..2000 {
            assert!(is_bijection(&Order::new(len, 9, 16, 5), 0), "{len}");
        }
    }

    proptest! {
        #[test]
        fn any_block_and_window_is_a_bijection(
            len in 1u64..2000, seed: u64, epoch in 0u64..100, block in 0u64..300, window in 0u64..50,
        ) {
            prop_assert!(is_bijection(&Order::new(len, seed, block, window), epoch));
        }

        #[test]
        fn feistel_inverts(len in 1u64..u64::MAX / 2, key: u64, at: u64) {
            let feistel = Feistel::new(len, key);
            let index = at % len;
            prop_assert_eq!(feistel.inverse(feistel.forward(index)), index);
            prop_assert_eq!(feistel.forward(feistel.inverse(index)), index);
        }
    }

    #[test]
    fn epochs_and_seeds_differ() {
        let at = |seed, epoch| -> Vec<u64> {
            let order = Order::new(500, seed, 8, 4);
            (0..500).map(|p| order.at(epoch, p)).collect()
        };
        assert_eq!(at(1, 0), at(1, 0));
        assert_ne!(at(1, 0), at(1, 1));
        assert_ne!(at(1, 0), at(2, 0));
    }

    #[test]
    fn displacement_is_that_of_a_uniform_permutation() {
        // |i - j| of two uniform positions has mean n / 3.
        for (block, window) in [(1, 1), (16, 8)] {
            let order = Order::new(10_000, 5, block, window).epoch(3);
            let mean: f64 = (0..10_000u64).map(|p| p.abs_diff(order.at(p)) as f64).sum::<f64>() / 1e4;
            assert!((3000.0..3700.0).contains(&mean), "mean displacement {mean}");
        }
    }

    #[test]
    fn first_place_is_uniform_over_epochs() {
        let order = Order::new(10, 11, 1, 1);
        let mut bins = [0u32; 10];
        (0..10_000).for_each(|epoch| bins[order.at(epoch, 0) as usize] += 1);
        assert!(bins.iter().all(|&n| (850..1150).contains(&n)), "{bins:?}");
    }

    #[test]
    fn a_window_reads_no_more_blocks_than_it_says() {
        let (block, window) = (10, 4);
        let order = Order::new(1000, 3, block, window).epoch(0);
        for start in (0..1000).step_by((block * window) as usize) {
            let mut blocks: Vec<u64> = (start..start + block * window).map(|p| order.at(p) / block).collect();
            blocks.sort_unstable();
            blocks.dedup();
            assert_eq!(blocks.len() as u64, window);
        }
    }

    #[test]
    fn a_billion_samples_cost_nothing() {
        let order = Order::new(1 << 40, 1, 64, 64);
        assert!(order.at(5, (1 << 40) - 1) < 1 << 40);
    }

    #[test]
    fn sequential_is_the_identity() {
        let order = Order::sequential(5);
        assert_eq!((0..5).map(|p| order.at(9, p)).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    }
}
