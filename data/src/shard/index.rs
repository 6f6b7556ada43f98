//! The sidecar index of a shard, `x.tar.idx`: a header of 64 bytes, then one record of 32 bytes a sample, little-endian.
//!
//! | header | bytes | | record | bytes |
//! |---|---|---|---|---|
//! | magic `CNXTINDX` | 0..8 | | offset of the image in the tar | 0..8 |
//! | version | 8..12 | | its length | 8..16 |
//! | bytes a record | 12..16 | | CRC-32 (IEEE) of its bytes | 16..20 |
//! | length of the tar | 16..24 | | label, `u32::MAX` = none | 20..24 |
//! | its modification time, ns since 1970 | 24..32 | | encoding, see [`Encoding`] | 24 |
//! | number of records | 32..40 | | zero | 25..28 |
//! | samples without a label | 40..48 | | CRC-32 of the record's number and bytes 0..28 | 28..32 |
//! | classes: largest label + 1 | 48..52 | | | |
//! | CRC-32 of all keys, each with a line break | 52..56 | | | |
//! | CRC-32 of some of the tar, see [`touchstone`] | 56..60 | | | |
//! | CRC-32 of bytes 0..60 | 60..64 | | | |
//!
//! Opening checks the header and the lengths, whatever the number of samples. The records stay on disk, mapped; one is
//! checked when it is used (its checksum, range, encoding, label).
//!
//! An index of samples that have more than a class is of version 3, whose "bytes a record" are 96: behind all records, laid
//! out as above, follow as many of 64 bytes, which say where the members of the targets lie. An offset of 0 is none.
//!
//! | target record | bytes | | | bytes |
//! |---|---|---|---|---|
//! | offset of the segmentation in the tar | 0..8 | | offset of the annotation | 24..32 |
//! | its length | 8..16 | | its length | 32..40 |
//! | CRC-32 of its bytes | 16..20 | | CRC-32 of its bytes | 40..44 |
//! | zero | 20..24 | | 1 = classes, 2 = boxes | 44 |
//! | CRC-32 of the record's number and bytes 0..60 | 60..64 | | zero | 45..60 |
//!
//! Version 1 had one checksum of all records at 52..56, and nothing at 56..60 and in the records at 28..32. Such an index
//! is read whole when it is opened, which takes 10 ms for a million samples.

use std::io;
use std::time::UNIX_EPOCH;

use super::IndexFault;
use super::map::Bytes;
use crate::decode::Format;
use crate::target::TargetKind;

pub(super) const HEADER: usize = 64;
pub(super) const RECORD: usize = 32;
/// Bytes of a target record.
const TARGETS: usize = 64;
const MAGIC: [u8; 8] = *b"CNXTINDX";
const VERSION: u32 = 2;
/// Of an index with target records.
const VERSION_WITH_TARGETS: u32 = 3;
/// Samples around which bytes of the tar are compared.
const TOUCHED: u64 = 64;
/// Bytes before and behind a picture that are: headers, and members as small as a label.
const AROUND: u64 = 1536;
const NO_LABEL: u32 = u32::MAX;

/// How the bytes of a sample are encoded, by the name of the tar member. The decoder looks at the bytes instead, since
/// names lie. The numbers stand in indices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// `.jpg`, `.jpeg`, `.jpe`, `.jfif`
    Jpeg = 1,
    /// `.png`
    Png = 2,
    /// `.pgm`, `.ppm`: uncompressed.
    Pnm = 3,
    /// `.webp`
    Webp = 4,
    /// `.gif`
    Gif = 5,
    /// `.tif`, `.tiff`
    Tiff = 6,
    /// `.bmp`
    Bmp = 7,
    /// `.npy`
    Npy = 8,
}

impl Encoding {
    /// All of them.
    pub const ALL: [Self; 8] =
        [Self::Jpeg, Self::Png, Self::Pnm, Self::Webp, Self::Gif, Self::Tiff, Self::Bmp, Self::Npy];

