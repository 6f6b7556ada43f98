//! Which layout a file is in, seen from its names, and what wrappers have put before them.
//!
//! `DistributedDataParallel` puts `module.` before every name, `torch.compile` `_orig_mod.`, training frameworks `model.`,
//! users' own classes `backbone.` or `encoder.`, each around the other. No such word is known here: a name that ends in one
//! of a layout's tells what stands before it, and what fits most names is taken. Layouts have such words of their own
//! (the official pre-training model's `encoder.`); those are no prefix, since what takes less away wins.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap, HashSet},
};

use convnext_core::optim::Layout;

use super::{
    dialect::Dialect,
    error::ConvertError,
    layouts::encoder_of,
    table::{ENCODER, Naming},
    translation::{Prefix, Translation},
};
use crate::checkpoint::Header;

/// Which of `layouts` the file fits, and in which dialect. With a `key`, only names below it are looked at.
pub(super) fn recognise(
    header: &Header,
    layouts: &[&Layout],
    key: Option<&str>,
) -> Result<(usize, Translation), ConvertError> {
    let names = names(header, key)?;
    let fits = layouts.iter().enumerate().filter_map(|(index, layout)| {
        let fit = Fit::best(layout, &names)?;
        Some(((fit.count, Reverse(layout.segments().len())), index, fit))
    });
    let path = header.path.clone();
    if let Some((_, index, fit)) = fits.max_by_key(|(rank, ..)| *rank) {
        return match fit.rival {
            Some(rival) => Err(ConvertError::Ambiguous { path, one: fit.translation.prefix.encoder, other: rival }),
            None => Ok((index, fit.translation.accepting(&shapes(header)))),
        };
    }
    Err(match layouts.iter().find_map(|layout| Fit::best(&encoder_of(layout), &names)) {
        Some(encoder) => ConvertError::OtherModel { path, dialect: encoder.translation.dialect },
        None => {
            let found = header.tensors.iter().map(|(name, _)| name.clone()).collect();
            ConvertError::Unrecognised { path, found }
        }
    })
}

/// Shapes by name.
pub(super) fn shapes(header: &Header) -> HashMap<&str, &[usize]> {
    header.tensors.iter().map(|(name, shape)| (&name[..], &shape[..])).collect()
}

fn names<'h>(header: &'h Header, key: Option<&str>) -> Result<HashSet<&'h str>, ConvertError> {
    let all = header.tensors.iter().map(|(name, _)| &name[..]);
    let Some(key) = key.filter(|_| !header.keyed) else { return Ok(all.collect()) };
    let below = format!("{key}.");
    let names: HashSet<&str> = all.filter(|name| name.starts_with(&below)).collect();
    if names.is_empty() {
        let found = header.tensors.iter().map(|(name, _)| name.clone()).collect();
        return Err(ConvertError::NoKey { path: header.path.clone(), key: key.to_owned(), found });
    }
    Ok(names)
}

/// How a layout fits a file.
struct Fit {
    /// Names in common.
    count: usize,
    translation: Translation,
    /// Another prefix below which as many stand.
    rival: Option<String>,
}

impl Fit {
    /// The dialect and prefix that most names fit; of equals the one that takes least away, then the first. `None` where
    /// nothing fits.
    fn best(layout: &Layout, names: &HashSet<&str>) -> Option<Self> {
        let namings = |dialect: Dialect| dialect.namings(layout).iter().map(move |&naming| (dialect, naming));
        let all = Dialect::ALL.into_iter().flat_map(namings);
        let fits = all.filter_map(|(dialect, naming)| Self::of(layout, dialect, naming, names));
        let rank = |fit: &Self| (fit.count, Reverse(fit.translation.prefix.encoder.len()));
        // Our own layout comes first and wins a tie.
        fits.reduce(|best, next| if rank(&next) > rank(&best) { next } else { best })
    }

    fn of(layout: &Layout, dialect: Dialect, naming: Option<&'static Naming>, names: &HashSet<&str>) -> Option<Self> {
        let bare = Translation::with_naming(layout, dialect, naming, &Prefix::default()).ok()?;
        let encoder = bare.narrowed(|name| name.starts_with(ENCODER));
        let counts = below_prefixes(encoder.theirs(), names);
        let best = counts.iter().max_by_key(|&(prefix, &count)| (count, Reverse((prefix.len(), *prefix))));
        let (prefix, count) = best.map_or(("", 0), |(prefix, &count)| (*prefix, count));
        let rival = counts.iter().find(|&(other, &fit)| *other != prefix && fit == count);
        let rival = rival.map(|(prefix, _)| (*prefix).to_owned());
        let (rest, beside) = best_beside(&bare.narrowed(|name| !name.starts_with(ENCODER)), prefix, names);
        let prefix = Prefix { encoder: prefix.to_owned(), rest };
        let translation = Translation::with_naming(layout, dialect, naming, &prefix).ok()?;
        let count = count + beside;
        (count > 0).then_some(Self { count, translation, rival })
    }
}

/// How many of `names` are, behind each prefix, called like a tensor of `wanted`.
fn below_prefixes<'n>(wanted: &Layout, names: &HashSet<&'n str>) -> BTreeMap<&'n str, usize> {
    let mut counts = BTreeMap::new();
    for &name in names {
        for prefix in prefixes(name) {
            if wanted.get(&name[prefix.len()..]).is_some() {
                *counts.entry(prefix).or_default() += 1;
            }
        }
    }
    counts
}

/// Of `a.b.c`: nothing, `a.`, `a.b.`.
fn prefixes(name: &str) -> impl Iterator<Item = &str> {
    std::iter::once("").chain(name.match_indices('.').map(|(dot, _)| &name[..=dot]))
}

/// The prefix of what is not the encoder: `prefix`, or a part of it from the start, and how many names are found there.
fn best_beside(rest: &Translation, prefix: &str, names: &HashSet<&str>) -> (String, usize) {
    let count = |prefix: &str| {
        let found = |name: &str| names.contains(&format!("{prefix}{name}")[..]);
        rest.theirs().segments().iter().filter(|segment| found(&segment.name)).count()
    };
    let outer = prefixes(prefix).filter(|outer| outer.len() < prefix.len());
    let all = std::iter::once(prefix).chain(outer.collect::<Vec<_>>().into_iter().rev());
    let counted = all.map(|prefix| (prefix, count(prefix)));
    let best = counted.reduce(|best, next| if next.1 > best.1 { next } else { best });
    best.map_or_else(|| (prefix.to_owned(), 0), |(prefix, count)| (prefix.to_owned(), count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_end_at_dots() {
        assert_eq!(prefixes("a.b.c").collect::<Vec<_>>(), ["", "a.", "a.b."]);
        assert_eq!(prefixes("a.b.").collect::<Vec<_>>(), ["", "a.", "a.b."]);
        assert_eq!(prefixes("").collect::<Vec<_>>(), [""]);
    }

    #[test]
    fn names_are_counted_behind_each_prefix() {
        let wanted = Layout::new([("stem.0.weight", vec![1]), ("stem.0.bias", vec![1])]).unwrap();
        let names = HashSet::from(["m.stem.0.weight", "m.stem.0.bias", "stem.0.weight", "xstem.0.bias", "other"]);
        assert_eq!(below_prefixes(&wanted, &names), BTreeMap::from([("", 1), ("m.", 2)]));
    }
}
