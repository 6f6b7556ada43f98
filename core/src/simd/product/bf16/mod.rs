//! Products of bf16, sums in f32, on CPUs with AVX-512 BF16.
//!
//! Operands are laid out as whole tiles of 1 KiB, outer index first, so that every load reads consecutive memory: a left
//! tile holds 16 rows of 32 values, a right one 16 pairs of rows, interleaved, of 16 columns. What a matrix lacks to whole
//! tiles is zero. The products of tiles are the matrix unit's where there is one ([`amx`]), or `VDPBF16PS`'s ([`dot`])
//! where that is faster than f32.

use std::{arch::x86_64::*, sync::OnceLock};

use super::Matrix;
use crate::{scratch::Buffer, simd::Level};

mod amx;
mod dot;

/// Rows of a tile, and pairs of columns.
const SIDE: usize = 16;

/// The depth of a product of two tiles: columns of the left one.
const DEPTH: usize = 2 * SIDE;

/// Values of f32 that a tile takes the room of.
const TILE: usize = SIDE * SIDE;

/// Rows and columns of the sums that are held at once.
const BLOCK: usize = 2 * SIDE;

/// Proof that this machine and its system let this process use AVX-512 BF16, and the unit that multiplies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bf16(Unit);

/// What multiplies tiles.
#[derive(Clone, Copy, Debug)]
enum Unit {
    Matrix,
    Vector,
}

impl Bf16 {
    /// The proof, with the fastest unit, if one is faster than f32 and the level allows it.
    pub(super) fn at(level: Level) -> Option<Self> {
        static BEST: OnceLock<Option<Bf16>> = OnceLock::new();
        let fast = |unit: &Self| matches!(unit.0, Unit::Matrix) || dot::fast();
        let best = BEST.get_or_init(|| Self::units().into_iter().find(fast));
        best.filter(|_| matches!(level, Level::V4(_)))
    }

    /// All units of this machine, fastest first.
    pub(super) fn units() -> Vec<Self> {
        if cfg!(miri) || !is_x86_feature_detected!("avx512bf16") || !is_x86_feature_detected!("avx512bw") {
            return Vec::new();
        }
        let matrix = amx::usable().then_some(Unit::Matrix);
        matrix.into_iter().chain([Unit::Vector]).map(Self).collect()
    }
}

/// A matrix as tiles of bf16, `[outer / 16, depth / 32]` of them, the outer ones in pairs.
#[derive(Debug)]
pub(crate) struct Tiles {
    values: Buffer,
    outer: usize,
    depth: usize,
}

/// Which operand of a product a matrix is: that decides how a tile looks inside.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    /// A tile is `[outer, depth]`.
    Left,
    /// A tile is `[depth / 2, outer, 2]`.
    Right,
}

/// A matrix by its outer index and its depth, the index that a product sums over.
#[derive(Clone, Copy)]
struct View<'a> {
    values: &'a [f32],
    outer: usize,
    depth: usize,
    outer_stride: usize,
    depth_stride: usize,
}

impl Tiles {
    /// For `lhs` of products: outer is the row.
    pub(super) fn left(unit: Bf16, matrix: Matrix) -> Self {
        let Matrix { values, rows, columns, row_stride, column_stride } = matrix;
        let view = View { values, outer: rows, depth: columns, outer_stride: row_stride, depth_stride: column_stride };
        Self::new(unit, view, Side::Left)
    }

    /// For `rhs` of products: outer is the column.
    pub(super) fn right(unit: Bf16, matrix: Matrix) -> Self {
        let Matrix { values, rows, columns, row_stride, column_stride } = matrix;
        let view = View { values, outer: columns, depth: rows, outer_stride: column_stride, depth_stride: row_stride };
        Self::new(unit, view, Side::Right)
    }

    fn new(_: Bf16, view: View, side: Side) -> Self {
        let (outer, depth) = (view.outer.div_ceil(BLOCK) * 2, view.depth.div_ceil(DEPTH));
        let mut values = Buffer::new(outer * depth * TILE);
        // SAFETY: the `Bf16` is proof that the CPU has AVX-512 with BF16 and BW.
        unsafe { fill(view, side, &mut values) };
        Self { values, outer: view.outer, depth: view.depth }
    }

    /// Blocks of depth.
    fn steps(&self) -> usize {
        self.depth.div_ceil(DEPTH)
    }

    /// The tiles of 32 outer indices, from the `block`th block of them on.
    fn block(&self, block: usize) -> &[f32] {
        let length = 2 * self.steps() * TILE;
        &self.values[block * length..][..length]
    }
}

