//! How well an order mixes classes, and the order that a set needs.
//!
//! An [`Order`](crate::Order) mixes a window of blocks of neighbours. Where neighbours are of one class - a tar of each class, a
//! folder listed class by class - a block teaches little more than one of its samples, and a batch sees few classes. Such a set
//! is read in smaller blocks, and more of them are mixed.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// The blocks of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mixing {
    /// Neighbours that are read together.
    pub block: u64,
    /// Blocks whose samples are mixed.
    pub window: u64,
}

impl Default for Mixing {
    /// For a set whose classes are mixed already: at 100 KB a JPEG, reads of 6 MB, and 4,096 samples of 64 places are mixed.
    fn default() -> Self {
        Self { block: 64, window: 64 }
    }
}

/// Classes of neighbours, of some pieces of a set.
#[derive(Clone, Debug, PartialEq)]
pub struct Neighbours {
    len: u64,
    /// The first sample of each piece, and the labels.
    pieces: Vec<(u64, Vec<Option<u32>>)>,
    /// Each class's share of the samples that were looked at.
    shares: Vec<f64>,
}

/// The batch for which classes are mixed.
const BATCH: f64 = 1024.0;
/// Samples to mix for each that a block holds of one class beyond the first. Of a window of N samples in groups of s, each of
/// one class, a batch of B has N/s (1 - (1 - B/N)^s) groups: 0.95 of B at N = 10 B (s - 1), and 0.96 at 12.5, since a class may
/// lie in several blocks.
const WINDOW: f64 = 12.5 * BATCH;
/// Bytes of a block that is worth a read of its own: systems read ahead by a quarter of this.
const BYTES: u64 = 512 << 10;
/// Pieces of neighbours that are looked at, and their length.
const PIECES: u64 = 256;
const PIECE: u64 = 256;

impl Neighbours {
    /// Of `len` samples, whose labels `label` says. Up to 65,536 are looked at, in pieces at even distances.
    ///
    /// # Errors
    /// The first of `label`.
    pub fn of<E>(len: u64, mut label: impl FnMut(u64) -> Result<Option<u32>, E>) -> Result<Self, E> {
        let count = len.div_ceil(PIECE).min(PIECES);
        let mut pieces = Vec::new();
        for piece in 0..count {
            let start = (u128::from(len) * u128::from(piece) / u128::from(count)) as u64;
            let labels = (start..(start + PIECE).min(len)).map(&mut label);
            pieces.push((start, labels.collect::<Result<Vec<_>, E>>()?));
        }
        let mut counts = BTreeMap::<u32, u64>::new();
        let labels = pieces.iter().flat_map(|(_, labels)| labels).flatten();
        labels.for_each(|&class| *counts.entry(class).or_default() += 1);
        let labelled = counts.values().sum::<u64>() as f64;
        Ok(Self { len, pieces, shares: counts.into_values().map(|count| count as f64 / labelled).collect() })
    }

    /// How many times fewer classes a block of so many neighbours has than it would have in a shuffled set: 1 for a shuffled
    /// one. Blocks without all of their labels do not count.
    pub fn likeness(&self, block: u64) -> f64 {
        let (mut blocks, mut found) = (0u64, 0);
        for (start, labels) in &self.pieces {
            let first = (start.next_multiple_of(block.max(1)) - start) as usize;
            for labels in labels.get(first..).unwrap_or(&[]).chunks_exact(block.max(1) as usize) {
                if let Some(classes) = labels.iter().copied().collect::<Option<BTreeSet<u32>>>() {
                    blocks += 1;
                    found += classes.len();
                }
            }
        }
        let seen = |share: &f64| 1.0 - (1.0 - share).powf(block as f64);
        let shuffled = self.shares.iter().map(seen).sum::<f64>();
        if found == 0 { 1.0 } else { (shuffled * blocks as f64 / found as f64).max(1.0) }
    }
}