    /// By file name extension, in any case, without the dot.
    pub fn of_extension(extension: &str) -> Option<Self> {
        match extension.to_ascii_lowercase().as_str() {
            "jpg" | "jpeg" | "jpe" | "jfif" => Some(Self::Jpeg),
            "png" => Some(Self::Png),
            "pgm" | "ppm" => Some(Self::Pnm),
            "webp" => Some(Self::Webp),
            "gif" => Some(Self::Gif),
            "tif" | "tiff" => Some(Self::Tiff),
            "bmp" => Some(Self::Bmp),
            "npy" => Some(Self::Npy),
            _ => None,
        }
    }

    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Jpeg => "JPEG",
            Self::Png => "PNG",
            Self::Pnm => "raw",
            Self::Webp => "WebP",
            Self::Gif => "GIF",
            Self::Tiff => "TIFF",
            Self::Bmp => "BMP",
            Self::Npy => "NumPy",
        }
    }

    fn code(self) -> u8 {
        self as u8
    }

    fn of_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|encoding| encoding.code() == code)
    }
}

impl From<Format> for Encoding {
    fn from(format: Format) -> Self {
        match format {
            Format::Jpeg => Self::Jpeg,
            Format::Png => Self::Png,
            Format::Pnm => Self::Pnm,
            Format::Webp => Self::Webp,
            Format::Gif => Self::Gif,
            Format::Tiff => Self::Tiff,
            Format::Bmp => Self::Bmp,
            Format::Npy => Self::Npy,
        }
    }
}

/// Where a sample lies, and what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) offset: u64,
    pub(super) len: u64,
    pub(super) crc: u32,
    pub(super) label: Option<u32>,
    pub(super) encoding: Encoding,
}

impl Record {
    /// As the record of sample `number`.
    pub(super) fn to_bytes(self, number: u64) -> [u8; RECORD] {
        let mut bytes = [0; RECORD];
        bytes[0..8].copy_from_slice(&self.offset.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.len.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.crc.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.label.unwrap_or(NO_LABEL).to_le_bytes());
        bytes[24] = self.encoding.code();
        let crc = record_crc(&bytes[..28], number);
        bytes[28..32].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads a record and checks all that can be checked without its neighbours.
    pub(super) fn parse(bytes: &[u8; RECORD], sample: u64, header: &Header) -> Result<Self, IndexFault> {
        if !header.is_old() && record_crc(&bytes[..28], sample) != u32_at(bytes, 28) {
            return Err(IndexFault::RecordChecksum { sample });
        }
        let Extent { offset, len, crc } = Extent::parse(&bytes[..20], sample, header)?;
        let encoding = Encoding::of_code(bytes[24]).ok_or(IndexFault::Encoding { sample, code: bytes[24] })?;
        let label = Some(u32_at(bytes, 20)).filter(|&label| label != NO_LABEL);
        if let Some(label) = label.filter(|&label| label >= header.classes) {
            return Err(IndexFault::Label { sample, label, classes: header.classes });
        }
        Ok(Self { offset, len, crc, label, encoding })
    }

    /// Where the picture lies.
    pub(super) fn extent(&self) -> Extent {
        Extent { offset: self.offset, len: self.len, crc: self.crc }
    }
}

/// Where the bytes of a member lie, and their checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) offset: u64,
    pub(super) len: u64,
    pub(super) crc: u32,
}

impl Extent {
    fn write(self, bytes: &mut [u8]) {
        bytes[0..8].copy_from_slice(&self.offset.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.len.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.crc.to_le_bytes());
    }

    fn parse(bytes: &[u8], sample: u64, header: &Header) -> Result<Self, IndexFault> {
        let (offset, len) = (u64_at(bytes, 0), u64_at(bytes, 8));
        if offset.checked_add(len).is_none_or(|end| end > header.tar_len) {
            return Err(IndexFault::Range { sample, offset, len, tar: header.tar_len });
        }
        Ok(Self { offset, len, crc: u32_at(bytes, 16) })
    }
}

/// Where the targets of a sample lie that are more than a class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Targets {
    pub(super) segmentation: Option<Extent>,
    /// Classes or boxes.
    pub(super) annotation: Option<(TargetKind, Extent)>,
}

