//! Where the parts of a JPEG lie: its markers, followed forwards from the first one, as the standard (ITU-T T.81, annex
//! B) has them.
//!
//! Forwards, because what comes after the picture's own end may be anything: the film of a phone's moving picture, a
//! second picture, a thumbnail that is cut. And first, because all that decides whether and by which decoder a picture
//! is decoded stands here, before anything of its size is allocated.

use std::ops::Range;

use memchr::memchr;

use crate::decode::{DecodeError, Format};

pub(crate) const HUFFMAN_TABLES: u8 = 0xC4;
pub(crate) const END: u8 = 0xD9;
pub(crate) const SCAN: u8 = 0xDA;
pub(crate) const RESTART_INTERVAL: u8 = 0xDD;
const TWO_FRAMES: &str = "another picture begins before its end";
/// More scans than any encoder makes. Each costs a pass over the picture, and may be a few bytes.
const MOST_SCANS: usize = 1000;
/// libjpeg guesses coefficients up to this one where the scans have not brought them.
const GUESSED: usize = 9;

/// A colour component of the frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Component {
    id: u8,
    /// Samples of it in each direction, beside those of the other components: 1 to 4.
    pub(crate) horizontal: u8,
    pub(crate) vertical: u8,
    /// What of each coefficient the scans have brought: nothing, or all but so many low bits.
    brought: [Option<u8>; 64],
}

/// What three or four components mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Colour {
    Grey,
    YCbCr,
    Rgb,
    Cmyk,
    Ycck,
}

/// The picture's own markers, up to its end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Layout {
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) components: Vec<Component>,
    pub(super) progressive: bool,
    /// Scans, and whether the first one has all components in their order.
    scans: usize,
    pub(super) interleaved: bool,
    /// One past the picture's end.
    end: usize,
    /// Where the height and after it the width stand in the frame, and where segments lie that give the height after the
    /// first scan (DNL).
    pub(super) height_at: usize,
    heights: Vec<usize>,
    /// The last segment, without its marker and length.
    pub(crate) body: Range<usize>,
    /// Smallest coded units between two restarts; 0 where there are none.
    pub(crate) restart_interval: usize,
    /// The compressed data, and the restart markers in them.
    pub(crate) data: Range<usize>,
    pub(crate) restarts: Vec<usize>,
    jfif: bool,
    adobe: Option<u8>,
    /// Bytes of compressed data.
    compressed: usize,
}

