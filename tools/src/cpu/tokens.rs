//! Operators that put tokens in, add to them and take them out. All over one picture after the other.

use super::Real;

/// `x` `[pictures, L, D]` to `y` `[pictures, L + 1, D]` with `token` `[D]` first.
pub(super) fn class_token<T: Real>(x: &[T], token: &[T], len: usize, y: &mut [T]) {
    let dim = token.len();
    for (x, y) in x.chunks_exact(len * dim).zip(y.chunks_exact_mut((len + 1) * dim)) {
        let (first, others) = y.split_at_mut(dim);
        first.copy_from_slice(token);
        others.copy_from_slice(x);
    }
}

/// `dx` is `dy` without the first token; `len` and `dim` are those of `dx`.
pub(super) fn class_token_backward<T: Real>(dy: &[T], len: usize, dim: usize, dx: &mut [T]) {
    for (dx, dy) in dx.chunks_exact_mut(len * dim).zip(dy.chunks_exact((len + 1) * dim)) {
        dx.copy_from_slice(&dy[dim..]);
    }
}

/// `y = x + embedding`, `embedding` `[L, D]`.
pub(super) fn pos_embed<T: Real>(x: &[T], embedding: &[T], y: &mut [T]) {
    for (x, y) in x.chunks_exact(embedding.len()).zip(y.chunks_exact_mut(embedding.len())) {
        for ((y, &x), &embedding) in y.iter_mut().zip(x).zip(embedding) {
            *y = x + embedding;
        }
    }
}

/// The first token of `[pictures, L, D]`, `len` being `L`.
pub(super) fn take_class_token<T: Real>(x: &[T], len: usize, dim: usize, y: &mut [T]) {
    for (x, y) in x.chunks_exact(len * dim).zip(y.chunks_exact_mut(dim)) {
        y.copy_from_slice(&x[..dim]);
    }
}

/// `dx` is `dy` at the first token, 0 elsewhere.
pub(super) fn take_class_token_backward<T: Real>(dy: &[T], len: usize, dim: usize, dx: &mut [T]) {
    for (dx, dy) in dx.chunks_exact_mut(len * dim).zip(dy.chunks_exact(dim)) {
        let (first, others) = dx.split_at_mut(dim);
        first.copy_from_slice(dy);
        others.fill(T::ZERO);
    }
}

/// The mean of all tokens but the first `skip`.
pub(super) fn mean_tokens<T: Real>(x: &[T], len: usize, dim: usize, skip: usize, y: &mut [T]) {
    let share = T::ONE / T::from_f64((len - skip) as f64);
    for (x, y) in x.chunks_exact(len * dim).zip(y.chunks_exact_mut(dim)) {
        super::vector::sum_rows(&x[skip * dim..], share, y);
    }
}

/// `dx` is `dy` over the number of tokens at each token of the mean, 0 at the first `skip`.
pub(super) fn mean_tokens_backward<T: Real>(dy: &[T], len: usize, dim: usize, skip: usize, dx: &mut [T]) {
    let share = T::ONE / T::from_f64((len - skip) as f64);
    for (dx, dy) in dx.chunks_exact_mut(len * dim).zip(dy.chunks_exact(dim)) {
        let (skipped, others) = dx.split_at_mut(skip * dim);
        skipped.fill(T::ZERO);
        for token in others.chunks_exact_mut(dim) {
            for (dx, &dy) in token.iter_mut().zip(dy) {
                *dx = dy * share;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_class_token_stands_first_in_every_picture() {
        let mut y = [0.0; 8];
        class_token(&[1.0, 2.0, 3.0, 4.0], &[8.0, 9.0], 1, &mut y);
        assert_eq!(y, [8.0, 9.0, 1.0, 2.0, 8.0, 9.0, 3.0, 4.0]);
        let mut first = [0.0; 4];
        take_class_token(&y, 2, 2, &mut first);
        assert_eq!(first, [8.0, 9.0, 8.0, 9.0]);
    }

    #[test]
    fn the_mean_leaves_the_first_tokens_out() {
        let mut y = [0.0; 1];
        mean_tokens(&[100.0, 2.0, 4.0], 3, 1, 1, &mut y);
        assert_eq!(y, [3.0]);
        let mut dx = [9.0; 3];
        mean_tokens_backward(&[1.0], 3, 1, 1, &mut dx);
        assert_eq!(dx, [0.0, 0.5, 0.5]);
    }
}