impl Targets {
    /// As the target record of sample `number`.
    pub(super) fn to_bytes(self, number: u64) -> [u8; TARGETS] {
        let mut bytes = [0; TARGETS];
        if let Some(segmentation) = self.segmentation {
            segmentation.write(&mut bytes[..20]);
        }
        if let Some((kind, annotation)) = self.annotation {
            annotation.write(&mut bytes[24..44]);
            bytes[44] = if kind == TargetKind::Boxes { 2 } else { 1 };
        }
        let crc = record_crc(&bytes[..60], number);
        bytes[60..64].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads a target record and checks all that can be checked without its neighbours.
    pub(super) fn parse(bytes: &[u8; TARGETS], sample: u64, header: &Header) -> Result<Self, IndexFault> {
        if record_crc(&bytes[..60], sample) != u32_at(bytes, 60) {
            return Err(IndexFault::RecordChecksum { sample });
        }
        let kind = match bytes[44] {
            0 => None,
            1 => Some(TargetKind::Classes),
            2 => Some(TargetKind::Boxes),
            code => return Err(IndexFault::Target { sample, code }),
        };
        let extent = |at: usize| Extent::parse(&bytes[at..at + 20], sample, header);
        // Before the first member's bytes there is its header.
        let segmentation = Some(extent(0)?).filter(|segmentation| segmentation.offset > 0);
        let annotation = kind.map(|kind| Ok((kind, extent(24)?))).transpose()?;
        Ok(Self { segmentation, annotation })
    }

    /// Those that there are.
    pub(super) fn members(self) -> impl Iterator<Item = Extent> {
        self.segmentation.into_iter().chain(self.annotation.map(|(_, annotation)| annotation))
    }

    /// The same, with nothing said of the bytes.
    pub(super) fn without_checksums(self) -> Self {
        let plain = |extent: Extent| Extent { crc: 0, ..extent };
        Self {
            segmentation: self.segmentation.map(plain),
            annotation: self.annotation.map(|(kind, annotation)| (kind, plain(annotation))),
        }
    }
}

fn record_crc(bytes: &[u8], number: u64) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&number.to_le_bytes());
    crc.update(bytes);
    crc.finalize()
}

/// A checksum of what lies around some samples, evenly spread: headers, small members beside the picture, the picture's
/// first bytes. A tar of the same length that holds something else has another one.
pub(super) fn touchstone(
    tar: &Bytes,
    count: u64,
    mut record: impl FnMut(u64) -> io::Result<Record>,
) -> io::Result<u32> {
    let mut crc = crc32fast::Hasher::new();
    let mut scratch = Vec::new();
    let samples = count.min(TOUCHED);
    for place in 0..samples {
        let Record { offset, len, .. } = record((u128::from(place) * u128::from(count) / u128::from(samples)) as u64)?;
        let end = (offset + len).next_multiple_of(512);
        for (from, to) in [(offset.saturating_sub(AROUND), offset + len.min(512)), (end, end + AROUND)] {
            let (from, to) = (from.min(tar.len()), to.min(tar.len()));
            crc.update(tar.get(from, (to - from) as usize, &mut scratch)?);
        }
    }
    Ok(crc.finalize())
}

/// The header of an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) version: u32,
    pub(super) tar_len: u64,
    pub(super) tar_modified: u64,
    pub(super) count: u64,
    pub(super) unlabelled: u64,
    pub(super) classes: u32,
    /// Of all keys; in version 1, of all records.
    pub(super) keys_crc: u32,
    pub(super) touchstone: u32,
}

impl Header {
    pub(super) fn new(tar_len: u64, tar_modified: u64) -> Self {
        let (version, count, unlabelled, classes, keys_crc, touchstone) = (VERSION, 0, 0, 0, 0, 0);
        Self { version, tar_len, tar_modified, count, unlabelled, classes, keys_crc, touchstone }
    }

    /// Counts a record, with the classes that targets name: their largest + 1.
    pub(super) fn note(&mut self, record: &Record, classes: u32) {
        self.count += 1;
        self.unlabelled += u64::from(record.label.is_none());
        self.classes = self.classes.max(classes).max(record.label.map_or(0, |label| label + 1));
    }

    /// Where the record of a sample lies.
    pub(super) fn record_at(number: u64) -> u64 {
        HEADER as u64 + number * RECORD as u64
    }

    /// Says that target records follow.
    pub(super) fn add_targets(&mut self) {
        self.version = VERSION_WITH_TARGETS;
    }

    /// Where the target record of a sample lies, if there are any.
    pub(super) fn targets_at(&self, number: u64) -> Option<u64> {
        (self.version == VERSION_WITH_TARGETS).then(|| Self::record_at(self.count) + number * TARGETS as u64)
    }

    /// Bytes that a sample has in the index.
    fn bytes_a_record(version: u32) -> u32 {
        match version {
            VERSION_WITH_TARGETS => (RECORD + TARGETS) as u32,
            _ => RECORD as u32,
        }
    }

    /// Whether records have no checksums of their own.
    pub(super) fn is_old(&self) -> bool {
        self.version < VERSION
    }

