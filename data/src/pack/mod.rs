//! Making shards: from IDX files, a tree of class folders, a folder of images, a list, or other shards.
//!
//! All of them are a [`Source`]: so many samples, each with a label, loaded one at a time. Which of them are packed, in
//! which order and how encoded is decided here, from [`Options`]; equal options give equal bytes on any number of
//! threads.

mod classes;
mod encode;
mod error;
mod folder;
mod idx;
mod list;
mod select;
mod split;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};

pub use classes::Classes;
pub use encode::Recode;
pub use error::{IdxFault, PackError};
pub use folder::{FolderSource, PassedOver};
pub use idx::{FASHION_MNIST_CLASSES, IdxSource};
pub use list::ListSource;
pub(crate) use select::select;

use convnext_files::FileError;
use encode::Encoder;

use crate::decode::{Channels, Decoder};
use crate::shard::{Encoding, Limits, ShardWriter, Written};

/// Where samples come from.
pub trait Source: Sync {
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

    /// What tells it apart from others of its class, wherever the source lies; by default, its number.
    fn name(&self, index: usize) -> String {
        index.to_string()
    }

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
    /// Long side, likewise.
    pub max_side: Option<u32>,
    /// The channels that all images must have, or `None` for those that each has. Of a TIFF of several pages, this makes
    /// bands of them; otherwise the first page counts.
    pub channels: Option<Channels>,
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
    /// Threads that load and encode; 0 is one a core.
    pub threads: usize,
}

impl Options {
    fn threads(&self) -> usize {
        match self.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            name: "shard".to_owned(),
            limits: Limits::default(),
            recode: Recode::default(),
            resize: None,
            max_side: None,
            channels: None,
            max_pixels: Decoder::MAX_PIXELS,
            per_class: None,
            limit: None,
            shuffle: true,
            seed: 0,
            skip_bad: false,
            threads: 0,
        }
    }
}

/// What was packed.
#[derive(Debug, Default)]
pub struct Packed {
    /// The shards.
    pub written: Written,
    /// Samples of each class; `None` is without a label.
    pub classes: BTreeMap<Option<u32>, u64>,
    /// What was left out, and why ([`Options::skip_bad`]).
    pub skipped: Vec<PackError>,
}

/// Encoded samples of each thread that may wait for one that takes longer.
const AHEAD: usize = 4;

/// Told (done, of) after each sample; says whether to go on.
pub type Progress<'a> = dyn FnMut(u64, u64) -> ControlFlow<()> + 'a;

/// What [`pack_split`] calls its sets.
pub const SPLIT_NAMES: [&str; 2] = ["train", "validation"];

/// Packs `source` into shards in `folder`, with class names beside them where the source knows them.
///
/// # Errors
/// The first thing that cannot be read, decoded or written, by name, or that it was to stop. Nothing is left behind
/// then.
pub fn pack(
    source: &dyn Source,
    folder: &Path,
    options: &Options,
    progress: &mut Progress<'_>,
) -> Result<Packed, PackError> {
    let chosen = select(source, options);
    let [packed] = pack_sets(source, folder, options, [(&options.name, chosen)], progress)?;
    Ok(packed)
}

/// Packs `source` as two sets, `train-*.tar` and `validation-*.tar` ([`SPLIT_NAMES`]), with the same classes. Of what
/// `options` choose, validation gets `share` of each class, rounded; of a class of two samples or more, at least one goes to
/// either set, and a single one to training.
///
/// The side of a sample follows from the seed, its class and its [name](Source::name), not from the order of the source. A
/// sample that is added moves at most one other of its class to the other side.
///
/// # Errors
/// As [`pack`]; no class has two samples.
pub fn pack_split(
    source: &dyn Source,
    folder: &Path,
    options: &Options,
    share: f64,
    progress: &mut Progress<'_>,
) -> Result<[Packed; 2], PackError> {
    let chosen = select(source, options);
    let [train, validation] = split::split(source, &chosen, share, options.seed);
    if validation.is_empty() && !train.is_empty() {
        return Err(PackError::NothingToHoldOut);
    }
    let [first, second] = SPLIT_NAMES;
    pack_sets(source, folder, options, [(first, train), (second, validation)], progress)
}

