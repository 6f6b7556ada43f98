//! Building the index of a tar: one pass over its bytes.

use std::cell::OnceCell;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use convnext_files::{FileError, directory_of, sync_directory};
use tempfile::SpooledTempFile;

use super::annotation::{self, Read, each_class};
use super::index::{Encoding, Extent, HEADER, Header, Record, Targets, modified, touchstone};
use super::labels::{Labels, Said};
use super::map::{Access, Bytes, read_at};
use super::members::{Kind, Member, Members, Problem, truncated};
use super::temporary::Temporary;
use super::{ShardError, TarFault, names};

/// Largest .cls member that is read: a number has ten digits, the name of a class some more.
const LABEL_BYTES: u64 = 1 << 10;
/// Largest .json member that is read.
const JSON_BYTES: u64 = 1 << 20;
/// Share of the pictures of a tar that may be left out where nothing else is said.
pub const LEFT_OUT: f64 = 0.01;

/// What an index was made of, and what is not in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Indexed {
    /// Samples.
    pub samples: u64,
    /// Samples without a label.
    pub unlabelled: u64,
    /// Pictures that cannot be read, by what they are: `.avif`, "symbolic link".
    pub left_out: BTreeMap<String, u64>,
    /// Labels in `.json` members that are names of classes, where nothing beside the shard says which there are.
    pub named: u64,
    /// `.json` members that cannot be read.
    pub unreadable: u64,
    /// `.json` members whose "labels" or "boxes" have another form than is read here.
    pub other_form: u64,
    /// Where another tar begins, behind the end mark of this one, if one does. It is not read.
    pub another: Option<u64>,
}

/// How an index is made.
pub struct Indexing<'a> {
    /// Where the index is written: a folder of indices ([`crate::shard::Opening::indices`]), or beside the tar.
    pub indices: Option<&'a Path>,
    /// Share of the pictures that may be left out, since nothing here reads their kind; from 0 to 1.
    pub left_out: f64,
    /// Asked between members; `false` stops, and nothing is written.
    pub go_on: &'a dyn Fn() -> bool,
}

impl Default for Indexing<'_> {
    fn default() -> Self {
        Self { indices: None, left_out: LEFT_OUT, go_on: &|| true }
    }
}

/// `x.tar` -> `x.tar.idx`.
pub(super) fn index_path(tar: &Path) -> PathBuf {
    let mut name = tar.as_os_str().to_owned();
    name.push(".idx");
    name.into()
}

/// Where a folder of indices has that of `tar`: under the tar's whole path, so that no two tars share one.
pub(super) fn index_in(indices: &Path, tar: &Path) -> PathBuf {
    let whole = std::path::absolute(tar).unwrap_or_else(|_| tar.to_owned());
    let whole = std::fs::canonicalize(&whole).unwrap_or(whole);
    let parts = whole.components().filter(|part| matches!(part, std::path::Component::Normal(_)));
    index_path(&indices.join(parts.collect::<PathBuf>()))
}

/// Reads all of `path` and writes its index, under a name of this process alone until it is whole.
pub(super) fn build(path: &Path, index: &Path, indexing: &Indexing<'_>) -> Result<Indexed, ShardError> {
    let folder = directory_of(index);
    if indexing.indices.is_some() {
        std::fs::create_dir_all(folder).map_err(FileError::on("make the folder", folder))?;
    }
    let failed = |source| FileError::on("write", index)(source);
    let mut temporary = Temporary::beside(index).map_err(failed)?;
    let found = write(path, temporary.file(), index, indexing)?;
    temporary.persist(index).map_err(failed)?;
    sync_directory(folder).map_err(failed)?;
    Ok(found)
}

fn write(path: &Path, temporary: &mut File, index: &Path, indexing: &Indexing<'_>) -> Result<Indexed, ShardError> {
    let (tar, metadata) = open(path)?;
    let failed = |source| FileError::on("write", index)(source);
    let mut out = BufWriter::new(&mut *temporary);
    out.write_all(&[0; HEADER]).map_err(failed)?;
    let mut header = Header::new(metadata.len(), modified(&metadata));
    let mut keys = crc32fast::Hasher::new();
    let scan =
        Scan { path, tar: &tar, len: metadata.len(), contents: true, go_on: indexing.go_on, files: OnceCell::new() };
    let mut targets = TargetRecords::default();
    let found = scan.run(|found| {
        out.write_all(&found.record.to_bytes(header.count)).map_err(failed)?;
        targets.add(header.count, found.targets).map_err(failed)?;
        header.note(&found.record, found.classes);
        note_key(&mut keys, &found.key);
        Ok(())
    })?;
    if targets.append_to(&mut out).map_err(failed)? {
        header.add_targets();
    }
    out.flush().map_err(failed)?;
    drop(out);
    check_left_out(path, &found, indexing.left_out)?;
    header.keys_crc = keys.finalize();
    let record = |number| read_record(temporary, number, &header);
    let (bytes, _) = Bytes::open(path, Access::Read)?;
    header.touchstone = touchstone(&bytes, header.count, record).map_err(FileError::on("read", path))?;
    (temporary.seek(SeekFrom::Start(0)))
        .and_then(|_| temporary.write_all(&header.to_bytes()))
        .and_then(|()| temporary.sync_all())
        .map_err(failed)?;
    Ok(found)
}

