//! Shards: WebDataset tars, mapped into memory, with an index beside each.
//!
//! A sample is an image member (`key.jpg`, `.jpeg`, `.png`, `.pgm`, `.ppm`) and, next to it, an optional label
//! (`key.cls`, a decimal number). What the classes are called lies beside a set of shards (`shard/names.rs`). Other members are ignored. The index (`x.tar.idx`, laid out in `shard/index.rs`)
//! is mapped too and never read whole, so that opening costs the same for ten samples and ten million.
//!
//! What is cached where: nothing in this process. Pages of tar and index live in the operating system's page cache.

mod build;
mod error;
mod index;
mod map;
mod names;
mod set;
mod writer;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use error::{ClassDifference, ClassNamesFault, IndexFault, ShardError, TarFault};
pub use index::Encoding;
pub use map::Access;
pub use names::CLASS_NAMES;
pub use set::ShardSet;
pub use writer::{Limits, ShardWriter, Written};

use index::{HEADER, Header, RECORD, Record, modified};
use map::Bytes;

use crate::decode::Decoder;
use crate::error::{Error, FileError};
use crate::image::Image;

/// One tar and its index, open.
#[derive(Debug)]
pub struct Shard {
    path: PathBuf,
    tar: Bytes,
    records: Bytes,
    header: Header,
    labels: Labels,
}

/// What the labels in an index mean.
#[derive(Clone, Debug)]
enum Labels {
    /// Themselves.
    AsIndexed,
    /// Label `n` of the index is the `n`-th of these.
    Mapped(Arc<[u32]>),
    /// Nobody knows.
    Unusable(Arc<ClassNamesFault>),
}

impl Labels {
    fn of(&self, label: u32) -> u32 {
        match self {
            Self::AsIndexed | Self::Unusable(_) => label,
            // An index has no label without a name (`names::read`).
            Self::Mapped(numbers) => numbers.get(label as usize).copied().unwrap_or(label),
        }
    }

    /// These, then label `n` of them as the `n`-th of `numbers`.
    fn then(&self, numbers: &[u32]) -> Self {
        let next = |&label: &u32| numbers.get(label as usize).copied().unwrap_or(label);
        match self {
            Self::AsIndexed => Self::Mapped(numbers.into()),
            Self::Mapped(mapped) => Self::Mapped(mapped.iter().map(next).collect()),
            Self::Unusable(fault) => Self::Unusable(fault.clone()),
        }
    }
}

/// What a shard, or a set of them, holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Samples.
    pub samples: u64,
    /// Samples without a label.
    pub unlabelled: u64,
    /// Largest label + 1.
    pub classes: u32,
    /// Bytes of all images.
    pub bytes: u64,
    /// Images by the encoding that their names say, in the order of [`Encoding::ALL`].
    pub encodings: [u64; Encoding::ALL.len()],
}

