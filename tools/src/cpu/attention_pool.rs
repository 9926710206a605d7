//! Attention of one learned query a head over a picture's tokens: `softmax(scale q k^T) v`.

use super::Real;
use super::attention::add_logarithms;

/// The shape of one picture's pooling.
#[derive(Debug, Clone, Copy)]
pub(super) struct AttentionPool<'a, T> {
    /// `[D]`, heads one behind the other.
    pub(super) query: &'a [T],
    /// Number of heads; divides `D`.
    pub(super) num_heads: usize,
    /// Factor on the products of query and keys.
    pub(super) scale: f32,
    /// How many tokens each one stands for, `[pictures, L]`; empty for one each.
    pub(super) sizes: &'a [T],
}

impl<T: Real> AttentionPool<'_, T> {
    /// Each head's columns of the query, which are those of its keys in a token `[2D]` too.
    fn heads(&self) -> impl Iterator<Item = std::ops::Range<usize>> + use<T> {
        let head_dim = self.query.len() / self.num_heads;
        (0..self.num_heads).map(move |head| head * head_dim..(head + 1) * head_dim)
    }

    /// The probability of every token of `kv` `[L, 2D]`, that of the picture at `picture`.
    fn probabilities(&self, kv: &[T], picture: usize, head: std::ops::Range<usize>) -> Vec<T> {
        let scale = T::from_f32(self.scale);
        let query = &self.query[head.clone()];
        let product = |token: &[T]| dot(query, &token[head.clone()]) * scale;
        let mut values: Vec<T> = kv.chunks_exact(2 * self.query.len()).map(product).collect();
        let len = values.len();
        if let Some(sizes) = self.sizes.get(picture * len..(picture + 1) * len) {
            add_logarithms(&mut values, sizes);
        }
        let largest = super::vector::max(&values);
        let mut total = T::ZERO;
        for value in &mut values {
            *value = (*value - largest).exp();
            total += *value;
        }
        let share = T::ONE / total;
        for value in &mut values {
            *value *= share;
        }
        values
    }

    /// `kv` `[pictures, L, 2D]` to `y` `[pictures, D]`.
    pub(super) fn forward(&self, kv: &[T], y: &mut [T]) {
        let dim = self.query.len();
        let len = kv.len() / (y.len() / dim);
        for (picture, (kv, y)) in kv.chunks_exact(len).zip(y.chunks_exact_mut(dim)).enumerate() {
            for head in self.heads() {
                let probabilities = self.probabilities(kv, picture, head.clone());
                y[head.clone()].fill(T::ZERO);
                for (token, &p) in kv.chunks_exact(2 * dim).zip(&probabilities) {
                    for (y, &value) in y[head.clone()].iter_mut().zip(&token[dim..][head.clone()]) {
                        *y += p * value;
                    }
                }
            }
        }
    }

    /// `dy` `[pictures, D]` to `dkv` `[pictures, L, 2D]`.
    pub(super) fn backward(&self, kv: &[T], dy: &[T], dkv: &mut [T]) {
        let (dim, scale) = (self.query.len(), T::from_f32(self.scale));
        let len = kv.len() / (dy.len() / dim);
        let pictures = kv.chunks_exact(len).zip(dkv.chunks_exact_mut(len)).zip(dy.chunks_exact(dim));
        for (picture, ((kv, dkv), dy)) in pictures.enumerate() {
            for head in self.heads() {
                let probabilities = self.probabilities(kv, picture, head.clone());
                let dy = &dy[head.clone()];
                let slopes = kv.chunks_exact(2 * dim).map(|token| dot(dy, &token[dim..][head.clone()]));
                let slopes: Vec<T> = slopes.collect();
                let mean = dot(&probabilities, &slopes);
                let tokens = dkv.chunks_exact_mut(2 * dim).zip(probabilities.iter().zip(&slopes));
                for (token, (&p, &slope)) in tokens {
                    let (keys, values) = token.split_at_mut(dim);
                    let factor = scale * p * (slope - mean);
                    for (key, &query) in keys[head.clone()].iter_mut().zip(&self.query[head.clone()]) {
                        *key = factor * query;
                    }
                    for (value, &dy) in values[head.clone()].iter_mut().zip(dy) {
                        *value = p * dy;
                    }
                }
            }
        }
    }
}

fn dot<T: Real>(a: &[T], b: &[T]) -> T {
    let mut sum = T::ZERO;
    for (&a, &b) in a.iter().zip(b) {
        sum += a * b;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_tokens_by_hand() {
        let pool = AttentionPool { query: &[3f64.ln(), 0.0], num_heads: 2, scale: 1.0, sizes: &[] };
        let mut y = [0.0; 2];
        pool.forward(&[1.0, 5.0, 1.0, 2.0, 0.0, 9.0, 5.0, 4.0], &mut y);
        assert!((y[0] - 2.0).abs() < 1e-14 && (y[1] - 3.0).abs() < 1e-14, "{y:?}");
    }

    #[test]
    fn a_token_counts_as_often_as_it_is_large() {
        let pool = |sizes: &[f64], kv: &[f64]| {
            let mut y = [0.0];
            AttentionPool { query: &[0.7], num_heads: 1, scale: 1.0, sizes }.forward(kv, &mut y);
            y[0]
        };
        let merged = pool(&[2.0, 1.0], &[1.0, 5.0, 0.0, 9.0]);
        assert!((merged - pool(&[], &[1.0, 5.0, 1.0, 5.0, 0.0, 9.0])).abs() < 1e-14);
    }
}