/// Target records, kept aside from the first sample on that has one: they come behind all others.
#[derive(Default)]
struct TargetRecords(Option<SpooledTempFile>);

impl TargetRecords {
    /// Bytes of them that are kept in memory.
    const IN_MEMORY: usize = 1 << 20;

    fn add(&mut self, number: u64, targets: Targets) -> io::Result<()> {
        let kept = match &mut self.0 {
            Some(kept) => kept,
            None if targets == Targets::default() => return Ok(()),
            none => {
                let kept = none.insert(SpooledTempFile::new(Self::IN_MEMORY));
                (0..number).try_for_each(|before| kept.write_all(&Targets::default().to_bytes(before)))?;
                kept
            }
        };
        kept.write_all(&targets.to_bytes(number))
    }

    /// Writes them to `index`; false if there are none.
    fn append_to(self, index: &mut impl Write) -> io::Result<bool> {
        let Some(mut kept) = self.0 else { return Ok(false) };
        kept.rewind()?;
        io::copy(&mut kept, index).map(|_| true)
    }
}

fn read_record(index: &File, number: u64, header: &Header) -> io::Result<Record> {
    let mut bytes = [0; super::index::RECORD];
    read_at(index, &mut bytes, Header::record_at(number))?;
    Record::parse(&bytes, number, header).map_err(io::Error::other)
}

/// The keys of all samples have one checksum.
pub(super) fn note_key(keys: &mut crc32fast::Hasher, key: &str) {
    keys.update(key.as_bytes());
    keys.update(b"\n");
}

fn check_left_out(path: &Path, found: &Indexed, most: f64) -> Result<(), ShardError> {
    let left_out: u64 = found.left_out.values().sum();
    let pictures = left_out + found.samples;
    if left_out as f64 <= most * pictures as f64 {
        return Ok(());
    }
    let kinds = found.left_out.iter().map(|(kind, count)| format!("{count} {kind}")).collect::<Vec<_>>().join(", ");
    Err(ShardError::LeftOut { tar: path.to_owned(), left_out, pictures, kinds })
}

pub(super) fn open(path: &Path) -> Result<(File, std::fs::Metadata), ShardError> {
    let tar = File::open(path).map_err(FileError::on("open", path))?;
    let metadata = tar.metadata().map_err(FileError::on("examine", path))?;
    if metadata.is_dir() {
        return Err(ShardError::Tar { tar: path.to_owned(), fault: TarFault::Folder });
    }
    Ok((tar, metadata))
}

/// A sample of a tar.
pub(super) struct Found {
    pub(super) record: Record,
    pub(super) targets: Targets,
    /// Largest class that the targets name + 1.
    pub(super) classes: u32,
    pub(super) key: String,
}

/// A pass over a tar.
pub(super) struct Scan<'a> {
    pub(super) path: &'a Path,
    pub(super) tar: &'a File,
    pub(super) len: u64,
    /// Whether the bytes of pictures are read, for their checksums; else these are 0.
    pub(super) contents: bool,
    pub(super) go_on: &'a dyn Fn() -> bool,
    /// Where the files of the tar lie, by name: looked up once a link is met.
    pub(super) files: OnceCell<HashMap<String, Member>>,
}