    pub(super) fn to_bytes(self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[0..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&self.version.to_le_bytes());
        bytes[12..16].copy_from_slice(&Self::bytes_a_record(self.version).to_le_bytes());
        bytes[16..24].copy_from_slice(&self.tar_len.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.tar_modified.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.count.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.unlabelled.to_le_bytes());
        bytes[48..52].copy_from_slice(&self.classes.to_le_bytes());
        bytes[52..56].copy_from_slice(&self.keys_crc.to_le_bytes());
        bytes[56..60].copy_from_slice(&self.touchstone.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..60]);
        bytes[60..64].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads a header and holds it to the length of its own file, and of the tar.
    pub(super) fn parse(bytes: &[u8; HEADER], index_len: u64, tar_len: u64) -> Result<Self, IndexFault> {
        if bytes[0..8] != MAGIC {
            return Err(IndexFault::Magic);
        }
        let (version, record) = (u32_at(bytes, 8), u32_at(bytes, 12));
        if !(1..=VERSION_WITH_TARGETS).contains(&version) || record != Self::bytes_a_record(version) {
            return Err(IndexFault::Version { version, record });
        }
        if crc32fast::hash(&bytes[..60]) != u32_at(bytes, 60) {
            return Err(IndexFault::HeaderChecksum);
        }
        let header = Self {
            version,
            tar_len: u64_at(bytes, 16),
            tar_modified: u64_at(bytes, 24),
            count: u64_at(bytes, 32),
            unlabelled: u64_at(bytes, 40),
            classes: u32_at(bytes, 48),
            keys_crc: u32_at(bytes, 52),
            touchstone: u32_at(bytes, 56),
        };
        header.check(index_len, tar_len)?;
        Ok(header)
    }

    fn check(&self, index_len: u64, tar_len: u64) -> Result<(), IndexFault> {
        let record = u64::from(Self::bytes_a_record(self.version));
        let expected = (self.count.checked_mul(record)).and_then(|records| records.checked_add(HEADER as u64));
        if expected != Some(index_len) {
            return Err(IndexFault::Length { count: self.count, len: index_len });
        }
        if self.unlabelled > self.count {
            return Err(IndexFault::Unlabelled { unlabelled: self.unlabelled, count: self.count });
        }
        if self.tar_len != tar_len {
            return Err(IndexFault::TarLength { recorded: self.tar_len, found: tar_len });
        }
        Ok(())
    }
}

