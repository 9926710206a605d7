//! Small dense matrices in float64.

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};

use crate::tensor::{Tensor, TensorError};

/// A matrix, row by row. A vector is a matrix of one column.
#[derive(Debug, Clone, PartialEq)]
pub struct Matrix {
    rows: usize,
    cols: usize,
    values: Vec<f64>,
}

impl Matrix {
    /// All zero.
    pub fn zeros(rows: usize, cols: usize) -> Self {
        Self { rows, cols, values: vec![0.0; rows * cols] }
    }

    /// The value at row `i` and column `j` is `value(i, j)`.
    pub fn from_fn(rows: usize, cols: usize, mut value: impl FnMut(usize, usize) -> f64) -> Self {
        let values = (0..rows).flat_map(|i| (0..cols).map(move |j| (i, j))).map(|(i, j)| value(i, j)).collect();
        Self { rows, cols, values }
    }

    /// A column.
    pub fn column(values: Vec<f64>) -> Self {
        Self { rows: values.len(), cols: 1, values }
    }

    /// The tensor with all dimensions but the first taken together.
    pub fn from_tensor(tensor: &Tensor) -> Self {
        let rows = tensor.shape().first().copied().unwrap_or(1);
        let cols = tensor.len() / rows.max(1);
        Self { rows, cols, values: tensor.values().iter().map(|&value| f64::from(value)).collect() }
    }

    /// As a float32 tensor of `shape`.
    ///
    /// # Errors
    /// When the shape holds another number of values.
    pub fn to_tensor(&self, shape: &[usize]) -> Result<Tensor, TensorError> {
        Tensor::new(shape, self.values.iter().map(|&value| value as f32).collect())
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The values, row by row.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// The values for writing, row by row.
    pub fn values_mut(&mut self) -> &mut [f64] {
        &mut self.values
    }

    /// Row `i`.
    pub fn row(&self, i: usize) -> &[f64] {
        &self.values[i * self.cols..][..self.cols]
    }

    /// Row `i` for writing.
    pub fn row_mut(&mut self, i: usize) -> &mut [f64] {
        &mut self.values[i * self.cols..][..self.cols]
    }

    /// `self other`; the columns of `self` are as many as the rows of `other`.
    pub fn times(&self, other: &Self) -> Self {
        Self::product(self.as_faer(), other.as_faer())
    }

    /// `self^T other`; both have as many rows.
    pub fn transposed_times(&self, other: &Self) -> Self {
        Self::product(self.as_faer().transpose(), other.as_faer())
    }

    /// `self other^T`; both have as many columns.
    pub fn times_transposed(&self, other: &Self) -> Self {
        Self::product(self.as_faer(), other.as_faer().transpose())
    }

    fn product(left: MatRef<'_, f64>, right: MatRef<'_, f64>) -> Self {
        let mut product = Self::zeros(left.nrows(), right.ncols());
        let transposed = MatMut::from_column_major_slice_mut(&mut product.values, right.ncols(), left.nrows());
        // Layers go through threads of their own.
        matmul(transposed.transpose_mut(), Accum::Replace, left, right, 1.0, Par::Seq);
        product
    }

    fn as_faer(&self) -> MatRef<'_, f64> {
        MatRef::from_row_major_slice(&self.values, self.rows, self.cols)
    }

    /// `self += factor other`, both of one shape.
    pub fn add_scaled(&mut self, factor: f64, other: &Self) {
        axpy(factor, &other.values, &mut self.values);
    }

    /// `self^-1` by Gauss and Jordan with pivots; `None` where it has none.
    pub fn inverse(&self) -> Option<Self> {
        let n = self.rows;
        let mut left = self.clone();
        let mut right = Self::from_fn(n, n, |i, j| f64::from(u8::from(i == j)));
        for k in 0..n {
            let pivot = (k..n).max_by(|&a, &b| left.row(a)[k].abs().total_cmp(&left.row(b)[k].abs()))?;
            let value = left.row(pivot)[k];
            if value == 0.0 || !value.is_finite() {
                return None;
            }
            for matrix in [&mut left, &mut right] {
                let (old, new) = (matrix.row(k).to_vec(), matrix.row(pivot).to_vec());
                matrix.row_mut(pivot).copy_from_slice(&old);
                matrix.row_mut(k).iter_mut().zip(new).for_each(|(target, new)| *target = new / value);
            }
            let rows = [left.row(k).to_vec(), right.row(k).to_vec()];
            for i in (0..n).filter(|&i| i != k) {
                let factor = -left.row(i)[k];
                axpy(factor, &rows[0], left.row_mut(i));
                axpy(factor, &rows[1], right.row_mut(i));
            }
        }
        Some(right)
    }
}

/// `y += factor x`.
pub(super) fn axpy(factor: f64, x: &[f64], y: &mut [f64]) {
    if factor != 0.0 {
        y.iter_mut().zip(x).for_each(|(y, x)| *y += factor * x);
    }
}

/// The sum of products.
pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(rows: usize, cols: usize, seed: f64) -> Matrix {
        Matrix::from_fn(rows, cols, |i, j| (seed + 3.7 * i as f64 + 1.3 * j as f64).sin())
    }

    #[test]
    fn the_three_products_agree() {
        let (a, b) = (matrix(3, 4, 0.1), matrix(4, 5, 0.2));
        let transposed = |m: &Matrix| Matrix::from_fn(m.cols(), m.rows(), |i, j| m.row(j)[i]);
        let expected = a.times(&b);
        for other in [transposed(&a).transposed_times(&b), a.times_transposed(&transposed(&b))] {
            assert!(expected.values().iter().zip(other.values()).all(|(x, y)| (x - y).abs() < 1e-15));
        }
        assert!((expected.row(1)[2] - (0..4).map(|k| a.row(1)[k] * b.row(k)[2]).sum::<f64>()).abs() < 1e-15);
    }

    #[test]
    fn an_inverse_undoes_and_a_singular_matrix_has_none() {
        let mut a = Matrix::from_fn(5, 5, |i, j| (1.0 + (3 * i * i + 7 * j + i * j) as f64).sin());
        a.row_mut(0)[0] = 0.0;
        let product = a.times(&a.inverse().unwrap());
        for i in 0..5 {
            for j in 0..5 {
                assert!((product.row(i)[j] - f64::from(u8::from(i == j))).abs() < 1e-9, "{product:?}");
            }
        }
        assert_eq!(Matrix::zeros(2, 2).inverse(), None);
    }
}
