//! What can go wrong with data. Every error says what, where (file, sample) and what to do.

use std::io;
use std::path::{Path, PathBuf};

use crate::augment::AugmentError;
use crate::decode::DecodeError;
use crate::pack::PackError;
use crate::shard::ShardError;

/// Any error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A shard, its index or the bytes in it.
    #[error(transparent)]
    Shard(#[from] ShardError),
    /// An image outside a shard.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// An augmentation, or a chain of them.
    #[error(transparent)]
    Augment(#[from] AugmentError),
    /// Making shards.
    #[error(transparent)]
    Pack(#[from] PackError),
}

/// What was being done to which file when the operating system refused.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} {}: {source}", path.display())]
pub struct FileError {
    /// The file.
    pub path: PathBuf,
    /// A verb: "open", "read", "rename".
    pub doing: &'static str,
    /// What the operating system said.
    pub source: io::Error,
}

impl FileError {
    /// For `map_err`: `File::open(path).map_err(FileError::on("open", path))`.
    pub(crate) fn on(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self { path: path.to_owned(), doing, source }
    }
}
