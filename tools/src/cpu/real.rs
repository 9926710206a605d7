//! The numbers that the engine computes with.

use std::f32::consts::FRAC_2_SQRT_PI;
use std::fmt::Debug;
use std::ops::{Add, AddAssign, Div, Mul, MulAssign, Neg, Sub, SubAssign};

use faer::traits::ComplexField;

/// A floating-point type of the engine: `f32` to train with, `f64` as reference.
///
/// The transcendental functions of `f32` are free of branches and calls, so that loops over them are vectorised.
pub trait Real:
    ComplexField
    + Copy
    + Debug
    + Default
    + PartialOrd
    + Send
    + Sync
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + SubAssign
    + MulAssign
    + 'static
{
    /// The type's name.
    const NAME: &'static str;
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;

    /// The nearest value.
    fn from_f64(value: f64) -> Self;

    /// The value of a weight or a pixel, exactly.
    fn from_f32(value: f32) -> Self;

    /// The value, exactly.
    fn to_f64(self) -> f64;

    /// The nearest `f32`.
    fn to_f32(self) -> f32;

    /// `e^self`; not a number stays one.
    fn exp(self) -> Self;

    /// The error function; not a number stays one.
    fn erf(self) -> Self;

    /// The square root.
    fn sqrt(self) -> Self;
}

impl Real for f64 {
    const NAME: &'static str = "float64";
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;

    #[inline(always)]
    fn from_f64(value: f64) -> Self {
        value
    }

    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        value.into()
    }

    #[inline(always)]
    fn to_f64(self) -> f64 {
        self
    }

    #[inline(always)]
    fn to_f32(self) -> f32 {
        self as f32
    }

    #[inline(always)]
    fn exp(self) -> Self {
        f64::exp(self)
    }

    #[inline(always)]
    fn erf(self) -> Self {
        libm::erf(self)
    }

    #[inline(always)]
    fn sqrt(self) -> Self {
        f64::sqrt(self)
    }
}

impl Real for f32 {
    const NAME: &'static str = "float32";
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;

    #[inline(always)]
    fn from_f64(value: f64) -> Self {
        value as f32
    }

    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        value
    }

    #[inline(always)]
    fn to_f64(self) -> f64 {
        self.into()
    }

    #[inline(always)]
    fn to_f32(self) -> f32 {
        self
    }

    /// `2^n e^r` with `n = round(x / ln 2)` and `|r| <= ln 2 / 2`, whose exponential is `1 + r + r^2 p(r)`.
    /// Saturates at the smallest and near the largest normal number.
    #[inline(always)]
    fn exp(self) -> Self {
        /// Adding it leaves the integer nearest to the other summand in the low bits of the sum.
        const ROUND: f32 = 12_582_912.0;
        /// ln 2 in two parts, the first with so few bits that its product with `n` is exact.
        const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
        const P: [f32; 5] = [0.499_999_94, 0.166_665_21, 0.041_668_39, 0.008_368_745, 0.001_381_454];

        // `clamp` keeps what is not a number, `min` and `max` would not.
        let x = self.clamp(-87.33, 88.37);
        let rounded = x * std::f32::consts::LOG2_E + ROUND;
        let n = rounded - ROUND;
        let r = x - n * LN_2[0] - n * LN_2[1];
        let power = f32::from_bits(rounded.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23);
        (1.0 + r + r * r * horner(P, r)) * power
    }

    /// `x P(x^2) / Q(x^2)`, a least-maximum fit on `|x| <= 3.92`, beyond which the function rounds to 1.
    #[inline(always)]
    fn erf(self) -> Self {
        const P: [f32; 6] = [FRAC_2_SQRT_PI, 0.190_407, 0.052_748_8, 0.003_765_641_2, 2.848_835_4e-4, 2.050_086_8e-6];
        const Q: [f32; 6] = [1.0, 0.502_076_57, 0.114_109_34, 0.014_969_265, 0.001_162_541_9, 3.809_175_5e-5];

        let x = self.clamp(-3.92, 3.92);
        let square = x * x;
        (x * horner(P, square) / horner(Q, square)).clamp(-1.0, 1.0)
    }

    #[inline(always)]
    fn sqrt(self) -> Self {
        f32::sqrt(self)
    }
}

/// `c[0] + c[1] x + c[2] x^2 + ...`
#[inline(always)]
fn horner<const N: usize>(coefficients: [f32; N], x: f32) -> f32 {
    let mut sum = 0.0;
    for &coefficient in coefficients.iter().rev() {
        sum = sum * x + coefficient;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Absolute error of erf and relative error of exp in float32.
    const TOLERANCE: f64 = 5e-7;

    #[test]
    fn the_fast_erf_is_the_error_function() {
        for step in -600_000..=600_000 {
            let x = step as f32 * 1e-5;
            let (got, expected) = (Real::erf(x), libm::erf(f64::from(x)));
            assert!((f64::from(got) - expected).abs() < TOLERANCE, "erf({x}) = {expected}, got {got}");
        }
        assert_eq!(Real::erf(f32::INFINITY), 1.0);
        assert!(Real::erf(f32::NAN).is_nan());
    }

    #[test]
    fn the_fast_exp_is_the_exponential() {
        for step in -870_000..=880_000 {
            let x = step as f32 * 1e-4;
            let (got, expected) = (Real::exp(x), f64::exp(f64::from(x)));
            assert!((f64::from(got) / expected - 1.0).abs() < TOLERANCE, "exp({x}) = {expected}, got {got}");
        }
        assert_eq!(Real::exp(0.0f32), 1.0);
        assert!(Real::exp(f32::NEG_INFINITY) < 2e-38);
        assert!(Real::exp(f32::NAN).is_nan());
    }
}
