//! Building the index of a tar: one pass over its bytes.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use tar::{Archive, Entry};

use super::index::{Encoding, HEADER, Header, Record, modified};
use super::{ShardError, TarFault};
use crate::error::FileError;

/// Largest .cls member that is read: a number has ten digits.
const LABEL_BYTES: u64 = 64;
const BLOCK: u64 = 512;

/// `x.tar` -> `x.tar.idx`.
pub(super) fn index_path(tar: &Path) -> PathBuf {
    let mut name = tar.as_os_str().to_owned();
    name.push(".idx");
    name.into()
}

/// Reads all of `path` and writes its index beside it. Returns the number of samples.
pub(super) fn build(path: &Path) -> Result<u64, ShardError> {
    let index = index_path(path);
    let temporary = index.with_extension("idx.partial");
    let result = write(path, &temporary).and_then(|count| {
        std::fs::rename(&temporary, &index).map_err(FileError::on("write", &index))?;
        Ok(count)
    });
    if result.is_err() {
        // Nothing half-written stays; the first error is the one to tell.
        let _ = std::fs::remove_file(&temporary);
    }
    result
}

fn write(path: &Path, temporary: &Path) -> Result<u64, ShardError> {
    let tar = File::open(path).map_err(FileError::on("open", path))?;
    let metadata = tar.metadata().map_err(FileError::on("examine", path))?;
    let failed = |source| FileError::on("write", temporary)(source);

    let mut out = BufWriter::new(File::create(temporary).map_err(failed)?);
    out.write_all(&[0; HEADER]).map_err(failed)?;
    let mut header = Header {
        tar_len: metadata.len(),
        tar_modified: modified(&metadata),
        count: 0,
        unlabelled: 0,
        classes: 0,
        records_crc: 0,
    };
    let mut crc = crc32fast::Hasher::new();
    scan(path, &tar, metadata.len(), |record| {
        header.count += 1;
        header.unlabelled += u64::from(record.label.is_none());
        header.classes = header.classes.max(record.label.map_or(0, |label| label + 1));
        let bytes = record.to_bytes();
        crc.update(&bytes);
        out.write_all(&bytes).map_err(failed)
    })?;
    header.records_crc = crc.finalize();
    out.seek(SeekFrom::Start(0))
        .and_then(|_| out.write_all(&header.to_bytes()))
        .and_then(|()| out.flush())
        .and_then(|()| out.get_ref().sync_all())
        .map_err(failed)?;
    Ok(header.count)
}

/// Hands each sample of the tar to `found`, in the order of the tar.
fn scan(
    path: &Path,
    tar: &File,
    len: u64,
    mut found: impl FnMut(Record) -> Result<(), FileError>,
) -> Result<(), ShardError> {
    let at_fault = |fault| ShardError::Tar { tar: path.to_owned(), fault };
    let mut end = 0;
    let mut samples = 0;
    let mut group = Group::default();
    let mut archive = Archive::new(tar);
    let malformed = |at, source| at_fault(malformed(len, at, &source));
    for entry in archive.entries_with_seek().map_err(|source| malformed(0, source))? {
        let mut entry = entry.map_err(|source| malformed(end, source))?;
        let start = entry.raw_file_position();
        end = start + entry.size().next_multiple_of(BLOCK);
        if end > len {
            return Err(at_fault(truncated(len, end)));
        }
        if let Some(member) = Member::of(&entry).map_err(at_fault)? {
            if member.key != group.key {
                samples += group.close(&mut found, &at_fault)?;
                group.key.clone_from(&member.key);
            }
            group.add(member, &mut entry).map_err(|problem| match problem {
                Problem::Read(source) => malformed(start, source),
                Problem::Fault(fault) => at_fault(fault),
            })?;
        }
    }
    samples += group.close(&mut found, &at_fault)?;
    if end + BLOCK > len {
        return Err(at_fault(truncated(len, end)));
    }
    if samples == 0 {
        return Err(at_fault(TarFault::NoSamples));
    }
    Ok(())
}