impl Scan<'_> {
    /// Hands each sample to `take`, in the order of the tar.
    pub(super) fn run(&self, take: impl FnMut(Found) -> Result<(), ShardError>) -> Result<Indexed, ShardError> {
        foreign(self.tar, self.len).map_err(|fault| self.fault(fault))?;
        let names = names::read(&names::set_of(self.path), 0).ok().flatten();
        let mut samples = Samples {
            scan: self,
            labels: Labels::new(names),
            group: Group::default(),
            found: Indexed::default(),
            take,
        };
        let mut members = Members::new(self.tar, self.len);
        while let Some(member) = members.next().map_err(|problem| self.problem(problem))? {
            if !(self.go_on)() {
                return Err(ShardError::Stopped { tar: self.path.to_owned() });
            }
            samples.add(member)?;
        }
        samples.close()?;
        let mut found = samples.found;
        found.another = members.another();
        if found.samples == 0 && found.left_out.is_empty() {
            return Err(self.fault(TarFault::NoSamples));
        }
        Ok(found)
    }

    fn fault(&self, fault: TarFault) -> ShardError {
        ShardError::Tar { tar: self.path.to_owned(), fault }
    }

    fn problem(&self, problem: Problem) -> ShardError {
        match problem {
            Problem::Fault(fault) => self.fault(fault),
            Problem::Read(source) => FileError::on("read", self.path)(source).into(),
        }
    }

    /// Another member whose key is `key`, which has its members side by side otherwise.
    fn is_elsewhere(&self, key: &str, label: &str) -> bool {
        let mut members = Members::new(self.tar, self.len);
        let other = |member: &Member| Part::of(member).is_some_and(|(k, part)| k == key && part.is_picture());
        std::iter::from_fn(|| members.next().ok().flatten()).any(|member| member.name != label && other(&member))
    }

    /// The file that a hard link of this tar means.
    fn linked(&self, target: &str) -> Option<Member> {
        let plain = |name: &str| name.trim_start_matches("./").to_owned();
        let files = || {
            let mut members = Members::new(self.tar, self.len);
            std::iter::from_fn(|| members.next().ok().flatten())
                .filter(|member| member.kind == Kind::File)
                .map(|member| (plain(&member.name), member))
                .collect()
        };
        self.files.get_or_init(files).get(&plain(target)).cloned()
    }

    /// Where a member's bytes lie, with their checksum where contents are read.
    fn extent(&self, &Member { offset, size: len, .. }: &Member) -> Result<Extent, ShardError> {
        let crc = if self.contents { self.checksum(offset, len)? } else { 0 };
        Ok(Extent { offset, len, crc })
    }

    fn checksum(&self, offset: u64, size: u64) -> Result<u32, ShardError> {
        let mut hasher = crc32fast::Hasher::new();
        let mut buffer = vec![0; size.min(1 << 18) as usize];
        let (mut at, end) = (offset, offset + size);
        while at < end {
            let len = buffer.len().min((end - at) as usize);
            self.read(&mut buffer[..len], at)?;
            hasher.update(&buffer[..len]);
            at += len as u64;
        }
        Ok(hasher.finalize())
    }

    fn read(&self, bytes: &mut [u8], at: u64) -> Result<(), ShardError> {
        read_at(self.tar, bytes, at).map_err(|source| match source.kind() {
            io::ErrorKind::UnexpectedEof => self.fault(truncated(self.len, at + bytes.len() as u64)),
            _ => FileError::on("read", self.path)(source).into(),
        })
    }
}

/// What a member is to a sample.
enum Part {
    Picture(Encoding),
    Label,
    Json,
    Segmentation,
    /// A picture that nothing here reads, and what it is.
    LeftOut(String),
}

impl Part {
    /// WebDataset's rule: the key is the path up to the first dot of the file name, the rest is the extension, in lower
    /// case. A file whose name begins with a dot is hidden.
    fn of(member: &Member) -> Option<(&str, Self)> {
        let file = member.name.rfind('/').map_or(0, |slash| slash + 1);
        let dot = file + member.name[file..].find('.').filter(|&dot| dot > 0)?;
        let extension = member.name[dot + 1..].to_ascii_lowercase();
        let last = extension.rsplit('.').next().unwrap_or_default();
        let readable = Encoding::of_extension(last);
        let part = match (extension.as_str(), Encoding::of_extension(&extension)) {
            ("cls", _) => Self::Label,
            ("json", _) => Self::Json,
            ("seg.png" | "mask.png", _) => Self::Segmentation,
            (_, Some(encoding)) => Self::Picture(encoding),
            _ if readable.is_some() => Self::LeftOut(DOT_IN_KEY.to_owned()),
            _ if OTHER_PICTURES.contains(&last) => Self::LeftOut(format!(".{last}")),
            _ => return None,
        };
        let part = match (member.kind, part) {
            (Kind::Other, _) => return None,
            (Kind::SymbolicLink, Self::Picture(_) | Self::Segmentation | Self::LeftOut(_)) => {
                Self::LeftOut("symbolic link".to_owned())
            }
            (_, part) => part,
        };
        Some((&member.name[..dot], part))
    }

