//! What processors with arithmetic in sixteen bits compute, on those without: floats of thirty-two bits, rounded to the mantissa of
//! sixteen after each operation.
//!
//! It tells what a model answers on the others, and is slower than products in thirty-two bits. What differs: a sum is rounded twice, which
//! comes to another result where the first rounding ends half way between two numbers, and numbers next to zero keep their mantissa.

use pulp::Simd;

use super::{DEPTH, Instructions};
use crate::kernels::Weights;

/// The vectors of a processor.
#[derive(Clone, Copy)]
pub(super) struct Rounded<S>(pub(super) S);

impl<S: Simd> Rounded<S> {
    /// The nearest numbers of 11 bits (T. J. Dekker, 1971: `c = 2^(24 - 11) + 1`).
    #[inline(always)]
    fn round(self, values: S::f32s) -> S::f32s {
        const SPLIT: f32 = 8193.0;
        let simd = self.0;
        let large = simd.mul_f32s(simd.splat_f32s(SPLIT), values);
        simd.sub_f32s(large, simd.sub_f32s(large, values))
    }
}

impl<S: Simd> Instructions for Rounded<S> {
    type Simd = S;
    type Value = f32;

    #[inline(always)]
    fn simd(self) -> S {
        self.0
    }

    #[inline(always)]
    fn room(self, weights: &Weights) -> usize {
        weights.room()
    }

    #[inline(always)]
    fn panel<'a>(self, weights: &'a Weights, index: usize, room: &'a mut [f32]) -> &'a [f32] {
        weights.panel(index, room)
    }

    #[inline(always)]
    fn narrow(self, row: &[f32], factor: f32, to: &mut [f32]) {
        let (values, end) = S::as_simd_f32s(row);
        let (whole, rest) = S::as_mut_simd_f32s(to);
        let narrow = |values| self.round(self.0.mul_f32s(values, self.0.splat_f32s(factor)));
        for (values, to) in values.iter().zip(whole) {
            *to = narrow(*values);
        }
        self.0.partial_store_f32s(rest, narrow(self.0.partial_load_f32s(end)));
    }

    #[inline(always)]
    fn tile<const ROWS: usize, const VECTORS: usize>(
        self,
        rows: &[[f32; ROWS]],
        panel: &[f32],
        mut meanwhile: impl FnMut(),
    ) -> [[S::f32s; VECTORS]; ROWS] {
        let zero = [[self.0.splat_f32s(0.0); VECTORS]; ROWS];
        let mut totals = zero;
        let panel = S::as_simd_f32s(panel).0.as_chunks::<VECTORS>().0;
        for (rows, panel) in rows.chunks(DEPTH).zip(panel.chunks(DEPTH)) {
            let mut sums = zero;
            for (values, weights) in rows.iter().zip(panel) {
                meanwhile();
                for (sums, value) in sums.iter_mut().zip(values) {
                    let value = self.0.splat_f32s(*value);
                    for (sum, weight) in sums.iter_mut().zip(weights) {
                        *sum = self.round(self.0.mul_add_f32s(value, *weight, *sum));
                    }
                }
            }
            for (total, sum) in totals.as_flattened_mut().iter_mut().zip(sums.as_flattened()) {
                *total = self.0.add_f32s(*total, *sum);
            }
        }
        totals
    }
}
