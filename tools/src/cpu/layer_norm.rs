//! `y = (x - mean) / sqrt(var + eps) * weight + bias` over rows; the variance is the biased one.

use super::Real;
use super::vector::{sum, sum_of, sum_rows, vectorized};

/// `x` and `y` `[rows, dim]`. `moments` `[rows, 2]` takes mean and reciprocal deviation of every row.
pub(super) fn forward<T: Real>(x: &[T], weight: &[T], bias: &[T], eps: f32, moments: &mut [T], y: &mut [T]) {
    let dim = weight.len();
    let (count, eps) = (T::from_f64(dim as f64), T::from_f32(eps));
    vectorized(
        #[inline(always)]
        || {
            let rows = x.chunks_exact(dim).zip(y.chunks_exact_mut(dim)).zip(moments.chunks_exact_mut(2));
            for ((x, y), moments) in rows {
                let mean = sum(x) / count;
                let variance = sum_of(x, x, |x, _| (x - mean) * (x - mean)) / count;
                let rstd = T::ONE / (variance + eps).sqrt();
                for (((y, &x), &weight), &bias) in y.iter_mut().zip(x).zip(weight).zip(bias) {
                    *y = (x - mean) * rstd * weight + bias;
                }
                moments.copy_from_slice(&[mean, rstd]);
            }
        },
    );
}

/// In place, `dy` becomes `dx = rstd (g - mean(g) - x^ mean(g x^))` with `g = dy weight` and `x^ = (x - mean) rstd`.
pub(super) fn backward<T: Real>(x: &[T], weight: &[T], moments: &[T], gradient: &mut [T]) {
    let dim = weight.len();
    let count = T::from_f64(dim as f64);
    vectorized(
        #[inline(always)]
        || {
            let rows = x.chunks_exact(dim).zip(gradient.chunks_exact_mut(dim)).zip(moments.chunks_exact(2));
            for ((x, gradient), moments) in rows {
                let (mean, rstd) = (moments[0], moments[1]);
                for (gradient, &weight) in gradient.iter_mut().zip(weight) {
                    *gradient *= weight;
                }
                let shift = sum(gradient) / count;
                let slope = sum_of(x, gradient, |x, gradient| gradient * (x - mean)) * rstd / count;
                for (gradient, &x) in gradient.iter_mut().zip(x) {
                    *gradient = rstd * (*gradient - shift - (x - mean) * rstd * slope);
                }
            }
        },
    );
}

/// The gradients of weight and bias: the sums over the rows of `dy x^` and of `dy`.
pub(super) fn backward_weights<T: Real>(x: &[T], moments: &[T], dy: &[T], dweight: &mut [T], dbias: &mut [T]) {
    let dim = dweight.len();
    dweight.fill(T::ZERO);
    vectorized(
        #[inline(always)]
        || {
            let rows = x.chunks_exact(dim).zip(dy.chunks_exact(dim)).zip(moments.chunks_exact(2));
            for ((x, dy), moments) in rows {
                let (mean, rstd) = (moments[0], moments[1]);
                for ((dweight, &x), &dy) in dweight.iter_mut().zip(x).zip(dy) {
                    *dweight += dy * (x - mean) * rstd;
                }
            }
        },
    );
    sum_rows(dy, T::ONE, dbias);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        let (mut moments, mut y) = ([0.0; 4], [0.0; 4]);
        forward(&[1.0, 3.0, 5.0, 5.0], &[2.0, 4.0], &[0.5, -0.5], 0.0625, &mut moments, &mut y);
        // Mean 2 and variance 1; then a row without variance, which gives the bias.
        let rstd = 1.0 / 1.0625f64.sqrt();
        assert_eq!(y, [-2.0 * rstd + 0.5, 4.0 * rstd - 0.5, 0.5, -0.5]);
        assert_eq!(moments, [2.0, rstd, 5.0, 4.0]);
    }
}