fn truncated(len: u64, end: u64) -> TarFault {
    TarFault::Truncated { len, needed: end + 2 * BLOCK }
}

fn malformed(len: u64, at: u64, source: &io::Error) -> TarFault {
    if source.kind() == io::ErrorKind::UnexpectedEof || at + BLOCK > len {
        return truncated(len, at);
    }
    TarFault::Malformed { at, why: source.to_string() }
}

enum Problem {
    Read(io::Error),
    Fault(TarFault),
}

/// A member that matters: an image or a label.
struct Member {
    key: String,
    kind: MemberKind,
}

enum MemberKind {
    Image(Encoding),
    Label,
}

impl Member {
    /// WebDataset's rule: the key is the path up to the first dot of the file name, the rest is the extension.
    fn of<R: Read>(entry: &Entry<'_, R>) -> Result<Option<Self>, TarFault> {
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let file = path.rfind('/').map_or(0, |slash| slash + 1);
        let Some(dot) = path[file..].find('.').map(|dot| file + dot) else {
            return Ok(None);
        };
        let kind = match &path[dot + 1..] {
            "cls" => MemberKind::Label,
            extension => match Encoding::of_extension(extension) {
                Some(encoding) => MemberKind::Image(encoding),
                None => return Ok(None),
            },
        };
        let kind_of_entry = entry.header().entry_type();
        if kind_of_entry.is_gnu_sparse() {
            return Err(TarFault::Sparse { name: path });
        }
        let key = path[..dot].to_owned();
        Ok((kind_of_entry.is_file() || kind_of_entry.is_contiguous()).then_some(Self { key, kind }))
    }
}

/// The members of one key.
#[derive(Default)]
struct Group {
    key: String,
    image: Option<Record>,
    label: Option<u32>,
}

impl Group {
    fn add<R: Read>(&mut self, member: Member, entry: &mut Entry<'_, R>) -> Result<(), Problem> {
        let key = member.key;
        match member.kind {
            MemberKind::Image(_) if self.image.is_some() => Err(Problem::Fault(TarFault::TwoImages { key })),
            MemberKind::Label if self.label.is_some() => Err(Problem::Fault(TarFault::TwoLabels { key })),
            MemberKind::Image(encoding) => {
                self.image = Some(Record {
                    offset: entry.raw_file_position(),
                    len: entry.size(),
                    crc: checksum(entry).map_err(Problem::Read)?,
                    label: None,
                    encoding,
                });
                Ok(())
            }
            MemberKind::Label => {
                self.label = Some(read_label(key, entry)?);
                Ok(())
            }
        }
    }

    /// Hands the sample on, and starts empty. Returns how many there were: 0 or 1.
    fn close(
        &mut self,
        found: &mut impl FnMut(Record) -> Result<(), FileError>,
        at_fault: &impl Fn(TarFault) -> ShardError,
    ) -> Result<u64, ShardError> {
        let Self { key, image, label } = std::mem::take(self);
        match (image, label) {
            (Some(image), label) => {
                found(Record { label, ..image })?;
                Ok(1)
            }
            (None, Some(_)) => Err(at_fault(TarFault::LabelAlone { key })),
            (None, None) => Ok(0),
        }
    }
}

fn checksum(bytes: &mut impl Read) -> io::Result<u32> {
    let mut hasher = crc32fast::Hasher::new();
    let mut buffer = [0; 1 << 16];
    loop {
        match bytes.read(&mut buffer)? {
            0 => return Ok(hasher.finalize()),
            n => hasher.update(&buffer[..n]),
        }
    }
}

fn read_label<R: Read>(key: String, entry: &mut Entry<'_, R>) -> Result<u32, Problem> {
    let mut text = Vec::new();
    let taken = entry.take(LABEL_BYTES).read_to_end(&mut text);
    taken.map_err(Problem::Read)?;
    let text = String::from_utf8_lossy(&text);
    match text.trim().parse() {
        Ok(label) if label != u32::MAX => Ok(label),
        _ => Err(Problem::Fault(TarFault::Label { key, text: text.into_owned() })),
    }
}