/// Writes every tile of `view`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
fn fill(view: View, side: Side, values: &mut [f32]) {
    let steps = view.depth.div_ceil(DEPTH);
    for (index, tile) in values.as_chunks_mut::<TILE>().0.iter_mut().enumerate() {
        let (outer, depth) = (index / steps * SIDE, index % steps * DEPTH);
        let along = view.depth_stride == 1;
        let whole = outer + SIDE <= view.outer && depth + DEPTH <= view.depth;
        let mut lines = match (along, whole) {
            (true, true) => rows::<true>(view, outer, depth),
            (true, false) => rows::<false>(view, outer, depth),
            (false, true) => pairs::<true>(view, outer, depth),
            (false, false) => pairs::<false>(view, outer, depth),
        };
        // Rows are how a left tile looks, pairs how a right one does; the other way round they are transposed.
        if along != (side == Side::Left) {
            transpose(&mut lines);
        }
        store(&lines, tile);
    }
}

/// The lanes of 16 that exist, if `left` do.
fn lanes(left: usize) -> __mmask16 {
    if left >= SIDE { __mmask16::MAX } else { (1 << left) - 1 }
}

/// 16 values from `at` on; or, unless the tile is `WHOLE`, up to `left` of them and then zeros.
#[inline]
#[target_feature(enable = "avx512f")]
fn load<const WHOLE: bool>(values: &[f32], at: usize, left: usize) -> __m512 {
    if WHOLE {
        let part: &[f32; SIDE] = values[at..].first_chunk().expect("a whole tile has all its values");
        // SAFETY: `part` is 16 values.
        return unsafe { _mm512_loadu_ps(part.as_ptr()) };
    }
    let part = &values[at.min(values.len())..];
    let count = left.min(part.len());
    // SAFETY: the mask lets only lanes below `count` be read, and `part` has as many values.
    unsafe { _mm512_maskz_loadu_ps(lanes(count), part.as_ptr()) }
}

/// 16 outer indices, 32 values of depth each, which lie side by side in memory.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
fn rows<const WHOLE: bool>(view: View, outer: usize, depth: usize) -> [__m512i; SIDE] {
    let mut lines = [_mm512_setzero_si512(); SIDE];
    let left = view.depth - depth;
    for (line, row) in lines.iter_mut().zip(outer..view.outer) {
        let at = row * view.outer_stride + depth;
        let low = load::<WHOLE>(view.values, at, left);
        let high = load::<WHOLE>(view.values, at + SIDE, left.saturating_sub(SIDE));
        *line = rounded(low, high);
    }
    lines
}

/// 16 pairs of depth of 16 outer indices, which lie side by side in memory.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
fn pairs<const WHOLE: bool>(view: View, outer: usize, depth: usize) -> [__m512i; SIDE] {
    let mut lines = [_mm512_setzero_si512(); SIDE];
    let left = view.outer.saturating_sub(outer);
    let order = interleaving();
    for (line, row) in lines.iter_mut().zip((depth..view.depth).step_by(2)) {
        let at = row * view.depth_stride + outer;
        let even = load::<WHOLE>(view.values, at, left);
        let odd = if WHOLE || row + 1 < view.depth { left } else { 0 };
        let odd = load::<WHOLE>(view.values, at + view.depth_stride, odd);
        *line = _mm512_permutexvar_epi16(order, rounded(even, odd));
    }
    lines
}

/// 0, 16, 1, 17, ... of 16-bit lanes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn interleaving() -> __m512i {
    let low = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    _mm512_or_si512(low, _mm512_slli_epi32(_mm512_add_epi32(low, _mm512_set1_epi32(16)), 16))
}

/// `low`, then `high`, rounded to bf16.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
fn rounded(low: __m512, high: __m512) -> __m512i {
    // SAFETY: both are 512 bits, of which every pattern is valid.
    unsafe { std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low)) }
}

