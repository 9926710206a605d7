//! Token Merging (arXiv 2210.09461): which tokens become one, what they weigh then, and what they are. Numbers of tokens and
//! places are whole numbers in the engine's numbers, which hold them exactly. All over one picture after the other.

use edge_vit_models::op::Sides;

use super::Real;
use super::vector::{add_assign, sum_of};

/// Below it a length counts as this, as PyTorch's `normalize` has it.
const SMALLEST: f64 = 1e-12;

/// The matching of one picture's tokens.
#[derive(Debug)]
pub(super) struct Matching {
    /// Number of tokens, `L`.
    pub(super) len: usize,
    /// Width of keys, `D`.
    pub(super) dim: usize,
    /// Number of heads; divides `dim`.
    pub(super) num_heads: usize,
    /// How many tokens are merged away.
    pub(super) merged: usize,
    /// How many leading tokens neither go nor take any in.
    pub(super) protected: usize,
}

impl Matching {
    /// `qkv` `[pictures, L, 3D]` to `y` `[pictures, L + merged]`: who stays, who goes, and where to.
    pub(super) fn forward<T: Real>(&self, qkv: &[T], y: &mut [T]) {
        let sides = Sides::of(self.len, self.protected);
        let pictures = qkv.chunks_exact(3 * self.len * self.dim).zip(y.chunks_exact_mut(self.len + self.merged));
        for (qkv, y) in pictures {
            for (y, place) in y.iter_mut().zip(self.order(qkv, &sides)) {
                *y = T::from_f64(place as f64);
            }
        }
    }

    fn order<T: Real>(&self, qkv: &[T], Sides { a, b }: &Sides) -> Vec<usize> {
        let metric: Vec<Vec<T>> = qkv.chunks_exact(3 * self.dim).map(|token| self.mean_key(token)).collect();
        let best: Vec<(T, usize)> = a.iter().map(|&a| most_alike(&metric, a, b)).collect();
        // Of tokens that are equally alike the first goes; -0 is 0.
        let alike = |at: usize| best[at].0.to_f64() + 0.0;
        let mut order: Vec<usize> = (0..a.len()).collect();
        order.sort_by(|&one, &other| alike(other).total_cmp(&alike(one)));
        let mut kept = order.split_off(self.merged);
        kept.sort_unstable();
        let before = self.protected + kept.len();
        let stay = (0..self.protected).chain(kept.iter().map(|&at| a[at])).chain(b.iter().copied());
        let source = order.iter().map(|&at| a[at]);
        stay.chain(source).chain(order.iter().map(|&at| before + best[at].1)).collect()
    }

    /// The mean over the heads of a token's keys, of length 1.
    fn mean_key<T: Real>(&self, token: &[T]) -> Vec<T> {
        let head_dim = self.dim / self.num_heads;
        let mut mean = vec![T::ZERO; head_dim];
        token[self.dim..2 * self.dim].chunks_exact(head_dim).for_each(|key| add_assign(&mut mean, key));
        let share = T::ONE / T::from_f64(self.num_heads as f64);
        mean.iter_mut().for_each(|value| *value *= share);
        let (length, smallest) = (sum_of(&mean, &mean, |a, b| a * b).sqrt(), T::from_f64(SMALLEST));
        let length = if length > smallest { length } else { smallest };
        mean.iter_mut().for_each(|value| *value *= T::ONE / length);
        mean
    }
}

/// How alike to token `a` the most similar one of `b` is, and which of them that is, the first of equal ones.
fn most_alike<T: Real>(metric: &[Vec<T>], a: usize, b: &[usize]) -> (T, usize) {
    let alike = |&b: &usize| sum_of(&metric[a], &metric[b], |a, b| a * b);
    let first = (b.first().map_or(T::ZERO, alike), 0);
    b.iter().map(alike).enumerate().fold(first, |best, (at, alike)| if alike > best.0 { (alike, at) } else { best })
}

/// A picture's `[L + merged]` in parts: who stays, and who goes with the new place.
fn parts<T: Real>(order: &[T], merged: usize) -> (impl Iterator<Item = usize>, impl Iterator<Item = (usize, usize)>) {
    let place = |value: &T| value.to_f64() as usize;
    let (stay, going) = order.split_at(order.len() - 2 * merged);
    let (source, target) = going.split_at(merged);
    (stay.iter().map(place), source.iter().map(place).zip(target.iter().map(place)))
}

/// A matching `[pictures, L + merged]` and the sizes `[pictures, L]` until then, empty for 1 each, to `y` `[pictures, L - merged]`.
pub(super) fn sizes<T: Real>(order: &[T], before: &[T], len: usize, merged: usize, y: &mut [T]) {
    for (picture, (order, y)) in order.chunks_exact(len + merged).zip(y.chunks_exact_mut(len - merged)).enumerate() {
        let size = |place: usize| before.get(picture * len + place).copied().unwrap_or(T::ONE);
        let (stay, going) = parts(order, merged);
        y.iter_mut().zip(stay).for_each(|(y, place)| *y = size(place));
        going.for_each(|(source, target)| y[target] += size(source));
    }
}

