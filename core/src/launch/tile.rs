//! How threads are laid over rows and columns: the arithmetic of every launch, as plain functions of shapes.

use super::{element::Element, kernel::Module};

/// Threads that a block has at work, at most.
pub const THREADS: usize = 256;

/// Blocks that are enough to fill any device of today; a grid that ends in partial sums has no more.
const ENOUGH: usize = 1024;

/// Blocks of a grid that ends with all of them nearly at once: four times what an H200 runs together at half of its
/// threads, so that the last ones are few.
const MANY: usize = 2048;

/// Values of partial sums that a reduction may leave, unless one block alone leaves more: 16 MB.
const PARTIAL: usize = 1 << 22;

/// Values that one instruction moves: a power of two, 16 bytes at most, that divides `columns`.
pub fn vector(columns: usize, element: Element) -> usize {
    let most = 16 / element.bytes();
    (0..).map(|shift| most >> shift).find(|vector| columns.is_multiple_of(*vector)).unwrap_or(1)
}

/// A block that is `lanes` threads wide over columns and `groups` deep over rows; `chunks` blocks cover a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Columns {
    /// Values that a thread moves at once.
    pub vector: usize,
    /// Threads over columns.
    pub lanes: usize,
    /// Threads over rows.
    pub groups: usize,
    /// Blocks that cover all columns.
    pub chunks: usize,
}

impl Columns {
    /// For rows of `columns` values, of `element` in memory.
    pub fn new(columns: usize, element: Element) -> Self {
        Self::within(columns, vector(columns, element), THREADS, THREADS)
    }

    /// For rows of `columns` values, of `element` in memory, with 64 threads over columns at most: more of them share a
    /// column, and their sums are added up inside of the block.
    pub fn narrow(columns: usize, element: Element) -> Self {
        Self::within(columns, vector(columns, element), 64, THREADS)
    }

    /// For vectors of this many values, which divide `columns`, and blocks of so many threads at most.
    pub fn of_threads(columns: usize, vector: usize, threads: usize) -> Self {
        Self::within(columns, vector, threads, threads)
    }

    fn within(columns: usize, vector: usize, lanes: usize, threads: usize) -> Self {
        let vectors = (columns / vector).max(1);
        let chunks = vectors.div_ceil(lanes);
        let lanes = vectors.div_ceil(chunks);
        Self { vector, lanes, groups: (threads / lanes).max(1), chunks }
    }

    /// Threads of a block: whole warps.
    pub fn threads(self) -> usize {
        (self.lanes * self.groups).next_multiple_of(32)
    }

    /// Adds the constants that kernels call by these names.
    pub fn define(self, module: Module) -> Module {
        module
            .with("VECTOR", self.vector)
            .with("LANES", self.lanes)
            .with("GROUPS", self.groups)
            .with("THREADS", self.threads())
    }

    /// Blocks over `rows` for a kernel that leaves `kinds` partial sums of `columns` values each.
    pub fn reducing_blocks(self, rows: usize, columns: usize, kinds: usize) -> usize {
        reducing_blocks(rows.div_ceil(self.groups * 4), self.chunks, columns * kinds)
    }

    /// Blocks over `rows` for a kernel that leaves none.
    pub fn blocks(self, rows: usize) -> usize {
        rows.div_ceil(self.groups * 4).min(1 << 20)
    }
}

/// Of `wanted` blocks, as many as fill a device if each is one of `others`, and whose partial sums of `values` values
/// are not too many; at least one.
pub fn reducing_blocks(wanted: usize, others: usize, values: usize) -> usize {
    wanted.min(ENOUGH.div_ceil(others.max(1))).min(PARTIAL / values.max(1)).max(1)
}

/// A sample's rows cut into segments: `(rows of a segment, segments)`.
///
/// As many as fill a device with `others` blocks beside each, of four rounds of `groups` rows or more.
pub fn segments(rows: usize, groups: usize, others: usize) -> (usize, usize) {
    let wanted = MANY.div_ceil(others.max(1)).min(rows.div_ceil(groups * 4)).max(1);
    let segment = rows.div_ceil(wanted).max(1);
    (segment, rows.div_ceil(segment).max(1))
}

/// Blocks of [`THREADS`] for one thread a value; each walks on by the whole grid.
pub fn flat_blocks(values: usize) -> usize {
    values.div_ceil(THREADS).min(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Channels and hidden features of all built-in variants, and odd ones.
    const WIDTHS: [usize; 21] =
        [1, 2, 3, 5, 6, 7, 10, 31, 40, 48, 64, 100, 257, 352, 1000, 1021, 1408, 2816, 4095, 5632, 11264];

    #[test]
    fn vectors_divide_and_fit_sixteen_bytes() {
        for columns in WIDTHS {
            for element in [Element::F32, Element::Bf16] {
                let vector = vector(columns, element);
                assert!(columns.is_multiple_of(vector) && vector * element.bytes() <= 16 && vector.is_power_of_two());
            }
        }
        assert_eq!((vector(40, Element::Bf16), vector(40, Element::F32), vector(7, Element::Bf16)), (8, 4, 1));
    }

    #[test]
    fn blocks_cover_every_column_within_the_limits() {
        for columns in WIDTHS {
            for element in [Element::F32, Element::Bf16] {
                for tile in [Columns::new(columns, element), Columns::narrow(columns, element)] {
                    assert!(tile.lanes * tile.vector * tile.chunks >= columns, "{columns}: {tile:?}");
                    assert!(
                        tile.lanes * tile.vector * (tile.chunks - 1) < columns,
                        "{columns}: an idle chunk: {tile:?}"
                    );
                    assert!(tile.groups >= 1 && tile.threads() <= THREADS, "{columns}: {tile:?}");
                    // Room for one value of every thread: GROUPS x LANES x VECTOR floats, of 48 KB.
                    assert!(tile.groups * tile.lanes * tile.vector * 4 <= 48 << 10);
                }
            }
        }
        let huge = Columns::new(11264, Element::Bf16);
        assert_eq!((huge.vector, huge.lanes, huge.groups, huge.chunks), (8, 235, 1, 6));
        let huge = Columns::narrow(11264, Element::Bf16);
        assert_eq!((huge.vector, huge.lanes, huge.groups, huge.chunks), (8, 64, 4, 22));
    }

    #[test]
    fn segments_cover_a_sample() {
        for rows in [1, 2, 19, 49, 304, 3136, 1 << 20] {
            for groups in [1, 6, 51, 256] {
                for others in [1, 6, 4096, 1 << 20] {
                    let (segment, segments) = segments(rows, groups, others);
                    assert!(segment * segments >= rows && segment * (segments - 1) < rows, "{rows} {groups} {others}");
                    assert!(segments <= MANY);
                }
            }
        }
        assert_eq!(segments(3136, 12, 4096), (3136, 1));
        assert_eq!(segments(1, 1, 1), (1, 1));
    }

    #[test]
    fn partial_sums_stay_small() {
        assert_eq!(reducing_blocks(1 << 24, 1, 100), 1024);
        assert_eq!(reducing_blocks(1 << 24, 6, 49 * 2816), 30);
        assert_eq!(reducing_blocks(1 << 24, 1, 1 << 40), 1);
        assert_eq!(reducing_blocks(0, 1, 0), 1);
    }
}
