//! The linear maps that a mergeable method puts around its host, in float64.

use crate::tensor::Tensor;

/// What an adapter does to the input of a linear host: `x` becomes `R x + m` with `R = I + U V`.
///
/// The general form of a mergeable method is `W' = L W R + D`, `c' = L c + l` for a host `W [out, dim]`, `c [out]`.
/// A method that only changes the input has `L = I`, `D = 0` and `l = W m`, which leaves
/// `W' = W R = W + (W U) V` and `c' = c + W m`: the product of two full matrices is never formed.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Maps {
    /// `V [rank, dim]`, by rows.
    down: Vec<Vec<f64>>,
    /// `U [dim, rank]`, by columns.
    up: Vec<Vec<f64>>,
    /// `m [dim]`.
    shift: Vec<f64>,
}

/// The four weights of a RepAdapter.
pub(super) struct RepAdapterWeights<'a> {
    /// `A [hidden, dim]`.
    pub(super) a_weight: &'a Tensor,
    /// `a [hidden]`.
    pub(super) a_bias: &'a Tensor,
    /// `B [dim, hidden / groups]`.
    pub(super) b_weight: &'a Tensor,
    /// `b [dim]`.
    pub(super) b_bias: &'a Tensor,
}

impl Maps {
    /// RepAdapter (arXiv 2302.08106, equations 10 to 14): `U = s B~`, `V = A`, `m = s (B~ a + b)`, where `B~` is the
    /// dense form of the grouped `B`: row `i` of `dim` reads the hidden units of group `i groups / dim`.
    pub(super) fn rep_adapter(weights: &RepAdapterWeights<'_>, groups: usize, scale: f64) -> Self {
        let a_bias = doubled(weights.a_bias);
        let b_bias = doubled(weights.b_bias);
        let b_weight = doubled(weights.b_weight);
        let (dim, hidden) = (b_bias.len(), a_bias.len());
        let per_group = hidden / groups;
        let down = doubled(weights.a_weight).chunks_exact(dim.max(1)).map(<[f64]>::to_vec).collect();
        let mut up = vec![vec![0.0; dim]; hidden];
        let mut shift = vec![0.0; dim];
        for (i, row) in b_weight.chunks_exact(per_group.max(1)).enumerate() {
            let first = i * groups / dim * per_group;
            for (j, &value) in row.iter().enumerate() {
                up[first + j][i] = scale * value;
            }
            let hidden_of_bias: f64 = row.iter().zip(&a_bias[first..]).map(|(b, a)| b * a).sum();
            shift[i] = scale * (hidden_of_bias + b_bias[i]);
        }
        Self { down, up, shift }
    }

    /// Whether every number is finite.
    pub(super) fn is_finite(&self) -> bool {
        self.down.iter().chain(&self.up).chain([&self.shift]).flatten().all(|value| value.is_finite())
    }

    /// `W R` for `W [out, dim]`; `None` where `R` is the identity, so that the weight stays as it is to the bit.
    pub(super) fn weight(&self, weight: &[f64]) -> Option<Vec<f64>> {
        let is_zero = |rows: &[Vec<f64>]| rows.iter().flatten().all(|&value| value == 0.0);
        if is_zero(&self.up) || is_zero(&self.down) {
            return None;
        }
        let mut merged = weight.to_vec();
        for row in merged.chunks_exact_mut(self.shift.len()) {
            let factors: Vec<f64> = self.up.iter().map(|column| dot(row, column)).collect();
            for (factor, down) in factors.iter().zip(&self.down) {
                row.iter_mut().zip(down).for_each(|(value, v)| *value += factor * v);
            }
        }
        Some(merged)
    }

    /// `W m` for the unmerged `W [out, dim]`, to be added to the host's bias; `None` where `m` is 0.
    pub(super) fn bias(&self, weight: &[f64]) -> Option<Vec<f64>> {
        let moves = self.shift.iter().any(|&value| value != 0.0);
        moves.then(|| weight.chunks_exact(self.shift.len()).map(|row| dot(row, &self.shift)).collect())
    }
}

/// The values of a tensor in float64.
pub(super) fn doubled(tensor: &Tensor) -> Vec<f64> {
    tensor.values().iter().map(|&value| f64::from(value)).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