    fn is_picture(&self) -> bool {
        matches!(self, Self::Picture(_) | Self::Segmentation | Self::LeftOut(_))
    }
}

/// What a picture is that has no key of its own: `a.b.png` is an extension `b.png` of the key `a`.
const DOT_IN_KEY: &str = "with a dot in the key";

/// Extensions of pictures that nothing here reads.
const OTHER_PICTURES: [&str; 24] = [
    "avif", "heic", "heif", "jxl", "jp2", "j2k", "jpx", "pbm", "pnm", "pam", "tga", "dds", "exr", "hdr", "ico", "qoi",
    "psd", "svg", "dng", "nef", "cr2", "arw", "dcm", "xpm",
];

/// The members of one key.
#[derive(Default)]
struct Group {
    key: String,
    image: Option<Record>,
    label: Option<u32>,
    json: Option<Said>,
    targets: Targets,
    /// Largest class that they name + 1.
    classes: u32,
    left_out: Option<String>,
    label_name: String,
}

/// Members on their way to samples.
struct Samples<'a, F> {
    scan: &'a Scan<'a>,
    labels: Labels,
    group: Group,
    found: Indexed,
    take: F,
}

impl<F: FnMut(Found) -> Result<(), ShardError>> Samples<'_, F> {
    fn add(&mut self, member: Member) -> Result<(), ShardError> {
        let Some((key, part)) = Part::of(&member) else { return Ok(()) };
        if key != self.group.key {
            self.close()?;
            key.clone_into(&mut self.group.key);
        }
        let key = key.to_owned();
        let scan = self.scan;
        match part {
            Part::LeftOut(kind) => self.group.left_out = Some(kind),
            Part::Picture(_) if self.group.image.is_some() => return Err(scan.fault(TarFault::TwoImages { key })),
            Part::Label if self.group.label.is_some() => return Err(scan.fault(TarFault::TwoLabels { key })),
            Part::Picture(encoding) => {
                let Extent { offset, len, crc } = scan.extent(&resolved(scan, &member)?)?;
                self.group.image = Some(Record { offset, len, crc, label: None, encoding });
            }
            Part::Label => {
                let text = contents(scan, &resolved(scan, &member)?, LABEL_BYTES)?.unwrap_or_default();
                let label = self.labels.of_text(&key, &text);
                self.group.label = Some(label.map_err(|fault| scan.fault(fault))?);
                self.group.label_name = member.name;
            }
            Part::Json => self.add_json(&key, &member)?,
            Part::Segmentation => {
                let segmentation = scan.extent(&resolved(scan, &member)?)?;
                self.group.targets.segmentation.get_or_insert(segmentation);
            }
        }
        Ok(())
    }

    fn add_json(&mut self, key: &str, member: &Member) -> Result<(), ShardError> {
        let scan = self.scan;
        let member = match member.kind {
            Kind::File | Kind::HardLink => Some(resolved(scan, member)?),
            _ => None,
        };
        let text = member.as_ref().map(|member| contents(scan, member, JSON_BYTES)).transpose()?.flatten();
        let said = match &text {
            Some(text) => self.labels.of_json(key, text).map_err(|fault| scan.fault(fault))?,
            None => None,
        };
        self.found.unreadable += u64::from(said.is_none());
        self.group.json = said;
        if let (Some(member), Some(text)) = (member, text) {
            self.add_annotation(&member, &text)?;
        }
        Ok(())
    }

    fn add_annotation(&mut self, member: &Member, text: &[u8]) -> Result<(), ShardError> {
        match annotation::read(text) {
            Read::Nothing => {}
            Read::OtherForm => self.found.other_form += 1,
            Read::Annotation(mut target) => {
                self.group.targets.annotation = Some((target.kind(), self.scan.extent(member)?));
                each_class(&mut target, |class| self.group.classes = self.group.classes.max(*class + 1));
            }
        }
        Ok(())
    }

    /// Hands the sample on, and starts empty.
    fn close(&mut self) -> Result<(), ShardError> {
        let Group { key, image, label, json, targets, classes, left_out, label_name } = std::mem::take(&mut self.group);
        // A segmentation alone is a picture whose key has a dot.
        let left_out = left_out.or_else(|| targets.segmentation.map(|_| DOT_IN_KEY.to_owned()));
        let (record, label) = match (image, left_out, label) {
            (Some(record), _, label) => (record, label),
            (None, Some(kind), _) => {
                *self.found.left_out.entry(kind).or_default() += 1;
                return Ok(());
            }
            (None, None, Some(_)) => {
                let fault = match self.scan.is_elsewhere(&key, &label_name) {
                    true => TarFault::LabelApart { key },
                    false => TarFault::LabelAlone { key },
                };
                return Err(self.scan.fault(fault));
            }
            (None, None, None) => return Ok(()),
        };
        let label = self.agreed(&key, label, json)?;
        self.found.samples += 1;
        self.found.unlabelled += u64::from(label.is_none());
        (self.take)(Found { record: Record { label, ..record }, targets, classes, key })
    }

    fn agreed(&mut self, key: &str, label: Option<u32>, json: Option<Said>) -> Result<Option<u32>, ShardError> {
        match (label, json) {
            (Some(label), Some(Said::Label(other))) if label != other => {
                let said = [format!(".cls {label}"), format!(".json {other}")];
                Err(self.scan.fault(TarFault::LabelsDiffer { key: key.to_owned(), said }))
            }
            (None, Some(Said::Label(label))) => Ok(Some(label)),
            (None, Some(Said::Name(_))) => {
                self.found.named += 1;
                Ok(None)
            }
            (label, _) => Ok(label),
        }
    }
}

