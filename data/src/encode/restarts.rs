//! Restart markers put into JPEGs, without loss: loaders decode only what lies under a crop.
//!
//! Coefficients stay as they are. What is written anew is their code: a DC coefficient is stored as the difference from the one
//! before, and after a marker from zero. Codes are made for the symbols that then come, so that pictures of most cameras and
//! programs, which have the codes of the standard's examples, become smaller all the same.

use super::huffman::{Bits, Codes, Table, Writer};
use crate::decode::Format;
use crate::decode::jpeg::layout::{Component, END, HUFFMAN_TABLES, Layout, RESTART_INTERVAL, SCAN};

/// Units that an interval has where it can be chosen. Fewer cost more bytes and fit crops more closely; 8 of 16 pixels add
/// 0.4 %.
const INTERVAL: usize = 8;
/// Intervals that have between half and twice as many units are taken before a whole row.
const NEAR: std::ops::RangeInclusive<usize> = INTERVAL / 2..=2 * INTERVAL;
/// Pictures of fewer units are decoded whole.
const FEWEST: usize = 64;
/// Largest category of a DC difference, and of an AC coefficient, at 8 bits.
const MOST_DC: u8 = 11;
const MOST_AC: u8 = 10;
/// What a DC coefficient cannot reach: it would not fit the next difference either.
const LARGEST_DC: u32 = 1 << 12;

/// The restart interval for a picture of so many rows and columns of units: one that divides the row, so that intervals under a
/// window can be joined; `None` where a picture is too small for parts.
fn interval(rows: usize, columns: usize) -> Option<u16> {
    if rows.saturating_mul(columns) < FEWEST {
        return None;
    }
    let divisors = NEAR.filter(|&interval| columns.is_multiple_of(interval));
    let nearest = divisors.min_by_key(|interval| interval.abs_diff(INTERVAL));
    u16::try_from(nearest.unwrap_or(columns)).ok()
}

/// Writes the JPEG `bytes` with restart markers to `out`, after clearing it; what follows the picture's end is left out. False
/// where that is not done: it has markers already, several scans, is small, or not quite as the standard has it.
pub fn with_restarts(bytes: &[u8], out: &mut Vec<u8>) -> bool {
    transcode(bytes, out).is_some()
}

/// A coded symbol, and the bits that follow it.
struct Token {
    /// Which table: 0 to 3 for DC, 4 to 7 for AC.
    table: u8,
    symbol: u8,
    bits: u16,
}

fn transcode(bytes: &[u8], out: &mut Vec<u8>) -> Option<()> {
    Format::sniff(bytes).filter(|&format| format == Format::Jpeg)?;
    let layout = Layout::read(bytes).ok()?;
    let (rows, columns) = layout.units();
    let interval = interval(rows, columns)?;
    let old = layout.restart_interval;
    if !layout.is_one_scan() || (old > 0 && columns.is_multiple_of(old)) {
        return None;
    }
    out.clear();
    out.extend_from_slice(&[0xFF, 0xD8]);
    let mut tables: [Option<Table>; 8] = Default::default();
    let (mut header, mut at) = (Layout::default(), 2);
    let scan = loop {
        let from = at;
        match header.segment(bytes, &mut at).ok()? {
            SCAN => break from..at,
            HUFFMAN_TABLES => read_tables(&bytes[header.body.clone()], &mut tables)?,
            RESTART_INTERVAL => {}
            _ => out.extend_from_slice(&bytes[from..at]),
        }
    };
    let parts = scan_parts(&bytes[header.body.clone()], &layout.components)?;
    let tokens = Reading { layout: &layout, bytes, parts: &parts, tables: &tables }.run(interval.into())?;

    let mut frequencies = [[0u32; 256]; 8];
    tokens.iter().flatten().for_each(|token| frequencies[usize::from(token.table)][usize::from(token.symbol)] += 1);
    let used = |table: usize| parts.iter().any(|part| part.dc == table || part.ac == table);
    let mut codes = [[(0, 0); 256]; 8];
    for (number, codes) in codes.iter_mut().enumerate().filter(|(number, _)| used(*number)) {
        let table = Table::shortest(&frequencies[number]);
        *codes = table.by_symbol();
        out.extend_from_slice(&[0xFF, HUFFMAN_TABLES]);
        out.extend_from_slice(&(3 + table.len() as u16).to_be_bytes());
        out.push(((number as u8 / 4) << 4) | (number as u8 % 4));
        table.write(out);
    }
    out.extend_from_slice(&[0xFF, RESTART_INTERVAL, 0, 4]);
    out.extend_from_slice(&interval.to_be_bytes());
    out.extend_from_slice(&bytes[scan]);
    let mut writer = Writer::default();
    for (number, interval) in tokens.iter().enumerate() {
        if number > 0 {
            out.extend_from_slice(&[0xFF, 0xD0 + (number - 1) as u8 % 8]);
        }
        for &Token { table, symbol, bits } in interval {
            let (code, length) = codes[usize::from(table)][usize::from(symbol)];
            let (following, count) = (u32::from(bits), symbol & 15);
            writer.put((u32::from(code) << count) | (following & ((1 << count) - 1)), length + count, out);
        }
        writer.finish(out);
    }
    out.extend_from_slice(&[0xFF, END]);
    Some(())
}

/// A component of the scan: blocks of it in a unit, and its tables.
struct Part {
    blocks: usize,
    dc: usize,
    ac: usize,
}

