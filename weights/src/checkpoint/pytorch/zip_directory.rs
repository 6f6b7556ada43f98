//! The directory of a zip archive, and the headers it refers to.
//!
//! A zip archive says most things twice: in the directory at its end, and in front of each entry. Programs that believe
//! different ones read different files, so here both have to agree, and entries may not share bytes. The layout is that
//! of PKWARE's APPNOTE, sections 4.3.7 to 4.5.3.

use std::{
    borrow::Cow,
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::Path,
};

use super::error::{PytorchError, at, cut, shown};

/// Header of an entry; also the first bytes of an archive.
pub(super) const MAGIC: [u8; 4] = *b"PK\x03\x04";

/// Longest directory that is read, in bytes; room for more entries than a file may have tensors.
pub(super) const DIRECTORY_CAP: u64 = 16 << 20;

/// Longest name of an entry, in bytes.
pub(super) const ENTRY_NAME_CAP: usize = 1024;

const DIRECTORY_ENTRY: u32 = 0x0201_4b50;
const ENTRY: u32 = 0x0403_4b50;
const END: u32 = 0x0605_4b50;
const END_64: u32 = 0x0606_4b50;
const LOCATOR_64: u32 = 0x0706_4b50;

const ENTRY_LEN: usize = 30;
const END_LEN: usize = 22;
const END_64_LEN: usize = 56;
const LOCATOR_64_LEN: usize = 20;

/// Bits of the flags for plain, strong and directory encryption.
const ENCRYPTED: u16 = 1 | 1 << 6 | 1 << 13;

/// Bit of the flags that says that the header's lengths are 0, and the right ones follow the data.
const LENGTHS_FOLLOW: u16 = 1 << 3;

/// Number of the extra field with 64-bit lengths.
const EXTRA_64: u16 = 1;

/// What 32-bit fields hold when the extra field holds the number.
const IN_EXTRA: u32 = u32::MAX;

/// An entry that was found sound.
#[derive(Debug, Clone)]
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
    path: &Path,
    file: &mut File,
    len: u64,
    survey: impl Fn(&[Cow<'_, str>]) -> Result<(), PytorchError>,
) -> Result<Vec<Entry>, PytorchError> {
    let end = find_end(path, file, len)?;
    if end.len > DIRECTORY_CAP {
        return Err(PytorchError::DirectoryTooLarge { path: path.into(), claimed: end.len });
    }
    let mut bytes = vec![0; usize::try_from(end.len).unwrap_or(usize::MAX)];
    read_at(path, file, end.start, &mut bytes)?;
    let listed = list(&bytes, end.count).ok_or_else(|| PytorchError::Directory(path.into()))?;
    survey(&listed.iter().map(|listed| String::from_utf8_lossy(listed.name)).collect::<Vec<_>>())?;
    let mut entries = Vec::with_capacity(listed.len());
    for listed in listed.iter().filter(|listed| !listed.is_folder()) {
        let name = plain_name(path, listed.name)?;
        entries.push(listed.check(path, file, end.start, name)?);
    }
    entries.sort_by_key(|entry| entry.header);
    check_overlap(path, &entries)?;
    Ok(entries)
}

fn read_at(path: &Path, file: &mut File, start: u64, into: &mut [u8]) -> Result<(), PytorchError> {
    file.seek(SeekFrom::Start(start)).map_err(at("read", path))?;
    file.read_exact(into).map_err(cut("the archive's directory", path))
}

/// Little-endian fields one after the other; None at the end of the bytes.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn bytes(&mut self, len: u16) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(len.into())?;
        self.0 = rest;
        Some(bytes)
    }

    fn skip<const N: usize>(&mut self) -> Option<()> {
        self.array::<N>().map(|_| ())
    }

    /// The next field, if it is this one.
    fn signature(&mut self, expected: u32) -> Option<()> {
        (self.u32()? == expected).then_some(())
    }
}

/// Where the directory lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct End {
    count: u64,
    len: u64,
    start: u64,
}

impl End {
    /// Whether a record with 32-bit fields says the same, or that it cannot.
    fn agrees(self, small: Self) -> bool {
        let same = |large: u64, small: u64, unknown: u64| small == large || small == unknown;
        same(self.count, small.count, u16::MAX.into())
            && same(self.len, small.len, IN_EXTRA.into())
            && same(self.start, small.start, IN_EXTRA.into())
    }
}

