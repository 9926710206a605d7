//! Multi-head self-attention: `softmax(scale q k^T) v` a head. The probabilities are computed again for the backward,
//! one head at a time, so that no `[heads, L, L]` is kept. Windows of a picture count as pictures, with a bias on their scores.

use super::Real;
use super::product::{Layout, product};
use super::vector::{add_assign, max, sum, sum_of, vectorized};

/// The shape of one picture's attention.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attention<'a, T> {
    /// Number of tokens, `L`.
    pub(super) len: usize,
    /// Width of the output, `D`.
    pub(super) dim: usize,
    /// Number of heads; divides `dim`.
    pub(super) num_heads: usize,
    /// Factor on the products of queries and keys.
    pub(super) scale: f32,
    /// What is added to them, `[kinds, heads, L, L]` for as many kinds of pictures, which take turns; empty for nothing.
    pub(super) bias: &'a [T],
    /// How many tokens each one stands for, `[pictures, L]`: their logarithms are added too. Empty for one each.
    pub(super) sizes: &'a [T],
}

impl<T: Real> Attention<'_, T> {
    /// The first columns of each head's query, key and value in `[L, 3D]`; the query's is the output's in `[L, D]` too.
    fn heads(self) -> impl Iterator<Item = [usize; 3]> {
        let (dim, head_dim) = (self.dim, self.dim / self.num_heads);
        (0..self.num_heads).map(move |head| [0, 1, 2].map(|part| part * dim + head * head_dim))
    }

    /// A head's columns of `[L, 3D]`.
    fn part(self) -> Layout {
        Layout::columns(self.len, self.dim / self.num_heads, 3 * self.dim)
    }

    /// A head's columns of `[L, D]`.
    fn output(self) -> Layout {
        Layout::columns(self.len, self.dim / self.num_heads, self.dim)
    }

    fn square(self) -> Layout {
        Layout::dense(self.len, self.len)
    }

    /// The probabilities of head `head` of the picture at `picture`.
    fn probabilities(self, qkv: &[T], picture: usize, head: usize, probabilities: &mut [T]) {
        let (part, scale, head_dim) = (self.part(), T::from_f32(self.scale), self.dim / self.num_heads);
        let (q, k) = (head * head_dim, self.dim + head * head_dim);
        product(self.square().of_mut(probabilities), part.of(&qkv[q..]), part.of(&qkv[k..]).transpose(), scale);
        let size = self.len * self.len;
        if let Some(kinds) = (self.bias.len() / (self.num_heads * size)).checked_sub(1) {
            let at = (picture % (kinds + 1) * self.num_heads + head) * size;
            add_assign(probabilities, &self.bias[at..at + size]);
        }
        if let Some(sizes) = self.sizes.get(picture * self.len..(picture + 1) * self.len) {
            add_logarithms(probabilities, sizes);
        }
        softmax_rows(probabilities, self.len);
    }

    /// `qkv` `[pictures, L, 3D]` to `y` `[pictures, L, D]`. `scratch` `[L, L]`.
    pub(super) fn forward(self, qkv: &[T], y: &mut [T], scratch: &mut [T]) {
        let size = self.len * self.dim;
        for (picture, (qkv, y)) in qkv.chunks_exact(3 * size).zip(y.chunks_exact_mut(size)).enumerate() {
            for (head, [q, _, v]) in self.heads().enumerate() {
                self.probabilities(qkv, picture, head, scratch);
                let target = self.output().of_mut(&mut y[q..]);
                product(target, self.square().of(scratch), self.part().of(&qkv[v..]), T::ONE);
            }
        }
    }

    /// `dy` `[pictures, L, D]` to `dqkv` `[pictures, L, 3D]`. `scratch` two of `[L, L]`.
    pub(super) fn backward(self, qkv: &[T], dy: &[T], dqkv: &mut [T], scratch: [&mut [T]; 2]) {
        let [probabilities, dscores] = scratch;
        let (part, output, square) = (self.part(), self.output(), self.square());
        let (size, scale) = (self.len * self.dim, T::from_f32(self.scale));
        let pictures = qkv.chunks_exact(3 * size).zip(dy.chunks_exact(size)).zip(dqkv.chunks_exact_mut(3 * size));
        for (picture, ((qkv, dy), dqkv)) in pictures.enumerate() {
            for (head, [q, k, v]) in self.heads().enumerate() {
                self.probabilities(qkv, picture, head, probabilities);
                let dy = output.of(&dy[q..]);
                product(part.of_mut(&mut dqkv[v..]), square.of(probabilities).transpose(), dy, T::ONE);
                product(square.of_mut(dscores), dy, part.of(&qkv[v..]).transpose(), T::ONE);
                softmax_rows_backward(probabilities, dscores, self.len);
                let dscores = square.of(dscores);
                product(part.of_mut(&mut dqkv[q..]), dscores, part.of(&qkv[k..]), scale);
                product(part.of_mut(&mut dqkv[k..]), dscores.transpose(), part.of(&qkv[q..]), scale);
            }
        }
    }
}

