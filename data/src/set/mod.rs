//! Samples of several shards, and of folders of images, as one sequence.

mod error;
mod folder;
mod part;
mod sample;
mod source;
mod survey;

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

pub use error::SetError;
pub use folder::{File, Folder};
pub use part::Part;
pub use sample::Sample;
pub use survey::{Colours, Sizes};

use crate::shard::{
    ClassDifference, ClassNamesFault, Labels, Opening, Shard, ShardError, Summary, check_finished, composed, names_of,
    numbers, set_of, union,
};
use crate::target::TargetKind;

/// Shards and folders joined end to end. A sample's id is its place in the whole, so that it depends on the order of the
/// paths.
///
/// Parts of several origins, each with its own names of classes, have the classes of all, by name: those of the first one
/// first.
#[derive(Debug)]
pub struct ShardSet {
    parts: Vec<Part>,
    /// The id of each part's first sample.
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

/// What has names of classes of its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Origin {
    /// Shards of one set: their path without their number.
    Shards(PathBuf),
    /// A folder of images.
    Folder(PathBuf),
}

impl Origin {
    fn of(part: &Part) -> Self {
        match part {
            Part::Shard(shard) => Self::Shards(set_of(shard.path())),
            Part::Folder(folder) => Self::Folder(folder.path().to_owned()),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shards(path) | Self::Folder(path) => path.display().fmt(f),
        }
    }
}

/// An error of opening a shard after so many others, with a word on what to do where that is their number's fault.
fn or_too_many(error: SetError, opened: usize) -> SetError {
    match error {
        SetError::Shard(source @ ShardError::File(_)) if source.is_of_open_files() => {
            SetError::TooMany { opened, source }
        }
        error => error,
    }
}

impl ShardSet {
    /// Opens all of `paths`, shards mapped, in the order given. A path to a folder is a folder of images.
    ///
    /// # Errors
    /// There is none, their writer did not finish, or one cannot be opened ([`Shard::open`], [`Folder::open`]). Names of
    /// classes that cannot be used are an error of [`ShardSet::check_class_names`], so that who looks at no labels is not
    /// held up.
    pub fn open(paths: &[PathBuf]) -> Result<Self, SetError> {
        Self::open_with(paths, &Opening::default())
    }

    /// As [`ShardSet::open`], choosing how the bytes of shards are reached and where indices are.
    ///
    /// # Errors
    /// As there.
    pub fn open_with(paths: &[PathBuf], opening: &Opening) -> Result<Self, SetError> {
        if paths.is_empty() {
            return Err(ShardError::NoShards.into());
        }
        let shards = paths.iter().filter(|path| !path.is_dir());
        let sets: BTreeSet<PathBuf> = shards.map(|path| set_of(path)).collect();
        sets.iter().try_for_each(|set| check_finished(set))?;
        let open = |path: &PathBuf| match path.is_dir() {
            true => Ok(Part::Folder(Folder::open(path)?)),
            false => Ok(Part::Shard(Shard::open_with(path, opening)?)),
        };
        let parts =
            paths.iter().enumerate().map(|(opened, path)| open(path).map_err(|error| or_too_many(error, opened)));
        let parts: Vec<Part> = parts.collect::<Result<_, SetError>>()?;
        let mut len = 0;
        let mut starts = Vec::with_capacity(parts.len());
        for part in &parts {
            starts.push(len);
            len += part.len();
        }
        let mut set = Self { parts, starts, len, classes: Classes::Numbered, joined: false };
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
        let numbers = numbers(names, to)?;
        for labels in self.parts.iter_mut().map(Part::labels_mut) {
            *labels = labels.then(&numbers);
        }
        self.classes = Classes::Named(to.iter().map(|name| composed(name)).collect());
        Ok(self)
    }

    /// Gives each part's labels the meaning that the names of its classes say.
    fn name_classes(&mut self) {
        let origins = self.origins();
        match self.read_names(&origins).and_then(|found| all_or_none(&origins, found)) {
            Ok(found) if found.is_empty() => {}
            Ok(found) => self.join(&origins, &found),
            Err(fault) => {
                let fault_of_all = Arc::new(fault.clone());
                self.parts.iter_mut().for_each(|part| *part.labels_mut() = Labels::Unusable(fault_of_all.clone()));
                self.classes = Classes::Unusable(fault);
            }
        }
    }

