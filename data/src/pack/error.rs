//! What can go wrong while packing.

use std::path::PathBuf;

use crate::decode::DecodeError;
use crate::error::FileError;
use crate::pack::EncodeError;
use crate::shard::ShardError;

/// Samples that cannot be packed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PackError {
    /// The operating system refused.
    #[error(transparent)]
    File(#[from] FileError),
    /// The shards cannot be written.
    #[error(transparent)]
    Shard(#[from] ShardError),
    /// An image cannot be decoded.
    #[error("{}: {source}; remove it, or leave out bad images", path.display())]
    Image {
        /// The image.
        path: PathBuf,
        /// Why.
        source: DecodeError,
    },
    /// An image cannot be encoded.
    #[error("{}: {source}; choose another format", path.display())]
    Encode {
        /// The image.
        path: PathBuf,
        /// What the encoder said.
        source: EncodeError,
    },
    /// An IDX file is not what it should be.
    #[error("{}: {fault}", path.display())]
    Idx {
        /// The file.
        path: PathBuf,
        /// In which way.
        fault: IdxFault,
    },
    /// The tree has no class folders with images.
    #[error("{}: has no folder with images in it; expected CLASS/IMAGE.jpg (or .jpeg, .png, .pgm, .ppm)", path.display())]
    NoClasses {
        /// The root of the tree.
        path: PathBuf,
    },
    /// A line of a list is wrong.
    #[error("{}, line {line}: {why}; each line should be: path, a tab, a class number", path.display())]
    List {
        /// The list.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// Nothing to pack.
    #[error("no samples to pack with {options}; there are none, or the limits leave none")]
    Empty {
        /// The options that choose samples.
        options: String,
    },
}

/// The ways an IDX file can be wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdxFault {
    /// Other magic bytes.
    #[error(
        "is no IDX file of {wanted}: it begins with {found:#010x}, expected {expected:#010x}; are images and labels swapped?"
    )]
    Magic {
        /// "images" or "labels".
        wanted: &'static str,
        /// The first four bytes.
        found: u32,
        /// What they should be.
        expected: u32,
    },
    /// Shorter than its header says.
    #[error("is cut: {found} bytes where its header promises {promised}; fetch it again")]
    Truncated {
        /// Bytes the header promises.
        promised: u64,
        /// Bytes there are.
        found: u64,
    },
    /// Longer than its header says.
    #[error("goes on after the {promised} bytes that its header promises; fetch it again")]
    Trailing {
        /// Bytes the header promises.
        promised: u64,
    },
    /// Larger than can be.
    #[error("promises {count} items of {height}x{width} bytes, more than the 4 GiB that are read")]
    TooLarge {
        /// Items.
        count: u32,
        /// Rows.
        height: u32,
        /// Columns.
        width: u32,
    },
    /// Images without pixels.
    #[error("promises images of {height}x{width} pixels")]
    NoPixels {
        /// Rows.
        height: u32,
        /// Columns.
        width: u32,
    },
    /// Images and labels differ in number.
    #[error("has {labels} labels for {images} images; are the two files of one set?")]
    Count {
        /// Images.
        images: usize,
        /// Labels.
        labels: usize,
    },
}