/// Packs sets of samples under their names: all of them are written before the first one gets its final name.
fn pack_sets<const N: usize>(
    source: &dyn Source,
    folder: &Path,
    options: &Options,
    sets: [(&str, Vec<usize>); N],
    progress: &mut Progress<'_>,
) -> Result<[Packed; N], PackError> {
    let total = sets.iter().map(|(_, chosen)| chosen.len() as u64).sum();
    if total == 0 {
        return Err(PackError::Empty {
            options: format!("limit {:?}, per class {:?}", options.limit, options.per_class),
        });
    }
    let names = sets.each_ref().map(|(name, _)| *name);
    let mut writers = Vec::new();
    for name in names {
        let mut writer = ShardWriter::create(folder, name, options.limits)?;
        if let Some(names) = source.class_names() {
            writer.name_classes(names)?;
        }
        writers.push(writer);
    }
    let packing = Packing { source, options };
    let mut done = (0, total);
    let mut packed = sets.each_ref().map(|_| Packed::default());
    for (((_, chosen), writer), packed) in sets.into_iter().zip(&mut writers).zip(&mut packed) {
        packing.write(&chosen, writer, packed, (&mut done, progress))?;
    }
    for (writer, packed) in writers.into_iter().zip(&mut packed) {
        packed.written = writer.finish()?;
    }
    Ok(packed)
}

/// The work on all sets.
struct Packing<'a> {
    source: &'a dyn Source,
    options: &'a Options,
}

impl Packing<'_> {
    /// Writes one set. `done` is how many samples there are of how many, over all sets.
    fn write(
        &self,
        chosen: &[usize],
        writer: &mut ShardWriter,
        packed: &mut Packed,
        (done, progress): (&mut (u64, u64), &mut Progress<'_>),
    ) -> Result<(), PackError> {
        let (source, count) = (self.source, chosen.len());
        let threads = self.options.threads().min(count);
        std::thread::scope(|scope| {
            // Each thread has every so-manieth sample: taking turns gives their order back, and bounds what waits.
            let encoded: Vec<_> = (0..threads)
                .map(|first| {
                    let (sender, receiver) = sync_channel(AHEAD);
                    let (this, indices) = (&*self, chosen.iter().skip(first).step_by(threads));
                    scope.spawn(move || this.encode(indices, &sender));
                    receiver
                })
                .collect();
            for (number, &index) in chosen.iter().enumerate() {
                // A thread that ended before its last sample panicked, and the scope says so.
                let Ok(encoded) = encoded[number % threads].recv() else { break };
                match encoded {
                    Ok((encoding, bytes)) => {
                        let (key, label) = (key(number, &source.origin(index)), source.label(index));
                        writer.append(&key, encoding, &bytes, label)?;
                        *packed.classes.entry(label).or_default() += 1;
                    }
                    Err(error) if self.options.skip_bad => packed.skipped.push(error),
                    Err(error) => return Err(error),
                }
                done.0 += 1;
                if progress(done.0, done.1).is_break() {
                    return Err(PackError::Stopped);
                }
            }
            Ok(())
        })?;
        if packed.skipped.len() == count && count > 0 {
            return Err(packed.skipped.swap_remove(0));
        }
        Ok(())
    }

    /// Loads and encodes samples until nobody wants them.
    fn encode<'i>(&self, indices: impl Iterator<Item = &'i usize>, to: &SyncSender<Encoded>) {
        let (mut encoder, mut bytes, most) =
            (Encoder::new(self.options), Vec::new(), bytes_of(self.options.max_pixels));
        let mut load = |index| {
            self.source.load(index, most, &mut bytes)?;
            let (encoding, encoded) = encoder.run(&bytes).map_err(|why| why.of(self.source.origin(index)))?;
            Ok((encoding, encoded.to_vec()))
        };
        for &index in indices {
            if to.send(load(index)).is_err() {
                return;
            }
        }
    }
}

/// A sample as it is packed.
type Encoded = Result<(Encoding, Vec<u8>), PackError>;

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
pub(crate) fn bytes_of(max_pixels: usize) -> u64 {
    (max_pixels as u64).saturating_mul(8).saturating_add(1 << 20)
}

/// Reads an image; no pipe, no device, and no more than `most` bytes.
pub(crate) fn read_file(path: &Path, most: u64, bytes: &mut Vec<u8>) -> Result<(), PackError> {
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
