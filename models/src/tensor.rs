//! A dense float32 array with a shape.

use std::sync::Arc;

use thiserror::Error;

/// Why a [`Tensor`] could not be made.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TensorError {
    /// The number of values is not the product of the dimensions.
    #[error("a tensor of shape {shape:?} needs {expected} values, {got} were given")]
    Length {
        /// The shape asked for.
        shape: Vec<usize>,
        /// The product of its dimensions.
        expected: usize,
        /// The number of values given.
        got: usize,
    },
    /// The product of the dimensions does not fit the address space.
    #[error("a tensor of shape {shape:?} is too large to address")]
    TooLarge {
        /// The shape asked for.
        shape: Vec<usize>,
    },
}

/// A dense, row-major float32 array. Cloning shares the values.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    shape: Vec<usize>,
    values: Arc<Vec<f32>>,
}

/// The number of values in a tensor of this shape, or `None` where it overflows.
pub fn checked_len(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |len, &dim| len.checked_mul(dim))
}

impl Tensor {
    /// A tensor of `shape` over `values`, row-major.
    ///
    /// # Errors
    /// When the number of values is not the product of the dimensions.
    pub fn new(shape: impl Into<Vec<usize>>, values: Vec<f32>) -> Result<Self, TensorError> {
        let shape = shape.into();
        match checked_len(&shape) {
            None => Err(TensorError::TooLarge { shape }),
            Some(expected) if expected != values.len() => {
                Err(TensorError::Length { expected, got: values.len(), shape })
            }
            Some(_) => Ok(Self { shape, values: Arc::new(values) }),
        }
    }

    /// A tensor of one value throughout.
    ///
    /// # Errors
    /// When the product of the dimensions does not fit the address space.
    pub fn full(shape: impl Into<Vec<usize>>, value: f32) -> Result<Self, TensorError> {
        let shape = shape.into();
        match checked_len(&shape) {
            None => Err(TensorError::TooLarge { shape }),
            Some(len) => Self::new(shape, vec![value; len]),
        }
    }

    /// The dimensions, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The values, row-major.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The number of values.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The values for writing; copied first where another tensor shares them.
    pub fn values_mut(&mut self) -> &mut [f32] {
        Arc::make_mut(&mut self.values).as_mut_slice()
    }

    /// The same values under another shape.
    ///
    /// # Errors
    /// When the new shape holds another number of values.
    pub fn reshape(self, shape: impl Into<Vec<usize>>) -> Result<Self, TensorError> {
        let shape = shape.into();
        match checked_len(&shape) {
            Some(expected) if expected == self.len() => Ok(Self { shape, values: self.values }),
            Some(expected) => Err(TensorError::Length { expected, got: self.len(), shape }),
            None => Err(TensorError::TooLarge { shape }),
        }
    }

    /// The tensor whose dimension `i` is this one's dimension `axes[i]`, as NumPy's `transpose` gives it.
    ///
    /// `axes` holds each dimension once.
    pub(crate) fn permuted(&self, axes: &[usize]) -> Self {
        debug_assert_eq!(axes.len(), self.shape.len());
        let mut strides = vec![1; self.shape.len()];
        for axis in (1..self.shape.len()).rev() {
            strides[axis - 1] = strides[axis] * self.shape[axis];
        }
        let shape: Vec<usize> = axes.iter().map(|&axis| self.shape[axis]).collect();
        let value = |index: usize| {
            let mut rest = index;
            let mut at = 0;
            for (dim, &axis) in shape.iter().zip(axes).rev() {
                at += rest % dim * strides[axis];
                rest /= dim;
            }
            self.values[at]
        };
        let values = (0..self.len()).map(value).collect();
        Self { shape, values: Arc::new(values) }
    }

    /// The transpose of a matrix: `[rows, cols]` becomes `[cols, rows]`. `None` where this is not a matrix.
    pub fn transposed(&self) -> Option<Self> {
        let &[rows, cols] = self.shape.as_slice() else { return None };
        let source = self.values();
        let values = (0..cols).flat_map(|c| (0..rows).map(move |r| source[r * cols + c])).collect();
        Some(Self { shape: vec![cols, rows], values: Arc::new(values) })
    }

    /// A convolution `[out, in, height, width]` over the same channels in the reverse order. `None` where this is none.
    pub fn reversed_channels(&self) -> Option<Self> {
        let &[_, channels, height, width] = self.shape.as_slice() else { return None };
        let plane = (height * width).max(1);
        let rows = self.values().chunks_exact((channels * plane).max(1));
        let values = rows.flat_map(|row| row.rchunks_exact(plane).flatten().copied()).collect();
        Some(Self { shape: self.shape.clone(), values: Arc::new(values) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_are_reversed_and_places_stay() {
        let conv = Tensor::new([2, 3, 1, 2], (0..12).map(|i| i as f32).collect()).unwrap();
        let reversed = conv.reversed_channels().unwrap();
        assert_eq!(reversed.values(), [4., 5., 2., 3., 0., 1., 10., 11., 8., 9., 6., 7.]);
        assert_eq!(reversed.reversed_channels().unwrap(), conv);
        assert!(Tensor::full([2, 3], 1.0).unwrap().reversed_channels().is_none());
    }

    #[test]
    fn the_number_of_values_is_checked() {
        let error = Tensor::new([2, 3], vec![0.0; 5]).unwrap_err();
        assert_eq!(error, TensorError::Length { shape: vec![2, 3], expected: 6, got: 5 });
        let error = Tensor::full([usize::MAX, 2], 0.0).unwrap_err();
        assert!(matches!(error, TensorError::TooLarge { .. }));
    }

    #[test]
    fn transposing_twice_is_the_identity() {
        let tensor = Tensor::new([2, 3], vec![1., 2., 3., 4., 5., 6.]).unwrap();
        let transposed = tensor.transposed().unwrap();
        assert_eq!(transposed.shape(), [3, 2]);
        assert_eq!(transposed.values(), [1., 4., 2., 5., 3., 6.]);
        assert_eq!(transposed.transposed().unwrap(), tensor);
        assert_eq!(tensor.permuted(&[1, 0]), transposed);
    }

    #[test]
    fn dimensions_are_put_in_another_order() {
        let tensor = Tensor::new([1, 2, 3], vec![1., 2., 3., 4., 5., 6.]).unwrap();
        let permuted = tensor.permuted(&[2, 0, 1]);
        assert_eq!(permuted, Tensor::new([3, 1, 2], vec![1., 4., 2., 5., 3., 6.]).unwrap());
        assert_eq!(permuted.permuted(&[1, 2, 0]), tensor);
        let none = Tensor::new([2, 0], Vec::new()).unwrap();
        assert_eq!(none.permuted(&[1, 0]).shape(), [0, 2]);
    }
}
