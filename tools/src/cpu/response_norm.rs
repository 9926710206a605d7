//! ConvNeXt V2's global response normalisation: with `g` the length of a channel over a picture's map and `m` the mean of
//! `g` over channels, `y = x (1 + weight n) + bias`, `n = g / (m + 1e-6)`.

use super::Real;
use super::vector::{sum, sum_of, sum_rows};

const EPS: f64 = 1e-6;

/// One picture's `g` and `m + eps`.
fn lengths<T: Real>(x: &[T], dim: usize) -> (Vec<T>, T) {
    let mut squares = vec![T::ZERO; dim];
    for row in x.chunks_exact(dim) {
        for (square, &x) in squares.iter_mut().zip(row) {
            *square += x * x;
        }
    }
    let lengths: Vec<T> = squares.into_iter().map(Real::sqrt).collect();
    let mean = sum(&lengths) / T::from_f64(dim as f64) + T::from_f64(EPS);
    (lengths, mean)
}

/// `x` to `y`, both `[pictures, len, dim]` with `len` places a picture.
pub(super) fn forward<T: Real>(x: &[T], weight: &[T], bias: &[T], len: usize, y: &mut [T]) {
    let dim = weight.len();
    for (x, y) in x.chunks_exact(len * dim).zip(y.chunks_exact_mut(len * dim)) {
        let (lengths, mean) = lengths(x, dim);
        let factors: Vec<T> = lengths.iter().zip(weight).map(|(&g, &weight)| T::ONE + weight * g / mean).collect();
        for (x, y) in x.chunks_exact(dim).zip(y.chunks_exact_mut(dim)) {
            for (((y, &x), &factor), &bias) in y.iter_mut().zip(x).zip(&factors).zip(bias) {
                *y = x * factor + bias;
            }
        }
    }
}

/// In place, `dy` becomes `dx`. With `s` the sum of `dy weight x` over a channel, that of `g` is
/// `s / m - sum(s g) / (dim m^2)`, and `g` grows by `x / g` with `x`.
pub(super) fn backward<T: Real>(x: &[T], weight: &[T], len: usize, gradient: &mut [T]) {
    let dim = weight.len();
    for (x, gradient) in x.chunks_exact(len * dim).zip(gradient.chunks_exact_mut(len * dim)) {
        let (lengths, mean) = lengths(x, dim);
        let mut slopes = products(x, gradient, dim);
        slopes.iter_mut().zip(weight).for_each(|(slope, &weight)| *slope *= weight);
        let shared = sum_of(&slopes, &lengths, |s, g| s * g) / (T::from_f64(dim as f64) * mean * mean);
        let of_length = |(&slope, &length): (&T, &T)| match length > T::ZERO {
            true => (slope / mean - shared) / length,
            false => T::ZERO,
        };
        let pulls: Vec<T> = slopes.iter().zip(&lengths).map(of_length).collect();
        let factors: Vec<T> = lengths.iter().zip(weight).map(|(&g, &weight)| T::ONE + weight * g / mean).collect();
        for (x, gradient) in x.chunks_exact(dim).zip(gradient.chunks_exact_mut(dim)) {
            for (((gradient, &x), &factor), &pull) in gradient.iter_mut().zip(x).zip(&factors).zip(&pulls) {
                *gradient = *gradient * factor + x * pull;
            }
        }
    }
}

/// The gradients of weight and bias: the sums of `dy x n` and of `dy`.
pub(super) fn backward_weights<T: Real>(x: &[T], dy: &[T], len: usize, dweight: &mut [T], dbias: &mut [T]) {
    let dim = dweight.len();
    dweight.fill(T::ZERO);
    for (x, dy) in x.chunks_exact(len * dim).zip(dy.chunks_exact(len * dim)) {
        let (lengths, mean) = lengths(x, dim);
        for ((dweight, product), &length) in dweight.iter_mut().zip(products(x, dy, dim)).zip(&lengths) {
            *dweight += product * length / mean;
        }
    }
    sum_rows(dy, T::ONE, dbias);
}

/// The sums of `x dy` over a channel of one picture.
fn products<T: Real>(x: &[T], dy: &[T], dim: usize) -> Vec<T> {
    let mut sums = vec![T::ZERO; dim];
    for (x, dy) in x.chunks_exact(dim).zip(dy.chunks_exact(dim)) {
        for ((sum, &x), &dy) in sums.iter_mut().zip(x).zip(dy) {
            *sum += x * dy;
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        let mut y = [0.0; 4];
        // Lengths 5 and 1 over the two places, mean 3.
        forward(&[3.0, 1.0, 4.0, 0.0], &[1.0, 2.0], &[0.0, 0.5], 2, &mut y);
        let mean = 3.0 + EPS;
        let expected = [3.0 * (1.0 + 5.0 / mean), 1.0 + 2.0 / mean + 0.5, 4.0 * (1.0 + 5.0 / mean), 0.5];
        assert!(y.iter().zip(expected).all(|(y, expected): (&f64, f64)| (y - expected).abs() < 1e-14), "{y:?}");
    }
}
