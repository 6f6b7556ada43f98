//! Curves, pictures and hyperparameters for TensorBoard: the little of its format that they need.
//!
//! A file is a sequence of records: length (u64, little-endian), its masked CRC-32C, the bytes, their masked CRC-32C. Each
//! record is an `Event` of protocol buffers.

mod messages;

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use prost::Message;

use crate::{records, tell};
use messages::{
    Event, Hyperparameters, Image, Of, PluginData, START, SessionLog, SessionStart, Setting, Summary, SummaryMetadata,
    Value, What,
};

/// How event files are named.
pub(crate) const PREFIX: &str = "events.out.tfevents.";

/// The plugin that shows hyperparameters, and the tag it looks for.
const HYPERPARAMETERS: (&str, &str) = ("hparams", "_hparams_/session_start_info");

/// `Summary.Image.colorspace`.
const RGB: i32 = 3;

/// A picture that TensorBoard shows.
pub(crate) struct Picture {
    pub(crate) tag: String,
    /// Width and height.
    pub(crate) size: (u32, u32),
    /// RGB.
    pub(crate) png: Vec<u8>,
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
        let scalar = |&(tag, value): &(&str, f64)| Value {
            tag: tag.to_owned(),
            simple_value: Some(value as f32),
            ..Value::default()
        };
        self.summary(step, values.iter().map(scalar).collect())
    }

    /// Writes a picture.
    pub(crate) fn picture(&mut self, step: u64, picture: Picture) -> io::Result<()> {
        let Picture { tag, size: (width, height), png } = picture;
        let image = Image { height: height as i32, width: width as i32, colorspace: RGB, encoded: png };
        self.summary(step, vec![Value { tag, image: Some(image), ..Value::default() }])
    }

    /// Writes the settings of a run, by which TensorBoard's table of hyperparameters compares runs. A setting that is a list
    /// or a table is left out.
    pub(crate) fn hyperparameters(&mut self, settings: &[(String, toml::Value)]) -> io::Result<()> {
        let (plugin, tag) = HYPERPARAMETERS;
        let setting = |value: &toml::Value| {
            let of = match value {
                toml::Value::String(text) => Of::Text(text.clone()),
                toml::Value::Integer(number) => Of::Number(*number as f64),
                toml::Value::Float(number) => Of::Number(*number),
                toml::Value::Boolean(is) => Of::Bool(*is),
                _ => return None,
            };
            Some(Setting { of: Some(of) })
        };
        let values = settings.iter().filter_map(|(key, value)| Some((key.clone(), setting(value)?))).collect();
        let start = Some(SessionStart { values, start_time: now() });
        let content = Hyperparameters { start }.encode_to_vec();
        let plugin = Some(PluginData { name: plugin.to_owned(), content });
        let metadata = Some(SummaryMetadata { plugin });
        self.summary(0, vec![Value { tag: tag.to_owned(), metadata, ..Value::default() }])
    }

    fn summary(&mut self, step: u64, values: Vec<Value>) -> io::Result<()> {
        self.0.write_all(&record(&Event::now(step, What::Summary(Summary { values }))))
    }
}

/// Shows pictures of the run in `path` in TensorBoard; nothing where no run is. What cannot be shown is told, and ends nothing.
pub(crate) fn show(path: &Path, step: u64, pictures: Vec<Picture>) {
    if pictures.is_empty() || !path.join(records::RECIPE).is_file() {
        return;
    }
    let write = || {
        let mut events = Events::create(path, 0)?;
        pictures.into_iter().try_for_each(|picture| events.picture(step, picture))
    };
    if let Err(error) = write() {
        tell::warn(format_args!("{}: pictures are not shown in TensorBoard: {error}", path.display()));
    }
}

impl Event {
    fn now(step: u64, what: What) -> Self {
        Self { wall_time: Some(now()), step: Some(step as i64), what: Some(what) }
    }
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
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
        let value = |tag: &str, value| Value { tag: tag.to_owned(), simple_value: Some(value), ..Value::default() };
        let scalar = value("a", 1.0);
        assert_eq!(scalar.encode_to_vec(), [0x0a, 1, b'a', 0x15, 0, 0, 0x80, 0x3f]);
        let event = |step, what| Event { wall_time: Some(1.0), step: Some(step), what: Some(what) };
        let time = [0x09, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f];
        let expect = |event: Event, rest: &[u8]| assert_eq!(event.encode_to_vec(), [&time, rest].concat());
        let zero = value("b", 0.0);
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
