//! Matrix products, checked.

use gemm::Parallelism;

/// A row-major matrix, or the transpose of one.
#[derive(Clone, Copy)]
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

/// `out = lhs rhs`, or `out += lhs rhs`; `out` is row-major. Runs on the calling thread only.
#[allow(unsafe_code)]
pub(crate) fn product(lhs: Matrix, rhs: Matrix, accumulate: bool, out: &mut [f32]) {
    let (m, n, k) = (lhs.rows, rhs.columns, lhs.columns);
    assert_eq!(k, rhs.rows, "inner sizes of a product");
    assert_eq!(out.len(), m * n, "length of a product");
    if m == 0 || n == 0 {
        return;
    }
    // SAFETY: `Matrix` is only built by `new` and `t`, so its strides reach exactly the `rows * columns` values it
    // borrows; `out` holds `m * n` values, is reached through strides `n` and 1, and cannot overlap what `lhs` and
    // `rhs` borrow shared. f32 is a type that gemm supports.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transposes_and_accumulates() {
        let a = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let b = [1.0, -1.0, 2.0, 0.5, 0.0, 3.0];
        let mut out = [0.0; 4];
        product(Matrix::new(&a, 2, 3), Matrix::new(&b, 3, 2), false, &mut out);
        assert_eq!(out, [5.0, 9.0, 14.0, 16.5]);
        product(Matrix::new(&a, 2, 3), Matrix::new(&b, 2, 3).t(), true, &mut out);
        assert_eq!(out, [5.0 + 5.0, 9.0 + 9.5, 14.0 + 11.0, 16.5 + 20.0]);
        product(Matrix::new(&a, 3, 2).t(), Matrix::new(&b, 3, 2), false, &mut out);
        assert_eq!(out, [7.0, 15.5, 10.0, 18.0]);
    }

    #[test]
    fn an_empty_inner_size_gives_zero() {
        let mut out = [1.0; 2];
        product(Matrix::new(&[], 2, 0), Matrix::new(&[], 0, 1), false, &mut out);
        assert_eq!(out, [0.0; 2]);
    }
}
