//! The members of a tar, one header after the other; their contents are not read.
//!
//! What one header says - numbers, names, its checksum - the crate `tar` reads. The walk is ours: that crate reads long
//! names and extended headers whole, however many bytes they claim, and hands out contents where this wants to know
//! where they lie.

use std::fs::File;
use std::io;

use tar::{EntryType, Header};

use super::TarFault;
use super::map::read_at;

pub(super) const BLOCK: u64 = 512;
/// Largest long name, of GNU's kind.
const LONG_NAME: u64 = 1 << 16;
/// Largest extended header of POSIX ("pax").
const EXTENDED: u64 = 1 << 20;
/// How far behind the end mark another tar is looked for.
const BEHIND: u64 = 1 << 20;

/// Why a tar cannot be walked through.
#[derive(Debug)]
pub(super) enum Problem {
    Read(io::Error),
    Fault(TarFault),
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        Self::Read(error)
    }
}

impl From<TarFault> for Problem {
    fn from(fault: TarFault) -> Self {
        Self::Fault(fault)
    }
}

/// What a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    /// A file whose holes are left out, so that its bytes do not lie side by side.
    Sparse,
    HardLink,
    SymbolicLink,
    Other,
}

/// A member: what it is called, and where its bytes lie.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) kind: Kind,
    /// What a link points to.
    pub(super) target: Option<String>,
    pub(super) offset: u64,
    pub(super) size: u64,
}

/// What headers before a member's own say of it.
#[derive(Default)]
struct Extended {
    name: Option<String>,
    target: Option<String>,
    size: Option<u64>,
    sparse: bool,
}

/// A walk through the members of a tar of `len` bytes.
pub(super) struct Members<'a> {
    tar: &'a File,
    len: u64,
    at: u64,
}

impl<'a> Members<'a> {
    pub(super) fn new(tar: &'a File, len: u64) -> Self {
        Self { tar, len, at: 0 }
    }

    /// The next member; `None` at the end mark.
    pub(super) fn next(&mut self) -> Result<Option<Member>, Problem> {
        let mut extended = Extended::default();
        loop {
            let at = self.at;
            let block = self.block(at)?;
            if block == [0; BLOCK as usize] {
                return Ok(None);
            }
            let header = Header::from_byte_slice(&block);
            check(header, &block, at)?;
            let size = header.entry_size().map_err(|source| malformed(at, &source))?;
            let kind = header.entry_type();
            let size = match kind {
                EntryType::GNULongName | EntryType::GNULongLink | EntryType::XHeader | EntryType::XGlobalHeader => size,
                _ => extended.size.unwrap_or(size),
            };
            let offset = self.contents(header, at)?;
            let end = if has_contents(kind) { self.end(offset, size)? } else { offset };
            match kind {
                EntryType::GNULongName => extended.name = Some(self.long_name(offset, size)?),
                EntryType::GNULongLink => extended.target = Some(self.long_name(offset, size)?),
                EntryType::XHeader => extended.read(&self.text(offset, size, EXTENDED)?, at)?,
                EntryType::XGlobalHeader => {}
                _ => {
                    self.at = end;
                    return Ok(Some(extended.member(header, offset, size)));
                }
            }
            self.at = end;
        }
    }

    /// Where another tar begins behind the end mark, if one does: tars joined with `cat`.
    pub(super) fn another(&self) -> Option<u64> {
        let blocks = (self.at..self.len.min(self.at.saturating_add(BEHIND))).step_by(BLOCK as usize);
        let block = |&at: &u64| self.block(at).is_ok_and(|block| block != [0; BLOCK as usize]);
        let at = blocks.skip(1).find(block)?;
        let block = self.block(at).ok()?;
        check(Header::from_byte_slice(&block), &block, at).is_ok().then_some(at)
    }

    fn block(&self, at: u64) -> Result<[u8; BLOCK as usize], Problem> {
        let mut block = [0; BLOCK as usize];
        if at.checked_add(BLOCK).is_none_or(|end| end > self.len) {
            return Err(truncated(self.len, at.saturating_add(BLOCK)).into());
        }
        match read_at(self.tar, &mut block, at) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(truncated(self.len, at.saturating_add(BLOCK)).into())
            }
            read => Ok(read.map(|()| block)?),
        }
    }

    /// Where the contents behind a header begin: behind the maps of a sparse file, too.
    fn contents(&self, header: &Header, at: u64) -> Result<u64, Problem> {
        let mut offset = at + BLOCK;
        let mut more = header.entry_type().is_gnu_sparse() && header.as_gnu().is_some_and(tar::GnuHeader::is_extended);
        while more {
            more = self.block(offset)?[504] == 1;
            offset += BLOCK;
        }
        Ok(offset)
    }

    fn end(&self, offset: u64, size: u64) -> Result<u64, Problem> {
        let end = size.checked_next_multiple_of(BLOCK).and_then(|size| offset.checked_add(size));
        match end.filter(|&end| end <= self.len) {
            Some(end) => Ok(end),
            None => Err(truncated(self.len, end.unwrap_or(u64::MAX)).into()),
        }
    }

    fn text(&self, offset: u64, size: u64, largest: u64) -> Result<Vec<u8>, Problem> {
        if size > largest {
            return Err(TarFault::LongHeader { at: offset - BLOCK, size, largest }.into());
        }
        let mut text = vec![0; size as usize];
        read_at(self.tar, &mut text, offset)?;
        Ok(text)
    }

    fn long_name(&self, offset: u64, size: u64) -> Result<String, Problem> {
        let mut text = self.text(offset, size, LONG_NAME)?;
        let end = text.iter().position(|&byte| byte == 0).unwrap_or(text.len());
        text.truncate(end);
        Ok(shown(&text))
    }
}

