//! The entries of a zip archive, each found sound before anything in it is read.
//!
//! A zip archive says most things twice: in the directory at its end, and in front of each entry. Programs that believe
//! different ones read different files. The `zip` crate parses both and holds them to each other. Checked here is what it
//! takes as it comes, and torch.save never writes: an end that contradicts itself or is followed by something, bytes of two
//! entries at once, names that lead elsewhere, compression, encryption, and more entries than memory has room for.

use std::{
    borrow::Cow,
    fs::File,
    io::{ErrorKind, Read, Seek, SeekFrom},
    ops::Range,
};

use zip::{
    CompressionMethod, ExtraField, ZipArchive, ZipReadOptions,
    read::{ArchiveOffset, Config, ZipFileEntry},
    result::ZipError,
};

use super::problem::{Part, Problem, cut, io, shown};

/// Header of an entry; also the first bytes of an archive.
pub(super) const MAGIC: [u8; 4] = *b"PK\x03\x04";

/// Longest directory that is read, in bytes.
const DIRECTORY_CAP: u64 = 16 << 20;

/// Most entries. Each tensor has at most one, and there are a few others.
const ENTRY_CAP: u64 = 1 << 17;

/// Longest name of an entry, in bytes.
const NAME_CAP: usize = 1024;

/// Bits of the flags for plain, strong and directory encryption.
const ENCRYPTED: u16 = 1 | 1 << 6 | 1 << 13;

/// An entry that was found sound.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: String,
    /// Where its data start in the file.
    pub(super) start: u64,
    pub(super) len: u64,
    header: u64,
}

impl Entry {
    /// First part of the name.
    pub(super) fn folder(&self) -> &str {
        self.name.split('/').next().unwrap_or_default()
    }
}

