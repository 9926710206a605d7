//! Matrix products over slices. Every product of the engine goes through [`product`].

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};

use super::Real;

/// A matrix of `rows` by `cols` that lies row by row in a slice, `stride` values from one row to the next.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) stride: usize,
}

impl Layout {
    /// Rows that follow one another.
    pub(super) fn dense(rows: usize, cols: usize) -> Self {
        Self { rows, cols, stride: cols }
    }

    /// Some columns of a wider matrix of `stride` columns.
    pub(super) fn columns(rows: usize, cols: usize, stride: usize) -> Self {
        Self { rows, cols, stride }
    }

    /// The matrix that begins at the start of `values`.
    pub(super) fn of<T>(self, values: &[T]) -> MatRef<'_, T> {
        MatRef::from_row_major_slice_with_stride(values, self.rows, self.cols, self.stride)
    }

    /// The same for writing.
    pub(super) fn of_mut<T>(self, values: &mut [T]) -> MatMut<'_, T> {
        // faer 0.24's `from_row_major_slice_with_stride_mut` takes rows for columns and writes out of bounds.
        MatMut::from_column_major_slice_with_stride_mut(values, self.cols, self.rows, self.stride).transpose_mut()
    }
}

/// `target = factor * left * right`.
pub(super) fn product<T: Real>(target: MatMut<'_, T>, left: MatRef<'_, T>, right: MatRef<'_, T>, factor: T) {
    matmul(target, Accum::Replace, left, right, factor, Par::Seq);
}

/// `target += factor * left * right`.
pub(super) fn add_product<T: Real>(target: MatMut<'_, T>, left: MatRef<'_, T>, right: MatRef<'_, T>, factor: T) {
    matmul(target, Accum::Add, left, right, factor, Par::Seq);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_of_a_wider_matrix_are_written_alone() {
        let (left, right) = ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [1.0, 10.0, 100.0, 1000.0]);
        let mut target = [7.0; 12];
        let (left, right) = (Layout::dense(3, 2).of(&left), Layout::dense(2, 2).of(&right));
        product(Layout::columns(3, 2, 4).of_mut(&mut target[1..]), left, right.transpose(), 2.0);
        assert_eq!(target, [7.0, 42.0, 4200.0, 7.0, 7.0, 86.0, 8600.0, 7.0, 7.0, 130.0, 13000.0, 7.0]);
        add_product(Layout::columns(3, 2, 4).of_mut(&mut target[1..]), left, right, 1.0);
        assert_eq!(target, [7.0, 243.0, 6210.0, 7.0, 7.0, 489.0, 12630.0, 7.0, 7.0, 735.0, 19050.0, 7.0]);
    }
}
