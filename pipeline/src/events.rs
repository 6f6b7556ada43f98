//! Scalars for TensorBoard: the little of its format that they need.
//!
//! A file is a sequence of records: length (u64, little-endian), its masked CRC-32C, the bytes, their masked CRC-32C. Each
//! record is an `Event` of protocol buffers (tensorflow/core/util/event.proto), of which five fields are written here.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

/// How event files are named.
pub(crate) const PREFIX: &str = "events.out.tfevents.";

/// An event file that is being written.
#[derive(Debug)]
pub(crate) struct Events(File);

impl Events {
    /// Starts a file in `directory`. For a run that goes on after `step` steps, TensorBoard is told to forget what earlier
    /// files say about later ones.
    pub(crate) fn create(directory: &Path, step: u64) -> io::Result<Self> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // TensorBoard reads the files of a directory in the order of their names.
        let name = format!("{PREFIX}{:010}.{:09}", now.as_secs(), now.subsec_nanos());
        let mut file = OpenOptions::new().create_new(true).append(true).open(directory.join(name))?;
        file.write_all(&record(&event(0, &bytes(3, b"brain.Event:2"))))?;
        let mut events = Self(file);
        if step > 0 {
            events.go_back(step)?;
        }
        Ok(events)
    }

    /// Tells TensorBoard to forget what was said about steps after `step`.
    pub(crate) fn go_back(&mut self, step: u64) -> io::Result<()> {
        const START: u64 = 1;
        self.0.write_all(&record(&event(step + 1, &bytes(7, &integer(1, START)))))
    }

    /// Writes values of one step, all at once.
    pub(crate) fn scalars(&mut self, step: u64, values: &[(&str, f64)]) -> io::Result<()> {
        let summary: Vec<u8> = values.iter().flat_map(|&(tag, value)| bytes(1, &scalar(tag, value))).collect();
        self.0.write_all(&record(&event(step, &bytes(5, &summary))))
    }
}

/// `Event { wall_time = 1, step = 2, what }`.
fn event(step: u64, what: &[u8]) -> Vec<u8> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let mut event = vec![1 << 3 | 1];
    event.extend(now.to_le_bytes());
    event.extend(integer(2, step));
    event.extend(what);
    event
}

/// `Summary.Value { tag = 1, simple_value = 2 }`.
fn scalar(tag: &str, value: f64) -> Vec<u8> {
    let mut scalar = bytes(1, tag.as_bytes());
    scalar.push(2 << 3 | 5);
    scalar.extend((value as f32).to_le_bytes());
    scalar
}

fn integer(field: u8, value: u64) -> Vec<u8> {
    [vec![field << 3], varint(value)].concat()
}

fn bytes(field: u8, content: &[u8]) -> Vec<u8> {
    [&[field << 3 | 2], &varint(content.len() as u64)[..], content].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    [&length, &masked(&length).to_le_bytes()[..], data, &masked(data).to_le_bytes()].concat()
}

/// The mask of TFRecord files, so that a checksum of data with checksums in them stays useful.
fn masked(data: &[u8]) -> u32 {
    crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C, bit by bit: there are a few hundred bytes a step.
fn crc32c(data: &[u8]) -> u32 {
    const REVERSED_CASTAGNOLI: u32 = 0x82f6_3b78;
    !data.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (REVERSED_CASTAGNOLI & (crc & 1).wrapping_neg()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc_of_the_standard_s_examples() {
        // RFC 3720, appendix B.4.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn varints_of_the_format_s_examples() {
        assert_eq!(varint(1), [1]);
        assert_eq!(varint(150), [0x96, 0x01]);
        assert_eq!(varint(u64::MAX).len(), 10);
    }

    #[test]
    fn a_scalar_is_the_message_worked_out_by_hand() {
        assert_eq!(scalar("a", 1.0), [0x0a, 1, b'a', 0x15, 0, 0, 0x80, 0x3f]);
        let event = event(300, &bytes(5, &bytes(1, &scalar("a", 1.0))));
        assert_eq!(event[9..12], [0x10, 0xac, 0x02]);
        assert_eq!(event[12..16], [0x2a, 10, 0x0a, 8]);
    }

    #[test]
    fn records_are_framed() {
        let record = record(b"abc");
        assert_eq!(record.len(), 8 + 4 + 3 + 4);
        assert_eq!(record[..8], 3u64.to_le_bytes());
    }
}
