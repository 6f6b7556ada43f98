//! What can go wrong with data. Every error says what, where (file, sample) and what to do.

use crate::augment::AugmentError;
use crate::decode::DecodeError;
use crate::pack::PackError;
use crate::set::SetError;
use crate::shard::ShardError;

/// Any error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A shard, its index or the bytes in it.
    #[error(transparent)]
    Shard(#[from] ShardError),
    /// A set of shards and folders, or a sample of it.
    #[error(transparent)]
    Set(Box<SetError>),
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

impl From<SetError> for Error {
    fn from(error: SetError) -> Self {
        Self::Set(Box::new(error))
    }
}
