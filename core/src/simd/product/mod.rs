//! Matrix products, checked.
//!
//! In f32 they are gemm's. In bf16 they are [`bf16`]'s where the CPU has instructions for them that are faster;
//! elsewhere operands are rounded to bf16 and multiplied in f32, which is exact but for the order of the sums.

#[cfg(target_arch = "x86_64")]
mod bf16;

use std::{
    ops::Range,
    sync::{Arc, OnceLock},
    time::Instant,
};

use gemm::Parallelism;

use super::{Compute, Level, Precision, round_to_bf16};
use crate::{
    profile::{self, Kind, Site, timed},
    scratch::Buffer,
};

/// A row-major matrix, or the transpose of one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// `values [rows, columns]`.
    pub(crate) fn new(values: &'a [f32], rows: usize, columns: usize) -> Self {
        assert_eq!(values.len(), rows * columns, "a matrix of {rows} x {columns}");
        Self { values, rows, columns, row_stride: columns, column_stride: 1 }
    }

    /// Some of the rows.
    pub(crate) fn rows(self, range: Range<usize>) -> Self {
        self.t().columns(range).t()
    }

    /// Some of the columns.
    pub(crate) fn columns(self, range: Range<usize>) -> Self {
        assert!(range.end <= self.columns, "columns {range:?} of {}", self.columns);
        let (rows, columns) = (self.rows, range.len());
        let length = match (rows, columns) {
            (0, _) | (_, 0) => 0,
            _ => (rows - 1) * self.row_stride + (columns - 1) * self.column_stride + 1,
        };
        let start = if length > 0 { range.start * self.column_stride } else { 0 };
        Self { values: &self.values[start..][..length], rows, columns, ..self }
    }

    /// The transpose.
    pub(crate) fn t(self) -> Self {
        Self {
            values: self.values,
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
        }
    }
}

/// The right-hand side of products, made ready once for many of them.
#[derive(Debug, Clone)]
pub(crate) enum Factor<'a> {
    /// As it is, for f32.
    Plain(Matrix<'a>),
    /// In the form that products of bf16 read.
    Laid(Arc<Laid>),
}

/// A matrix laid out for products of bf16.
#[derive(Debug)]
pub(crate) enum Laid {
    /// Rounded to bf16, where there are no bf16 products; and at which level the other side is to be.
    Rounded(Level, Rounded),
    /// In bf16 tiles.
    #[cfg(target_arch = "x86_64")]
    Tiles(bf16::Bf16, bf16::Tiles, (usize, usize)),
}

/// The right-hand side of products with a matrix that stays the same: laid out at the first of them.
#[derive(Debug, Default)]
pub(crate) struct Kept(OnceLock<Arc<Laid>>);

impl Kept {
    /// The factor, whose matrix and precision are those of the first call; a new one where nothing is kept.
    pub(crate) fn factor<'a>(kept: Option<&Self>, compute: Compute, matrix: Matrix<'a>) -> Factor<'a> {
        match (kept, compute.precision) {
            (Some(Self(kept)), Precision::Bf16) => {
                Factor::Laid(kept.get_or_init(|| Arc::new(Laid::new(compute.level, matrix))).clone())
            }
            _ => Factor::new(compute, matrix),
        }
    }
}

/// A matrix of f32 that are bf16 in value.
#[derive(Debug)]
pub(crate) struct Rounded {
    values: Buffer,
    like: (usize, usize, usize, usize),
}

impl Rounded {
    fn new(level: Level, matrix: Matrix) -> Self {
        let mut values = Buffer::new(matrix.values.len());
        round_to_bf16(level, matrix.values, &mut values);
        Self { values, like: (matrix.rows, matrix.columns, matrix.row_stride, matrix.column_stride) }
    }

    fn matrix(&self) -> Matrix<'_> {
        let (rows, columns, row_stride, column_stride) = self.like;
        Matrix { values: &self.values, rows, columns, row_stride, column_stride }
    }
}

impl<'a> Factor<'a> {
    pub(crate) fn new(compute: Compute, matrix: Matrix<'a>) -> Self {
        match compute.precision {
            Precision::F32 => Self::Plain(matrix),
            Precision::Bf16 => Self::Laid(Arc::new(Laid::new(compute.level, matrix))),
        }
    }

    /// Rows and columns.
    fn shape(&self) -> (usize, usize) {
        match self {
            Self::Plain(matrix) => (matrix.rows, matrix.columns),
            Self::Laid(laid) => match &**laid {
                Laid::Rounded(_, rounded) => (rounded.like.0, rounded.like.1),
                #[cfg(target_arch = "x86_64")]
                Laid::Tiles(_, _, shape) => *shape,
            },
        }
    }
}

impl Laid {
    fn new(level: Level, matrix: Matrix) -> Self {
        #[cfg(target_arch = "x86_64")]
        if let Some(unit) = bf16::Bf16::at(level) {
            timed!(Kernel, "right operands of products");
            return Self::Tiles(unit, bf16::Tiles::right(unit, matrix), (matrix.rows, matrix.columns));
        }
        Self::Rounded(level, Rounded::new(level, matrix))
    }

