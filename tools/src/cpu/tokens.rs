//! Operators that put tokens in, add to them and take them out. All over one picture after the other.

use super::Real;

/// `x` `[pictures, L, D]` to `y` `[pictures, L + count, D]` with the learned `tokens` `[count, D]` behind the first `at`.
pub(super) fn insert<T: Real>(x: &[T], tokens: &[T], at: usize, len: usize, dim: usize, y: &mut [T]) {
    for (x, y) in x.chunks_exact(len * dim).zip(y.chunks_exact_mut(len * dim + tokens.len())) {
        let (before, behind) = x.split_at(at * dim);
        let (y_before, rest) = y.split_at_mut(before.len());
        let (hole, y_behind) = rest.split_at_mut(tokens.len());
        y_before.copy_from_slice(before);
        hole.copy_from_slice(tokens);
        y_behind.copy_from_slice(behind);
    }
}

/// `dx` is `dy` without the `count` learned tokens; `len` and `dim` are those of `dx`.
pub(super) fn insert_backward<T: Real>(dy: &[T], count: usize, at: usize, len: usize, dim: usize, dx: &mut [T]) {
    for (dx, dy) in dx.chunks_exact_mut(len * dim).zip(dy.chunks_exact((len + count) * dim)) {
        let (before, behind) = dx.split_at_mut(at * dim);
        before.copy_from_slice(&dy[..at * dim]);
        behind.copy_from_slice(&dy[(at + count) * dim..]);
    }
}

/// The gradient `[count, D]` of the learned tokens: the sum over the pictures; `len` and `dim` are those of the input.
pub(super) fn insert_weights<T: Real>(dy: &[T], at: usize, len: usize, dim: usize, dtokens: &mut [T]) {
    dtokens.fill(T::ZERO);
    for dy in dy.chunks_exact(len * dim + dtokens.len()) {
        super::vector::add_assign(dtokens, &dy[at * dim..]);
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

/// `a` `[rows, width]` and `b` side by side.
pub(super) fn concat<T: Copy>(a: &[T], b: &[T], width: usize, y: &mut [T]) {
    let other = b.len() / (a.len() / width);
    for ((y, a), b) in y.chunks_exact_mut(width + other).zip(a.chunks_exact(width)).zip(b.chunks_exact(other)) {
        y[..width].copy_from_slice(a);
        y[width..].copy_from_slice(b);
    }
}

/// The gradients of `a` `[rows, width]` and `b` from that of [`concat`].
pub(super) fn concat_backward<T: Copy>(dy: &[T], width: usize, da: &mut [T], db: &mut [T]) {
    let other = db.len() / (da.len() / width);
    for ((dy, da), db) in dy.chunks_exact(width + other).zip(da.chunks_exact_mut(width)).zip(db.chunks_exact_mut(other))
    {
        da.copy_from_slice(&dy[..width]);
        db.copy_from_slice(&dy[width..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_class_token_stands_first_in_every_picture() {
        let mut y = [0.0; 8];
        insert(&[1.0, 2.0, 3.0, 4.0], &[8.0, 9.0], 0, 1, 2, &mut y);
        assert_eq!(y, [8.0, 9.0, 1.0, 2.0, 8.0, 9.0, 3.0, 4.0]);
        let mut first = [0.0; 4];
        take_class_token(&y, 2, 2, &mut first);
        assert_eq!(first, [8.0, 9.0, 8.0, 9.0]);
    }

    #[test]
    fn tokens_are_inserted_behind_the_first() {
        let mut y = [0.0; 8];
        insert(&[1.0, 2.0, 3.0, 4.0], &[7.0, 8.0], 1, 2, 1, &mut y);
        assert_eq!(y, [1.0, 7.0, 8.0, 2.0, 3.0, 7.0, 8.0, 4.0]);
        let (mut dx, mut dtokens) = ([0.0; 4], [0.0; 2]);
        insert_backward(&y, 2, 1, 2, 1, &mut dx);
        assert_eq!(dx, [1.0, 2.0, 3.0, 4.0]);
        insert_weights(&y, 1, 2, 1, &mut dtokens);
        assert_eq!(dtokens, [14.0, 16.0]);
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
