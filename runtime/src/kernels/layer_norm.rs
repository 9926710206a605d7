//! Layer normalisation.

use pulp::Simd;

use super::Kernel;

/// `out = (x - mean) / sqrt(variance + eps) * weight + bias` over each row, as in arXiv 1607.06450.
pub(crate) struct LayerNorm<'a> {
    /// `[rows, dim]`, `dim` being the length of `weight`.
    pub(crate) input: &'a [f32],
    /// `[dim]`.
    pub(crate) weight: &'a [f32],
    /// `[dim]`.
    pub(crate) bias: &'a [f32],
    pub(crate) eps: f32,
    /// `[rows, dim]`.
    pub(crate) out: &'a mut [f32],
}

impl Kernel for LayerNorm<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, const ROWS: usize, const VECTORS: usize>(self, simd: S) {
        let dim = self.weight.len();
        if dim == 0 {
            return;
        }
        for (row, out) in self.input.chunks_exact(dim).zip(self.out.chunks_exact_mut(dim)) {
            let mean = sum(simd, row, |x| x) / dim as f32;
            let centre = simd.splat_f32s(mean);
            let squares = sum(simd, row, |x| {
                let departure = simd.sub_f32s(x, centre);
                simd.mul_f32s(departure, departure)
            });
            let factor = simd.splat_f32s(1.0 / (squares / dim as f32 + self.eps).sqrt());
            let normalise = |x, weight, bias| {
                let normal = simd.mul_f32s(simd.sub_f32s(x, centre), factor);
                simd.mul_add_f32s(normal, weight, bias)
            };
            let ((row, row_end), (out, out_end)) = (S::as_simd_f32s(row), S::as_mut_simd_f32s(out));
            let ((weight, weight_end), (bias, bias_end)) = (S::as_simd_f32s(self.weight), S::as_simd_f32s(self.bias));
            for (((x, weight), bias), out) in row.iter().zip(weight).zip(bias).zip(out) {
                *out = normalise(*x, *weight, *bias);
            }
            let [x, weight, bias] = [row_end, weight_end, bias_end].map(|end| simd.partial_load_f32s(end));
            simd.partial_store_f32s(out_end, normalise(x, weight, bias));
        }
    }
}

/// The sum of `map` over the values of `row`.
#[inline(always)]
fn sum<S: Simd>(simd: S, row: &[f32], map: impl Fn(S::f32s) -> S::f32s) -> f32 {
    /// Sums that do not wait for each other.
    const CHAINS: usize = 4;
    const MAX_LANES: usize = 16;
    let (vectors, end) = S::as_simd_f32s(row);
    let (groups, rest) = vectors.as_chunks::<CHAINS>();
    let mut sums = [simd.splat_f32s(0.0); CHAINS];
    for group in groups {
        for (sum, vector) in sums.iter_mut().zip(group) {
            *sum = simd.add_f32s(*sum, map(*vector));
        }
    }
    for vector in rest {
        sums[0] = simd.add_f32s(sums[0], map(*vector));
    }
    let pairs = [simd.add_f32s(sums[0], sums[1]), simd.add_f32s(sums[2], sums[3])];
    let mut last = [0.0; MAX_LANES];
    let last = &mut last[..end.len()];
    simd.partial_store_f32s(last, map(simd.partial_load_f32s(end)));
    simd.reduce_sum_f32s(simd.add_f32s(pairs[0], pairs[1])) + last.iter().sum::<f32>()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{noise, run};
    use super::*;

    proptest! {
        #[test]
        fn a_row_is_normalised_scaled_and_shifted(
            (rows, dim) in (0_usize..5, 1_usize..100),
            shift in -20.0_f32..20.0,
            seed: u32,
        ) {
            let mut values = noise(seed);
            let input: Vec<f32> = values(rows * dim).into_iter().map(|value| value + shift).collect();
            let (weight, bias, mut out, eps) = (values(dim), values(dim), vec![0.0; rows * dim], 1e-3);
            run(LayerNorm { input: &input, weight: &weight, bias: &bias, eps, out: &mut out });
            for (row, out) in input.chunks(dim).zip(out.chunks(dim)) {
                let row: Vec<f64> = row.iter().map(|value| f64::from(*value)).collect();
                let mean = row.iter().sum::<f64>() / dim as f64;
                let variance = row.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / dim as f64;
                for (place, value) in out.iter().enumerate() {
                    let normal = (row[place] - mean) / (variance + f64::from(eps)).sqrt();
                    let expected = normal * f64::from(weight[place]) + f64::from(bias[place]);
                    prop_assert!((f64::from(*value) - expected).abs() < 1e-4, "{value} instead of {expected}");
                }
            }
        }
    }
}