fn scan_parts(header: &[u8], components: &[Component]) -> Option<Vec<Part>> {
    let (&count, rest) = header.split_first()?;
    let alone = components.len() == 1;
    if usize::from(count) != components.len() || rest.get(2 * components.len()..)? != [0, 63, 0] {
        return None;
    }
    (components.iter().zip(rest.chunks(2)))
        .map(|(component, chosen)| {
            let (dc, ac) = (usize::from(chosen[1] >> 4), usize::from(chosen[1] & 15));
            let blocks = usize::from(component.horizontal) * usize::from(component.vertical);
            (dc < 4 && ac < 4).then_some(Part { blocks: if alone { 1 } else { blocks }, dc, ac: 4 + ac })
        })
        .collect()
}

fn read_tables(mut body: &[u8], tables: &mut [Option<Table>; 8]) -> Option<()> {
    while let Some((&name, rest)) = body.split_first() {
        let (table, rest) = Table::parse(rest)?;
        let number = usize::from(name & 15);
        *tables.get_mut(usize::from(name >> 4) * 4 + number).filter(|_| number < 4)? = Some(table);
        body = rest;
    }
    Some(())
}

/// The compressed data, read to their last symbol.
struct Reading<'a> {
    layout: &'a Layout,
    bytes: &'a [u8],
    parts: &'a [Part],
    tables: &'a [Option<Table>; 8],
}

impl Reading<'_> {
    /// The tokens of each new interval.
    fn run(&self, interval: usize) -> Option<Vec<Vec<Token>>> {
        let codes = self.tables.each_ref().map(|table| table.as_ref().map(Codes::of));
        let (rows, columns) = self.layout.units();
        let units = rows * columns;
        let old = if self.layout.restart_interval > 0 { self.layout.restart_interval } else { units };
        if self.layout.restarts.len() + 1 != units.div_ceil(old) {
            return None;
        }
        let mut tokens = Vec::with_capacity(units.div_ceil(interval));
        let (mut before, mut written) = ([0i32; 4], [0i32; 4]);
        let mut bits = Bits::new(&[]);
        for unit in 0..units {
            if unit.is_multiple_of(old) {
                if unit > 0 && !bits.is_at_end() {
                    return None;
                }
                bits = Bits::new(self.piece(unit / old));
                before = [0; 4];
            }
            if unit.is_multiple_of(interval) {
                tokens.push(Vec::new());
                written = [0; 4];
            }
            let tokens = tokens.last_mut()?;
            for (at, part) in self.parts.iter().enumerate() {
                let (dc, ac) = (codes[part.dc].as_ref()?, codes[part.ac].as_ref()?);
                for _ in 0..part.blocks {
                    before[at] += difference(dc, &mut bits)?;
                    if before[at].unsigned_abs() > LARGEST_DC {
                        return None;
                    }
                    tokens.push(dc_token(part.dc as u8, before[at] - written[at])?);
                    written[at] = before[at];
                    copy_ac(ac, part.ac as u8, &mut bits, tokens)?;
                }
            }
        }
        bits.is_at_end().then_some(tokens)
    }

    /// The compressed data between two of the picture's own restarts.
    fn piece(&self, number: usize) -> &[u8] {
        let Layout { data, restarts, .. } = self.layout;
        let start = number.checked_sub(1).map_or(data.start, |before| restarts[before] + 2);
        let end = restarts.get(number).copied().unwrap_or(data.end);
        &self.bytes[start..end]
    }
}

/// The next DC difference.
fn difference(codes: &Codes, bits: &mut Bits<'_>) -> Option<i32> {
    let category = codes.next(bits).filter(|&category| category <= MOST_DC)?;
    let value = i32::from(bits.take(category)?);
    // Values whose first bit is zero are negative.
    let negative = category > 0 && value < 1 << (category - 1);
    Some(if negative { value - (1 << category) + 1 } else { value })
}

fn dc_token(table: u8, difference: i32) -> Option<Token> {
    let category = (32 - difference.unsigned_abs().leading_zeros()) as u8;
    let bits = if difference < 0 { difference - 1 } else { difference } as u16;
    (category <= MOST_DC).then_some(Token { table, symbol: category, bits })
}

/// Takes the 63 other coefficients of a block as they are.
fn copy_ac(codes: &Codes, table: u8, bits: &mut Bits<'_>, tokens: &mut Vec<Token>) -> Option<()> {
    let mut at = 1;
    while at < 64 {
        let symbol = codes.next(bits)?;
        let (run, category) = (symbol >> 4, symbol & 15);
        at += match (run, category) {
            // No more in this block; sixteen zeros.
            (0, 0) => 64,
            (15, 0) => 16,
            (1..15, 0) => return None,
            _ if category > MOST_AC => return None,
            _ => usize::from(run) + 1,
        };
        if symbol != 0 && at > 64 {
            return None;
        }
        tokens.push(Token { table, symbol, bits: bits.take(category)? });
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_divides_the_row() {
        // 500 x 375, 256 x 256 and 683 x 256 pixels in units of 16; a prime; a thumbnail.
        assert_eq!(interval(24, 32), Some(8));
        assert_eq!(interval(16, 16), Some(8));
        assert_eq!(interval(16, 43), Some(43));
        assert_eq!(interval(23, 25), Some(5));
        assert_eq!(interval(21, 21), Some(7));
        assert_eq!(interval(4, 4), None);
    }
}