/// All entries in the order of their place in the file, but for folders, which hold nothing. The names are shown to
/// `survey` before anything else is checked.
pub(super) fn read(
    file: &File,
    len: u64,
    survey: impl Fn(&[Cow<'_, str>]) -> Result<(), Problem>,
) -> Result<Vec<Entry>, Problem> {
    let directory = Directory::find(file, len)?;
    let mut zip = directory.parse(file)?;
    survey(&zip.file_names_raw().map(String::from_utf8_lossy).collect::<Vec<_>>())?;
    let listed = zip.metadata();
    let mut entries = Vec::with_capacity(listed.len());
    for index in 0..listed.len() {
        let missing = || Part::Archive.damaged("has a directory that is not a list of its entries");
        let listed = listed.entry(index).map_err(|error| unless_io(error, missing))?;
        if !is_folder(&listed) {
            entries.push(check(&listed, index, &mut zip, directory.start)?);
        }
    }
    entries.sort_by_key(|entry| entry.header);
    check_overlap(&entries)?;
    Ok(entries)
}

/// Other packers than torch.save list folders too.
fn is_folder(listed: &ZipFileEntry<'_>) -> bool {
    listed.is_dir() && listed.size() == 0 && listed.compressed_size() == 0
}

/// An entry, if it is one that torch.save writes, and its own header says what the directory says.
fn check(
    listed: &ZipFileEntry<'_>,
    index: usize,
    zip: &mut ZipArchive<&File>,
    directory: u64,
) -> Result<Entry, Problem> {
    let (name, len, header) = (plain_name(listed.name_raw())?, listed.size(), listed.header_start());
    let part = || Part::entry(&name);
    let beyond = || part().cut_off("reaches beyond the archive's data");
    check_stored(listed, part())?;
    if header >= directory {
        return Err(beyond());
    }
    let options = ZipReadOptions::new().enforce_header_consistency(true);
    let mismatch = || part().damaged("is another one in the archive's directory");
    let found = zip.by_index_with_options(index, options).map_err(|error| unless_io(error, mismatch))?;
    if found.extra_data_fields().any(|field| matches!(field, ExtraField::UnicodePath(_))) {
        return Err(part().forged("has a second name"));
    }
    let start = found.data_start().ok_or_else(beyond)?;
    if start.checked_add(len).is_none_or(|end| end > directory) {
        return Err(beyond());
    }
    Ok(Entry { name, start, len, header })
}

fn check_stored(listed: &ZipFileEntry<'_>, part: Part) -> Result<(), Problem> {
    if listed.flags().as_u16() & ENCRYPTED != 0 {
        return Err(Problem::Encrypted { at: part });
    }
    match listed.compression() {
        CompressionMethod::Stored if listed.compressed_size() == listed.size() => Ok(()),
        CompressionMethod::Stored => Err(part.damaged("is stored as it is, in another length than its own")),
        method => Err(Problem::Compressed { at: part, method: method.to_string() }),
    }
}

/// `folder/name`, possibly with more folders between: nothing that leads out, and no folder by itself.
fn plain_name(bytes: &[u8]) -> Result<String, Problem> {
    let wrong = |name: &str| {
        Part::entry(name).forged(format!("has a name that is not one of at most {NAME_CAP} bytes inside one folder"))
    };
    let name = str::from_utf8(bytes).map_err(|_| wrong(&String::from_utf8_lossy(bytes)))?;
    if let Some(folder) = name.strip_suffix('/') {
        return Err(Part::entry(folder).forged("is a folder with content of its own"));
    }
    let plain = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(['\\', '\0']);
    if name.len() > NAME_CAP || !name.contains('/') || !name.split('/').all(plain) {
        return Err(wrong(name));
    }
    Ok(name.into())
}

/// Entries are sorted by the place of their headers.
fn check_overlap(entries: &[Entry]) -> Result<(), Problem> {
    for (one, next) in entries.iter().zip(entries.iter().skip(1)) {
        if one.start.saturating_add(one.len) > next.header {
            return Err(Part::entry(&one.name).forged(format!("shares bytes with entry `{}`", shown(&next.name))));
        }
    }
    Ok(())
}

/// The system's error, or what the archive is found to be.
fn unless_io(error: ZipError, found: impl FnOnce() -> Problem) -> Problem {
    match error {
        ZipError::Io(source) if source.kind() != ErrorKind::UnexpectedEof => io("read")(source),
        _ => found(),
    }
}

/// Where the directory lies, and how many entries it has.
#[derive(Debug)]
struct Directory {
    start: u64,
    len: u64,
    count: u64,
}

impl Directory {
    /// What the archive's end says of it. Of the two records there, programs read one or the other, so both must agree.
    fn find(file: &File, len: u64) -> Result<Self, Problem> {
        let tail = Tail::read(file, len)?;
        let small = tail.end().ok_or_else(|| Part::Archive.cut_off("does not end as those of torch.save do"))?;
        let contradiction = || Part::Archive.forged("says two things about where its directory is");
        let (directory, end) = if tail.is(Tail::LOCATOR, b"PK\x06\x07") {
            let place = len.checked_sub(Tail::LEN as u64).ok_or_else(contradiction)?;
            let large = tail.large_end(place).filter(|large| large.agrees(&small));
            (large.ok_or_else(contradiction)?, place)
        } else {
            let place = len.saturating_sub((Tail::LEN - Tail::END) as u64);
            (small, place)
        };
        if directory.start.checked_add(directory.len) != Some(end) {
            return Err(contradiction());
        }
        if directory.len > DIRECTORY_CAP || directory.count > ENTRY_CAP {
            let what = format!(
                "has a directory of {} entries in {} bytes, and {ENTRY_CAP} in {DIRECTORY_CAP} are allowed",
                directory.count, directory.len
            );
            return Err(Part::Archive.too_large(what));
        }
        Ok(directory)
    }

    /// Whether a record with narrower fields says the same, or that it cannot.
    fn agrees(&self, small: &Self) -> bool {
        let same = |large: u64, small: u64, unknown: u64| small == large || small == unknown;
        same(self.count, small.count, u16::MAX.into())
            && same(self.len, small.len, u32::MAX.into())
            && same(self.start, small.start, u32::MAX.into())
    }

    fn parse<'a>(&self, mut file: &'a File) -> Result<ZipArchive<&'a File>, Problem> {
        let damaged = || Part::Archive.damaged("has a directory that is not a list of its entries");
        // Without an entry where the first should be, the crate would look for another end further up.
        let mut first = DIRECTORY_ENTRY;
        file.seek(SeekFrom::Start(self.start)).map_err(io("read"))?;
        if self.count > 0 {
            file.read_exact(&mut first).map_err(cut(Part::Archive))?;
        }
        if first != DIRECTORY_ENTRY || self.count.saturating_mul(DIRECTORY_ENTRY_LEN) > self.len {
            return Err(damaged());
        }
        let config = Config { archive_offset: ArchiveOffset::Known(0) };
        let zip = ZipArchive::with_config(config, file).map_err(|error| unless_io(error, damaged))?;
        // It has read as many entries as are counted; other programs read up to the directory's end.
        let end = file.stream_position().map_err(io("read"))?;
        if end != self.start.saturating_add(self.len) || zip.central_directory_start() != self.start {
            return Err(damaged());
        }
        if zip.has_duplicate_names() {
            return Err(Part::Archive.forged("has two entries of one name"));
        }
        Ok(zip)
    }
}