impl Extended {
    /// Records `LENGTH KEY=VALUE\n`, where the length counts all of a record.
    fn read(&mut self, mut text: &[u8], at: u64) -> Result<(), TarFault> {
        let wrong = |why: &str| TarFault::Malformed { at, why: format!("its extended header {why}") };
        while text.iter().any(|&byte| byte != 0) {
            let blank = text.iter().position(|&byte| byte == b' ').ok_or_else(|| wrong("has no lengths"))?;
            let len = std::str::from_utf8(&text[..blank]).ok().and_then(|len| len.parse::<usize>().ok());
            let len = len.filter(|len| (blank + 2..=text.len()).contains(len));
            let (record, rest) = text.split_at(len.ok_or_else(|| wrong("lies about its lengths"))?);
            let record = &record[blank + 1..record.len() - 1];
            let equals =
                record.iter().position(|&byte| byte == b'=').ok_or_else(|| wrong("has a key without value"))?;
            self.note(&record[..equals], &record[equals + 1..]).ok_or_else(|| wrong("has a size that is no number"))?;
            text = rest;
        }
        Ok(())
    }

    fn note(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        match key {
            b"path" | b"GNU.sparse.name" => self.name = Some(shown(value)),
            b"linkpath" => self.target = Some(shown(value)),
            b"size" => self.size = Some(std::str::from_utf8(value).ok()?.parse().ok()?),
            _ => {}
        }
        self.sparse |= key.starts_with(b"GNU.sparse.");
        Some(())
    }

    fn member(self, header: &Header, offset: u64, size: u64) -> Member {
        let kind = match header.entry_type() {
            kind if kind.is_gnu_sparse() => Kind::Sparse,
            EntryType::Regular | EntryType::Continuous if self.sparse => Kind::Sparse,
            EntryType::Regular | EntryType::Continuous => Kind::File,
            EntryType::Link => Kind::HardLink,
            EntryType::Symlink => Kind::SymbolicLink,
            _ => Kind::Other,
        };
        let target = || header.link_name_bytes().map(|name| shown(&name));
        let name = self.name.unwrap_or_else(|| shown(&header.path_bytes()));
        Member { name, kind, target: self.target.or_else(target), offset, size }
    }
}

/// Links, devices and folders have a size at times, and never contents.
fn has_contents(kind: EntryType) -> bool {
    use EntryType::{Block, Char, Directory, Fifo, Link, Symlink};
    !matches!(kind, Link | Symlink | Char | Block | Directory | Fifo)
}

/// Holds a header to its checksum. Old programs summed signed bytes.
fn check(header: &Header, block: &[u8; BLOCK as usize], at: u64) -> Result<(), TarFault> {
    let written = header.cksum().map_err(|source| malformed(at, &source))?;
    let counted = |(place, &byte): (usize, &u8)| if (148..156).contains(&place) { b' ' } else { byte };
    let unsigned: u32 = block.iter().enumerate().map(counted).map(u32::from).sum();
    let signed: i32 = block.iter().enumerate().map(counted).map(|byte| i32::from(byte as i8)).sum();
    match written == unsigned || i64::from(written) == i64::from(signed) {
        true => Ok(()),
        false => Err(TarFault::Malformed { at, why: "the checksum of a header is wrong".to_owned() }),
    }
}

fn malformed(at: u64, source: &io::Error) -> TarFault {
    TarFault::Malformed { at, why: source.to_string().escape_debug().to_string() }
}

pub(super) fn truncated(len: u64, needed: u64) -> TarFault {
    TarFault::Truncated { len, needed }
}

/// A name as text; bytes that are none are written `\xNN`, so that two names stay two.
fn shown(name: &[u8]) -> String {
    match std::str::from_utf8(name) {
        Ok(name) => name.to_owned(),
        Err(_) => (name.utf8_chunks())
            .map(|chunk| {
                let invalid: String = chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")).collect();
                chunk.valid().to_owned() + &invalid
            })
            .collect(),
    }
}
