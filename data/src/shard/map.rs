//! The bytes of a file, mapped or read: the only place that maps memory.

use std::fs::{File, Metadata};
use std::io;
use std::path::Path;

use memmap2::Mmap;

use crate::error::FileError;

/// How the bytes of a shard are reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// Mapped into memory: nothing is copied, and the operating system's page cache is the only cache. For local disks.
    #[default]
    Mapped,
    /// Read with ordinary reads into a buffer of the caller. For network disks, where a file that shrinks or a server
    /// that goes away would end a mapped process with a SIGBUS.
    Read,
}

/// A file whose length was fixed when it was opened.
#[derive(Debug)]
pub(super) struct Bytes {
    source: Source,
    len: u64,
}

#[derive(Debug)]
enum Source {
    Mapped(Mmap),
    Read(File),
}

impl Bytes {
    /// Opens `path`; the metadata is of the very file that was opened.
    pub(super) fn open(path: &Path, access: Access) -> Result<(Self, Metadata), FileError> {
        let file = File::open(path).map_err(FileError::on("open", path))?;
        let metadata = file.metadata().map_err(FileError::on("examine", path))?;
        let source = match access {
            Access::Mapped => Source::Mapped(map(&file).map_err(FileError::on("map", path))?),
            Access::Read => Source::Read(file),
        };
        let len = match &source {
            Source::Mapped(map) => map.len() as u64,
            Source::Read(_) => metadata.len(),
        };
        Ok((Self { source, len }, metadata))
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// The `len` bytes at `offset`: of the map, or read into `scratch`. `UnexpectedEof` outside the file.
    pub(super) fn get<'a>(&'a self, offset: u64, len: usize, scratch: &'a mut Vec<u8>) -> io::Result<&'a [u8]> {
        let end = offset.checked_add(len as u64).filter(|&end| end <= self.len);
        let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        match &self.source {
            Source::Mapped(map) => Ok(&map[offset as usize..end as usize]),
            Source::Read(file) => {
                scratch.resize(len, 0);
                read_at(file, scratch, offset)?;
                Ok(scratch)
            }
        }
    }

    /// The `N` bytes at `offset`. `UnexpectedEof` outside the file.
    pub(super) fn array<const N: usize>(&self, offset: u64) -> io::Result<[u8; N]> {
        let mut array = [0; N];
        match &self.source {
            Source::Mapped(_) => array.copy_from_slice(self.get(offset, N, &mut Vec::new())?),
            Source::Read(file) => read_at(file, &mut array, offset)?,
        }
        Ok(array)
    }
}

#[allow(unsafe_code)]
fn map(file: &File) -> io::Result<Mmap> {
    // SAFETY: a map is a slice of bytes that the operating system may change under us when another process writes to
    // the file. Nothing in this crate relies on two reads of it being equal: every number read from a map is checked
    // after it was copied out, and every byte pattern is a valid `u8`. Shards are written beside and renamed, never
    // in place. What remains is a file truncated by somebody else while it is mapped, which ends the process with a
    // SIGBUS and not with a wrong read; `Access::Read` is there for disks where this happens.
    unsafe { Mmap::map(file) }
}

#[cfg(unix)]
fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, buffer, offset)
}

#[cfg(windows)]
fn read_at(file: &File, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !buffer.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, buffer, offset)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => (buffer, offset) = (&mut buffer[n..], offset + n as u64),
        }
    }
    Ok(())
}
