//! Which samples are packed, and in which order.

use std::collections::BTreeMap;

use super::{Options, Source};
use crate::order::Order;
use crate::random::{Purpose, Random};

/// Indices into `source`: a subset of each class, permuted, then cut.
pub(crate) fn select(source: &dyn Source, options: &Options) -> Vec<usize> {
    let mut chosen = match options.per_class {
        None => (0..source.len()).collect(),
        Some(most) => some_of_each(source, most, options.seed),
    };
    if options.shuffle {
        let order = Order::new(chosen.len() as u64, options.seed, 1, 1).epoch(0);
        chosen = (0..chosen.len()).map(|position| chosen[order.at(position as u64) as usize]).collect();
    }
    let limit = options.limit.and_then(|limit| usize::try_from(limit).ok());
    chosen.truncate(limit.unwrap_or(usize::MAX));
    chosen
}

/// Of each class the `most` samples with the smallest random numbers: a subset for 50 is part of that for 60.
fn some_of_each(source: &dyn Source, most: u64, seed: u64) -> Vec<usize> {
    let mut classes: BTreeMap<Option<u32>, Vec<(u64, usize)>> = BTreeMap::new();
    for index in 0..source.len() {
        let number = Random::new(seed, 0, index as u64, Purpose::Subset).next_u64();
        classes.entry(source.label(index)).or_default().push((number, index));
    }
    let mut chosen = Vec::new();
    for mut class in classes.into_values() {
        class.sort_unstable();
        class.truncate(usize::try_from(most).unwrap_or(usize::MAX));
        chosen.extend(class.into_iter().map(|(_, index)| index));
    }
    chosen.sort_unstable();
    chosen
}