/// torch.save writes no comment at the end, and the records without a gap.
fn find_end(path: &Path, file: &mut File, len: u64) -> Result<End, PytorchError> {
    let none = || PytorchError::NoDirectory(path.into());
    let place = len.checked_sub(END_LEN as u64).ok_or_else(none)?;
    let mut bytes = [0; END_LEN];
    read_at(path, file, place, &mut bytes)?;
    let small = parse_end(&bytes).ok_or_else(none)?;
    let (end, after) = match find_end_64(path, file, place)? {
        Some((end, after)) if end.agrees(small) => (end, after),
        Some(_) => return Err(PytorchError::DirectoryPlace(path.into())),
        None => (small, place),
    };
    if end.start.checked_add(end.len) != Some(after) {
        return Err(PytorchError::DirectoryPlace(path.into()));
    }
    Ok(end)
}

fn parse_end(bytes: &[u8]) -> Option<End> {
    let mut fields = Fields(bytes);
    fields.signature(END)?;
    let disks = fields.u32()?;
    let (here, count) = (fields.u16()?, fields.u16()?);
    let (len, start, comment) = (fields.u32()?, fields.u32()?, fields.u16()?);
    let sound = disks == 0 && here == count && comment == 0;
    sound.then_some(End { count: count.into(), len: len.into(), start: start.into() })
}

/// The record for large archives and its place, if the archive has one. torch.save always writes it.
fn find_end_64(path: &Path, file: &mut File, end: u64) -> Result<Option<(End, u64)>, PytorchError> {
    let mut bytes = [0; END_64_LEN + LOCATOR_64_LEN];
    let Some(place) = end.checked_sub(bytes.len() as u64) else { return Ok(None) };
    read_at(path, file, place, &mut bytes)?;
    let (record, locator) = bytes.split_at(END_64_LEN);
    if Fields(locator).signature(LOCATOR_64).is_none() {
        return Ok(None);
    }
    let damaged = || PytorchError::DirectoryPlace(path.into());
    if parse_locator(locator) != Some(place) {
        return Err(damaged());
    }
    parse_end_64(record).map(|end| Some((end, place))).ok_or_else(damaged)
}

fn parse_locator(bytes: &[u8]) -> Option<u64> {
    let mut fields = Fields(bytes);
    fields.signature(LOCATOR_64)?;
    fields.skip::<4>()?;
    fields.u64()
}

fn parse_end_64(bytes: &[u8]) -> Option<End> {
    let mut fields = Fields(bytes);
    fields.signature(END_64)?;
    let len_of_rest = fields.u64()?;
    fields.skip::<4>()?; // versions
    let disks = fields.u64()?;
    let (here, count) = (fields.u64()?, fields.u64()?);
    let (len, start) = (fields.u64()?, fields.u64()?);
    let sound = len_of_rest == 44 && disks == 0 && here == count;
    sound.then_some(End { count, len, start })
}

/// What the directory says of an entry.
struct Listed<'a> {
    name: &'a [u8],
    flags: u16,
    method: u16,
    compressed: u64,
    len: u64,
    header: u64,
}

/// All entries, if there are `count` and nothing else.
fn list(bytes: &[u8], count: u64) -> Option<Vec<Listed<'_>>> {
    let mut fields = Fields(bytes);
    let mut listed = Vec::new();
    while !fields.0.is_empty() {
        listed.push(parse_listed(&mut fields)?);
    }
    (u64::try_from(listed.len()) == Ok(count)).then_some(listed)
}

fn parse_listed<'a>(fields: &mut Fields<'a>) -> Option<Listed<'a>> {
    fields.signature(DIRECTORY_ENTRY)?;
    fields.skip::<4>()?; // versions
    let (flags, method) = (fields.u16()?, fields.u16()?);
    fields.skip::<8>()?; // time, checksum
    let (compressed, len) = (fields.u32()?, fields.u32()?);
    let (name_len, extra_len, comment_len) = (fields.u16()?, fields.u16()?, fields.u16()?);
    fields.skip::<8>()?; // disk, attributes
    let header = fields.u32()?;
    let (name, extra) = (fields.bytes(name_len)?, fields.bytes(extra_len)?);
    fields.bytes(comment_len)?;
    let mut large = Fields(extra_64(extra).unwrap_or_default());
    // In the order of the extra field.
    let len = widened(len, &mut large)?;
    let compressed = widened(compressed, &mut large)?;
    let header = widened(header, &mut large)?;
    Some(Listed { name, flags, method, compressed, len, header })
}

