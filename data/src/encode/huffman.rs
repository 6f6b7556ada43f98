//! Huffman codes of JPEG (ITU-T T.81, annexes C, F and K.2): read from a table, and made for given frequencies.

/// Longest code, in bits.
const LONGEST: usize = 16;
/// Codes up to this length are found by one look.
const QUICK: usize = 11;

/// A table as a file has it: how many codes of each length, and their symbols in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Table {
    counts: [u8; LONGEST],
    symbols: Vec<u8>,
}

impl Table {
    /// The table at the start of `bytes`, and what follows it; `None` where it is cut or no code.
    pub(super) fn parse(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (&counts, rest) = bytes.split_first_chunk()?;
        let count = counts.iter().copied().map(usize::from).sum();
        let (symbols, rest) = rest.split_at_checked(count)?;
        let table = Self { counts, symbols: symbols.to_vec() };
        // Each length has room for twice what the last left free, and the code of ones alone is none.
        let free = (table.counts.iter()).try_fold(1usize, |free, &count| (2 * free).checked_sub(count.into()))?;
        (count <= 256 && free > 0).then_some((table, rest))
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.counts);
        out.extend_from_slice(&self.symbols);
    }

    /// Bytes of it in a file.
    pub(super) fn len(&self) -> usize {
        LONGEST + self.symbols.len()
    }

    /// The shortest codes of at most 16 bits for symbols that come so often.
    pub(super) fn shortest(frequencies: &[u32; 256]) -> Self {
        let mut counts = lengths(frequencies);
        // A pair of codes that are too long: one goes up a level, the other takes half the place of a shorter code.
        for length in (LONGEST + 1..counts.len()).rev() {
            while counts[length] > 0 {
                let shorter = (1..length - 1).rev().find(|&at| counts[at] > 0).unwrap_or(1);
                counts[length] -= 2;
                counts[length - 1] += 1;
                counts[shorter + 1] += 2;
                counts[shorter] -= 1;
            }
        }
        // The code that no symbol has is one of the longest: then none is of ones alone.
        if let Some(longest) = counts.iter_mut().rev().find(|count| **count > 0) {
            *longest -= 1;
        }
        let mut symbols: Vec<u8> = (0..=255).filter(|&symbol| frequencies[usize::from(symbol)] > 0).collect();
        symbols.sort_by_key(|&symbol| std::cmp::Reverse(frequencies[usize::from(symbol)]));
        let mut table = Self { counts: [0; LONGEST], symbols };
        table.counts.iter_mut().zip(&counts[1..]).for_each(|(to, &count)| *to = count as u8);
        table
    }

    /// Each symbol with its code and the code's length, shortest first.
    fn codes(&self) -> impl Iterator<Item = (u8, u16, u8)> {
        let lengths = (1..).zip(self.counts).flat_map(|(length, count)| std::iter::repeat_n(length, count.into()));
        let (mut code, mut last) = (0u32, 0);
        self.symbols.iter().zip(lengths).map(move |(&symbol, length)| {
            code <<= length - last;
            last = length;
            code += 1;
            (symbol, (code - 1) as u16, length)
        })
    }

    /// Code and length by symbol; a length of 0 has no code.
    pub(super) fn by_symbol(&self) -> [(u16, u8); 256] {
        let mut codes = [(0, 0); 256];
        self.codes().for_each(|(symbol, code, length)| codes[usize::from(symbol)] = (code, length));
        codes
    }
}

/// How many codes have each length, by Huffman's algorithm, with one more symbol that hardly ever comes.
fn lengths(frequencies: &[u32; 256]) -> [usize; 258] {
    // Trees by weight: their leaves with the depths.
    let some = frequencies.iter().map(|&frequency| u64::from(frequency)).filter(|&frequency| frequency > 0);
    let mut trees: Vec<(u64, Vec<usize>)> = some.chain([1]).map(|frequency| (frequency, vec![0])).collect();
    if let [only] = trees.as_mut_slice() {
        only.1[0] = 1;
    }
    while trees.len() > 1 {
        trees.sort_by_key(|(weight, _)| std::cmp::Reverse(*weight));
        let (Some(least), Some(next)) = (trees.pop(), trees.pop()) else { break };
        let leaves = least.1.into_iter().chain(next.1).map(|depth| depth + 1).collect();
        trees.push((least.0 + next.0, leaves));
    }
    let mut counts = [0; 258];
    trees.iter().flat_map(|(_, leaves)| leaves).for_each(|&depth| counts[depth] += 1);
    counts
}

/// Finds symbols in bits.
pub(super) struct Codes {
    /// Symbol and length by the next bits.
    quick: Vec<(u8, u8)>,
    /// By length: one past the last code, and where its symbol is, relative to the code.
    ends: [(u32, i32); LONGEST + 1],
    symbols: Vec<u8>,
}

impl Codes {
    pub(super) fn of(table: &Table) -> Self {
        let mut quick = vec![(0, 0); 1 << QUICK];
        let mut ends = [(0, 0); LONGEST + 1];
        for (at, (symbol, code, length)) in table.codes().enumerate() {
            ends[usize::from(length)] = (u32::from(code) + 1, at as i32 - i32::from(code));
            if usize::from(length) <= QUICK {
                let shift = QUICK - usize::from(length);
                let first = usize::from(code) << shift;
                quick[first..first + (1 << shift)].fill((symbol, length));
            }
        }
        Self { quick, ends, symbols: table.symbols.clone() }
    }