    fn multiply(&self, lhs: Matrix, accumulate: bool, out: &mut [f32]) {
        match self {
            Self::Rounded(level, rhs) => {
                let lhs = Rounded::new(*level, lhs);
                let _span = SITE.span();
                multiply_f32(lhs.matrix(), rhs.matrix(), accumulate, out);
            }
            #[cfg(target_arch = "x86_64")]
            Self::Tiles(unit, rhs, _) => {
                let lhs = {
                    timed!(Kernel, "left operands of products");
                    bf16::Tiles::left(*unit, lhs)
                };
                let _span = SITE.span();
                bf16::multiply(*unit, &lhs, rhs, accumulate, out);
            }
        }
    }
}

/// `out = lhs rhs`, or `out += lhs rhs`; `out` is row-major. Runs on the calling thread only.
pub(crate) fn product(compute: Compute, lhs: Matrix, rhs: Matrix, accumulate: bool, out: &mut [f32]) {
    multiply(lhs, &Factor::new(compute, rhs), accumulate, out);
}

/// The same, with a right-hand side that is ready, and in its precision.
pub(crate) fn multiply(lhs: Matrix, rhs: &Factor, accumulate: bool, out: &mut [f32]) {
    let ((m, k), (depth, n)) = ((lhs.rows, lhs.columns), rhs.shape());
    assert_eq!(k, depth, "inner sizes of a product");
    assert_eq!(out.len(), m * n, "length of a product");
    profile::count(&SITE, m * n * k);
    match rhs {
        Factor::Plain(rhs) => {
            let _span = SITE.span();
            multiply_f32(lhs, *rhs, accumulate, out);
        }
        Factor::Laid(rhs) => rhs.multiply(lhs, accumulate, out),
    }
}

static SITE: Site = Site::new("product", Kind::Kernel);

