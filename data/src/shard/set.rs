//! Several shards as one sequence of samples.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::{Access, Sample, Shard, ShardError, Summary};
use crate::error::FileError;

/// Name of the file beside shards that names their classes: one a line, the first is class 0.
pub const CLASS_NAMES: &str = "classes.txt";
/// Largest file of class names that is read.
const CLASS_NAMES_BYTES: u64 = 16 << 20;

/// Shards joined end to end. A sample's id is its place in the whole, so that it depends on the order of the paths.
#[derive(Debug)]
pub struct ShardSet {
    shards: Vec<Shard>,
    /// The id of each shard's first sample.
    starts: Vec<u64>,
    len: u64,
    class_names: Option<Vec<String>>,
}

impl ShardSet {
    /// Opens all of `paths`, mapped, in the order given.
    ///
    /// # Errors
    /// There is none, one cannot be opened ([`Shard::open`]), or their class names ([`CLASS_NAMES`]) differ or are
    /// fewer than the classes.
    pub fn open(paths: &[PathBuf]) -> Result<Self, ShardError> {
        Self::open_with(paths, Access::Mapped)
    }

    /// As [`ShardSet::open`], choosing how bytes are reached.
    pub fn open_with(paths: &[PathBuf], access: Access) -> Result<Self, ShardError> {
        if paths.is_empty() {
            return Err(ShardError::NoShards);
        }
        let open = |path| Shard::open_with(path, access);
        let shards: Vec<Shard> = paths.iter().map(open).collect::<Result<_, _>>()?;
        let mut len = 0;
        let mut starts = Vec::with_capacity(shards.len());
        for shard in &shards {
            starts.push(len);
            len += shard.len();
        }
        let mut set = Self { shards, starts, len, class_names: None };
        set.class_names = read_class_names(paths, set.classes())?;
        Ok(set)
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

    /// Largest label of all + 1; 0 where nothing is labelled.
    pub fn classes(&self) -> u32 {
        self.shards.iter().map(Shard::classes).max().unwrap_or(0)
    }

    /// What the classes are called, where a [`CLASS_NAMES`] lies beside the shards. At least [`ShardSet::classes`].
    pub fn class_names(&self) -> Option<&[String]> {
        self.class_names.as_deref()
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

    /// Fails where a sample has no label, naming the first: supervised use.
    pub fn require_labels(&self) -> Result<(), ShardError> {
        self.shards.iter().try_for_each(Shard::require_labels)
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
        }
        Ok(total)
    }
}

fn read_class_names(paths: &[PathBuf], classes: u32) -> Result<Option<Vec<String>>, ShardError> {
    let folders: BTreeSet<&Path> = paths.iter().filter_map(|path| path.parent()).collect();
    let mut names: Option<Vec<String>> = None;
    for folder in folders {
        let path = folder.join(CLASS_NAMES);
        let Some(found) = read_names(&path)? else {
            continue;
        };
        let wrong = |why| ShardError::ClassNames { path: path.clone(), why };
        if found.len() < classes as usize {
            let why = format!("names {} classes, the shards have {classes}", found.len());
            return Err(wrong(why + "; add the missing lines"));
        }
        if names.as_ref().is_some_and(|names| *names != found) {
            let why = "names other classes than the shards in another folder; use shards of one data set";
            return Err(wrong(why.to_owned()));
        }
        names = Some(found);
    }
    Ok(names)
}

fn read_names(path: &Path) -> Result<Option<Vec<String>>, ShardError> {
    let file = match File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(FileError::on("open", path))?,
    };
    let mut text = String::new();
    file.take(CLASS_NAMES_BYTES).read_to_string(&mut text).map_err(FileError::on("read", path))?;
    Ok(Some(text.lines().map(|line| line.trim().to_owned()).collect()))
}
