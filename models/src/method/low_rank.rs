//! Maps `x -> x + U V^T x + m` before or after a host.

use super::host::Affine;
use super::matrix::{Matrix, axpy, dot};

/// `R = I + U V^T` and `m`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct LowRank {
    /// `U [width, rank]`.
    pub(super) up: Matrix,
    /// `V [width, rank]`.
    pub(super) down: Matrix,
    /// `m [width]`.
    pub(super) shift: Vec<f64>,
}

impl LowRank {
    /// `W' = W R`, `c' = c + W m`.
    pub(super) fn before(&self, host: &Affine) -> Affine {
        let mut weight = host.weight.clone();
        weight.add_scaled(1.0, &host.weight.times(&self.up).times_transposed(&self.down));
        let bias = (0..weight.rows()).map(|i| host.bias[i] + dot(host.weight.row(i), &self.shift)).collect();
        Affine { weight, bias }
    }

    /// The gradients of `U`, `V` and `m` from that of [`LowRank::before`].
    pub(super) fn before_gradients(&self, host: &Affine, gradient: &Affine) -> Self {
        let up = host.weight.transposed_times(&gradient.weight.times(&self.down));
        let down = gradient.weight.transposed_times(&host.weight.times(&self.up));
        let mut shift = vec![0.0; self.shift.len()];
        for (i, &slope) in gradient.bias.iter().enumerate() {
            axpy(slope, host.weight.row(i), &mut shift);
        }
        Self { up, down, shift }
    }

    /// `W' = R W`, `c' = R c + m`.
    pub(super) fn after(&self, host: &Affine) -> Affine {
        let mut weight = host.weight.clone();
        weight.add_scaled(1.0, &self.up.times(&self.down.transposed_times(&host.weight)));
        let bias = self.apply(&host.bias);
        Affine { weight, bias }
    }

    /// The gradients of `U`, `V` and `m` from that of [`LowRank::after`].
    pub(super) fn after_gradients(&self, host: &Affine, gradient: &Affine) -> Self {
        let mut up = gradient.weight.times_transposed(&self.down.transposed_times(&host.weight));
        let mut down = host.weight.times_transposed(&self.up.transposed_times(&gradient.weight));
        let (bias, slope) = (Matrix::column(host.bias.clone()), Matrix::column(gradient.bias.clone()));
        up.add_scaled(1.0, &slope.times_transposed(&self.down.transposed_times(&bias)));
        down.add_scaled(1.0, &bias.times_transposed(&self.up.transposed_times(&slope)));
        Self { up, down, shift: gradient.bias.clone() }
    }

    /// `R x + m`.
    pub(super) fn apply(&self, x: &[f64]) -> Vec<f64> {
        let column = Matrix::column(x.to_vec());
        let branch = self.up.times(&self.down.transposed_times(&column));
        x.iter().zip(branch.values()).zip(&self.shift).map(|((x, branch), m)| x + branch + m).collect()
    }
}