/// Tokens `x` `[pictures, L, D]`, their matching `[pictures, L + merged]`, and the sizes behind `[pictures, L - merged]` and
/// before `[pictures, L]` it, empty for 1 each, to `y` `[pictures, L - merged, D]`.
pub(super) fn tokens<T: Real>(x: &[T], order: &[T], sizes: [&[T]; 2], [len, dim, merged]: [usize; 3], y: &mut [T]) {
    let [behind, before] = sizes;
    let left = len - merged;
    let pictures = x.chunks_exact(len * dim).zip(order.chunks_exact(len + merged)).zip(y.chunks_exact_mut(left * dim));
    for (picture, ((x, order), y)) in pictures.enumerate() {
        let behind = &behind[picture * left..][..left];
        let size = |place: usize| before.get(picture * len + place).copied().unwrap_or(T::ONE);
        let (stay, going) = parts(order, merged);
        let mut add = |source: usize, target: usize, first: bool| {
            let share = size(source) / behind[target];
            for (y, &x) in y[target * dim..][..dim].iter_mut().zip(&x[source * dim..][..dim]) {
                *y = if first { share * x } else { *y + share * x };
            }
        };
        stay.enumerate().for_each(|(target, source)| add(source, target, true));
        going.for_each(|(source, target)| add(source, target, false));
    }
}

/// The mean of `x` `[pictures, L, D]` over all tokens but the first `skip`, weighted by `sizes` `[pictures, L]`.
pub(super) fn weighted_mean<T: Real>(x: &[T], sizes: &[T], [len, dim, skip]: [usize; 3], y: &mut [T]) {
    for ((x, sizes), y) in x.chunks_exact(len * dim).zip(sizes.chunks_exact(len)).zip(y.chunks_exact_mut(dim)) {
        let total = sizes[skip..].iter().fold(T::ZERO, |total, &size| total + size);
        y.fill(T::ZERO);
        for (token, &size) in x.chunks_exact(dim).zip(sizes).skip(skip) {
            let share = size / total;
            y.iter_mut().zip(token).for_each(|(y, &x)| *y += share * x);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tokens of one head whose keys are unit vectors at these angles.
    fn keys(degrees: &[f64]) -> Vec<f64> {
        let token = |degrees: &f64| {
            let (sin, cos) = degrees.to_radians().sin_cos();
            [9.0, 9.0, 5.0 * cos, 5.0 * sin, 9.0, 9.0]
        };
        degrees.iter().flat_map(token).collect()
    }

    #[test]
    fn the_pairs_most_alike_are_merged_and_the_protected_stay_first() {
        let matching = Matching { len: 7, dim: 2, num_heads: 1, merged: 2, protected: 1 };
        // A is 2, 4, 6, B is 1, 3, 5. Token 0 is as 3 is, and neither goes nor takes anyone in.
        let mut y = [0.0; 9];
        matching.forward(&keys(&[50.0, 0.0, 49.0, 50.0, 20.0, 90.0, 88.0]), &mut y);
        assert_eq!(y, [0.0, 4.0, 1.0, 3.0, 5.0, 2.0, 6.0, 3.0, 4.0]);
        // All alike: the first go, to the first.
        matching.forward(&keys(&[7.0; 7]), &mut y);
        assert_eq!(y, [0.0, 6.0, 1.0, 3.0, 5.0, 2.0, 4.0, 2.0, 2.0]);
    }

    #[test]
    fn a_merged_token_is_the_mean_by_size() {
        let order = [1.0, 3.0, 0.0, 2.0, 1.0, 1.0];
        let mut y = [0.0; 2];
        sizes(&order, &[], 4, 2, &mut y);
        assert_eq!(y, [1.0, 3.0]);
        let before = [1.0, 4.0, 2.0, 5.0];
        sizes(&order, &before, 4, 2, &mut y);
        assert_eq!(y, [4.0, 8.0]);
        let mut mixed = [0.0; 2];
        tokens(&[16.0, 3.0, 24.0, 8.0], &order, [&y, &before], [4, 1, 2], &mut mixed);
        assert_eq!(mixed, [3.0, 2.0 + 6.0 + 5.0]);
        let mut mean = [0.0];
        weighted_mean(&mixed, &y, [2, 1, 0], &mut mean);
        assert!(
            (mean[0] - (16.0 + 12.0 + 48.0 + 40.0) / 12.0f64).abs() < 1e-14,
            "the mean of all that was merged: {mean:?}"
        );
        weighted_mean(&mixed, &y, [2, 1, 1], &mut mean);
        assert_eq!(mean, [13.0]);
    }
}
