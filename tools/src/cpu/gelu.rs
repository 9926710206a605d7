//! The exact GELU: `y = x Phi(x)`, `Phi(x) = (1 + erf(x / sqrt 2)) / 2`.

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};

use super::Real;
use super::vector::vectorized;

#[inline(always)]
fn phi<T: Real>(x: T) -> T {
    T::from_f64(0.5) * (T::ONE + (x * T::from_f64(FRAC_1_SQRT_2)).erf())
}

/// Of any shape.
pub(super) fn forward<T: Real>(x: &[T], y: &mut [T]) {
    vectorized(
        #[inline(always)]
        || {
            for (y, &x) in y.iter_mut().zip(x) {
                *y = x * phi(x);
            }
        },
    );
}

/// In place, `dy` becomes `dx = dy (Phi(x) + x phi(x))` with the normal density `phi(x) = exp(-x^2 / 2) / sqrt(2 pi)`.
pub(super) fn backward<T: Real>(x: &[T], gradient: &mut [T]) {
    let density_at_zero = T::from_f64(0.5 * FRAC_1_SQRT_2 * FRAC_2_SQRT_PI);
    let half = T::from_f64(0.5);
    vectorized(
        #[inline(always)]
        || {
            for (gradient, &x) in gradient.iter_mut().zip(x) {
                *gradient *= phi(x) + x * density_at_zero * (-half * x * x).exp();
            }
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_the_normal_distribution() {
        let mut y = [0.0f64; 3];
        forward(&[0.0f64, 1.0, -2.0], &mut y);
        let expected = [0.0, 0.841_344_746_068_542_9, -0.045_500_263_896_358_42];
        assert!(y.iter().zip(expected).all(|(y, expected)| (y - expected).abs() < 1e-15), "{y:?}");
        let mut slope = [1.0; 2];
        backward(&[0.0, 1.0], &mut slope);
        assert!((slope[0] - 0.5f64).abs() < 1e-15 && (slope[1] - 1.083_315_470_587_686_3).abs() < 1e-15, "{slope:?}");
    }
}
