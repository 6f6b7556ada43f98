//! Products of bf16 on Intel's matrix unit (AMX), sums in f32.
//!
//! A tile register holds 16 rows of 64 bytes. `TDPBF16PS` adds the product of a 16 x 32 tile, row by row, and a 32 x 16
//! tile, pairs of rows interleaved, to a 16 x 16 tile of f32. Operands are laid out here as whole tiles of 1 KiB, outer
//! index first, so that every load reads consecutive memory; what a matrix lacks to whole tiles is zero. Four tiles of sums
//! are held at once: each tile loaded is used twice.

use std::{
    arch::{asm, x86_64::*},
    sync::OnceLock,
};

use super::Matrix;
use crate::{ops::scratch::Buffer, simd::Level};

/// Rows of a tile, and pairs of columns.
const SIDE: usize = 16;

/// The depth of a product of two tiles: columns of the left one.
const DEPTH: usize = 2 * SIDE;

/// Values of f32 that a tile takes the room of.
const TILE: usize = SIDE * SIDE;

/// Rows and columns of the sums that are held at once.
const BLOCK: usize = 2 * SIDE;

/// Proof that this machine and its system let this process use the matrix unit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Amx(());

impl Amx {
    /// The proof, if there is one and the level allows it.
    pub(super) fn at(level: Level) -> Option<Self> {
        static USABLE: OnceLock<bool> = OnceLock::new();
        (matches!(level, Level::V4(_)) && *USABLE.get_or_init(usable)).then_some(Self(()))
    }
}

/// Whether the processor has the instructions, and the system grants the registers.
#[allow(unsafe_code)]
fn usable() -> bool {
    const MATRIX_BF16: u32 = 1 << 22;
    const MATRIX_TILE: u32 = 1 << 24;
    if cfg!(miri) || !is_x86_feature_detected!("avx512bf16") || !is_x86_feature_detected!("avx512bw") {
        return false;
    }
    let leaf = __cpuid_count(7, 0);
    leaf.edx & MATRIX_BF16 != 0 && leaf.edx & MATRIX_TILE != 0 && granted()
}

/// Asks Linux for the tile registers: their state is large, and a process has it only if it asks.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
fn granted() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_ulong = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_ulong = 18;
    // SAFETY: a system call that takes two numbers, touches no memory of ours, and can only fail.
    let result = unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) };
    result == 0
}