/// The file that a member is, or is a link to.
fn resolved(scan: &Scan<'_>, member: &Member) -> Result<Member, ShardError> {
    let target = || member.target.clone().unwrap_or_default();
    match member.kind {
        Kind::Sparse => Err(scan.fault(TarFault::Sparse { name: member.name.clone() })),
        Kind::HardLink => (scan.linked(&target()))
            .ok_or_else(|| scan.fault(TarFault::Link { name: member.name.clone(), target: target() })),
        Kind::SymbolicLink => Err(scan.fault(TarFault::Link { name: member.name.clone(), target: target() })),
        Kind::File | Kind::Other => Ok(member.clone()),
    }
}

/// All of a small member; `None` if it is larger than `most`.
fn contents(scan: &Scan<'_>, member: &Member, most: u64) -> Result<Option<Vec<u8>>, ShardError> {
    if member.size > most {
        return Ok(None);
    }
    let mut text = vec![0; member.size as usize];
    scan.read(&mut text, member.offset)?;
    Ok(Some(text))
}

/// What a file is that is no tar, by its first bytes.
fn foreign(tar: &File, len: u64) -> Result<(), TarFault> {
    let mut start = Vec::new();
    let mut first = [0; 64];
    let mut at = 0;
    // The file may be shorter; an error of the disk comes again when the first header is read.
    while at < first.len().min(len as usize) && read_at(tar, &mut first[at..=at], at as u64).is_ok() {
        at += 1;
    }
    start.extend_from_slice(&first[..at]);
    let html = String::from_utf8_lossy(&start).trim_start().to_ascii_lowercase();
    let (what, advice) = match start.as_slice() {
        [0x1f, 0x8b, ..] => ("compressed by gzip", "run `gunzip` on it first (its name needs to end in .gz)"),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => ("compressed by zstd", "run `zstd -d` on it first"),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => ("compressed by xz", "run `xz -d` on it first"),
        [b'B', b'Z', b'h', ..] => ("compressed by bzip2", "run `bzip2 -d` on it first"),
        [0x04, 0x22, 0x4d, 0x18, ..] => ("compressed by lz4", "run `lz4 -d` on it first"),
        [b'P', b'K', 3 | 5, 4 | 6, ..] => ("a zip archive", "unpack it, and pack the folder with `convnext pack`"),
        [b'C', b'N', b'X', b'T', b'I', b'N', b'D', b'X', ..] => ("the index of a shard", "name the .tar beside it"),
        [b'P', b'A', b'R', b'1', ..] => ("a Parquet file", "write its pictures into a WebDataset tar, or into folders"),
        [0x89, b'H', b'D', b'F', ..] => ("an HDF5 file", "write its pictures into a WebDataset tar, or into folders"),
        _ if start.starts_with(b"version https://git-lfs") => {
            ("a Git LFS pointer and not the file itself", "run `git lfs pull`")
        }
        _ if html.starts_with("<!doctype") || html.starts_with("<html") || html.starts_with("<?xml") => {
            ("a web page and not the file itself", "download it again; the page says what went wrong")
        }
        _ => return Ok(()),
    };
    Err(TarFault::Foreign { what, advice })
}