impl Mixing {
    /// What a set with such neighbours needs, whose samples have so many bytes in the mean: at least 95 % of the classes that a
    /// batch of 1,024 has after a true shuffle, whatever their number.
    pub fn of(neighbours: &Neighbours, bytes: u64) -> Self {
        let usual = Self::default();
        let samples = |block: u64| (WINDOW * (neighbours.likeness(block) - 1.0)) as u64;
        let least = usual.block * usual.window;
        // All of a set that small is mixed.
        if neighbours.len <= least || samples(usual.block) <= least {
            return usual;
        }
        let block = (BYTES / bytes.max(1)).clamp(2, usual.block);
        Self { block, window: samples(block).max(least).div_ceil(block) }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use crate::order::Order;
    use crate::random::mix;

    /// Classes of an epoch's batches, in the mean.
    fn classes(order: &Order, label: impl Fn(u64) -> u32) -> f64 {
        let epoch = order.epoch(2);
        let (batch, batches) = (BATCH as u64, 20);
        let step = (order.len() - batch) / batches;
        let of = |start: u64| {
            let labels: BTreeSet<u32> = (start..start + batch).map(|at| label(epoch.at(at))).collect();
            labels.len() as f64
        };
        (0..batches).map(|number| of(number * step)).sum::<f64>() / batches as f64
    }

    fn mixing(len: u64, bytes: u64, label: impl Fn(u64) -> u32) -> (f64, Mixing) {
        let neighbours = Neighbours::of(len, |id| Ok::<_, Infallible>(Some(label(id)))).unwrap();
        (neighbours.likeness(64), Mixing::of(&neighbours, bytes))
    }

    /// ImageNet's size: sorted by class, in shards that each have a few classes shuffled, and in short runs.
    #[test]
    fn a_sorted_set_gives_batches_nearly_as_many_classes_as_a_shuffled_one() {
        let len = 1_281_167;
        let class_by_class = |id: u64| (id * 1000 / len) as u32;
        let two_at_a_time = |id: u64| (id / 2562 * 2 + mix(id) % 2) as u32;
        let runs_of_four = |id: u64| (mix(id / 4) % 1000) as u32;
        let many = |id: u64| (id / 64) as u32;
        let labels: [(&str, &dyn Fn(u64) -> u32); 4] =
            [("sorted", &class_by_class), ("two", &two_at_a_time), ("four", &runs_of_four), ("many", &many)];
        for (name, label) in labels {
            for bytes in [400, 12_000, 86_000, 400_000] {
                let (likeness, Mixing { block, window }) = mixing(len, bytes, label);
                let found = classes(&Order::new(len, 7, block, window), label);
                let wanted = classes(&Order::new(len, 7, 1, 1), label);
                assert!(
                    found >= 0.95 * wanted,
                    "{name}, {bytes} B: {found:.0} of {wanted:.0}, {block} x {window}, {likeness:.2}"
                );
                // Twice the reads at most, where a read is 128 KiB and a sample's neighbours share one.
                let reads = |block: u64| (block * bytes).div_ceil(128 << 10) as f64 / block as f64;
                assert!(reads(block) + 1.0 / block as f64 <= 2.0 * (reads(64) + 1.0 / 64.0) || bytes > 128 << 10);
            }
        }
    }

    #[test]
    fn a_shuffled_set_is_read_as_ever() {
        for classes in [2, 10, 1000, 1_000_000] {
            let (likeness, found) = mixing(1 << 20, 86_000, |id| (mix(id) % classes) as u32);
            assert_eq!(found, Mixing::default(), "{classes} classes: {likeness}");
            assert!(likeness < 1.1, "{classes} classes: {likeness}");
        }
        // One class, no label at all, no sample.
        assert_eq!(mixing(5000, 86_000, |_| 3).1, Mixing::default());
        for len in [0, 5000] {
            let none = Neighbours::of(len, |_| Ok::<_, Infallible>(None)).unwrap();
            assert_eq!((none.likeness(64), Mixing::of(&none, 86_000)), (1.0, Mixing::default()));
        }
    }
}