#[cfg(not(target_os = "linux"))]
fn granted() -> bool {
    false
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
    pub(super) fn left(amx: Amx, matrix: Matrix) -> Self {
        let Matrix { values, rows, columns, row_stride, column_stride } = matrix;
        let view = View { values, outer: rows, depth: columns, outer_stride: row_stride, depth_stride: column_stride };
        Self::new(amx, view, Side::Left)
    }

    /// For `rhs` of products: outer is the column.
    pub(super) fn right(amx: Amx, matrix: Matrix) -> Self {
        let Matrix { values, rows, columns, row_stride, column_stride } = matrix;
        let view = View { values, outer: columns, depth: rows, outer_stride: column_stride, depth_stride: row_stride };
        Self::new(amx, view, Side::Right)
    }

    #[allow(unsafe_code)]
    fn new(_: Amx, view: View, side: Side) -> Self {
        let (outer, depth) = (view.outer.div_ceil(BLOCK) * 2, view.depth.div_ceil(DEPTH));
        let mut values = Buffer::new(outer * depth * TILE);
        // SAFETY: the `Amx` is proof that the processor has AVX-512 with BF16 and BW.
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
#[allow(unsafe_code)]
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
#[allow(unsafe_code)]
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
#[allow(unsafe_code)]
fn store(lines: &[__m512i; SIDE], tile: &mut [f32; TILE]) {
    for (line, part) in lines.iter().zip(tile.as_chunks_mut::<SIDE>().0) {
        // SAFETY: `part` is 16 f32, 512 bits.
        unsafe { _mm512_storeu_si512(part.as_mut_ptr().cast(), *line) };
    }
}

/// The sums of 32 x 32 products, as the tiles store them.
#[repr(C, align(64))]
struct Sums([[f32; BLOCK]; BLOCK]);

/// The shapes of the eight tile registers: all of them whole.
#[repr(C, align(64))]
struct Shapes([u8; 64]);

static SHAPES: Shapes = {
    let mut bytes = [0; 64];
    bytes[0] = 1; // the palette
    let mut tile = 0;
    while tile < 8 {
        bytes[16 + 2 * tile] = 64; // bytes of a row
        bytes[48 + tile] = SIDE as u8;
        tile += 1;
    }
    Shapes(bytes)
};

/// `out = lhs rhs`, or `out += lhs rhs`; `out` is row-major.
#[allow(unsafe_code)]
pub(super) fn multiply(_: Amx, lhs: &Tiles, rhs: &Tiles, accumulate: bool, out: &mut [f32]) {
    assert_eq!(lhs.depth, rhs.depth, "inner sizes of a product");
    assert_eq!(out.len(), lhs.outer * rhs.outer, "length of a product");
    let steps = lhs.steps();
    let mut sums = Sums([[0.0; BLOCK]; BLOCK]);
    // SAFETY: the `Amx` is proof of the tile registers; they are configured here, on the thread that uses them, and given
    // back below. `SHAPES` is the 64 bytes that the instruction reads.
    unsafe { asm!("ldtilecfg [{}]", in(reg) &SHAPES, options(nostack, readonly)) };
    for column in (0..rhs.outer).step_by(BLOCK) {
        let right = rhs.block(column / BLOCK);
        for row in (0..lhs.outer).step_by(BLOCK) {
            let left = lhs.block(row / BLOCK);
            if steps == 0 {
                sums = Sums([[0.0; BLOCK]; BLOCK]);
            } else {
                // SAFETY: a block is `2 * steps` tiles, and the registers are configured.
                unsafe { multiply_block(left, right, steps, &mut sums) };
            }
            let (height, width) = ((lhs.outer - row).min(BLOCK), (rhs.outer - column).min(BLOCK));
            let first = row * rhs.outer + column;
            // SAFETY: the `Amx` is proof of AVX-512.
            unsafe { write(&sums, height, width, rhs.outer, accumulate, &mut out[first..]) };
        }
    }
    // SAFETY: gives the registers' state up; nothing of it is used any more.
    unsafe { asm!("tilerelease", options(nostack, nomem)) };
}

/// The sums of one block: two rows of tiles from the left, two columns of tiles from the right.
///
/// # Safety
///
/// The tile registers are configured as [`SHAPES`] says, `steps` is at least 1, and each operand has `2 * steps` tiles.
#[allow(unsafe_code)]
unsafe fn multiply_block(left: &[f32], right: &[f32], steps: usize, sums: &mut Sums) {
    let half = steps * TILE;
    assert!(left.len() == 2 * half && right.len() == 2 * half, "tiles of a block");
    // SAFETY: in step s of `steps`, each of the four pointers is s tiles (1024 bytes each) into its half of an operand, and a
    // load reads 16 rows of 64 bytes from there: inside the half. The stores write rows of 64 bytes, 128 apart, into the
    // four quarters of `sums`. The compiler uses no tile registers of its own.
    unsafe {
        asm!(
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "2:",
            "tileloadd tmm4, [{upper} + {row}]",
            "tileloadd tmm6, [{first} + {row}]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{second} + {row}]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tileloadd tmm5, [{lower} + {row}]",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "add {upper}, 1024",
            "add {lower}, 1024",
            "add {first}, 1024",
            "add {second}, 1024",
            "dec {steps}",
            "jnz 2b",
            "tilestored [{sums} + {line}], tmm0",
            "tilestored [{sums} + {line} + 64], tmm1",
            "tilestored [{sums} + {line} + 2048], tmm2",
            "tilestored [{sums} + {line} + 2112], tmm3",
            upper = inout(reg) left.as_ptr() => _,
            lower = inout(reg) left[half..].as_ptr() => _,
            first = inout(reg) right.as_ptr() => _,
            second = inout(reg) right[half..].as_ptr() => _,
            steps = inout(reg) steps => _,
            row = in(reg) 64_usize,
            sums = in(reg) sums.0.as_mut_ptr(),
            line = in(reg) 128_usize,
            options(nostack),
        );
    }
}

/// Puts `height x width` sums into `out`, whose rows are `stride` apart.
#[target_feature(enable = "avx512f")]
#[allow(unsafe_code)]
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
