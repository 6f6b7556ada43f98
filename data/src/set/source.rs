//! A set as what is packed: shards and folders of others become shards of ours, shuffled, with restart markers, or smaller.

use std::path::PathBuf;

use super::{Part, SetError, ShardSet};
use crate::decode::Decoder;
use crate::pack::{PackError, Source, bytes_of};

/// Classes come along; other targets do not: see [`ShardSet::summary`].
impl Source for ShardSet {
    fn len(&self) -> usize {
        usize::try_from(self.len()).unwrap_or(usize::MAX)
    }

    fn label(&self, index: usize) -> Option<u32> {
        self.sample(index as u64).ok()?.label()
    }

    fn load(&self, index: usize, most: u64, bytes: &mut Vec<u8>) -> Result<(), PackError> {
        let sample = self.sample(index as u64)?;
        if sample.size() > most.max(bytes_of(Decoder::MAX_PIXELS)) {
            return Err(PackError::TooLong { path: self.origin(index), most });
        }
        sample.copy_into(Decoder::MAX_PIXELS, bytes).map_err(|error| match error {
            SetError::Shard(error) => error.into(),
            SetError::Folder(error) => error,
            other => PackError::Sample { what: other.to_string() },
        })
    }

    fn origin(&self, index: usize) -> PathBuf {
        let part = self.starts.partition_point(|&start| start <= index as u64) - 1;
        let name = self.name(index);
        match &self.parts[part] {
            Part::Shard(shard) => shard.path().join(name),
            Part::Folder(folder) => folder.path().join(name),
        }
    }

    fn name(&self, index: usize) -> String {
        self.sample(index as u64).map_or_else(|_| index.to_string(), |sample| sample.key())
    }

    fn class_names(&self) -> Option<&[String]> {
        self.class_names()
    }
}
