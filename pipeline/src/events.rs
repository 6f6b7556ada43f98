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

use prost::{Message, Oneof};

/// How event files are named.
pub(crate) const PREFIX: &str = "events.out.tfevents.";

/// `SessionLog.SessionStatus.START`: what earlier files say about this step and later ones is void.
const START: i32 = 1;

/// `tensorflow.Event`. Readers want time and step written even where they are zero.
#[derive(Clone, PartialEq, Message)]
struct Event {
    /// Seconds since 1970.
    #[prost(double, optional, tag = "1")]
    wall_time: Option<f64>,
    #[prost(int64, optional, tag = "2")]
    step: Option<i64>,
    #[prost(oneof = "What", tags = "3, 5, 7")]
    what: Option<What>,
}

#[derive(Clone, PartialEq, Oneof)]
enum What {
    #[prost(string, tag = "3")]
    FileVersion(String),
    #[prost(message, tag = "5")]
    Summary(Summary),
    #[prost(message, tag = "7")]
    SessionLog(SessionLog),
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    values: Vec<Scalar>,
}

/// `Summary.Value`.
#[derive(Clone, PartialEq, Message)]
struct Scalar {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
}

#[derive(Clone, PartialEq, Message)]
struct SessionLog {
    #[prost(int32, tag = "1")]
    status: i32,
}

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
        file.write_all(&record(&Event::now(0, What::FileVersion("brain.Event:2".to_owned()))))?;
        let mut events = Self(file);
        if step > 0 {
            events.go_back(step)?;
        }
        Ok(events)
    }

    /// Tells TensorBoard to forget what was said about steps after `step`.
    pub(crate) fn go_back(&mut self, step: u64) -> io::Result<()> {
        self.0.write_all(&record(&Event::now(step + 1, What::SessionLog(SessionLog { status: START }))))
    }

    /// Writes values of one step, all at once.
    pub(crate) fn scalars(&mut self, step: u64, values: &[(&str, f64)]) -> io::Result<()> {
        let scalar = |&(tag, value): &(&str, f64)| Scalar { tag: tag.to_owned(), simple_value: Some(value as f32) };
        let summary = Summary { values: values.iter().map(scalar).collect() };
        self.0.write_all(&record(&Event::now(step, What::Summary(summary))))
    }
}

impl Event {
    fn now(step: u64, what: What) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        Self { wall_time: Some(now), step: Some(step as i64), what: Some(what) }
    }
}

fn record(event: &Event) -> Vec<u8> {
    let data = event.encode_to_vec();
    let length = (data.len() as u64).to_le_bytes();
    [&length, &masked(&length).to_le_bytes()[..], &data, &masked(&data).to_le_bytes()].concat()
}

/// The mask of TFRecord files, so that a checksum of data with checksums in them stays useful.
fn masked(data: &[u8]) -> u32 {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_crc_32c_masked() {
        // RFC 3720, appendix B.4.
        assert_eq!(crc32c::crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c::crc32c(&[0xff; 32]), 0x62a8_ab43);
        // CRC-32C e3069283, turned right by 15 bits, plus a282ead8.
        assert_eq!(masked(b"123456789"), 0x2507_c60d_u32.wrapping_add(0xa282_ead8));
    }

    #[test]
    fn events_are_the_messages_worked_out_by_hand() {
        let scalar = Scalar { tag: "a".to_owned(), simple_value: Some(1.0) };
        assert_eq!(scalar.encode_to_vec(), [0x0a, 1, b'a', 0x15, 0, 0, 0x80, 0x3f]);
        let event = |step, what| Event { wall_time: Some(1.0), step: Some(step), what: Some(what) };
        let time = [0x09, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f];
        let expect = |event: Event, rest: &[u8]| assert_eq!(event.encode_to_vec(), [&time, rest].concat());
        let zero = Scalar { tag: "b".to_owned(), simple_value: Some(0.0) };
        let summary = Summary { values: vec![scalar, zero] };
        let scalars = [0x0a, 8, 0x0a, 1, b'a', 0x15, 0, 0, 0x80, 0x3f, 0x0a, 8, 0x0a, 1, b'b', 0x15, 0, 0, 0, 0];
        expect(event(300, What::Summary(summary)), &[&[0x10, 0xac, 0x02, 0x2a, 20][..], &scalars].concat());
        // The first event of a file, and the one of a run that goes on.
        let version = What::FileVersion("brain.Event:2".to_owned());
        expect(event(0, version), &[&[0x10, 0, 0x1a, 13][..], b"brain.Event:2"].concat());
        expect(event(1, What::SessionLog(SessionLog { status: START })), &[0x10, 1, 0x3a, 2, 0x08, 1]);
    }

    #[test]
    fn records_are_framed() {
        let event = Event { wall_time: None, step: Some(3), what: None };
        let record = record(&event);
        assert_eq!(record.len(), 8 + 4 + 2 + 4);
        assert_eq!(record[..8], 2u64.to_le_bytes());
        assert_eq!(record[12..14], [0x10, 3]);
        assert_eq!(record[14..], masked(&[0x10, 3]).to_le_bytes());
    }
}
