//! Several shards as one sequence of samples.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{ClassDifference, ClassNamesFault, Labels, Opening, Sample, Shard, ShardError, Summary, names, writer};
use crate::target::TargetKind;

/// Shards joined end to end. A sample's id is its place in the whole, so that it depends on the order of the paths.
///
/// Shards of several sets, each with its own names of classes, have the classes of all, by name: those of the first set
/// first.
#[derive(Debug)]
pub struct ShardSet {
    shards: Vec<Shard>,
    /// The id of each shard's first sample.
    starts: Vec<u64>,
    len: u64,
    classes: Classes,
    joined: bool,
}

/// What the labels of a set mean.
#[derive(Debug)]
enum Classes {
    /// Numbers that nothing names.
    Numbered,
    /// Label `n` is the `n`-th name.
    Named(Vec<String>),
    /// Nobody knows: labels must not be used.
    Unusable(ClassNamesFault),
}

impl ShardSet {
    /// Opens all of `paths`, mapped, in the order given.
    ///
    /// # Errors
    /// There is none, their writer did not finish, or one cannot be opened ([`Shard::open`]). Names of classes that cannot be used are an error of
    /// [`ShardSet::check_class_names`], so that who looks at no labels is not held up.
    pub fn open(paths: &[PathBuf]) -> Result<Self, ShardError> {
        Self::open_with(paths, &Opening::default())
    }

    /// As [`ShardSet::open`], choosing how bytes are reached and where indices are.
    pub fn open_with(paths: &[PathBuf], opening: &Opening) -> Result<Self, ShardError> {
        if paths.is_empty() {
            return Err(ShardError::NoShards);
        }
        let sets: BTreeSet<PathBuf> = paths.iter().map(|path| names::set_of(path)).collect();
        sets.iter().try_for_each(|set| writer::check_finished(set))?;
        let open = |path| Shard::open_with(path, opening);
        let shards: Vec<Shard> = paths.iter().map(open).collect::<Result<_, _>>()?;
        let mut len = 0;
        let mut starts = Vec::with_capacity(shards.len());
        for shard in &shards {
            starts.push(len);
            len += shard.len();
        }
        let mut set = Self { shards, starts, len, classes: Classes::Numbered, joined: false };
        set.name_classes();
        Ok(set)
    }

    /// The same samples with other numbers as labels: those that `to` gives to the names of their classes. A set without
    /// names ([`ShardSet::class_names`] is `None`) keeps its numbers.
    ///
    /// # Errors
    /// A class of the set is not in `to` (which may have others besides), or the set's names cannot be used. Names are
    /// equal if they are in Unicode's form NFC.
    pub fn relabelled(mut self, to: &[String]) -> Result<Self, ClassDifference> {
        let names = match &self.classes {
            Classes::Numbered => return Ok(self),
            Classes::Unusable(fault) => return Err(fault.clone().into()),
            Classes::Named(names) => names,
        };
        let numbers = names::numbers(names, to)?;
        for shard in &mut self.shards {
            shard.labels = shard.labels.then(&numbers);
        }
        self.classes = Classes::Named(to.iter().map(|name| names::composed(name)).collect());
        Ok(self)
    }

    /// Gives each shard's labels the meaning that the names beside it say.
    fn name_classes(&mut self) {
        let sets = self.sets();
        match self.read_names(&sets).and_then(|found| all_or_none(&sets, found)) {
            Ok(found) if found.is_empty() => {}
            Ok(found) => self.join(&sets, &found),
            Err(fault) => {
                let fault_of_all = Arc::new(fault.clone());
                self.shards.iter_mut().for_each(|shard| shard.labels = Labels::Unusable(fault_of_all.clone()));
                self.classes = Classes::Unusable(fault);
            }
        }
    }

    /// The sets, in the order of their first shards, with the largest number of classes of a shard.
    fn sets(&self) -> Vec<(PathBuf, u32)> {
        let mut sets: Vec<(PathBuf, u32)> = Vec::new();
        for shard in &self.shards {
            let set = names::set_of(shard.path());
            match sets.iter_mut().rev().find(|(known, _)| *known == set) {
                Some((_, classes)) => *classes = shard.classes().max(*classes),
                None => sets.push((set, shard.classes())),
            }
        }
        sets
    }

    fn read_names(&self, sets: &[(PathBuf, u32)]) -> Result<Vec<Option<Vec<String>>>, ClassNamesFault> {
        sets.iter().map(|(set, classes)| names::read(set, *classes)).collect()
    }

