//! Shards: WebDataset tars, mapped into memory, with an index beside each.
//!
//! A sample is an image member (`key.jpg`, `.jpeg`, `.png`, `.pgm`, `.ppm`) and what it teaches, next to it:
//!
//! * a label: `key.cls`, a decimal number; or `key.json` with one, or with the name of a class, as "label", "cls", "class"
//!   or "target";
//! * several classes, or boxes: `key.json`, see `shard/annotation.rs`;
//! * a segmentation: `key.seg.png` or `key.mask.png`, of one channel, whose values are classes and 255 is none.
//!
//! What the classes are called lies beside a set of shards (`shard/names.rs`). Other members are ignored. The index
//! (`x.tar.idx`, laid out in `shard/index.rs`) is mapped too and never read whole, so that opening costs the same for ten
//! samples and ten million.
//!
//! What is cached where: nothing in this process. Pages of tar and index live in the operating system's page cache.

mod annotation;
mod build;
mod error;
mod example;
mod index;
mod labels;
#[allow(unsafe_code, reason = "the map, and the handler of SIGBUS")]
mod map;
mod members;
mod names;
mod temporary;
mod writer;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use build::{Indexed, Indexing, LEFT_OUT};
pub use error::{ClassDifference, ClassNamesFault, IndexFault, ShardError, TarFault};
pub use index::Encoding;
pub use map::Access;
pub use names::{CLASS_NAMES, read_class_names};
pub(crate) use names::{checked as checked_names, composed, numbers, read as names_of, set_of, union};
pub(crate) use writer::check_finished;
pub use writer::{Limits, ShardWriter, Written};

use build::Scan;
use convnext_files::FileError;
use index::{Extent, HEADER, Header, RECORD, Record, modified, touchstone};
use map::Bytes;

use crate::decode::Decoder;
use crate::image::Image;
use crate::target::TargetKind;

/// One tar and its index, open.
#[derive(Debug)]
pub struct Shard {
    path: PathBuf,
    tar: Bytes,
    index: PathBuf,
    records: Bytes,
    header: Header,
    labels: Labels,
    moved: bool,
}

/// How shards are opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opening {
    /// How bytes are reached.
    pub access: Access,
    /// A folder of indices, looked into first: for shards beside which nothing can be written. [`Shard::index_with`] fills
    /// it.
    pub indices: Option<PathBuf>,
}

/// What labels mean, as an index or a folder has them.
#[derive(Clone, Debug)]
pub(crate) enum Labels {
    /// Themselves.
    AsIndexed,
    /// Label `n` is the `n`-th of these.
    Mapped(Arc<[u32]>),
    /// Nobody knows.
    Unusable(Arc<ClassNamesFault>),
}

impl Labels {
    pub(crate) fn of(&self, label: u32) -> u32 {
        match self {
            Self::AsIndexed | Self::Unusable(_) => label,
            // An index has no label without a name (`names::read`).
            Self::Mapped(numbers) => numbers.get(label as usize).copied().unwrap_or(label),
        }
    }

    /// Fails where nobody knows what labels mean.
    pub(crate) fn check(&self) -> Result<(), ShardError> {
        match self {
            Self::Unusable(fault) => Err(ClassNamesFault::clone(fault).into()),
            Self::AsIndexed | Self::Mapped(_) => Ok(()),
        }
    }

    /// Largest label + 1, of as many as there are.
    pub(crate) fn classes(&self, count: u32) -> u32 {
        match self {
            Self::Mapped(_) => (0..count).map(|label| self.of(label) + 1).max().unwrap_or(0),
            Self::AsIndexed | Self::Unusable(_) => count,
        }
    }

    /// These, then label `n` of them as the `n`-th of `numbers`.
    pub(crate) fn then(&self, numbers: &[u32]) -> Self {
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
    /// Samples with several classes, with a segmentation, and with boxes.
    pub targets: [u64; 3],
}

/// The targets that an index has records of.
const BEYOND_A_CLASS: [TargetKind; 3] = [TargetKind::Classes, TargetKind::Segmentation, TargetKind::Boxes];

impl Shard {
    /// Maps the tar at `path`. Costs the same whatever the number of samples, but for an index of version 1.
    ///
    /// A tar that has another modification time than when it was indexed, and the same length, is one that was copied if
    /// the bytes around some samples are the same. If it may have been written after its index, or the index is of version
    /// 1, all headers and labels are compared.
    ///
    /// # Errors
    /// There is no index, or it does not belong to this tar as it is now, or it is damaged.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ShardError> {
        Self::open_with(path, &Opening::default())
    }

    /// As [`Shard::open`], choosing how bytes are reached and where indices are.
    pub fn open_with(path: impl AsRef<Path>, opening: &Opening) -> Result<Self, ShardError> {
        let path = path.as_ref();
        let (tar, metadata) = Bytes::open(path, opening.access)?;
        let (index, (records, index_metadata)) = open_index(path, opening)?;
        let header = read_header(&records, &index)?;
        let header = Header::parse(&header, records.len(), tar.len())
            .map_err(|fault| ShardError::Index { index: index.clone(), fault })?;
        let (path, labels) = (path.to_owned(), Labels::AsIndexed);
        let moved = header.tar_modified != modified(&metadata);
        let shard = Self { path, tar, index, records, header, labels, moved };
        if shard.header.is_old() {
            shard.check_records()?;
        }
        if moved {
            shard.check_content(modified(&metadata) > modified(&index_metadata))?;
        }
        Ok(shard)
    }

