//! Maps `x -> x + U V^T x + m` before or after a host.

use super::host::Affine;
use super::matrix::{Matrix, axpy, dot};

/// `R = I + U V^T` and `m`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LowRank {
    /// `U [width, rank]`.
    pub(crate) up: Matrix,
    /// `V [width, rank]`.
    pub(crate) down: Matrix,
    /// `m [width]`.
    pub(crate) shift: Vec<f64>,
}

impl LowRank {
    /// Whether every number is finite.
    pub(crate) fn is_finite(&self) -> bool {
        self.up.values().iter().chain(self.down.values()).chain(&self.shift).all(|value| value.is_finite())
    }

    /// Whether `R` is the identity.
    fn only_shifts(&self) -> bool {
        [&self.up, &self.down].iter().any(|matrix| matrix.values().iter().all(|&value| value == 0.0))
    }

    /// Whether `m` is not 0.
    pub(crate) fn shifts(&self) -> bool {
        self.shift.iter().any(|&value| value != 0.0)
    }

    /// `W' = W R`, `c' = c + W m`. An identity changes no bit, not even the sign of a zero.
    pub(crate) fn before(&self, host: &Affine) -> Affine {
        let Affine { mut weight, mut bias } = host.clone();
        if !self.only_shifts() {
            weight.add_scaled(1.0, &host.weight.times(&self.up).times_transposed(&self.down));
        }
        if self.shifts() {
            bias.iter_mut().enumerate().for_each(|(i, bias)| *bias += dot(host.weight.row(i), &self.shift));
        }
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

    /// `W' = R W`, `c' = R c + m`. An identity changes no bit, not even the sign of a zero.
    pub(crate) fn after(&self, host: &Affine) -> Affine {
        let Affine { mut weight, mut bias } = host.clone();
        if !self.only_shifts() {
            weight.add_scaled(1.0, &self.up.times(&self.down.transposed_times(&host.weight)));
        }
        if !self.only_shifts() || self.shifts() {
            bias = self.apply(&bias);
        }
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