impl Layout {
    /// Reads as far as the picture's end.
    ///
    /// # Errors
    /// There is no end, or what leads to it is no JPEG that can be decoded.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut layout = Self::default();
        let mut at = 2;
        loop {
            match layout.segment(bytes, &mut at)? {
                SCAN => {
                    let from = at;
                    at = layout.skip_data(bytes, at)?;
                    layout.data = from..at;
                }
                END => break,
                _ => {}
            }
        }
        layout.end = at;
        layout.check_complete(bytes)?;
        Ok(layout)
    }

    /// Reads no further than the size and the components.
    ///
    /// # Errors
    /// As [`Layout::read`].
    pub(super) fn header(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut layout = Self::default();
        let mut at = 2;
        while layout.components.is_empty() {
            if layout.segment(bytes, &mut at)? == END {
                return Err(damaged("it ends before it says its size"));
            }
        }
        // The height comes later.
        if layout.height == 0 { Self::read(bytes) } else { Ok(layout) }
    }

    /// Whether all of it is one scan of Huffman codes, each block whole: what can be cut into parts.
    pub(crate) fn is_one_scan(&self) -> bool {
        self.scans == 1 && self.interleaved && !self.progressive && self.heights.is_empty()
    }

    /// Rows and columns of the picture that a smallest coded unit covers. Of one component, a unit is one block.
    pub(crate) fn unit(&self) -> (usize, usize) {
        match self.components.as_slice() {
            [_] => (8, 8),
            _ => (8 * usize::from(self.most(|c| c.vertical)), 8 * usize::from(self.most(|c| c.horizontal))),
        }
    }

    /// How many units there are, from top to bottom and from left to right.
    pub(crate) fn units(&self) -> (usize, usize) {
        let (rows, columns) = self.unit();
        (self.height.div_ceil(rows), self.width.div_ceil(columns))
    }

    /// As libjpeg decides it: a JFIF is YCbCr, then Adobe's word counts, then the names of the components.
    pub(crate) fn colour(&self) -> Colour {
        let names: Vec<u8> = self.components.iter().map(|component| component.id).collect();
        match (names.len(), self.jfif, self.adobe) {
            (1, ..) => Colour::Grey,
            (3, false, Some(0)) => Colour::Rgb,
            (3, false, None) if names == *b"RGB" => Colour::Rgb,
            (3, ..) => Colour::YCbCr,
            (_, _, None | Some(0)) => Colour::Cmyk,
            _ => Colour::Ycck,
        }
    }

    /// Values of all components, as many as are stored.
    pub(super) fn samples(&self) -> usize {
        self.components.iter().map(|component| self.blocks(component) * 64).sum()
    }

    /// The picture without what follows it, and without segments that decoders stumble over.
    pub(super) fn plain<'a>(&self, bytes: &'a [u8], copy: &'a mut Vec<u8>) -> &'a [u8] {
        if self.heights.is_empty() {
            return &bytes[..self.end];
        }
        copy.clear();
        let mut from = 0;
        for &at in &self.heights {
            copy.extend_from_slice(&bytes[from..at]);
            from = at + 6;
        }
        copy.extend_from_slice(&bytes[from..self.end]);
        copy[self.height_at..self.height_at + 2].copy_from_slice(&(self.height as u16).to_be_bytes());
        copy
    }

    /// Takes in the next marker and what belongs to it. `at` moves behind it.
    pub(crate) fn segment(&mut self, bytes: &[u8], at: &mut usize) -> Result<u8, DecodeError> {
        let cut = || DecodeError::Truncated { format: Format::Jpeg, len: bytes.len() };
        let rest = bytes.get(*at..).ok_or_else(cut)?;
        // Any number of 0xFF may come before a marker, and libjpeg passes over anything else.
        let fill = memchr(0xFF, rest).ok_or_else(cut)?;
        let code = fill + rest[fill..].iter().position(|&byte| byte != 0xFF).ok_or_else(cut)?;
        let (marker, start) = (rest[code], *at + code + 1);
        if matches!(marker, 0x00 | 0x01 | 0xD0..=0xD7 | END) {
            *at = start;
            return Ok(marker);
        }
        if matches!(marker, 0x02..=0xBF | 0xD8 | 0xDE | 0xDF | 0xF0..=0xFD) {
            return Err(damaged(format!("marker {marker:#04x} stands where none of its kind can")));
        }
        let [high, low] = *bytes.get(start..).and_then(<[u8]>::first_chunk).ok_or_else(cut)?;
        let end = start + usize::from(u16::from_be_bytes([high, low]));
        let body = bytes.get(start + 2..end.max(start + 2)).ok_or_else(cut)?;
        *at = end.max(start + 2);
        self.body = start + 2..*at;
        match marker {
            0xC0..=0xC2 => self.frame(body, marker == 0xC2, start + 3)?,
            HUFFMAN_TABLES => {}
            0xC3..=0xCF if self.components.is_empty() => return Err(unsupported(marker)),
            0xC3..=0xCF => return Err(damaged(TWO_FRAMES)),
            0xDC => self.number_of_lines(body, start - 2),
            RESTART_INTERVAL => match body {
                &[high, low, ..] => self.restart_interval = usize::from(u16::from_be_bytes([high, low])),
                _ => return Err(damaged("its restart interval is cut")),
            },
            0xE0 => self.jfif |= body.starts_with(b"JFIF\0") && body.len() >= 12,
            0xEE if body.starts_with(b"Adobe") && body.len() >= 12 => self.adobe = Some(body[11]),
            SCAN => self.scan(body)?,
            _ => {}
        }
        Ok(marker)
    }

    fn frame(&mut self, body: &[u8], progressive: bool, height_at: usize) -> Result<(), DecodeError> {
        if !self.components.is_empty() {
            return Err(damaged(TWO_FRAMES));
        }
        let [depth, h0, h1, w0, w1, count, parts @ ..] = body else {
            return Err(damaged("its frame is too short"));
        };
        if *depth != 8 {
            return Err(DecodeError::JpegKind { kind: format!("{depth} bits a value") });
        }
        if !matches!(count, 1 | 3 | 4) {
            return Err(DecodeError::JpegKind { kind: format!("{count} colour components") });
        }
        let (parts, _) = parts.as_chunks::<3>();
        let parts = parts.get(..usize::from(*count)).ok_or_else(|| damaged("its frame is too short"))?;
        self.height = usize::from(u16::from_be_bytes([*h0, *h1]));
        self.width = usize::from(u16::from_be_bytes([*w0, *w1]));
        (self.progressive, self.height_at) = (progressive, height_at);
        for &[id, sampling, _] in parts {
            let (horizontal, vertical) = (sampling >> 4, sampling & 15);
            if !(1..=4).contains(&horizontal) || !(1..=4).contains(&vertical) {
                return Err(damaged(format!("a component has sampling factors {horizontal}x{vertical}")));
            }
            self.components.push(Component { id, horizontal, vertical, brought: [None; 64] });
        }
        Ok(())
    }

    fn number_of_lines(&mut self, body: &[u8], at: usize) {
        if let &[high, low] = body {
            self.heights.push(at);
            if self.height == 0 {
                self.height = usize::from(u16::from_be_bytes([high, low]));
            }
        }
    }

    fn scan(&mut self, body: &[u8]) -> Result<(), DecodeError> {
        let short = || damaged("the header of a scan is too short, or comes before the frame");
        let (&count, rest) = body.split_first().ok_or_else(short)?;
        let count = usize::from(count);
        let (parts, tail) = rest.split_at_checked(2 * count).ok_or_else(short)?;
        let &[first, last, bits] = tail.first_chunk().ok_or_else(short)?;
        let names: Vec<u8> = parts.chunks(2).map(|part| part[0]).collect();
        let left = bits & 15;
        let range = if self.progressive { usize::from(first)..=usize::from(last) } else { 0..=63 };
        if *range.end() > 63 || range.is_empty() || self.components.is_empty() {
            return Err(short());
        }
        for &name in &names {
            let component = self.components.iter_mut().find(|component| component.id == name);
            let component =
                component.ok_or_else(|| damaged(format!("a scan of component {name}, which is not there")))?;
            component.brought[range.clone()].fill(Some(if self.progressive { left } else { 0 }));
        }
        if self.scans == 0 {
            self.interleaved = self.components.iter().map(|component| component.id).eq(names);
        }
        self.scans += 1;
        if self.scans > MOST_SCANS {
            return Err(damaged(format!("it has more than {MOST_SCANS} scans")));
        }
        Ok(())
    }

    /// The marker after the compressed data that begin at `at`.
    fn skip_data(&mut self, bytes: &[u8], at: usize) -> Result<usize, DecodeError> {
        let cut = || DecodeError::Truncated { format: Format::Jpeg, len: bytes.len() };
        let mut here = at;
        loop {
            here += memchr(0xFF, bytes.get(here..).unwrap_or(&[])).ok_or_else(cut)?;
            match bytes.get(here + 1).ok_or_else(cut)? {
                0xC0..=0xCF | END..=0xDD | 0xE0..=0xEF | 0xFE => break,
                // Another picture begins where this one has not ended.
                0xD8 => return Err(cut()),
                0xFF => here += 1,
                0xD0..=0xD7 => {
                    self.restarts.push(here);
                    here += 2;
                }
                // A byte of 0xFF, or damage that decoders step over.
                _ => here += 2,
            }
        }
        self.compressed += here - at;
        Ok(here)
    }

    /// Holds what there is against what the frame says.
    fn check_complete(&self, bytes: &[u8]) -> Result<(), DecodeError> {
        if self.components.is_empty() {
            return Err(damaged("it ends before it says its size"));
        }
        // The first coefficient of a block takes a bit at the least.
        let blocks: usize = self.components.iter().map(|component| self.blocks(component)).sum();
        if self.compressed.saturating_mul(8) < blocks {
            return Err(DecodeError::Truncated { format: Format::Jpeg, len: bytes.len() });
        }
        let known = |bits: &Option<u8>| bits.is_some_and(|left| left <= 1);
        if self.components.iter().all(|component| component.brought[..=GUESSED].iter().all(known)) {
            return Ok(());
        }
        Err(damaged("scans are missing: it would be no more than a sketch of the picture"))
    }

    /// Blocks of 8x8 values that a component has.
    fn blocks(&self, component: &Component) -> usize {
        let most = |factor: fn(&Component) -> u8| usize::from(self.most(factor));
        let rows = (self.height * usize::from(component.vertical)).div_ceil(8 * most(|c| c.vertical));
        let columns = (self.width * usize::from(component.horizontal)).div_ceil(8 * most(|c| c.horizontal));
        rows * columns
    }

    fn most(&self, factor: fn(&Component) -> u8) -> u8 {
        self.components.iter().map(factor).max().unwrap_or(1)
    }
}

fn damaged(why: impl Into<String>) -> DecodeError {
    DecodeError::Jpeg { why: why.into() }
}

fn unsupported(marker: u8) -> DecodeError {
    let kind = match marker {
        0xC3 => "lossless compression",
        0xC9..=0xCC => "arithmetic coding",
        _ => "hierarchical coding, or lossless compression",
    };
    DecodeError::JpegKind { kind: kind.to_owned() }
}