impl Shard {
    /// Maps the tar at `path`. Costs the same whatever the number of samples.
    ///
    /// # Errors
    /// There is no index, or it does not belong to this tar as it is now (length, modification time), or its header is
    /// damaged.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ShardError> {
        Self::open_with(path, Access::Mapped)
    }

    /// As [`Shard::open`], choosing how bytes are reached.
    pub fn open_with(path: impl AsRef<Path>, access: Access) -> Result<Self, ShardError> {
        let path = path.as_ref();
        let (tar, metadata) = Bytes::open(path, access)?;
        let index = build::index_path(path);
        let (records, _) = Bytes::open(&index, access).map_err(|error| no_index(error, path))?;
        let header = read_header(&records, &index)?;
        let header = Header::parse(&header, records.len(), tar.len(), modified(&metadata))
            .map_err(|fault| ShardError::Index { index, fault })?;
        Ok(Self { path: path.to_owned(), tar, records, header, labels: Labels::AsIndexed })
    }

    /// Reads all of the tar at `path` and writes its index beside it (written as `.partial`, synced, renamed).
    /// Returns the number of samples.
    ///
    /// # Errors
    /// The tar is cut, damaged, or no WebDataset shard.
    pub fn index(path: impl AsRef<Path>) -> Result<u64, ShardError> {
        build::build(path.as_ref())
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Number of samples.
    pub fn len(&self) -> u64 {
        self.header.count
    }

    /// Whether there are no samples.
    pub fn is_empty(&self) -> bool {
        self.header.count == 0
    }

    /// Largest label that a sample can have + 1; 0 where nothing is labelled.
    pub fn classes(&self) -> u32 {
        match &self.labels {
            Labels::Mapped(_) => (0..self.header.classes).map(|label| self.labels.of(label) + 1).max().unwrap_or(0),
            Labels::AsIndexed | Labels::Unusable(_) => self.header.classes,
        }
    }

    /// Number of samples without a label.
    pub fn unlabelled(&self) -> u64 {
        self.header.unlabelled
    }

    /// The sample at `number`, counted from 0 in this shard.
    ///
    /// # Errors
    /// There is none, or its record lies (range, encoding, label).
    pub fn sample(&self, number: u64) -> Result<Sample<'_>, ShardError> {
        if number >= self.len() {
            return Err(ShardError::NoSample { id: number, len: self.len() });
        }
        let bytes = (self.records)
            .array::<RECORD>(HEADER as u64 + number * RECORD as u64)
            .map_err(FileError::on("read", &self.index_path()))?;
        let record = Record::parse(&bytes, number, &self.header).map_err(|fault| self.index_fault(fault))?;
        Ok(Sample { shard: self, number, record })
    }

    /// All samples, in order.
    pub fn samples(&self) -> impl Iterator<Item = Result<Sample<'_>, ShardError>> {
        (0..self.len()).map(|number| self.sample(number))
    }

    /// Fails where a sample has no label, naming the first.
    pub fn require_labels(&self) -> Result<(), ShardError> {
        if self.unlabelled() == 0 {
            return Ok(());
        }
        for sample in self.samples() {
            sample?.require_label()?;
        }
        Ok(())
    }

    /// Checks everything: the checksum of the records, every record, every byte of every image.
    ///
    /// # Errors
    /// The first fault. [`Shard::faults`] lists all.
    pub fn verify(&self) -> Result<Summary, ShardError> {
        match self.faults().next() {
            Some(fault) => Err(fault),
            None => self.summary(),
        }
    }

    /// Every fault there is, found by reading every byte.
    pub fn faults(&self) -> impl Iterator<Item = ShardError> {
        let mut scratch = Vec::new();
        let samples = self
            .samples()
            .filter_map(move |sample| sample.and_then(|sample| sample.verified(&mut scratch).map(drop)).err());
        self.check_records().err().into_iter().chain(samples)
    }

    /// Counts what is there, from the records alone.
    pub fn summary(&self) -> Result<Summary, ShardError> {
        let mut summary = Summary {
            samples: self.len(),
            unlabelled: self.unlabelled(),
            classes: self.classes(),
            ..Summary::default()
        };
        for sample in self.samples() {
            let sample = sample?;
            summary.bytes += sample.record.len;
            summary.encodings[sample.encoding() as usize - 1] += 1;
        }
        Ok(summary)
    }

    fn check_records(&self) -> Result<(), ShardError> {
        const CHUNK: u64 = 1 << 20;
        let mut crc = crc32fast::Hasher::new();
        let mut scratch = Vec::new();
        let mut at = HEADER as u64;
        while at < self.records.len() {
            let len = CHUNK.min(self.records.len() - at);
            let bytes = (self.records.get(at, len as usize, &mut scratch))
                .map_err(FileError::on("read", &self.index_path()))?;
            crc.update(bytes);
            at += len;
        }
        if crc.finalize() == self.header.records_crc {
            return Ok(());
        }
        Err(self.index_fault(IndexFault::RecordsChecksum))
    }

    fn index_path(&self) -> PathBuf {
        build::index_path(&self.path)
    }

    fn index_fault(&self, fault: IndexFault) -> ShardError {
        ShardError::Index { index: self.index_path(), fault }
    }
}

fn no_index(error: FileError, tar: &Path) -> ShardError {
    match error.source.kind() {
        io::ErrorKind::NotFound => ShardError::NoIndex { tar: tar.to_owned() },
        _ => error.into(),
    }
}