    /// Reads all of the tar at `path` and writes its index beside it, whole or not at all.
    ///
    /// # Errors
    /// The tar is cut, damaged, or no WebDataset shard.
    pub fn index(path: impl AsRef<Path>) -> Result<Indexed, ShardError> {
        Self::index_with(path, &Indexing::default())
    }

    /// As [`Shard::index`], with settings.
    pub fn index_with(path: impl AsRef<Path>, indexing: &Indexing<'_>) -> Result<Indexed, ShardError> {
        let path = path.as_ref();
        let index = match indexing.indices {
            Some(indices) => build::index_in(indices, path),
            None => build::index_path(path),
        };
        build::build(path, &index, indexing)
    }

    /// Whether the tar's modification time is another than when it was indexed, and its content the same.
    pub fn is_moved(&self) -> bool {
        self.moved
    }

    /// Why the tar is read with ordinary reads, where it was to be mapped.
    pub fn not_mapped(&self) -> Option<&str> {
        self.tar.not_mapped()
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
        self.labels.classes(self.header.classes)
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
            .array::<RECORD>(Header::record_at(number))
            .map_err(|source| read_error(source, &self.records, &self.index))?;
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

    /// Checks everything but whether pictures can be decoded: every record, every header and label of the tar, every byte
    /// of every picture and target.
    ///
    /// # Errors
    /// The first fault. [`Shard::faults`] lists all.
    pub fn verify(&self) -> Result<Summary, ShardError> {
        match self.faults().next() {
            Some(fault) => Err(fault),
            None => self.summary(),
        }
    }

    /// Every fault there is, found by reading every byte. Of faults of the tar's own form, the first.
    pub fn faults(&self) -> impl Iterator<Item = ShardError> {
        let mut scratch = Vec::new();
        let samples =
            self.samples().filter_map(move |sample| sample.and_then(|sample| sample.check_bytes(&mut scratch)).err());
        let records = self.header.is_old().then(|| self.check_records().err()).flatten();
        let members = std::iter::once_with(|| self.check_members().err()).flatten();
        records.into_iter().chain(samples).chain(members)
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
            for (count, kind) in summary.targets.iter_mut().zip(BEYOND_A_CLASS) {
                *count += u64::from(sample.has(kind)?);
            }
        }
        Ok(summary)
    }

    /// Holds the records of an index of version 1 to their checksum.
    fn check_records(&self) -> Result<(), ShardError> {
        const CHUNK: u64 = 1 << 20;
        let mut crc = crc32fast::Hasher::new();
        let mut scratch = Vec::new();
        let mut at = HEADER as u64;
        while at < self.records.len() {
            let len = CHUNK.min(self.records.len() - at);
            let bytes = (self.records.get(at, len as usize, &mut scratch))
                .map_err(|source| read_error(source, &self.records, &self.index))?;
            crc.update(bytes);
            at += len;
        }
        if crc.finalize() == self.header.keys_crc {
            return Ok(());
        }
        Err(self.index_fault(IndexFault::RecordsChecksum))
    }

    /// Whether a tar whose time changed holds what was indexed.
    fn check_content(&self, perhaps_written: bool) -> Result<(), ShardError> {
        let other = || self.index_fault(IndexFault::TarModified);
        if self.header.is_old() || perhaps_written {
            return self.check_members().map_err(|_| other());
        }
        let record = |number| self.sample(number).map(|sample| sample.record).map_err(io::Error::other);
        match touchstone(&self.tar, self.len(), record) {
            Ok(found) if found == self.header.touchstone => Ok(()),
            Ok(_) => Err(other()),
            Err(error) => Err(read_error(error, &self.tar, &self.path)),
        }
    }

    /// Reads the tar's headers and labels again, and holds the index to them.
    fn check_members(&self) -> Result<(), ShardError> {
        let (tar, metadata) = build::open(&self.path)?;
        let scan = Scan {
            path: &self.path,
            tar: &tar,
            len: metadata.len(),
            contents: false,
            go_on: &|| true,
            files: std::cell::OnceCell::new(),
        };
        let mut keys = crc32fast::Hasher::new();
        let mut number = 0;
        scan.run(|found| {
            let indexed = (number < self.len()).then(|| self.sample(number)).transpose()?;
            if !indexed.map_or(Ok(false), |sample| sample.is(&found))? {
                return Err(self.index_fault(IndexFault::Differs { sample: number }));
            }
            build::note_key(&mut keys, &found.key);
            number += 1;
            Ok(())
        })?;
        if number < self.len() {
            return Err(self.index_fault(IndexFault::Differs { sample: number }));
        }
        if !self.header.is_old() && keys.finalize() != self.header.keys_crc {
            return Err(self.index_fault(IndexFault::Keys));
        }
        Ok(())
    }

