//! A part of a set: one shard, or one folder.

use std::path::Path;

use super::error::SetError;
use super::folder::Folder;
use super::sample::Sample;
use crate::shard::{Labels, Shard, ShardError, Summary};
use crate::target::TargetKind;

/// A shard, or a folder of images.
#[derive(Debug)]
pub enum Part {
    /// A tar with its index.
    Shard(Shard),
    /// Files.
    Folder(Folder),
}

impl Part {
    /// Where it lies.
    pub fn path(&self) -> &Path {
        match self {
            Self::Shard(shard) => shard.path(),
            Self::Folder(folder) => folder.path(),
        }
    }

    /// Number of samples.
    pub fn len(&self) -> u64 {
        match self {
            Self::Shard(shard) => shard.len(),
            Self::Folder(folder) => folder.len(),
        }
    }

    /// Whether there are no samples.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Largest label that a sample can have + 1; 0 where nothing is labelled.
    pub fn classes(&self) -> u32 {
        match self {
            Self::Shard(shard) => shard.classes(),
            Self::Folder(folder) => folder.classes(),
        }
    }

    /// Number of samples without a label.
    pub fn unlabelled(&self) -> u64 {
        match self {
            Self::Shard(shard) => shard.unlabelled(),
            Self::Folder(folder) => folder.unlabelled(),
        }
    }

    /// The sample at `number`, counted from 0 in this part.
    ///
    /// # Errors
    /// There is none, or the record of a shard lies.
    pub fn sample(&self, number: u64) -> Result<Sample<'_>, ShardError> {
        match self {
            Self::Shard(shard) => shard.sample(number).map(Sample::Packed),
            Self::Folder(folder) => folder.sample(number).map(Sample::File),
        }
    }

    /// All samples, in order.
    pub fn samples(&self) -> impl Iterator<Item = Result<Sample<'_>, ShardError>> {
        (0..self.len()).map(|number| self.sample(number))
    }

    /// Counts what is there, without reading an image.
    ///
    /// # Errors
    /// The record of a shard lies.
    pub fn summary(&self) -> Result<Summary, ShardError> {
        match self {
            Self::Shard(shard) => shard.summary(),
            Self::Folder(folder) => Ok(folder.summary()),
        }
    }

    /// Every fault there is, found by reading every byte: of a shard what [`Shard::faults`] lists, of a folder files that
    /// cannot be read or have another length than when it was listed.
    pub fn faults(&self) -> Vec<SetError> {
        match self {
            Self::Shard(shard) => shard.faults().map(SetError::from).collect(),
            Self::Folder(folder) => {
                let mut scratch = Vec::new();
                folder.samples().filter_map(|file| file.bytes(&mut scratch).err()).collect()
            }
        }
    }

    /// Fails where a sample has no target of this kind, naming the first.
    ///
    /// # Errors
    /// That, or the index of a shard is damaged.
    pub fn require_targets(&self, kind: TargetKind) -> Result<(), SetError> {
        match self {
            Self::Shard(shard) => Ok(shard.require_targets(kind)?),
            Self::Folder(folder) => Ok(folder.require_targets(kind)?),
        }
    }

    /// What its labels mean, to be changed.
    pub(super) fn labels_mut(&mut self) -> &mut Labels {
        match self {
            Self::Shard(shard) => shard.labels_mut(),
            Self::Folder(folder) => folder.labels_mut(),
        }
    }
}
