//! What can go wrong with a set of shards and folders.

use std::path::PathBuf;

use crate::decode::DecodeError;
use crate::pack::PackError;
use crate::shard::ShardError;
use crate::target::TargetKind;

/// A set that cannot be used, or a sample of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetError {
    /// A shard, or what labels mean.
    #[error(transparent)]
    Shard(#[from] ShardError),
    /// A folder cannot be listed, or a file of it cannot be read.
    #[error(transparent)]
    Folder(#[from] PackError),
    /// More shards than a process may have open.
    #[error(
        "{source}, after {opened} shards; a shard that is mapped takes two of the maps that a process may have (`sysctl \
         vm.max_map_count`, as a rule 65530), one that is read two of its open files (`ulimit -n`): raise that limit, or make \
         larger shards (`pack --max-mib-per-shard`)"
    )]
    TooMany {
        /// Shards that were opened before it.
        opened: usize,
        /// What the operating system said.
        source: ShardError,
    },
    /// A file is no picture that can be decoded.
    #[error("{}: cannot be decoded: {source}; remove or convert it", path.display())]
    Undecodable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: DecodeError,
    },
    /// A file has another length than when the folder was listed.
    #[error("{}: has {found} bytes, and had {len} when the folder was listed; leave files alone while they are used", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// Its length then.
        len: u64,
        /// Its length now.
        found: u64,
    },
    /// A file has no target of the kind that is needed.
    #[error(
        "{}: {kind} is needed, and {}", path.display(),
        match kind {
            TargetKind::Class => "it lies in no class folder; make a folder for each class, or use it for pre-training, which needs \
                                  no labels",
            _ => "a file in a folder has a class at most; make shards that hold it (`convnext index --help`)",
        }
    )]
    NoTarget {
        /// The file.
        path: PathBuf,
        /// What is needed.
        kind: TargetKind,
    },
}
