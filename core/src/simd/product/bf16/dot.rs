//! `VDPBF16PS`: to each of 16 sums, the product of a pair of bf16 with another pair. Eight rows by two vectors of sums are
//! held at once.

use std::arch::x86_64::*;

use super::{BLOCK, SIDE, Sums, TILE};

/// Rows of sums that are held at once; half a tile's.
const ROWS: usize = SIDE / 2;

/// A tile's lines of 16 pairs.
type Tile = [f32; TILE];

/// Whether the instruction multiplies faster than f32 does. AMD's CPUs start one a cycle for each unit that starts an
/// f32 one, for twice the products; a 4th-generation Xeon reaches half of the rate of f32 (measured).
pub(super) fn fast() -> bool {
    let vendor = __cpuid(0);
    [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes).as_flattened() == b"AuthenticAMD"
}

/// The sums of one block: two rows of tiles from the left, two columns of tiles from the right. Of its rows, depth and
/// columns only those are multiplied that the matrices have.
#[target_feature(enable = "avx512f,avx512bf16")]
pub(super) fn multiply_block(left: &[f32], right: &[f32], [height, depth, width]: [usize; 3], sums: &mut Sums) {
    let (left, right) = (left.as_chunks::<TILE>().0, right.as_chunks::<TILE>().0);
    let pairs = depth.div_ceil(2);
    let steps = pairs.div_ceil(SIDE);
    let columns = [&right[..steps], &right[steps..2 * steps]];
    for (index, sums) in sums.0.as_chunks_mut::<ROWS>().0[..height.div_ceil(ROWS)].iter_mut().enumerate() {
        let left = &left[index / 2 * steps..][..steps];
        let row = index % 2 * ROWS;
        if width > SIDE {
            multiply_rows(left, row, columns, pairs, sums);
        } else {
            multiply_rows(left, row, [columns[0]], pairs, sums);
        }
    }
}

/// Eight rows from `row` on of a row of tiles, times `V` columns of tiles.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn multiply_rows<const V: usize>(
    left: &[Tile],
    row: usize,
    right: [&[Tile]; V],
    pairs: usize,
    out: &mut [[f32; BLOCK]; ROWS],
) {
    // No closures in here: one that is not inlined is called for every pair.
    let mut sums = [[_mm512_setzero_ps(); V]; ROWS];
    for (step, left) in left.iter().enumerate() {
        let left: &[[f32; SIDE]; ROWS] = left.as_chunks::<SIDE>().0[row..].first_chunk().expect("half a tile");
        let mut lines: [&[[f32; SIDE]]; V] = [&[]; V];
        for v in 0..V {
            lines[v] = right[v][step].as_chunks::<SIDE>().0;
        }
        for pair in 0..(pairs - step * SIDE).min(SIDE) {
            let mut values = [of_bf16(_mm512_setzero_ps()); V];
            for v in 0..V {
                values[v] = of_bf16(load(&lines[v][pair]));
            }
            for r in 0..ROWS {
                let left = of_bf16(_mm512_set1_ps(left[r][pair]));
                for v in 0..V {
                    sums[r][v] = _mm512_dpbf16_ps(sums[r][v], left, values[v]);
                }
            }
        }
    }
    for (out, sums) in out.iter_mut().zip(sums) {
        for (out, sum) in out.as_chunks_mut::<SIDE>().0.iter_mut().zip(sums) {
            // SAFETY: `out` is 16 values.
            unsafe { _mm512_storeu_ps(out.as_mut_ptr(), sum) };
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(values: &[f32; SIDE]) -> __m512 {
    // SAFETY: `values` are 16.
    unsafe { _mm512_loadu_ps(values.as_ptr()) }
}

/// The same bits, as 16 pairs of bf16.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn of_bf16(bits: __m512) -> __m512bh {
    // SAFETY: both are 512 bits, of which every pattern is valid.
    unsafe { std::mem::transmute::<__m512, __m512bh>(bits) }
}