    /// The origins, in the order of their first parts, with the largest number of classes of a part.
    fn origins(&self) -> Vec<(Origin, u32)> {
        let mut origins: Vec<(Origin, u32)> = Vec::new();
        for part in &self.parts {
            let origin = Origin::of(part);
            match origins.iter_mut().rev().find(|(known, _)| *known == origin) {
                Some((_, classes)) => *classes = part.classes().max(*classes),
                None => origins.push((origin, part.classes())),
            }
        }
        origins
    }

    fn read_names(&self, origins: &[(Origin, u32)]) -> Result<Vec<Option<Vec<String>>>, ClassNamesFault> {
        let names_of = |(origin, classes): &(Origin, u32)| match origin {
            Origin::Shards(set) => names_of(set, *classes),
            Origin::Folder(path) => {
                let folder = self.folders().find(|folder| folder.path() == path);
                Ok(folder.and_then(Folder::class_names).map(<[String]>::to_vec))
            }
        };
        origins.iter().map(names_of).collect()
    }

    fn join(&mut self, origins: &[(Origin, u32)], found: &[Vec<String>]) {
        let all = union(found.iter().map(Vec::as_slice));
        self.joined = found.iter().any(|names| *names != found[0]);
        for ((origin, _), names) in origins.iter().zip(found) {
            // Every name is in the union.
            let Ok(numbers) = numbers(names, &all) else { continue };
            for part in self.parts.iter_mut().filter(|part| Origin::of(part) == *origin) {
                *part.labels_mut() = Labels::AsIndexed.then(&numbers);
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

    /// The shards and folders, in order.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The shards among them.
    pub fn shards(&self) -> impl Iterator<Item = &Shard> {
        self.parts.iter().filter_map(|part| match part {
            Part::Shard(shard) => Some(shard),
            Part::Folder(_) => None,
        })
    }

    /// The folders among them.
    pub fn folders(&self) -> impl Iterator<Item = &Folder> {
        self.parts.iter().filter_map(|part| match part {
            Part::Folder(folder) => Some(folder),
            Part::Shard(_) => None,
        })
    }

    /// Largest label that a sample can have + 1; 0 where nothing is labelled.
    pub fn classes(&self) -> u32 {
        self.parts.iter().map(Part::classes).max().unwrap_or(0)
    }

    /// What the classes are called, in Unicode's form NFC, where a file beside the shards says so, or class folders
    /// do. At least [`ShardSet::classes`].
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

    /// The sample with this id, found in O(log parts).
    ///
    /// # Errors
    /// `id >= len`, or its record lies.
    pub fn sample(&self, id: u64) -> Result<Sample<'_>, ShardError> {
        if id >= self.len {
            return Err(ShardError::NoSample { id, len: self.len });
        }
        let part = self.starts.partition_point(|&start| start <= id) - 1;
        self.parts[part].sample(id - self.starts[part])
    }

    /// Fails where labels cannot be used, or a sample has none, naming the first: supervised use.
    ///
    /// # Errors
    /// That.
    pub fn require_labels(&self) -> Result<(), SetError> {
        self.require_targets(TargetKind::Class)
    }

    /// Fails where a sample has no target of this kind, naming the first, or nobody knows what its classes mean.
    ///
    /// # Errors
    /// That, or an index is damaged.
    pub fn require_targets(&self, kind: TargetKind) -> Result<(), SetError> {
        if kind != TargetKind::None {
            self.check_class_names()?;
        }
        self.parts.iter().try_for_each(|part| part.require_targets(kind))
    }

    /// Counts what is there, without reading an image.
    pub fn summary(&self) -> Result<Summary, ShardError> {
        let mut total = Summary::default();
        for part in &self.parts {
            let summary = part.summary()?;
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

/// All lists of names, or none; what has no labels needs none.
fn all_or_none(
    origins: &[(Origin, u32)],
    found: Vec<Option<Vec<String>>>,
) -> Result<Vec<Vec<String>>, ClassNamesFault> {
    let named = origins.iter().zip(&found).find(|(_, names)| names.is_some());
    let unnamed = origins.iter().zip(&found).find(|((_, classes), names)| names.is_none() && *classes > 0);
    match (named, unnamed) {
        (Some(((named, _), _)), Some(((unnamed, _), _))) => {
            Err(ClassNamesFault::Mixed { named: named.to_string(), unnamed: unnamed.to_string() })
        }
        (None, _) => Ok(Vec::new()),
        (Some(_), None) => Ok(found.into_iter().map(Option::unwrap_or_default).collect()),
    }
}
