//! What each output position along an axis is made of.

use std::ops::Range;

use super::Filter;

/// Fractional bits of a coefficient: a sum of products of 8-bit values and coefficients fits 32 bits.
pub(super) const PRECISION_BITS: i32 = 32 - 8 - 2;

/// One half in fixed point: what a sum begins with, so that the shift to 8 bits rounds to nearest.
pub(super) const HALF: i32 = 1 << (PRECISION_BITS - 1);

/// What each output position along an axis reads, and the coefficients of it.
#[derive(Debug, Default)]
pub(super) struct Taps {
    /// Of each position, the inputs with a coefficient that counts.
    inputs: Vec<Range<usize>>,
    /// The coefficients of each position's inputs, one position after another.
    coefficients: Vec<i32>,
}

impl Taps {
    /// Those of the positions `window` of an axis that is resampled from `input` to `output` pixels
    /// (`precompute_coeffs` and `normalize_coeffs_8bpc`).
    pub(super) fn set(&mut self, input: usize, output: usize, window: Range<usize>, filter: Filter) {
        let scale = input as f64 / output as f64;
        // Reduction widens the kernel, which is the antialias; enlargement interpolates.
        let filter_scale = scale.max(1.0);
        let support = filter.support() * filter_scale;
        let step = 1.0 / filter_scale;
        self.inputs.clear();
        self.coefficients.clear();
        for position in window {
            let center = (position as f64 + 0.5) * scale;
            // The casts truncate and saturate at 0, as the C casts followed by a comparison do.
            let start = (center - support + 0.5) as usize;
            let inputs = start..((center + support + 0.5) as usize).min(input);
            let weight = |input: usize| filter.weight((input as f64 - center + 0.5) * step);
            let sum: f64 = inputs.clone().map(weight).sum();
            self.coefficients.extend(inputs.clone().map(|input| {
                let scaled = weight(input) / sum * f64::from(1 << PRECISION_BITS);
                (if scaled < 0.0 { scaled - 0.5 } else { scaled + 0.5 }) as i32
            }));
            self.inputs.push(inputs);
        }
    }

    /// How many positions there are.
    pub(super) fn len(&self) -> usize {
        self.inputs.len()
    }

    /// Of each position, the inputs and as many coefficients.
    #[inline(always)]
    pub(super) fn iter(&self) -> impl Iterator<Item = (Range<usize>, &[i32])> {
        let mut rest = self.coefficients.as_slice();
        self.inputs.iter().map(move |inputs| {
            let (coefficients, others) = rest.split_at(inputs.len());
            rest = others;
            (inputs.clone(), coefficients)
        })
    }

    /// The most inputs that a position reads.
    pub(super) fn most(&self) -> usize {
        self.inputs.iter().map(Range::len).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coefficients_sum_to_one_within_their_rounding() {
        for (input, output) in [(7, 3), (3, 7), (1, 5), (640, 112), (100, 99)] {
            for filter in [Filter::Bilinear, Filter::Bicubic] {
                let mut taps = Taps::default();
                taps.set(input, output, 0..output, filter);
                assert_eq!((taps.len(), taps.iter().count()), (output, output));
                for (inputs, coefficients) in taps.iter() {
                    let sum: i64 = coefficients.iter().map(|&coefficient| i64::from(coefficient)).sum();
                    let off = (sum - (1 << PRECISION_BITS)).unsigned_abs() as usize;
                    assert!(off <= inputs.len(), "{input} to {output}: off by {off}");
                    assert!(inputs.end <= input && inputs.len() == coefficients.len() && inputs.len() <= taps.most());
                }
            }
        }
    }
}
