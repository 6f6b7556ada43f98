//! Which samples are held out for validation.

use std::collections::BTreeMap;

use super::Source;
use crate::random::{Purpose, Random, mix};

/// `chosen` in two, for training and for validation, each in the order of `chosen`.
///
/// Of each class, the samples with the smallest random numbers are held out. A number follows from the seed, the class and
/// the sample's name, so that a sample that is added shifts the border among the others by one place at most.
pub(super) fn split(source: &dyn Source, chosen: &[usize], share: f64, seed: u64) -> [Vec<usize>; 2] {
    let mut classes: BTreeMap<Option<u32>, Vec<(u64, String, usize)>> = BTreeMap::new();
    for (place, &index) in chosen.iter().enumerate() {
        let (label, name) = (source.label(index), source.name(index));
        classes.entry(label).or_default().push((number(source, label, &name, seed), name, place));
    }
    let mut held_out = vec![false; chosen.len()];
    for mut class in classes.into_values() {
        class.sort_unstable();
        let count = held_out_of(class.len(), share);
        class.iter().take(count).for_each(|&(_, _, place)| held_out[place] = true);
    }
    let side = |validation: bool| {
        let samples = chosen.iter().zip(&held_out).filter(|(_, held_out)| **held_out == validation);
        samples.map(|(&index, _)| index).collect()
    };
    [side(false), side(true)]
}

/// How many of a class's `count` samples are held out.
fn held_out_of(count: usize, share: f64) -> usize {
    match count {
        0 | 1 => 0,
        _ => ((count as f64 * share).round() as usize).clamp(1, count - 1),
    }
}

/// The random number of a sample.
fn number(source: &dyn Source, label: Option<u32>, name: &str, seed: u64) -> u64 {
    let called = label.and_then(|label| source.class_names()?.get(label as usize));
    let class = called.cloned().or_else(|| label.map(|label| label.to_string())).unwrap_or_default();
    let bytes = class.bytes().chain([0]).chain(name.bytes());
    let sample = bytes.fold(0, |hash, byte| mix(hash ^ u64::from(byte)));
    Random::new(seed, 0, sample, Purpose::Split).next_u64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_rounded_and_leaves_one_on_either_side() {
        let of = |share| [0, 1, 2, 3, 5, 7, 100].map(|count| held_out_of(count, share));
        assert_eq!(of(0.2), [0, 0, 1, 1, 1, 1, 20]);
        assert_eq!(of(0.5), [0, 0, 1, 2, 3, 4, 50]);
        assert_eq!(of(0.999), [0, 0, 1, 2, 4, 6, 99]);
    }
}
