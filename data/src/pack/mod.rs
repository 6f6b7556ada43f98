//! Making shards: from IDX files, a tree of class folders, or a list.
//!
//! All three are a [`Source`]: so many samples, each with a label, loaded one at a time. Which of them are packed, in
//! which order and how encoded is decided here, from [`Options`]; equal options give equal bytes.

mod encode;
mod error;
mod folder;
mod idx;
mod list;
mod select;

use std::path::{Path, PathBuf};

pub use encode::{EncodeError, Recode, encode_jpeg, encode_png, encode_pnm};
pub use error::{IdxFault, PackError};
pub use folder::FolderSource;
pub use idx::{FASHION_MNIST_CLASSES, IdxSource, MNIST_CLASSES};
pub use list::ListSource;

use encode::Encoder;

use crate::error::FileError;
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

    /// Its encoded bytes, put into `bytes`.
    fn load(&self, index: usize, bytes: &mut Vec<u8>) -> Result<(), PackError>;

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
/// (done, of) after each sample.
///
/// # Errors
/// The first thing that cannot be read, decoded or written, by name. Nothing is left behind then.
pub fn pack(
    source: &dyn Source,
    folder: &Path,
    options: &Options,
    progress: &mut dyn FnMut(u64, u64),
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
    let mut encoder = Encoder::new(options.recode, options.resize);
    let mut skipped = Vec::new();
    let (mut bytes, total) = (Vec::new(), chosen.len() as u64);
    for (done, index) in chosen.into_iter().enumerate() {
        let loaded = source.load(index, &mut bytes);
        let encoded = loaded.and_then(|()| encoder.run(&bytes).map_err(|why| why.of(source.origin(index))));
        match encoded {
            Ok((encoding, encoded)) => {
                let key = key(done, &source.origin(index));
                writer.append(&key, encoding, encoded, source.label(index))?;
            }
            Err(error) if options.skip_bad => skipped.push(error),
            Err(error) => return Err(error),
        }
        progress(done as u64 + 1, total);
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

fn read_file(path: &Path, bytes: &mut Vec<u8>) -> Result<(), PackError> {
    use std::io::Read;
    bytes.clear();
    let mut file = std::fs::File::open(path).map_err(FileError::on("open", path))?;
    file.read_to_end(bytes).map_err(FileError::on("read", path))?;
    Ok(())
}