fn read_header(records: &Bytes, index: &Path) -> Result<[u8; HEADER], ShardError> {
    if records.len() < HEADER as u64 {
        return Err(ShardError::Index { index: index.to_owned(), fault: IndexFault::Truncated { len: records.len() } });
    }
    Ok(records.array(0).map_err(FileError::on("read", index))?)
}

/// One sample of a shard: where it lies, its label, its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Sample<'a> {
    shard: &'a Shard,
    number: u64,
    record: Record,
}

impl<'a> Sample<'a> {
    /// The shard that holds it.
    pub fn shard(&self) -> &'a Shard {
        self.shard
    }

    /// Its number in the shard, from 0.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Its class, where it has one: less than [`Shard::classes`].
    pub fn label(&self) -> Option<u32> {
        self.record.label.map(|label| self.shard.labels.of(label))
    }

    /// Its class; an error that names it where it has none, and one that says why where nobody knows what it means.
    pub fn require_label(&self) -> Result<u32, ShardError> {
        if let Labels::Unusable(fault) = &self.shard.labels {
            return Err(ClassNamesFault::clone(fault).into());
        }
        self.label().ok_or_else(|| ShardError::NoLabel { sample: self.to_string() })
    }

    /// Its encoding, by its name.
    pub fn encoding(&self) -> Encoding {
        self.record.encoding
    }

    /// Bytes of the image.
    pub fn size(&self) -> u64 {
        self.record.len
    }

    /// CRC-32 of those bytes, as they were when the shard was indexed.
    pub fn checksum(&self) -> u32 {
        self.record.crc
    }

    /// Its name in the tar, from the header before it. Names longer than 100 bytes are cut.
    pub fn name(&self) -> String {
        let header = self.record.offset.checked_sub(512);
        let header = header.and_then(|at| self.shard.tar.array::<512>(at).ok());
        let name = |bytes: [u8; 512]| {
            let name = tar::Header::from_byte_slice(&bytes).path_bytes().into_owned();
            String::from_utf8_lossy(&name).into_owned()
        };
        header.map_or_else(|| "no name".to_owned(), name)
    }

    /// Its key: the name without extension.
    pub fn key(&self) -> String {
        let name = self.name();
        let file = name.rfind('/').map_or(0, |slash| slash + 1);
        let end = name[file..].find('.').map_or(name.len(), |dot| file + dot);
        name[..end].to_owned()
    }

    /// Its bytes as they are in the file. With [`Access::Mapped`] a slice of the map, and `scratch` stays as it is;
    /// with [`Access::Read`] they are read into `scratch`.
    pub fn bytes<'b>(&self, scratch: &'b mut Vec<u8>) -> Result<&'b [u8], ShardError>
    where
        'a: 'b,
    {
        let Record { offset, len, .. } = self.record;
        (self.shard.tar)
            .get(offset, len as usize, scratch)
            .map_err(|source| FileError::on("read", &self.shard.path)(source).into())
    }

    /// Its bytes, after holding them to their checksum.
    ///
    /// # Errors
    /// They changed since the shard was indexed.
    pub fn verified<'b>(&self, scratch: &'b mut Vec<u8>) -> Result<&'b [u8], ShardError>
    where
        'a: 'b,
    {
        let bytes = self.bytes(scratch)?;
        match crc32fast::hash(bytes) {
            found if found == self.record.crc => Ok(bytes),
            found => Err(ShardError::Checksum { sample: self.to_string(), expected: self.record.crc, found }),
        }
    }

    /// Verifies and decodes into `image`; errors name the sample.
    pub fn decode_into(&self, decoder: &mut Decoder, scratch: &mut Vec<u8>, image: &mut Image) -> Result<(), Error> {
        let bytes = self.verified(scratch)?;
        (decoder.decode_into(bytes, image)).map_err(|source| Error::Sample { sample: self.to_string(), source })
    }
}

impl std::fmt::Display for Sample<'_> {
    /// `path/to/x.tar, sample 12 (key)`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (path, number) = (self.shard.path.display(), self.number);
        write!(f, "{path}, sample {number} ({})", self.key())
    }
}