    /// What its labels mean, to be changed.
    pub(crate) fn labels_mut(&mut self) -> &mut Labels {
        &mut self.labels
    }

    fn index_fault(&self, fault: IndexFault) -> ShardError {
        ShardError::Index { index: self.index.clone(), fault }
    }
}

/// The error of a read that failed: a file that was cut, where it was.
fn read_error(source: io::Error, bytes: &Bytes, path: &Path) -> ShardError {
    let len = bytes.present_len();
    match source.kind() {
        io::ErrorKind::UnexpectedEof if len < bytes.len() => {
            ShardError::Cut { path: path.to_owned(), len, opened: bytes.len() }
        }
        _ => FileError::on("read", path)(source).into(),
    }
}

/// The index of the tar at `path`: in the folder of indices, if it is there, else beside the tar.
fn open_index(path: &Path, opening: &Opening) -> Result<(PathBuf, (Bytes, std::fs::Metadata)), ShardError> {
    let elsewhere = opening.indices.as_deref().map(|indices| build::index_in(indices, path));
    let index = elsewhere.filter(|index| index.is_file()).unwrap_or_else(|| build::index_path(path));
    match Bytes::open(&index, opening.access) {
        Ok(opened) => Ok((index, opened)),
        Err(error) => Err(no_index(error, path)),
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
        self.shard.labels.check()?;
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
            .map_err(|source| read_error(source, &self.shard.tar, &self.shard.path))
    }

    /// Says that its bytes will be wanted soon.
    pub fn expect(&self) {
        self.shard.tar.expect(self.record.offset, self.record.len as usize);
    }

    /// Its bytes, after holding them to their checksum.
    ///
    /// # Errors
    /// They changed since the shard was indexed, or the shard was cut.
    pub fn verified<'b>(&self, scratch: &'b mut Vec<u8>) -> Result<&'b [u8], ShardError>
    where
        'a: 'b,
    {
        let bytes = self.bytes(scratch)?;
        self.check(bytes, self.record.crc)?;
        Ok(bytes)
    }

    fn check(&self, bytes: &[u8], expected: u32) -> Result<(), ShardError> {
        let tar = &self.shard.tar;
        match crc32fast::hash(bytes) {
            found if found == expected => Ok(()),
            // The end of a page that was cut reads as zeros.
            _ if tar.present_len() < tar.len() => {
                Err(read_error(io::ErrorKind::UnexpectedEof.into(), tar, &self.shard.path))
            }
            found => Err(ShardError::Checksum { sample: self.to_string(), expected, found }),
        }
    }

    /// Holds the bytes of picture and targets to their checksums.
    fn check_bytes(&self, scratch: &mut Vec<u8>) -> Result<(), ShardError> {
        self.verified(scratch)?;
        self.check_targets(scratch)
    }

    /// Whether a sample of the tar is this one, as far as can be told without reading contents. An index without target
    /// records says nothing of targets.
    fn is(&self, found: &build::Found) -> Result<bool, ShardError> {
        let (record, targets) = (Record { crc: 0, ..self.record }, self.targets()?.without_checksums());
        let recorded = self.shard.header.targets_at(0).is_some();
        Ok(record == found.record && (!recorded || targets == found.targets))
    }

    /// Verifies and decodes its picture into `image`; errors name the sample.
    pub fn decode_into(
        &self,
        decoder: &mut Decoder,
        scratch: &mut Vec<u8>,
        image: &mut Image,
    ) -> Result<(), ShardError> {
        self.copy_into(scratch)?;
        let undecodable = |source| ShardError::Undecodable { sample: self.to_string(), source };
        decoder.decode_into(scratch, image).map_err(undecodable)
    }

    /// A verified copy of its bytes: decoding them takes long, and a mapped file may be cut meanwhile.
    ///
    /// # Errors
    /// They changed since the shard was indexed, or cannot be read.
    pub fn copy_into(&self, copy: &mut Vec<u8>) -> Result<(), ShardError> {
        self.copy_member(self.record.extent(), copy)?;
        self.check(copy, self.record.crc)
    }

    fn copy_member(&self, member: Extent, copy: &mut Vec<u8>) -> Result<(), ShardError> {
        let tar = &self.shard.tar;
        let read = |scratch| tar.get(member.offset, member.len as usize, scratch);
        let failed = |source| read_error(source, tar, &self.shard.path);
        if let Access::Read = tar.access() {
            return read(copy).map(drop).map_err(failed);
        }
        let mut unused = Vec::new();
        let bytes = read(&mut unused).map_err(failed)?;
        copy.clear();
        copy.extend_from_slice(bytes);
        Ok(())
    }
}

impl std::fmt::Display for Sample<'_> {
    /// `path/to/x.tar, sample 12 (key)`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (path, number) = (self.shard.path.display(), self.number);
        write!(f, "{path}, sample {number} ({})", self.key())
    }
}
