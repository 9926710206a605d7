//! The products without vectors: what the others are measured against.

use pulp::Scalar;

use super::{ByWord, Vectors};

#[derive(Debug, Clone, Copy)]
pub(super) struct Plain;

impl Vectors for Scalar {
    #[inline(always)]
    fn floats(self, sum: i32) -> f32 {
        sum as f32
    }
}

impl ByWord for Plain {
    type Simd = Scalar;

    #[inline(always)]
    fn simd(self) -> Scalar {
        Scalar::new()
    }

    #[inline(always)]
    fn dot(self, sum: i32, values: i32, weights: i32) -> i32 {
        let weights = weights.to_le_bytes().map(|weight| i32::from(weight.cast_signed()));
        let products = values.to_le_bytes().into_iter().zip(weights).map(|(value, weight)| i32::from(value) * weight);
        products.fold(sum, i32::wrapping_add)
    }
}
