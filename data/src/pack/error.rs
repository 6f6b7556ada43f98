//! What can go wrong while packing.

use std::path::PathBuf;

use convnext_files::FileError;

use crate::decode::DecodeError;
use crate::encode::EncodeError;
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
    /// A sample of a set cannot be read.
    #[error("{what}")]
    Sample {
        /// Which, and why.
        what: String,
    },
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
    /// Neither class folders with images nor images.
    #[error(
        "{}: has no folder with an image in it{}; expected CLASS/IMAGE.jpg (or .jpeg, .png, .webp, .gif, .tif, .bmp, .pgm, \
         .ppm), or, without --classes, images alone",
        path.display(), beside(left_out)
    )]
    NoClasses {
        /// The root of the tree.
        path: PathBuf,
        /// What it holds, by kind.
        left_out: String,
    },
    /// Too many of a tree's files are no image that can be read, or all of a class.
    #[error("{}; convert them, or leave them out with `convnext pack --skip-other`", left_out(*left, *all, kinds, classes))]
    LeftOut {
        /// Files that would be left out.
        left: u64,
        /// All files.
        all: u64,
        /// Those left out, by kind.
        kinds: String,
        /// Classes that would be left without an image.
        classes: Vec<String>,
    },
    /// Class folders and a list of classes differ.
    #[error(
        "{}: has class folders that {} does not name: {}{}; rename them, or add them at the end of the list",
        path.display(), list.display(), quoted(unknown), without_folder(absent)
    )]
    Classes {
        /// The root of the tree.
        path: PathBuf,
        /// The list.
        list: PathBuf,
        /// Folders that are not in the list.
        unknown: Vec<String>,
        /// Names in the list without a folder.
        absent: Vec<String>,
    },
    /// A list of classes has none.
    #[error("{}: names no class; expected one name a line, class 0 first", path.display())]
    NoNames {
        /// The file.
        path: PathBuf,
    },
    /// A folder, a pipe or a device where a file belongs.
    #[error("{}: is no file; expected {wanted}", path.display())]
    NoFile {
        /// What is no file.
        path: PathBuf,
        /// What belongs there.
        wanted: &'static str,
    },
    /// A file where a folder belongs.
    #[error("{}: is a file; --folder takes a folder, --list a list of images", path.display())]
    NoFolder {
        /// The file.
        path: PathBuf,
    },
    /// Folders in folders without end.
    #[error("{}: lies more than {deepest} folders below its class", path.display())]
    TooDeep {
        /// The first one too deep.
        path: PathBuf,
        /// The limit.
        deepest: usize,
    },
    /// A file is longer than is read of its kind.
    #[error(
        "{}: has more than the {most} bytes that are read of such a file; for a larger image raise --max-pixels (data.max_pixels in a \
         recipe)",
        path.display()
    )]
    TooLong {
        /// The file.
        path: PathBuf,
        /// The limit.
        most: u64,
    },
    /// A list is no text.
    #[error("{}: {why}; save it as UTF-8", path.display())]
    Text {
        /// The file.
        path: PathBuf,
        /// Where and why.
        why: std::str::Utf8Error,
    },
    /// The caller said to stop.
    #[error("stopped before the end, as asked; nothing was kept")]
    Stopped,
    /// A line of a list is wrong.
    #[error("{}, line {line}: {why}; each line should be: path, a tab, a class", path.display())]
    List {
        /// The list.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// No class has two samples.
    #[error("no class has two images, so that none can be held out for validation; pack without --split")]
    NothingToHoldOut,
    /// Nothing to pack.
    #[error("no samples to pack with {options}; there are none, or the limits leave none")]
    Empty {
        /// The options that choose samples.
        options: String,
    },
}

fn left_out(left: u64, all: u64, kinds: &str, classes: &[String]) -> String {
    let mut text = format!("{left} of {all} files are no image that can be read: {kinds}");
    if !classes.is_empty() {
        text += &format!("; nothing would be left of the class folders {}", quoted(classes));
    }
    text
}

fn beside(left_out: &str) -> String {
    if left_out.is_empty() { String::new() } else { format!(", but {left_out}") }
}

fn without_folder(absent: &[String]) -> String {
    if absent.is_empty() { String::new() } else { format!("; it names, and there is no folder of: {}", quoted(absent)) }
}

/// The first ten names, and how many more there are.
fn quoted(names: &[String]) -> String {
    const LISTED: usize = 10;
    let mut text = names.iter().take(LISTED).map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
    if names.len() > LISTED {
        text += &format!(" and {} more", names.len() - LISTED);
    }
    text
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