/// Modification time in nanoseconds since 1970; 0 before it, or where the file system keeps none.
pub(super) fn modified(metadata: &std::fs::Metadata) -> u64 {
    (metadata.modified().ok())
        .and_then(|time| time.duration_since(UNIX_EPOCH).ok())
        .map_or(0, |since| since.as_nanos() as u64)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut array = [0; 4];
    array.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(array)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut array = [0; 8];
    array.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(array)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: Header = Header {
        version: VERSION,
        tar_len: 4096,
        tar_modified: 77,
        count: 2,
        unlabelled: 1,
        classes: 5,
        keys_crc: 3,
        touchstone: 4,
    };
    const LEN: u64 = (HEADER + 2 * RECORD) as u64;

    fn parse(bytes: &[u8; HEADER]) -> Result<Header, IndexFault> {
        Header::parse(bytes, LEN, 4096)
    }

    /// Overwrites some bytes of a sound header and makes its checksum right again: a lie, not a damage.
    fn forge(at: usize, with: &[u8]) -> [u8; HEADER] {
        let mut bytes = SOUND.to_bytes();
        bytes[at..at + with.len()].copy_from_slice(with);
        let crc = crc32fast::hash(&bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    #[test]
    fn a_header_survives_its_bytes() {
        assert_eq!(parse(&SOUND.to_bytes()), Ok(SOUND));
        let old = Header { version: 1, ..SOUND };
        assert_eq!(parse(&old.to_bytes()), Ok(old));
    }

    #[test]
    fn each_lie_of_a_header_has_its_error() {
        assert_eq!(parse(&forge(0, b"PK")), Err(IndexFault::Magic));
        assert_eq!(parse(&forge(8, &9u32.to_le_bytes())), Err(IndexFault::Version { version: 9, record: 32 }));
        assert_eq!(parse(&forge(12, &16u32.to_le_bytes())), Err(IndexFault::Version { version: 2, record: 16 }));
        assert_eq!(
            parse(&forge(16, &4097u64.to_le_bytes())),
            Err(IndexFault::TarLength { recorded: 4097, found: 4096 })
        );
        for count in [0, 1, 3, u64::MAX, u64::MAX / 32] {
            assert_eq!(parse(&forge(32, &count.to_le_bytes())), Err(IndexFault::Length { count, len: LEN }));
        }
        assert_eq!(parse(&forge(40, &3u64.to_le_bytes())), Err(IndexFault::Unlabelled { unlabelled: 3, count: 2 }));
        let mut damaged = SOUND.to_bytes();
        damaged[50] ^= 1;
        assert_eq!(parse(&damaged), Err(IndexFault::HeaderChecksum));
    }

    #[test]
    fn each_lie_of_a_record_has_its_error() {
        let sound = Record { offset: 512, len: 100, crc: 1, label: Some(4), encoding: Encoding::Png };
        let parse = |record: Record| Record::parse(&record.to_bytes(1), 1, &SOUND);
        assert_eq!(parse(sound), Ok(sound));
        let unlabelled = Record { label: None, ..sound };
        assert_eq!(parse(unlabelled), Ok(unlabelled));
        for (offset, len) in [(512, 3585), (u64::MAX, 2), (4097, 0), (0, u64::MAX)] {
            let lie = Record { offset, len, ..sound };
            assert_eq!(parse(lie), Err(IndexFault::Range { sample: 1, offset, len, tar: 4096 }));
        }
        let lie = Record { label: Some(5), ..sound };
        assert_eq!(parse(lie), Err(IndexFault::Label { sample: 1, label: 5, classes: 5 }));
        let mut bytes = sound.to_bytes(1);
        bytes[24] = 200;
        let crc = record_crc(&bytes[..28], 1);
        bytes[28..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(Record::parse(&bytes, 1, &SOUND), Err(IndexFault::Encoding { sample: 1, code: 200 }));
    }

    #[test]
    fn no_bit_of_a_record_changes_unseen_nor_does_a_record_its_place() {
        let sound = Record { offset: 512, len: 100, crc: 1, label: Some(4), encoding: Encoding::Png }.to_bytes(1);
        for bit in 0..8 * RECORD {
            let mut bytes = sound;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Record::parse(&bytes, 1, &SOUND), Err(IndexFault::RecordChecksum { sample: 1 }), "bit {bit}");
        }
        assert_eq!(Record::parse(&sound, 0, &SOUND), Err(IndexFault::RecordChecksum { sample: 0 }));
    }

    #[test]
    fn targets_survive_their_bytes_and_each_lie_has_its_error() {
        let header = Header { version: VERSION_WITH_TARGETS, ..SOUND };
        let len = LEN + 2 * TARGETS as u64;
        assert_eq!(Header::parse(&header.to_bytes(), len, 4096), Ok(header));
        assert_eq!(Header::parse(&header.to_bytes(), LEN, 4096), Err(IndexFault::Length { count: 2, len: LEN }));
        assert_eq!((header.targets_at(1), SOUND.targets_at(1)), (Some(LEN + 64), None));
        let extent = Extent { offset: 512, len: 100, crc: 7 };
        let both = Targets { segmentation: Some(extent), annotation: Some((TargetKind::Boxes, extent)) };
        let classes = Targets { segmentation: None, annotation: Some((TargetKind::Classes, extent)) };
        for targets in [both, classes, Targets::default()] {
            let sound = targets.to_bytes(1);
            assert_eq!(Targets::parse(&sound, 1, &header), Ok(targets));
            for bit in 0..8 * TARGETS {
                let mut bytes = sound;
                bytes[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(Targets::parse(&bytes, 1, &header), Err(IndexFault::RecordChecksum { sample: 1 }));
            }
            assert_eq!(Targets::parse(&sound, 0, &header), Err(IndexFault::RecordChecksum { sample: 0 }));
        }
        let far = Targets { segmentation: Some(Extent { len: 3585, ..extent }), annotation: None };
        let range = IndexFault::Range { sample: 1, offset: 512, len: 3585, tar: 4096 };
        assert_eq!(Targets::parse(&far.to_bytes(1), 1, &header), Err(range));
        let mut bytes = both.to_bytes(1);
        bytes[44] = 9;
        let crc = record_crc(&bytes[..60], 1);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(Targets::parse(&bytes, 1, &header), Err(IndexFault::Target { sample: 1, code: 9 }));
    }
}
