//! Rows of float32 values as unsigned 8-bit integers, as ONNX's `DynamicQuantizeLinear` defines them.

use pulp::Simd;

use super::super::{Kernel, run};

/// A value `x` stands for is `scale (x - zero)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Quantization {
    pub(crate) scale: f32,
    pub(crate) zero: u8,
}

impl Quantization {
    /// That of values whose parts have these [`range`]s.
    ///
    /// Where there is no scale, because a value is no finite number, it is NaN, and so is everything multiplied with it.
    pub(crate) fn of(ranges: &[[f32; 2]]) -> Self {
        let wider = |[least, most]: [f32; 2], [low, high]: &[f32; 2]| [least.min(*low), most.max(*high)];
        let [least, most] = ranges.iter().fold([0.0; 2], wider);
        let none = ranges.iter().any(|[least, _]| least.is_nan());
        let spread = if none { f32::NAN } else { most - least };
        if !spread.is_finite() {
            return Self { scale: f32::NAN, zero: 0 };
        }
        // A spread so small that there is no such float32 is none.
        let scale = if spread / 255.0 == 0.0 { 1.0 / 255.0 } else { spread / 255.0 };
        Self { scale, zero: (-least / scale).clamp(0.0, 255.0).round_ties_even() as u8 }
    }
}

/// The least and the greatest of `values` and 0; NaN if one of them is no finite number.
pub(crate) fn range(values: &[f32]) -> [f32; 2] {
    run(Range(values))
}

struct Range<'a>(&'a [f32]);

impl Kernel for Range<'_> {
    type Output = [f32; 2];

    #[inline(always)]
    fn run<S: Simd, const ROWS: usize, const VECTORS: usize>(self, simd: S) -> [f32; 2] {
        /// Extremes that do not wait for each other.
        const CHAINS: usize = 4;
        let zero = simd.splat_f32s(0.0);
        // A product with 0 is 0, or NaN where a value is no finite number.
        let (mut least, mut most, mut check) = ([zero; CHAINS], [zero; CHAINS], [zero; CHAINS]);
        let mut take = |chain: usize, value| {
            least[chain] = simd.min_f32s(least[chain], value);
            most[chain] = simd.max_f32s(most[chain], value);
            check[chain] = simd.mul_add_f32s(value, zero, check[chain]);
        };
        let (vectors, end) = S::as_simd_f32s(self.0);
        let (groups, rest) = vectors.as_chunks::<CHAINS>();
        for group in groups {
            for (chain, vector) in group.iter().enumerate() {
                take(chain, *vector);
            }
        }
        for vector in rest {
            take(0, *vector);
        }
        take(0, simd.partial_load_f32s(end));
        let check = check.into_iter().fold(zero, |sum, check| simd.add_f32s(sum, check));
        if simd.reduce_sum_f32s(check).is_nan() {
            return [f32::NAN; 2];
        }
        let least = least.into_iter().fold(zero, |least, other| simd.min_f32s(least, other));
        let most = most.into_iter().fold(zero, |most, other| simd.max_f32s(most, other));
        [simd.reduce_min_f32s(least), simd.reduce_max_f32s(most)]
    }
}

/// `out = saturate(round(values / scale) + zero)`, halves to even; zeros where there is no scale.
pub(crate) fn quantize(values: &[f32], quantization: Quantization, out: &mut [u8]) {
    run(Values { values, quantization, out });
}

struct Values<'a> {
    values: &'a [f32],
    quantization: Quantization,
    out: &'a mut [u8],
}

impl Kernel for Values<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, const ROWS: usize, const VECTORS: usize>(self, _: S) {
        /// A number of this size has no room for fractions, so that adding it rounds; its low byte is 0.
        const ROUND: f32 = 12_582_912.0;
        let Quantization { scale, zero } = self.quantization;
        if scale.is_nan() {
            return self.out.fill(0);
        }
        let (least, most) = (-f32::from(zero), f32::from(255 - zero));
        // The compiler makes vectors of this.
        for (value, out) in self.values.iter().zip(self.out) {
            let steps = value / scale;
            let steps = if steps > least { steps } else { least };
            let steps = if steps < most { steps } else { most };
            *out = (steps + ROUND).to_bits().wrapping_add(u32::from(zero)) as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::super::noise;
    use super::*;

    /// `DynamicQuantizeLinear` as ONNX defines it, in float32.
    fn expected(values: &[f32]) -> (f32, u8, Vec<u8>) {
        let least = values.iter().fold(0.0_f32, |least, value| least.min(*value));
        let most = values.iter().fold(0.0_f32, |most, value| most.max(*value));
        let scale = (if least == most { 1.0 } else { most - least }) / 255.0;
        let zero = (0.0 - least / scale).clamp(0.0, 255.0).round_ties_even();
        let steps = values.iter().map(|value| ((value / scale).round_ties_even() + zero).clamp(0.0, 255.0) as u8);
        (scale, zero as u8, steps.collect())
    }

    fn ours(values: &[f32]) -> (f32, u8, Vec<u8>) {
        let quantization = Quantization::of(&[range(values)]);
        let mut out = vec![7; values.len()];
        quantize(values, quantization, &mut out);
        (quantization.scale, quantization.zero, out)
    }

    proptest! {
        #[test]
        fn values_are_quantised_as_onnx_defines_it(
            len in 0_usize..300,
            (shift, exponent) in (-2.0_f32..2.0, -30_i32..30),
            seed: u32,
        ) {
            let values: Vec<f32> = noise(seed)(len).iter().map(|value| (value + shift) * 2_f32.powi(exponent)).collect();
            prop_assert_eq!(ours(&values), expected(&values));
        }

        #[test]
        fn halves_are_rounded_to_even(zero in 0_u8..=255, quarters in prop::collection::vec(-600_i32..600, 1..100)) {
            // A range of 255 has a scale of 1, so that many values lie half way between two steps.
            let zero = f32::from(zero);
            let within = quarters.iter().map(|value| (*value as f32 / 4.0).clamp(-zero, 255.0 - zero));
            let values: Vec<f32> = within.chain([-zero, 255.0 - zero]).collect();
            let (scale, ..) = ours(&values);
            prop_assert_eq!(scale, 1.0);
            prop_assert_eq!(ours(&values), expected(&values));
        }
    }

    #[test]
    fn what_has_no_range_becomes_zeros() {
        for values in [vec![], vec![0.0; 50], vec![-0.0; 50], vec![f32::from_bits(1); 50]] {
            assert_eq!(ours(&values), (1.0 / 255.0, 0, vec![0; values.len()]));
        }
    }

    #[test]
    fn what_is_no_finite_number_spoils_the_scale() {
        for (place, value) in [(0, f32::NAN), (39, f32::INFINITY), (40, f32::NEG_INFINITY)] {
            let mut values = vec![1.0; 41];
            values[place] = value;
            let (scale, zero, out) = ours(&values);
            assert!(scale.is_nan());
            assert_eq!((zero, out), (0, vec![0; 41]));
        }
        assert!(ours(&[f32::MAX, -f32::MAX]).0.is_nan());
    }
}