/// gemm's product.
fn multiply_f32(lhs: Matrix, rhs: Matrix, accumulate: bool, out: &mut [f32]) {
    let (m, n, k) = (lhs.rows, rhs.columns, lhs.columns);
    assert!(k == rhs.rows && out.len() == m * n, "sizes of a product");
    if m == 0 || n == 0 {
        return;
    }
    // SAFETY: `Matrix` is only built by `new`, or from one by `t`, `rows` and `columns`, which cut the values behind the last
    // one that its strides reach, so that they reach none beyond; `out` holds `m * n` values, is reached through strides `n` and 1, and cannot overlap what `lhs`
    // and `rhs` borrow shared. f32 is a type that gemm supports.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            n as isize,
            accumulate,
            lhs.values.as_ptr(),
            lhs.column_stride as isize,
            lhs.row_stride as isize,
            rhs.values.as_ptr(),
            rhs.column_stride as isize,
            rhs.row_stride as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

/// Multiply-adds a second that products of 512 x 512 x 512 reach on all threads at once: the best of many. A profile does not
/// count them.
pub fn product_rate() -> f64 {
    const SIDE: usize = 512;
    const TIMES: u32 = 20;
    let threads = rayon::current_num_threads();
    let one = |_| {
        let (lhs, rhs) = (vec![1.0; SIDE * SIDE], vec![1.0; SIDE * SIDE]);
        let mut out = vec![0.0; SIDE * SIDE];
        let time = |_| {
            let start = Instant::now();
            multiply_f32(Matrix::new(&lhs, SIDE, SIDE), Matrix::new(&rhs, SIDE, SIDE), false, &mut out);
            start.elapsed().as_secs_f64()
        };
        (SIDE * SIDE * SIDE) as f64 / (0..TIMES).map(time).fold(f64::INFINITY, f64::min)
    };
    rayon::broadcast(|context| one(context.index())).into_iter().take(threads).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Compute = Compute { level: Level::Scalar, precision: Precision::F32 };

    #[test]
    fn transposes_and_accumulates() {
        let a = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let b = [1.0, -1.0, 2.0, 0.5, 0.0, 3.0];
        let mut out = [0.0; 4];
        product(PLAIN, Matrix::new(&a, 2, 3), Matrix::new(&b, 3, 2), false, &mut out);
        assert_eq!(out, [5.0, 9.0, 14.0, 16.5]);
        product(PLAIN, Matrix::new(&a, 2, 3), Matrix::new(&b, 2, 3).t(), true, &mut out);
        assert_eq!(out, [5.0 + 5.0, 9.0 + 9.5, 14.0 + 11.0, 16.5 + 20.0]);
        product(PLAIN, Matrix::new(&a, 3, 2).t(), Matrix::new(&b, 3, 2), false, &mut out);
        assert_eq!(out, [7.0, 15.5, 10.0, 18.0]);
    }

    #[test]
    fn parts_of_a_matrix_are_multiplied_where_they_lie() {
        let values: Vec<f32> = (0..35).map(|i| (i * i % 11) as f32).collect();
        let (whole, weights) = (Matrix::new(&values, 5, 7), [1.0, 10.0, 100.0]);
        let weighted =
            |at: [usize; 3]| -> f32 { at.iter().zip(weights).map(|(&at, weight)| weight * values[at]).sum() };
        let sums = |part| {
            let mut sums = [0.0; 2];
            product(PLAIN, part, Matrix::new(&weights, 3, 1), false, &mut sums);
            sums
        };
        let expected = [[9, 10, 11], [16, 17, 18]].map(weighted);
        assert_eq!(sums(whole.rows(1..3).columns(2..5)), expected);
        assert_eq!(sums(whole.columns(2..5).rows(1..3)), expected);
        assert_eq!(sums(whole.t().rows(5..7).columns(2..5)), [[19, 26, 33], [20, 27, 34]].map(weighted));
        assert!(whole.rows(5..5).columns(3..7).values.is_empty());
    }

    #[test]
    fn an_empty_inner_size_gives_zero() {
        for level in Level::available() {
            for precision in [Precision::F32, Precision::Bf16] {
                let mut out = [1.0; 2];
                let compute = Compute { level, precision };
                product(compute, Matrix::new(&[], 2, 0), Matrix::new(&[], 0, 1), false, &mut out);
                assert_eq!(out, [0.0; 2]);
            }
        }
    }

    /// Small integers, which bf16 and every sum of them hold exactly: nothing is rounded, so that every level agrees.
    #[test]
    fn bf16_products_of_small_integers_are_exact() {
        let integers = |count: usize, period: usize| -> Vec<f32> {
            (0..count).map(|i| (i * 7 % period) as f32 - (period / 2) as f32).collect()
        };
        for (m, k, n) in [(1, 1, 1), (3, 5, 7), (16, 32, 16), (32, 32, 32), (33, 31, 17), (15, 65, 48), (70, 40, 160)] {
            let (a, b, start) = (integers(m * k, 13), integers(k * n, 11), integers(m * n, 5));
            let flipped = |values: &[f32], rows: usize, columns: usize| -> Vec<f32> {
                (0..rows * columns).map(|i| values[i % rows * columns + i / rows]).collect()
            };
            let (a_flipped, b_flipped) = (flipped(&a, m, k), flipped(&b, k, n));
            let lefts = [Matrix::new(&a, m, k), Matrix::new(&a_flipped, k, m).t()];
            let rights = [Matrix::new(&b, k, n), Matrix::new(&b_flipped, n, k).t()];
            for accumulate in [false, true] {
                let mut expected = start.clone();
                multiply_f32(lefts[0], rights[0], accumulate, &mut expected);
                for level in Level::available() {
                    for (left, right) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                        let mut out = start.clone();
                        let compute = Compute { level, precision: Precision::Bf16 };
                        product(compute, lefts[left], rights[right], accumulate, &mut out);
                        assert_eq!(out, expected, "{m} {k} {n} at {level}, transposed {left} {right}");
                    }
                }
            }
        }
    }

    #[test]
    fn rounding_to_bf16_is_that_of_the_half_crate() {
        let patterns = (0..=u16::MAX).flat_map(|high| {
            [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff].map(|low| f32::from_bits(u32::from(high) << 16 | low))
        });
        let values: Vec<f32> = patterns.collect();
        let expected: Vec<u32> = values.iter().map(|&x| half::bf16::from_f32(x).to_f32().to_bits()).collect();
        for level in Level::available() {
            let mut rounded = vec![0.0; values.len()];
            round_to_bf16(level, &values, &mut rounded);
            assert!(rounded.iter().map(|x| x.to_bits()).eq(expected.iter().copied()), "at {level}");
        }
    }

    /// Each operand is off by 2^-9 of itself at most, half a unit in the last place: products by 2^-8 and a little.
    #[test]
    fn bf16_products_round_their_operands_only() {
        let (m, k, n) = (37, 83, 45);
        let values = |count: usize, step: f32| -> Vec<f32> { (0..count).map(|i| (i as f32 * step).sin()).collect() };
        let (a, b) = (values(m * k, 0.7), values(k * n, 1.3));
        for level in Level::available() {
            let (mut rounded, mut out) = (vec![0.0; m * n], vec![0.0; m * n]);
            let (left, right) = (Matrix::new(&a, m, k), Matrix::new(&b, k, n));
            product(Compute { level, precision: Precision::Bf16 }, left, right, false, &mut out);
            let [left, right] = [left, right].map(|matrix| Rounded::new(level, matrix));
            multiply_f32(left.matrix(), right.matrix(), false, &mut rounded);
            for (out, rounded) in out.iter().zip(&rounded) {
                // Sums of 83 exact products in another order: 83 roundings of 6e-8, of values up to 83.
                assert!((out - rounded).abs() < 1e-5, "{out} {rounded} at {level}");
            }
        }
    }
}
