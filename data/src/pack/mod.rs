//! Making shards: from IDX files, a tree of class folders, a folder of images, or a list.
//!
//! All three are a [`Source`]: so many samples, each with a label, loaded one at a time. Which of them are packed, in
//! which order and how encoded is decided here, from [`Options`]; equal options give equal bytes.

mod classes;
mod encode;
mod error;
mod folder;
mod idx;
mod list;
mod select;

use std::fs::File;
use std::io::Read;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

pub use classes::Classes;
pub use encode::Recode;
pub use error::{IdxFault, PackError};
pub use folder::{FolderSource, PassedOver};
pub use idx::{FASHION_MNIST_CLASSES, IdxSource};
pub use list::ListSource;

use convnext_files::FileError;
use encode::Encoder;

use crate::decode::Decoder;
use crate::shard::{Limits, ShardWriter, Written};

/// Where samples come from.
pub trait Source {
    /// Number of samples.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The class of sample `index`, where it has one.
    fn label(&self, index: usize) -> Option<u32>;

    /// Its encoded bytes, put into `bytes`; more than `most` are an error.
    fn load(&self, index: usize, most: u64, bytes: &mut Vec<u8>) -> Result<(), PackError>;

    /// Where it comes from, for errors and for its key.
    fn origin(&self, index: usize) -> PathBuf;

    /// What the classes are called, where that is known.
    fn class_names(&self) -> Option<&[String]>;
}

/// How to pack.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Shards are called `name-000000.tar` and so on.
    pub name: String,
    /// When a shard is full.
    pub limits: Limits,
    /// How images are encoded.
    pub recode: Recode,
    /// Short side, in pixels, of images that are larger; `None` keeps all sizes.
    pub resize: Option<u32>,
    /// Pixels that an image may have before it is resized.
    pub max_pixels: usize,
    /// At most so many samples of each class, chosen by `seed`. Samples without a label count as one class.
    pub per_class: Option<u64>,
    /// At most so many samples in all: the first in packed order.
    pub limit: Option<u64>,
    /// Packs in an order permuted by `seed`, so that the blocks of a shuffled reading mix classes.
    pub shuffle: bool,
    /// Chooses subset and order.
    pub seed: u64,
    /// Leaves out images that cannot be read or decoded, and counts them, instead of failing.
    pub skip_bad: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            name: "shard".to_owned(),
            limits: Limits::default(),
            recode: Recode::Keep,
            resize: None,
            max_pixels: Decoder::MAX_PIXELS,
            per_class: None,
            limit: None,
            shuffle: true,
            seed: 0,
            skip_bad: false,
        }
    }
}

/// What was packed.
#[derive(Debug, Default)]
pub struct Packed {
    /// The shards.
    pub written: Written,
    /// What was left out, and why ([`Options::skip_bad`]).
    pub skipped: Vec<PackError>,
}

/// Packs `source` into shards in `folder`, with class names beside them where the source knows them. `progress` is told
/// (done, of) after each sample, and says whether to go on.
///
/// # Errors
/// The first thing that cannot be read, decoded or written, by name, or that it was to stop. Nothing is left behind
/// then.
pub fn pack(
    source: &dyn Source,
    folder: &Path,
    options: &Options,
    progress: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
) -> Result<Packed, PackError> {
    let chosen = select::select(source, options);
    if chosen.is_empty() {
        return Err(PackError::Empty {
            options: format!("limit {:?}, per class {:?}", options.limit, options.per_class),
        });
    }
    let mut writer = ShardWriter::create(folder, &options.name, options.limits)?;
    if let Some(names) = source.class_names() {
        writer.name_classes(names)?;
    }
    let mut encoder = Encoder::new(options);
    let most = bytes_of(options.max_pixels);
    let mut skipped = Vec::new();
    let (mut bytes, total) = (Vec::new(), chosen.len() as u64);
    for (done, index) in chosen.into_iter().enumerate() {
        let loaded = source.load(index, most, &mut bytes);
        let encoded = loaded.and_then(|()| encoder.run(&bytes).map_err(|why| why.of(source.origin(index))));
        match encoded {
            Ok((encoding, encoded)) => {
                let key = key(done, &source.origin(index));
                writer.append(&key, encoding, encoded, source.label(index))?;
            }
            Err(error) if options.skip_bad => skipped.push(error),
            Err(error) => return Err(error),
        }
        if progress(done as u64 + 1, total).is_break() {
            return Err(PackError::Stopped);
        }
    }
    if skipped.len() as u64 == total {
        return Err(skipped.swap_remove(0));
    }
    Ok(Packed { written: writer.finish()?, skipped })
}

/// `00000012-dogs-rex`: unique by its number, and telling where the sample came from.
fn key(number: usize, origin: &Path) -> String {
    const LONGEST: usize = 60;
    let folder = origin.parent().and_then(Path::file_name);
    let parts = folder.into_iter().chain(origin.file_stem());
    let mut key = format!("{number:08}");
    for part in parts {
        key.push('-');
        let known = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' };
        key.extend(part.to_string_lossy().chars().map(known));
    }
    key.truncate(LONGEST); // ASCII by construction
    key
}

/// The bytes that a file may have whose image may have so many pixels: what the most wasteful format stores, and a little.
fn bytes_of(max_pixels: usize) -> u64 {
    (max_pixels as u64).saturating_mul(8).saturating_add(1 << 20)
}

/// Reads an image; no pipe, no device, and no more than `most` bytes.
fn read_file(path: &Path, most: u64, bytes: &mut Vec<u8>) -> Result<(), PackError> {
    bytes.clear();
    // Asked before it is opened: opening a pipe waits for somebody to write.
    let metadata = std::fs::metadata(path).map_err(FileError::on("open", path))?;
    if !metadata.is_file() {
        return Err(PackError::NoFile { path: path.to_owned(), wanted: "an image" });
    }
    let file = File::open(path).map_err(FileError::on("open", path))?;
    let read = file.take(most.saturating_add(1)).read_to_end(bytes).map_err(FileError::on("read", path))?;
    too_long(path, read, most)
}

/// Reads a text, from a pipe too.
fn read_text(path: &Path, wanted: &'static str, most: u64) -> Result<String, PackError> {
    if path.is_dir() {
        return Err(PackError::NoFile { path: path.to_owned(), wanted });
    }
    let file = File::open(path).map_err(FileError::on("open", path))?;
    let mut bytes = Vec::new();
    let read = file.take(most + 1).read_to_end(&mut bytes).map_err(FileError::on("read", path))?;
    too_long(path, read, most)?;
    let text = String::from_utf8(bytes);
    text.map_err(|error| PackError::Text { path: path.to_owned(), why: error.utf8_error() })
}

fn too_long(path: &Path, read: usize, most: u64) -> Result<(), PackError> {
    match read as u64 > most {
        true => Err(PackError::TooLong { path: path.to_owned(), most }),
        false => Ok(()),
    }
}
