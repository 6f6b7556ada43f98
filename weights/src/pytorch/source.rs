//! The bytes of a pickle, read with caps.

use std::io::{self, Read};

use super::{
    problem::{Part, Problem, cut},
    value::Value,
};

/// Longest pickle that is read, in bytes. That of a large model with its optimizer has one megabyte.
const PICKLE_CAP: u64 = 1 << 30;

/// Longest text that may be a name, in bytes. Longer ones are passed over.
const TEXT_CAP: u64 = 1 << 16;

/// Longest whole number whose value is kept, in bytes.
const INT_CAP: usize = 8;

/// Longest line of the first protocols, in bytes. torch.save has not written them for many years.
const LINE_CAP: usize = 1 << 20;

/// The bytes of a pickle, counted.
pub(super) struct Source<'a, R> {
    reader: &'a mut R,
    offset: u64,
}

impl<'a, R: Read> Source<'a, R> {
    pub(super) fn new(reader: &'a mut R) -> Self {
        Self { reader, offset: 0 }
    }

    /// How many have been read.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    fn count(&mut self, len: u64) -> Result<(), Problem> {
        self.offset = self.offset.saturating_add(len);
        if self.offset > PICKLE_CAP {
            return Err(Part::Pickle.too_large(format!("leads beyond the {PICKLE_CAP} bytes allowed")));
        }
        Ok(())
    }

    fn fill(&mut self, into: &mut [u8]) -> Result<(), Problem> {
        self.count(u64::try_from(into.len()).unwrap_or(u64::MAX))?;
        self.reader.read_exact(into).map_err(cut(Part::Pickle))
    }

    /// Passes over bytes.
    pub(super) fn skip(&mut self, len: u64) -> Result<(), Problem> {
        self.count(len)?;
        match io::copy(&mut self.reader.by_ref().take(len), &mut io::sink()) {
            Ok(passed) if passed == len => Ok(()),
            Ok(_) => Err(cut(Part::Pickle)(io::ErrorKind::UnexpectedEof.into())),
            Err(error) => Err(cut(Part::Pickle)(error)),
        }
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Problem> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Problem> {
        self.array().map(u8::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Problem> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Problem> {
        self.array().map(u64::from_le_bytes)
    }

    /// A text of so many bytes; `None` where it is too long to be a name.
    pub(super) fn text(&mut self, len: u64) -> Result<Option<Vec<u8>>, Problem> {
        if len > TEXT_CAP {
            self.skip(len)?;
            return Ok(None);
        }
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(usize::MAX)];
        self.fill(&mut bytes)?;
        Ok(Some(bytes))
    }

    /// Up to a newline, which is not part of it.
    pub(super) fn line(&mut self) -> Result<Vec<u8>, Problem> {
        let mut bytes = Vec::new();
        loop {
            match self.u8()? {
                b'\n' => return Ok(bytes),
                _ if bytes.len() >= LINE_CAP => {
                    return Err(Part::Pickle.damaged(format!("has a line of more than the {LINE_CAP} bytes allowed")));
                }
                byte => bytes.push(byte),
            }
        }
    }

    /// Little-endian two's complement.
    pub(super) fn long(&mut self, len: u64) -> Result<Value, Problem> {
        let Some(short) = usize::try_from(len).ok().filter(|len| *len <= INT_CAP) else {
            self.skip(len)?;
            return Ok(Value::BigInt);
        };
        let mut bytes = vec![0; short];
        self.fill(&mut bytes)?;
        let sign: u8 = if bytes.last().is_some_and(|byte| byte & 0x80 != 0) { 0xff } else { 0 };
        let mut wide = [sign; INT_CAP];
        wide.iter_mut().zip(&bytes).for_each(|(wide, byte)| *wide = *byte);
        Ok(Value::Int(i64::from_le_bytes(wide)))
    }
}