    fn join(&mut self, sets: &[(PathBuf, u32)], found: &[Vec<String>]) {
        let all = names::union(found.iter().map(Vec::as_slice));
        self.joined = found.iter().any(|names| *names != found[0]);
        for ((set, _), names) in sets.iter().zip(found) {
            // Every name is in the union.
            let Ok(numbers) = names::numbers(names, &all) else { continue };
            for shard in self.shards.iter_mut().filter(|shard| names::set_of(shard.path()) == *set) {
                shard.labels = Labels::AsIndexed.then(&numbers);
            }
        }
        self.classes = Classes::Named(all);
    }

    /// Number of samples.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are no samples.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The shards, in order.
    pub fn shards(&self) -> &[Shard] {
        &self.shards
    }

    /// Largest label that a sample can have + 1; 0 where nothing is labelled.
    pub fn classes(&self) -> u32 {
        self.shards.iter().map(Shard::classes).max().unwrap_or(0)
    }

    /// What the classes are called, in Unicode's form NFC, where a file beside the shards says so. At least
    /// [`ShardSet::classes`].
    pub fn class_names(&self) -> Option<&[String]> {
        match &self.classes {
            Classes::Named(names) => Some(names),
            Classes::Numbered | Classes::Unusable(_) => None,
        }
    }

    /// Whether sets with different names of classes were joined, name by name.
    pub fn is_joined_by_name(&self) -> bool {
        self.joined
    }

    /// Fails where labels cannot be used, since nobody knows what they mean: names beside the shards are wrong, or some
    /// sets have names and others have none.
    pub fn check_class_names(&self) -> Result<(), ShardError> {
        match &self.classes {
            Classes::Unusable(fault) => Err(fault.clone().into()),
            Classes::Numbered | Classes::Named(_) => Ok(()),
        }
    }

    /// The sample with this id, found in O(log shards).
    ///
    /// # Errors
    /// `id >= len`, or its record lies.
    pub fn sample(&self, id: u64) -> Result<Sample<'_>, ShardError> {
        if id >= self.len {
            return Err(ShardError::NoSample { id, len: self.len });
        }
        let shard = self.starts.partition_point(|&start| start <= id) - 1;
        self.shards[shard].sample(id - self.starts[shard])
    }

    /// Fails where labels cannot be used, or a sample has none, naming the first: supervised use.
    pub fn require_labels(&self) -> Result<(), ShardError> {
        self.check_class_names()?;
        self.shards.iter().try_for_each(Shard::require_labels)
    }

    /// Fails where a sample has no target of this kind, naming the first, or nobody knows what its classes mean.
    ///
    /// # Errors
    /// That, or an index is damaged.
    pub fn require_targets(&self, kind: TargetKind) -> Result<(), ShardError> {
        if kind != TargetKind::None {
            self.check_class_names()?;
        }
        self.shards.iter().try_for_each(|shard| shard.require_targets(kind))
    }

    /// Counts what is there, from the records alone.
    pub fn summary(&self) -> Result<Summary, ShardError> {
        let mut total = Summary::default();
        for shard in &self.shards {
            let summary = shard.summary()?;
            total.samples += summary.samples;
            total.unlabelled += summary.unlabelled;
            total.classes = total.classes.max(summary.classes);
            total.bytes += summary.bytes;
            (total.encodings.iter_mut().zip(summary.encodings)).for_each(|(all, n)| *all += n);
            (total.targets.iter_mut().zip(summary.targets)).for_each(|(all, n)| *all += n);
        }
        Ok(total)
    }
}

/// All lists of names, or none; sets without labels need none.
fn all_or_none(sets: &[(PathBuf, u32)], found: Vec<Option<Vec<String>>>) -> Result<Vec<Vec<String>>, ClassNamesFault> {
    let shown = |set: &Path| set.display().to_string();
    let named = sets.iter().zip(&found).find(|(_, names)| names.is_some());
    let unnamed = sets.iter().zip(&found).find(|((_, classes), names)| names.is_none() && *classes > 0);
    match (named, unnamed) {
        (Some(((named, _), _)), Some(((unnamed, _), _))) => {
            Err(ClassNamesFault::Mixed { named: shown(named), unnamed: shown(unnamed) })
        }
        (None, _) => Ok(Vec::new()),
        (Some(_), None) => Ok(found.into_iter().map(Option::unwrap_or_default).collect()),
    }
}
