//! Nonlinearities on each value, and their slopes.

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_PI, FRAC_2_SQRT_PI};

use edge_vit_models::Activation;

use super::Real;
use super::vector::vectorized;

/// The cubic term of the GELU with the hyperbolic tangent.
const CUBIC: f64 = 0.044_715;
/// The slope within the QuickGELU's sigmoid.
const QUICK: f64 = 1.702;

/// Of any shape.
pub(super) fn forward<T: Real>(activation: Activation, x: &[T], y: &mut [T]) {
    match activation {
        Activation::Gelu => map(x, y, gelu),
        Activation::GeluTanh => map(x, y, |x| x * sigmoid(tanh_argument(x))),
        Activation::QuickGelu => map(x, y, |x| x * sigmoid(x * T::from_f64(QUICK))),
        Activation::Silu => map(x, y, |x| x * sigmoid(x)),
        Activation::Relu => map(x, y, |x| if x > T::ZERO { x } else { T::ZERO }),
    }
}

/// In place, `dy` becomes `dx = dy f'(x)`.
pub(super) fn backward<T: Real>(activation: Activation, x: &[T], gradient: &mut [T]) {
    match activation {
        Activation::Gelu => scale(x, gradient, gelu_slope),
        Activation::GeluTanh => scale(x, gradient, gelu_tanh_slope),
        Activation::QuickGelu => scale(x, gradient, |x| {
            let gate = sigmoid(x * T::from_f64(QUICK));
            gate + x * T::from_f64(QUICK) * gate * (T::ONE - gate)
        }),
        Activation::Silu => scale(x, gradient, |x| {
            let gate = sigmoid(x);
            gate + x * gate * (T::ONE - gate)
        }),
        Activation::Relu => scale(x, gradient, |x| if x > T::ZERO { T::ONE } else { T::ZERO }),
    }
}

fn map<T: Real>(x: &[T], y: &mut [T], function: impl Fn(T) -> T) {
    vectorized(
        #[inline(always)]
        || {
            for (y, &x) in y.iter_mut().zip(x) {
                *y = function(x);
            }
        },
    );
}

fn scale<T: Real>(x: &[T], gradient: &mut [T], slope: impl Fn(T) -> T) {
    vectorized(
        #[inline(always)]
        || {
            for (gradient, &x) in gradient.iter_mut().zip(x) {
                *gradient *= slope(x);
            }
        },
    );
}

/// `Phi(x) = (1 + erf(x / sqrt 2)) / 2`.
#[inline(always)]
fn phi<T: Real>(x: T) -> T {
    T::from_f64(0.5) * (T::ONE + (x * T::from_f64(FRAC_1_SQRT_2)).erf())
}

#[inline(always)]
fn gelu<T: Real>(x: T) -> T {
    x * phi(x)
}

/// `Phi(x) + x phi(x)` with the normal density `phi(x) = exp(-x^2 / 2) / sqrt(2 pi)`.
#[inline(always)]
fn gelu_slope<T: Real>(x: T) -> T {
    let density_at_zero = T::from_f64(0.5 * FRAC_1_SQRT_2 * FRAC_2_SQRT_PI);
    phi(x) + x * density_at_zero * (T::from_f64(-0.5) * x * x).exp()
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
fn sigmoid<T: Real>(x: T) -> T {
    T::ONE / (T::ONE + (-x).exp())
}

/// `(1 + tanh(u)) / 2` is the sigmoid of `2 u`: here `2 sqrt(2 / pi) (x + 0.044715 x^3)`.
#[inline(always)]
fn tanh_argument<T: Real>(x: T) -> T {
    T::from_f64(2.0 * FRAC_2_PI.sqrt()) * x * (T::ONE + T::from_f64(CUBIC) * x * x)
}

#[inline(always)]
fn gelu_tanh_slope<T: Real>(x: T) -> T {
    let gate = sigmoid(tanh_argument(x));
    let inner = T::from_f64(2.0 * FRAC_2_PI.sqrt()) * (T::ONE + T::from_f64(3.0 * CUBIC) * x * x);
    gate + x * inner * gate * (T::ONE - gate)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(activation: Activation, x: f64) -> (f64, f64) {
        let (mut y, mut slope) = ([0.0], [1.0]);
        forward(activation, &[x], &mut y);
        backward(activation, &[x], &mut slope);
        (y[0], slope[0])
    }

    #[test]
    fn values_of_the_normal_distribution() {
        let (y, slope) = at(Activation::Gelu, 1.0);
        assert!((y - 0.841_344_746_068_542_9).abs() < 1e-15 && (slope - 1.083_315_470_587_686_3).abs() < 1e-15);
        assert!((at(Activation::Gelu, -2.0).0 + 0.045_500_263_896_358_42).abs() < 1e-15);
    }

    #[test]
    fn the_approximations_follow_their_definitions() {
        for x in [-3.0f64, -0.5, 0.0, 0.7, 2.5] {
            let tanh = 0.5 * x * (1.0 + (FRAC_2_PI.sqrt() * (x + CUBIC * x.powi(3))).tanh());
            assert!((at(Activation::GeluTanh, x).0 - tanh).abs() < 1e-14, "{x}");
            assert!((at(Activation::QuickGelu, x).0 - x / (1.0 + (-QUICK * x).exp())).abs() < 1e-14, "{x}");
            assert!((at(Activation::Silu, x).0 - x / (1.0 + (-x).exp())).abs() < 1e-14, "{x}");
            assert_eq!(at(Activation::Relu, x).0, x.max(0.0));
        }
    }

    #[test]
    fn a_slope_is_the_difference_of_values() {
        for activation in Activation::ALL {
            for x in [-2.0f64, -0.4, 0.3, 1.9] {
                let difference = (at(activation, x + 1e-6).0 - at(activation, x - 1e-6).0) / 2e-6;
                assert!((at(activation, x).1 - difference).abs() < 1e-8, "{activation:?} at {x}");
            }
        }
    }
}