/// Adds the logarithm of each size to its column of `scores` `[.., sizes]`.
pub(super) fn add_logarithms<T: Real>(scores: &mut [T], sizes: &[T]) {
    let logarithms: Vec<T> = sizes.iter().map(|size| T::from_f64(size.to_f64().ln())).collect();
    scores.chunks_exact_mut(sizes.len()).for_each(|row| add_assign(row, &logarithms));
}

/// In place over rows of `len`.
fn softmax_rows<T: Real>(values: &mut [T], len: usize) {
    vectorized(
        #[inline(always)]
        || {
            for row in values.chunks_exact_mut(len) {
                let largest = max(row);
                for value in row.iter_mut() {
                    *value = (*value - largest).exp();
                }
                let factor = T::ONE / sum(row);
                for value in row.iter_mut() {
                    *value *= factor;
                }
            }
        },
    );
}

/// In place, the gradient `dp` of the probabilities becomes that of the scores: `p (dp - sum(p dp))`.
fn softmax_rows_backward<T: Real>(probabilities: &[T], gradient: &mut [T], len: usize) {
    vectorized(
        #[inline(always)]
        || {
            for (p, gradient) in probabilities.chunks_exact(len).zip(gradient.chunks_exact_mut(len)) {
                let mean = sum_of(p, gradient, |p, gradient| p * gradient);
                for (gradient, &p) in gradient.iter_mut().zip(p) {
                    *gradient = p * (*gradient - mean);
                }
            }
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_tokens_two_heads_by_hand() {
        let attention = Attention { len: 2, dim: 2, num_heads: 2, scale: 1.0, bias: &[], sizes: &[] };
        let third = 3f64.ln();
        // Head 0: scores [ln 3, 0] for both tokens, values 1 and 5. Head 1: equal scores, values 2 and 4.
        let qkv = [1.0, 0.0, third, 7.0, 1.0, 2.0, 1.0, 0.0, 0.0, 7.0, 5.0, 4.0];
        let (mut y, mut scratch) = ([0.0; 4], [0.0; 4]);
        attention.forward(&qkv, &mut y, &mut scratch);
        let expected = [0.75 + 1.25, 3.0, 0.75 + 1.25, 3.0];
        assert!(y.iter().zip(expected).all(|(y, expected)| (y - expected).abs() < 1e-14), "{y:?}");
    }

    #[test]
    fn each_kind_of_picture_has_its_own_bias() {
        let third = 3f64.ln();
        let bias = [0.0, 0.0, 0.0, 0.0, third, 0.0, third, 0.0];
        let attention = Attention { len: 2, dim: 1, num_heads: 1, scale: 1.0, bias: &bias, sizes: &[] };
        let qkv = [0.0, 0.0, 1.0, 0.0, 0.0, 5.0].repeat(3);
        let (mut y, mut scratch) = ([0.0; 6], [0.0; 4]);
        attention.forward(&qkv, &mut y, &mut scratch);
        let expected = [3.0, 3.0, 2.0, 2.0, 3.0, 3.0];
        assert!(y.iter().zip(expected).all(|(y, expected)| (y - expected).abs() < 1e-14), "{y:?}");
    }

    #[test]
    fn a_token_counts_as_often_as_it_is_large() {
        let token = |value: f64| [0.3, -0.7 * value, value];
        let attend = |values: &[f64], sizes: &[f64]| {
            let len = values.len();
            let attention = Attention { len, dim: 1, num_heads: 1, scale: 1.0, bias: &[], sizes };
            let qkv: Vec<f64> = values.iter().flat_map(|&value| token(value)).collect();
            let (mut y, mut scratch) = (vec![0.0; len], vec![0.0; len * len]);
            attention.forward(&qkv, &mut y, &mut scratch);
            y[0]
        };
        let (merged, apart) = (attend(&[1.0, 5.0], &[1.0, 3.0]), attend(&[1.0, 5.0, 5.0, 5.0], &[]));
        assert!((merged - apart).abs() < 1e-14, "{merged} {apart}");
        assert!((merged - attend(&[1.0, 5.0], &[])).abs() > 0.1);
    }
}
