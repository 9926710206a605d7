//! Queries and keys of length 1 a head, the queries times a factor: `[.., 3D]` laid out as q, k, v.

use super::Real;
use super::vector::sum_of;

/// Below it a length counts as this, as PyTorch's `normalize` has it.
const SMALLEST: f64 = 1e-12;

/// The heads of a row that are normalised: where each begins, its width, and the factor on it.
fn heads<T: Real>(scale: &[T], width: usize) -> impl Iterator<Item = (usize, usize, T)> {
    let head_dim = width / 3 / scale.len();
    let of = move |part: usize, head: usize| part * width / 3 + head * head_dim;
    let q = scale.iter().enumerate().map(move |(head, &scale)| (of(0, head), head_dim, scale));
    q.chain((0..scale.len()).map(move |head| (of(1, head), head_dim, T::ONE)))
}

fn length<T: Real>(x: &[T]) -> T {
    let (length, smallest) = (sum_of(x, x, |a, b| a * b).sqrt(), T::from_f64(SMALLEST));
    if length > smallest { length } else { smallest }
}

/// `x` to `y`, both `[rows, width]`.
pub(super) fn forward<T: Real>(x: &[T], scale: &[T], width: usize, y: &mut [T]) {
    y.copy_from_slice(x);
    for y in y.chunks_exact_mut(width) {
        for (at, len, factor) in heads(scale, width) {
            let y = &mut y[at..at + len];
            let factor = factor / length(y);
            y.iter_mut().for_each(|y| *y *= factor);
        }
    }
}

/// In place, `dy` becomes `dx = factor (dy - u (u dy)) / |x|` with `u = x / |x|`.
pub(super) fn backward<T: Real>(x: &[T], scale: &[T], width: usize, gradient: &mut [T]) {
    for (x, gradient) in x.chunks_exact(width).zip(gradient.chunks_exact_mut(width)) {
        for (at, len, factor) in heads(scale, width) {
            let (x, gradient) = (&x[at..at + len], &mut gradient[at..at + len]);
            let length = length(x);
            let along = sum_of(x, gradient, |x, dy| x * dy) / (length * length);
            for (gradient, &x) in gradient.iter_mut().zip(x) {
                *gradient = factor * (*gradient - x * along) / length;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        let mut y = [0.0; 6];
        forward(&[3.0, 4.0, 0.0, 2.0, 7.0, 8.0], &[10.0], 6, &mut y);
        assert_eq!(y, [6.0, 8.0, 0.0, 1.0, 7.0, 8.0]);
        let mut gradient = [1.0, 0.0, 1.0, 1.0, 1.0, 1.0];
        backward(&[3.0, 4.0, 0.0, 2.0, 7.0, 8.0], &[10.0], 6, &mut gradient);
        let expected = [10.0 * 0.64 / 5.0, -10.0 * 0.48 / 5.0, 0.5, 0.0, 1.0, 1.0];
        assert!(gradient.iter().zip(expected).all(|(got, expected): (&f64, f64)| (got - expected).abs() < 1e-15));
    }
}