    /// The next symbol.
    #[inline]
    pub(super) fn next(&self, bits: &mut Bits<'_>) -> Option<u8> {
        let ahead = bits.ahead();
        let (symbol, length) = self.quick[usize::from(ahead >> (LONGEST - QUICK))];
        if length > 0 {
            return bits.skip(length).map(|()| symbol);
        }
        for length in QUICK + 1..=LONGEST {
            let code = u32::from(ahead) >> (LONGEST - length);
            let (end, shift) = self.ends[length];
            if code < end {
                bits.skip(length as u8)?;
                return self.symbols.get(usize::try_from(code as i32 + shift).ok()?).copied();
            }
        }
        None
    }
}

/// Bits of compressed data up to a marker, which is an 0xFF that no zero follows.
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    /// Bits that were taken in, left-aligned, and how many.
    held: u64,
    count: u32,
}

impl<'a> Bits<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, held: 0, count: 0 }
    }

    fn fill(&mut self) {
        // Four bytes at once, where none of them has a zero after it.
        if let Some(four) = self.bytes.first_chunk::<4>()
            && !four.contains(&0xFF)
            && self.count <= 32
        {
            self.held |= u64::from(u32::from_be_bytes(*four)) << (32 - self.count);
            self.count += 32;
            self.bytes = &self.bytes[4..];
            return;
        }
        while self.count <= 56 {
            let Some((&byte, rest)) = self.bytes.split_first() else { return };
            self.bytes = match (byte, rest) {
                (0xFF, [0, rest @ ..]) => rest,
                (0xFF, _) => {
                    self.bytes = &[];
                    return;
                }
                _ => rest,
            };
            self.held |= u64::from(byte) << (56 - self.count);
            self.count += 8;
        }
    }

    /// The next 16, with zeros behind the last.
    fn ahead(&mut self) -> u16 {
        if self.count < 16 {
            self.fill();
        }
        (self.held >> 48) as u16
    }

    fn skip(&mut self, count: u8) -> Option<()> {
        self.count = self.count.checked_sub(count.into())?;
        self.held <<= count;
        Some(())
    }

    /// The next `count`, at most 16.
    pub(super) fn take(&mut self, count: u8) -> Option<u16> {
        let ahead = u32::from(self.ahead());
        self.skip(count)?;
        Some((ahead >> (16 - u32::from(count))) as u16)
    }

    /// Whether nothing follows but the ones that fill the last byte.
    pub(super) fn is_at_end(&mut self) -> bool {
        self.fill();
        self.count < 8 && self.bytes.is_empty()
    }
}

/// Writes bits as compressed data.
#[derive(Default)]
pub(super) struct Writer {
    held: u64,
    count: u32,
}

impl Writer {
    /// Appends the lowest `count` bits, at most 32.
    pub(super) fn put(&mut self, bits: u32, count: u8, out: &mut Vec<u8>) {
        self.held = (self.held << count) | (u64::from(bits) & ((1 << count) - 1));
        self.count += u32::from(count);
        if self.count >= 32 {
            self.count -= 32;
            let four = ((self.held >> self.count) as u32).to_be_bytes();
            match four.contains(&0xFF) {
                false => out.extend_from_slice(&four),
                true => four.iter().for_each(|&byte| push(byte, out)),
            }
        }
    }

    /// Fills the last byte with ones.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) {
        let left = (8 - self.count % 8) % 8;
        self.put(u32::MAX, left as u8, out);
        (0..self.count / 8).rev().for_each(|byte| push((self.held >> (8 * byte)) as u8, out));
        *self = Self::default();
    }
}

fn push(byte: u8, out: &mut Vec<u8>) {
    out.push(byte);
    if byte == 0xFF {
        out.push(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frequencies(symbols: &[u8]) -> [u32; 256] {
        let mut frequencies = [0; 256];
        symbols.iter().for_each(|&symbol| frequencies[usize::from(symbol)] += 1);
        frequencies
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(symbols in prop::collection::vec(any::<u8>(), 1..500), skew in 0u8..8) {
            let symbols: Vec<u8> = symbols.iter().map(|symbol| symbol >> skew).collect();
            let table = Table::shortest(&frequencies(&symbols));
            let (mut out, mut writer, codes) = (Vec::new(), Writer::default(), table.by_symbol());
            for &symbol in &symbols {
                let (code, length) = codes[usize::from(symbol)];
                prop_assert!(length > 0);
                writer.put(code.into(), length, &mut out);
            }
            writer.finish(&mut out);
            let mut stored = Vec::new();
            table.write(&mut stored);
            let (parsed, rest) = Table::parse(&stored).unwrap();
            prop_assert!(parsed == table && rest.is_empty() && table.len() == stored.len());
            let (mut bits, codes) = (Bits::new(&out), Codes::of(&parsed));
            for &symbol in &symbols {
                prop_assert_eq!(codes.next(&mut bits), Some(symbol));
            }
            prop_assert!(bits.is_at_end());
        }
    }

    #[test]
    fn codes_are_no_longer_than_sixteen_bits() {
        // Fibonacci's numbers make the deepest tree.
        let mut frequencies = [0; 256];
        let (mut this, mut next) = (1u32, 1);
        for frequency in &mut frequencies[..40] {
            *frequency = this;
            (this, next) = (next, this + next);
        }
        let table = Table::shortest(&frequencies);
        let lengths: Vec<u8> = table.codes().map(|(_, _, length)| length).collect();
        assert!(lengths.len() == 40 && *lengths.last().unwrap() == 16, "{lengths:?}");
        assert!(table.codes().all(|(_, code, length)| u32::from(code) + 1 < 1 << length), "a code is of ones alone");
    }

    #[test]
    fn what_is_no_code_is_refused() {
        let mut all = [0; 16];
        all[0] = 2;
        assert_eq!(Table::parse(&[&all[..], &[1, 2]].concat()), None);
        all[0] = 3;
        assert_eq!(Table::parse(&[&all[..], &[1, 2, 3]].concat()), None);
        all[0] = 1;
        assert_eq!(Table::parse(&all), None);
    }
}
