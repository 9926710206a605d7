//! Elementary functions of whole vectors.

// The coefficients of fits, one of which happens to lie near a constant, and values that float32 holds exactly.
#![allow(clippy::excessive_precision, clippy::approx_constant)]

use pulp::Simd;

/// What a linear layer's outputs go through.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Activation {
    /// Nothing.
    Identity,
    /// `x / 2 (1 + erf(x / sqrt 2))`.
    Gelu,
    /// `x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))`.
    GeluTanh,
    /// `x / (1 + exp(-gate x))`: SiLU where the gate is 1, QuickGELU where it is 1.702.
    Swish { gate: f32 },
}

impl Activation {
    #[inline(always)]
    pub(super) fn apply<S: Simd>(self, simd: S, x: S::f32s) -> S::f32s {
        match self {
            Self::Identity => x,
            Self::Gelu => gelu(simd, x),
            Self::GeluTanh => gelu_tanh(simd, x),
            Self::Swish { gate } => gated(simd, x, simd.mul_f32s(x, simd.splat_f32s(gate))),
        }
    }
}

/// The polynomial with these coefficients, the highest power's first, at `x`.
#[inline(always)]
fn polynomial<S: Simd, const N: usize>(simd: S, coefficients: [f32; N], x: S::f32s) -> S::f32s {
    let mut value = simd.splat_f32s(coefficients[0]);
    for coefficient in &coefficients[1..] {
        value = simd.mul_add_f32s(value, x, simd.splat_f32s(*coefficient));
    }
    value
}

#[inline(always)]
fn clamp<S: Simd>(simd: S, x: S::f32s, bound: f32) -> S::f32s {
    simd.max_f32s(simd.min_f32s(x, simd.splat_f32s(bound)), simd.splat_f32s(-bound))
}

/// `erf(x)`, to a few units in the last place.
///
/// `x P(x^2) / Q(x^2)`, fitted by reweighted least squares where the error function is not yet 1 in float32.
#[inline(always)]
fn erf<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    const P: [f32; 6] = [2.050_356_4e-6, 2.874_463_2e-4, 3.836_636_4e-3, 5.296_619_2e-2, 1.919_361_6e-1, 1.128_379];
    const Q: [f32; 6] = [3.822_984_1e-5, 1.181_665_3e-3, 1.510_874_1e-2, 1.147_561_1e-1, 5.034_307_7e-1, 1.0];
    let x = clamp(simd, x, 3.9);
    let square = simd.mul_f32s(x, x);
    let numerator = simd.mul_f32s(x, polynomial(simd, P, square));
    clamp(simd, simd.div_f32s(numerator, polynomial(simd, Q, square)), 1.0)
}

#[inline(always)]
fn gelu<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let half = simd.mul_f32s(x, simd.splat_f32s(0.5));
    let scaled = simd.mul_f32s(x, simd.splat_f32s(std::f32::consts::FRAC_1_SQRT_2));
    simd.mul_add_f32s(half, erf(simd, scaled), half)
}

#[inline(always)]
fn gelu_tanh<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    /// `2 sqrt(2 / pi)`: `(1 + tanh(y)) / 2` is the logistic function of `2 y`.
    const FACTOR: f32 = 1.595_769_1;
    let square = simd.mul_f32s(x, x);
    let factor = simd.mul_add_f32s(square, simd.splat_f32s(FACTOR * 0.044_715), simd.splat_f32s(FACTOR));
    gated(simd, x, simd.mul_f32s(x, factor))
}

/// `x / (1 + exp(-gate))`.
#[inline(always)]
fn gated<S: Simd>(simd: S, x: S::f32s, gate: S::f32s) -> S::f32s {
    let one = simd.splat_f32s(1.0);
    simd.div_f32s(x, simd.add_f32s(one, exp(simd, simd.neg_f32s(gate))))
}