/// A 16 x 16 matrix of 32-bit lanes.
#[inline]
#[target_feature(enable = "avx512f")]
fn transpose(r: &mut [__m512i; SIDE]) {
    let mut t = *r;
    for i in 0..8 {
        t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
    }
    // Lane L of r[4 i + j] becomes rows 4 i to 4 i + 3 of column 4 L + j.
    for i in (0..SIDE).step_by(4) {
        r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    for j in 0..4 {
        let even = [_mm512_shuffle_i32x4::<0x88>(r[j], r[4 + j]), _mm512_shuffle_i32x4::<0x88>(r[8 + j], r[12 + j])];
        let odd = [_mm512_shuffle_i32x4::<0xdd>(r[j], r[4 + j]), _mm512_shuffle_i32x4::<0xdd>(r[8 + j], r[12 + j])];
        t[j] = _mm512_shuffle_i32x4::<0x88>(even[0], even[1]);
        t[8 + j] = _mm512_shuffle_i32x4::<0xdd>(even[0], even[1]);
        t[4 + j] = _mm512_shuffle_i32x4::<0x88>(odd[0], odd[1]);
        t[12 + j] = _mm512_shuffle_i32x4::<0xdd>(odd[0], odd[1]);
    }
    *r = t;
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store(lines: &[__m512i; SIDE], tile: &mut [f32; TILE]) {
    for (line, part) in lines.iter().zip(tile.as_chunks_mut::<SIDE>().0) {
        // SAFETY: `part` is 16 f32, 512 bits.
        unsafe { _mm512_storeu_si512(part.as_mut_ptr().cast(), *line) };
    }
}

/// The sums of 32 x 32 products, as the tiles store them.
#[repr(C, align(64))]
struct Sums([[f32; BLOCK]; BLOCK]);

/// `out = lhs rhs`, or `out += lhs rhs`; `out` is row-major.
pub(super) fn multiply(unit: Bf16, lhs: &Tiles, rhs: &Tiles, accumulate: bool, out: &mut [f32]) {
    assert_eq!(lhs.depth, rhs.depth, "inner sizes of a product");
    assert_eq!(out.len(), lhs.outer * rhs.outer, "length of a product");
    if lhs.depth == 0 {
        if !accumulate {
            out.fill(0.0);
        }
        return;
    }
    let steps = lhs.steps();
    match unit.0 {
        Unit::Matrix => {
            let work = || {
                // SAFETY: `with_tiles` configures the registers, and a block is `2 * steps` tiles.
                each_block(lhs, rhs, accumulate, out, |left, right, _, sums| unsafe {
                    amx::multiply_block(left, right, steps, sums);
                });
            };
            // SAFETY: the `Bf16` is proof of the matrix unit.
            unsafe { amx::with_tiles(work) };
        }
        // SAFETY: the `Bf16` is proof of AVX-512 BF16.
        Unit::Vector => each_block(lhs, rhs, accumulate, out, |left, right, (height, width), sums| unsafe {
            dot::multiply_block(left, right, [height, lhs.depth, width], sums);
        }),
    }
}

/// Calls `block` for the tiles of every 32 rows and 32 columns, with how many of them there are, and puts its sums where
/// they belong.
fn each_block(
    lhs: &Tiles,
    rhs: &Tiles,
    accumulate: bool,
    out: &mut [f32],
    block: impl Fn(&[f32], &[f32], (usize, usize), &mut Sums),
) {
    let mut sums = Sums([[0.0; BLOCK]; BLOCK]);
    for column in (0..rhs.outer).step_by(BLOCK) {
        let right = rhs.block(column / BLOCK);
        for row in (0..lhs.outer).step_by(BLOCK) {
            let (height, width) = ((lhs.outer - row).min(BLOCK), (rhs.outer - column).min(BLOCK));
            block(lhs.block(row / BLOCK), right, (height, width), &mut sums);
            let first = row * rhs.outer + column;
            // SAFETY: `Tiles` are made only where there is AVX-512.
            unsafe { write(&sums, height, width, rhs.outer, accumulate, &mut out[first..]) };
        }
    }
}

/// Puts `height x width` sums into `out`, whose rows are `stride` apart.
#[target_feature(enable = "avx512f")]
fn write(sums: &Sums, height: usize, width: usize, stride: usize, accumulate: bool, out: &mut [f32]) {
    for (row, sums) in sums.0[..height].iter().enumerate() {
        let out = &mut out[row * stride..][..width];
        for (out, sums) in out.chunks_mut(SIDE).zip(sums.as_chunks::<SIDE>().0) {
            let mask = lanes(out.len());
            // SAFETY: `sums` has 16 values; the mask lets only the lanes of `out` be read and written.
            unsafe {
                let mut value = _mm512_loadu_ps(sums.as_ptr());
                if accumulate {
                    value = _mm512_add_ps(value, _mm512_maskz_loadu_ps(mask, out.as_ptr()));
                }
                _mm512_mask_storeu_ps(out.as_mut_ptr(), mask, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Small integers, which bf16 and every sum of them hold exactly: all units agree with sums of integers.
    #[test]
    fn every_unit_multiplies() {
        let integers = |count: usize, period: usize| -> Vec<i32> {
            (0..count).map(|i| (i * 7 % period) as i32 - (period / 2) as i32).collect()
        };
        let floats = |integers: &[i32]| -> Vec<f32> { integers.iter().map(|&i| i as f32).collect() };
        for (m, k, n) in [(1, 1, 1), (3, 5, 7), (8, 2, 16), (9, 33, 17), (32, 64, 32), (33, 31, 49), (70, 40, 160)] {
            let (a, b, start) = (integers(m * k, 13), integers(k * n, 11), integers(m * n, 5));
            let product = |row: usize, column: usize| (0..k).map(|d| a[row * k + d] * b[d * n + column]).sum::<i32>();
            for unit in Bf16::units() {
                let (a, b) = (floats(&a), floats(&b));
                let lhs = Tiles::left(unit, Matrix::new(&a, m, k));
                let rhs = Tiles::right(unit, Matrix::new(&b, k, n));
                for accumulate in [false, true] {
                    let mut out = floats(&start);
                    multiply(unit, &lhs, &rhs, accumulate, &mut out);
                    for (at, out) in out.into_iter().enumerate() {
                        let before = if accumulate { start[at] } else { 0 };
                        assert_eq!(out, (before + product(at / n, at % n)) as f32, "{m} {k} {n} at {at} by {unit:?}");
                    }
                }
            }
        }
    }
}