fn widened(small: u32, large: &mut Fields<'_>) -> Option<u64> {
    if small == IN_EXTRA { large.u64() } else { Some(small.into()) }
}

fn extra_64(extra: &[u8]) -> Option<&[u8]> {
    let mut fields = Fields(extra);
    loop {
        let (id, len) = (fields.u16()?, fields.u16()?);
        let content = fields.bytes(len)?;
        if id == EXTRA_64 {
            return Some(content);
        }
    }
}

impl Listed<'_> {
    /// Other packers than torch.save list folders too.
    fn is_folder(&self) -> bool {
        self.name.ends_with(b"/") && self.len == 0 && self.compressed == 0
    }

    fn check(&self, path: &Path, file: &mut File, directory: u64, name: String) -> Result<Entry, PytorchError> {
        self.check_stored(path, &name)?;
        let range = || PytorchError::EntryRange { path: path.into(), entry: shown(&name) };
        let after = self.header.checked_add(ENTRY_LEN as u64).ok_or_else(range)?;
        if after > directory {
            return Err(range());
        }
        let mut header = [0; ENTRY_LEN];
        read_at(path, file, self.header, &mut header)?;
        let mismatch = || PytorchError::EntryMismatch { path: path.into(), entry: shown(&name) };
        let (name_len, extra_len) = self.compare(&header).ok_or_else(mismatch)?;
        let start = after.checked_add(name_len.into()).and_then(|end| end.checked_add(extra_len.into()));
        let start = start.ok_or_else(range)?;
        if start.checked_add(self.len).ok_or_else(range)? > directory {
            return Err(range());
        }
        let mut own_name = vec![0; name_len.into()];
        read_at(path, file, after, &mut own_name)?;
        if own_name != self.name {
            return Err(mismatch());
        }
        Ok(Entry { name, start, len: self.len, header: self.header })
    }

    fn check_stored(&self, path: &Path, name: &str) -> Result<(), PytorchError> {
        let (path, entry) = (path.into(), shown(name));
        if self.flags & ENCRYPTED != 0 {
            return Err(PytorchError::Encrypted { path, entry });
        }
        if self.method != 0 {
            return Err(PytorchError::Compressed { path, entry, method: self.method });
        }
        if self.compressed != self.len {
            return Err(PytorchError::EntryMismatch { path, entry });
        }
        Ok(())
    }

    /// Lengths of the name and of the extra field in the entry's own header, if that says what the directory says.
    fn compare(&self, header: &[u8]) -> Option<(u16, u16)> {
        let mut fields = Fields(header);
        fields.signature(ENTRY)?;
        fields.skip::<2>()?; // version
        let (flags, method) = (fields.u16()?, fields.u16()?);
        fields.skip::<8>()?; // time, checksum
        let lengths = [fields.u32()?, fields.u32()?];
        let follow = flags & LENGTHS_FOLLOW != 0;
        let fits = |len: u32| u64::from(len) == self.len || len == IN_EXTRA || (follow && len == 0);
        let same = flags == self.flags && method == self.method && lengths.into_iter().all(fits);
        same.then_some((fields.u16()?, fields.u16()?))
    }
}

/// `folder/name`, possibly with more folders between: nothing that leads out, and no folder by itself.
fn plain_name(path: &Path, bytes: &[u8]) -> Result<String, PytorchError> {
    let wrong = |name: &str| PytorchError::EntryName { path: path.into(), entry: shown(name) };
    let name = str::from_utf8(bytes).map_err(|_| wrong(&String::from_utf8_lossy(bytes)))?;
    if let Some(folder) = name.strip_suffix('/') {
        return Err(PytorchError::EntryFolder { path: path.into(), entry: shown(folder) });
    }
    let plain = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(['\\', '\0']);
    if name.len() > ENTRY_NAME_CAP || !name.contains('/') || !name.split('/').all(plain) {
        return Err(wrong(name));
    }
    Ok(name.into())
}

/// Entries are sorted by the place of their headers.
fn check_overlap(path: &Path, entries: &[Entry]) -> Result<(), PytorchError> {
    for (one, next) in entries.iter().zip(entries.iter().skip(1)) {
        if one.start.saturating_add(one.len) > next.header {
            let (entry, other) = (shown(&one.name), shown(&next.name));
            return Err(PytorchError::EntryOverlap { path: path.into(), entry, other });
        }
    }
    Ok(())
}