/// `exp(x)`, to a few units in the last place; below -87 and above 88 that of the bound.
#[inline(always)]
pub(super) fn exp<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    /// `exp(r)` for `r` between `-ln(2) / 2` and `ln(2) / 2`, by reweighted least squares.
    const P: [f32; 7] = [1.383_683_7e-3, 8.374_816e-3, 4.166_822_6e-2, 1.666_642e-1, 4.999_999_2e-1, 1.0, 1.0];
    /// A number of this size has no room for fractions, so that adding it rounds; its low bits then hold the integer.
    const ROUND: f32 = 12_582_912.0;
    // ln 2 in two parts, the first with so few digits that its products with exponents are exact.
    const LN_2_HIGH: f32 = 0.693_359_375;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let x = simd.max_f32s(simd.min_f32s(x, simd.splat_f32s(88.0)), simd.splat_f32s(-87.0));
    let round = simd.splat_f32s(ROUND);
    let shifted = simd.mul_add_f32s(x, simd.splat_f32s(std::f32::consts::LOG2_E), round);
    let exponent = simd.sub_f32s(shifted, round);
    let rest = simd.mul_add_f32s(exponent, simd.splat_f32s(-LN_2_HIGH), x);
    let rest = simd.mul_add_f32s(exponent, simd.splat_f32s(-LN_2_LOW), rest);
    let mantissa = polynomial(simd, P, rest);
    // The exponent's bits are added to the mantissa's: a product with a power of two.
    let bits = simd.transmute_u32s_f32s(shifted);
    let power = simd.wrapping_dyn_shl_u32s(bits, simd.splat_u32s(23));
    simd.transmute_f32s_u32s(simd.add_u32s(simd.transmute_u32s_f32s(mantissa), power))
}

#[cfg(test)]
mod tests {
    use super::super::{Kernel, run};
    use super::*;

    struct Map<'a, F>(&'a mut [f32], F);

    trait Function {
        fn at<S: Simd>(&self, simd: S, x: S::f32s) -> S::f32s;
    }

    struct Exp;
    impl Function for Exp {
        #[inline(always)]
        fn at<S: Simd>(&self, simd: S, x: S::f32s) -> S::f32s {
            exp(simd, x)
        }
    }

    impl Function for Activation {
        #[inline(always)]
        fn at<S: Simd>(&self, simd: S, x: S::f32s) -> S::f32s {
            self.apply(simd, x)
        }
    }

    impl<F: Function> Kernel for Map<'_, F> {
        type Output = ();

        #[inline(always)]
        fn run<S: Simd, const ROWS: usize, const VECTORS: usize>(self, simd: S) {
            let (vectors, rest) = S::as_mut_simd_f32s(self.0);
            assert!(rest.is_empty());
            for vector in vectors {
                *vector = self.1.at(simd, *vector);
            }
        }
    }

    /// Every float32 in `range` with the low bits cut, beside what `function` makes of it.
    fn mapped(range: std::ops::Range<f32>, function: impl Function) -> Vec<(f32, f32)> {
        let steps = 1 << 20;
        let points: Vec<f32> =
            (0..steps).map(|step| range.start + (range.end - range.start) * step as f32 / steps as f32).collect();
        let mut values = points.clone();
        run(Map(&mut values, function));
        points.into_iter().zip(values).collect()
    }

    #[test]
    fn exp_is_right_to_a_few_units_in_the_last_place() {
        for (x, value) in mapped(-87.0..88.0, Exp) {
            let expected = f64::from(x).exp();
            let relative = (f64::from(value) - expected).abs() / expected;
            assert!(relative < 2.5e-7, "exp({x}) = {value}, expected {expected}");
        }
        for (x, value) in mapped(-1e30..-87.0, Exp) {
            assert!((0.0..2e-38).contains(&value), "exp({x}) = {value}");
        }
    }

    #[test]
    fn gelu_is_right_to_a_few_units_in_the_last_place_of_its_argument() {
        for (x, value) in mapped(-12.0..12.0, Activation::Gelu) {
            let wide = f64::from(x);
            let expected = wide / 2.0 * libm::erfc(-wide / std::f64::consts::SQRT_2);
            let error = (f64::from(value) - expected).abs();
            assert!(error < 3e-7 * wide.abs().max(1.0), "gelu({x}) = {value}, expected {expected}");
        }
    }

    #[test]
    fn tanh_gelu_is_right_to_a_few_units_in_the_last_place_of_its_argument() {
        for (x, value) in mapped(-12.0..12.0, Activation::GeluTanh) {
            let wide = f64::from(x);
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (wide + 0.044_715 * wide.powi(3));
            let expected = wide / 2.0 * (1.0 + inner.tanh());
            let error = (f64::from(value) - expected).abs();
            assert!(error < 5e-7 * wide.abs().max(1.0), "gelu({x}) = {value}, expected {expected}");
        }
    }

    #[test]
    fn swish_is_right_to_a_few_units_in_the_last_place() {
        for gate in [1.0, 1.702] {
            for (x, value) in mapped(-40.0..40.0, Activation::Swish { gate }) {
                let wide = f64::from(x);
                let expected = wide / (1.0 + (-wide * f64::from(gate)).exp());
                let error = (f64::from(value) - expected).abs();
                assert!(error <= 4e-6 * expected.abs(), "swish({x}) = {value}, expected {expected}");
            }
        }
    }
}