const DIRECTORY_ENTRY: [u8; 4] = *b"PK\x01\x02";

/// Bytes of an entry in the directory, without its name.
const DIRECTORY_ENTRY_LEN: u64 = 46;

/// The last bytes of a file, where torch.save writes three records without a gap or a comment: the end of a large archive,
/// where that starts, and the end of any archive.
struct Tail([u8; Self::LEN]);

impl Tail {
    const LOCATOR: usize = 56;
    const END: usize = 76;
    const LEN: usize = 98;

    /// Of a shorter file, zeros in front of it.
    fn read(mut file: &File, len: u64) -> Result<Self, Problem> {
        let mut bytes = [0; Self::LEN];
        let held = usize::try_from(len).unwrap_or(usize::MAX).min(Self::LEN);
        file.seek(SeekFrom::Start(len.saturating_sub(Self::LEN as u64))).map_err(io("read"))?;
        file.read_exact(&mut bytes[Self::LEN - held..]).map_err(cut(Part::Archive))?;
        Ok(Self(bytes))
    }

    fn number(&self, place: Range<usize>) -> u64 {
        self.0[place].iter().rev().fold(0, |high, &byte| high << 8 | u64::from(byte))
    }

    fn is(&self, place: usize, magic: &[u8; 4]) -> bool {
        self.0[place..].starts_with(magic)
    }

    /// What the end says, if it is one, of one disk and without a comment.
    fn end(&self) -> Option<Directory> {
        let one_disk = self.number(80..84) == 0 && self.number(84..86) == self.number(86..88);
        let sound = self.is(Self::END, b"PK\x05\x06") && one_disk && self.number(96..98) == 0;
        let [count, len, start] = [86..88, 88..92, 92..96].map(|field| self.number(field));
        sound.then_some(Directory { start, len, count })
    }

    /// The same of a large archive, whose end starts at `place` of the file.
    fn large_end(&self, place: u64) -> Option<Directory> {
        let located = self.number(60..64) == 0 && self.number(64..72) == place && self.number(72..76) <= 1;
        let one_disk = self.number(16..24) == 0 && self.number(24..32) == self.number(32..40);
        // Its length is that of what follows.
        let sound = self.is(0, b"PK\x06\x06") && self.number(4..12) == 44 && one_disk && located;
        let [count, len, start] = [32..40, 40..48, 48..56].map(|field| self.number(field));
        sound.then_some(Directory { start, len, count })
    }
}
