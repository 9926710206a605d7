//! DoRA, arXiv 2402.09353: `W' = diag(m) V / |V|` with `V = W + (alpha / rank) B A`, each row divided by its length. The
//! gradient goes through the length.

use super::host::{Affine, Host, Role};
use super::matrix::{Matrix, axpy, dot};
use super::theta::Theta;
use super::{Initial, Method, MethodError, dot_rows};
use crate::op::Param;

/// DoRA of this rank on q, k and v.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Dora {
    /// Columns of `B`.
    pub(super) rank: usize,
    /// Factor on the branch, times the rank.
    pub(super) alpha: f64,
}

const A: &str = "lora_A";
const B: &str = "lora_B";
const MAGNITUDE: &str = "lora_magnitude";

impl Dora {
    fn scale(self) -> f64 {
        self.alpha / self.rank as f64
    }

    fn direction(self, host: &Host, theta: &Theta, frozen: &Affine) -> Result<Matrix, MethodError> {
        let mut direction = frozen.weight.clone();
        direction.add_scaled(self.scale(), &theta.of(host, B)?.times(theta.of(host, A)?));
        Ok(direction)
    }
}

fn length(row: &[f64]) -> f64 {
    // A row of zeros stays one.
    dot(row, row).sqrt().max(f64::MIN_POSITIVE)
}

impl Method for Dora {
    fn name(&self) -> &'static str {
        "dora"
    }

    fn roles(&self) -> &[Role] {
        &[Role::Qkv]
    }

    fn params(&self, host: &Host) -> Result<Vec<Param>, MethodError> {
        let param = |name: &str, shape: Vec<usize>| Param { name: host.param(name), shape };
        Ok(vec![
            param(A, vec![self.rank, host.in_features]),
            param(B, vec![host.out_features, self.rank]),
            param(MAGNITUDE, vec![host.out_features]),
        ])
    }

    fn initial(&self, param: &Param, host: Option<(&Host, &Affine)>) -> Initial {
        match host {
            Some((_, frozen)) if param.name.ends_with(MAGNITUDE) => {
                Initial::Values((0..frozen.weight.rows()).map(|i| length(frozen.weight.row(i))).collect())
            }
            _ if param.name.ends_with(A) => Initial::Xavier,
            _ => Initial::Constant(0.0),
        }
    }

    fn merge(&self, host: &Host, theta: &Theta, frozen: &Affine) -> Result<Affine, MethodError> {
        let mut weight = self.direction(host, theta, frozen)?;
        for (i, magnitude) in theta.of(host, MAGNITUDE)?.values().iter().enumerate() {
            let factor = magnitude / length(weight.row(i));
            weight.row_mut(i).iter_mut().for_each(|value| *value *= factor);
        }
        Ok(Affine { weight, bias: frozen.bias.clone() })
    }

    fn pull_back(
        &self,
        host: &Host,
        theta: &Theta,
        frozen: &Affine,
        merged: &Affine,
        gradient: &mut Theta,
    ) -> Result<(), MethodError> {
        let mut slopes = self.direction(host, theta, frozen)?;
        let of_magnitude = gradient.of_mut(host, MAGNITUDE)?.values_mut();
        for (i, (of_magnitude, magnitude)) in
            of_magnitude.iter_mut().zip(theta.of(host, MAGNITUDE)?.values()).enumerate()
        {
            let length = length(slopes.row(i));
            let unit: Vec<f64> = slopes.row(i).iter().map(|value| value / length).collect();
            let along = dot(merged.weight.row(i), &unit);
            *of_magnitude += along;
            for ((slope, of_merged), unit) in slopes.row_mut(i).iter_mut().zip(merged.weight.row(i)).zip(&unit) {
                *slope = magnitude / length * (of_merged - along * unit);
            }
        }
        gradient.of_mut(host, A)?.add_scaled(self.scale(), &theta.of(host, B)?.transposed_times(&slopes));
        gradient.of_mut(host, B)?.add_scaled(self.scale(), &slopes.times_transposed(theta.of(host, A)?));
        Ok(())
    }

    fn forward(&self, host: &Host, theta: &Theta, frozen: &Affine, x: &[f64]) -> Result<Vec<f64>, MethodError> {
        let (a, b) = (theta.of(host, A)?, theta.of(host, B)?);
        let hidden: Vec<f64> = dot_rows(a, x).collect();
        let magnitudes = theta.of(host, MAGNITUDE)?.values();
        let row = |i: usize| {
            let product = dot(frozen.weight.row(i), x) + self.scale() * dot(b.row(i), &hidden);
            let mut direction = frozen.weight.row(i).to_vec();
            for (k, &factor) in b.row(i).iter().enumerate() {
                axpy(self.scale() * factor, a.row(k), &mut direction);
            }
            magnitudes[i] / length(&direction) * product + frozen.bias[i]
        };
        Ok((0..frozen.weight.rows()).map(row).collect())
    }
}
