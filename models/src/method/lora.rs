//! LoRA, arXiv 2106.09685: `W' = W + (alpha / rank) B A`, on the queries and the values.

use super::host::{Affine, Host, Role};
use super::matrix::{Matrix, axpy};
use super::theta::Theta;
use super::{Initial, Method, MethodError, dot_rows};
use crate::op::Param;

/// LoRA of this rank on q and v.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Lora {
    /// Columns of `B`.
    pub(super) rank: usize,
    /// Factor on the branch, times the rank.
    pub(super) alpha: f64,
}

/// The parts of qkv that are changed, and their place.
const PARTS: [(&str, usize); 2] = [("q", 0), ("v", 2)];

impl Lora {
    fn scale(self) -> f64 {
        self.alpha / self.rank as f64
    }
}

/// The rows of one of q, k and v.
fn rows(host: &Host, part: usize) -> std::ops::Range<usize> {
    let third = host.out_features / 3;
    part * third..(part + 1) * third
}

impl Method for Lora {
    fn name(&self) -> &'static str {
        "lora"
    }

    fn roles(&self) -> &'static [Role] {
        &[Role::Qkv]
    }

    fn params(&self, host: &Host) -> Result<Vec<Param>, MethodError> {
        let pair = |(part, _): (&str, usize)| {
            [
                Param { name: host.param(&format!("lora_A.{part}")), shape: vec![self.rank, host.in_features] },
                Param { name: host.param(&format!("lora_B.{part}")), shape: vec![host.out_features / 3, self.rank] },
            ]
        };
        Ok(PARTS.into_iter().flat_map(pair).collect())
    }

    fn initial(&self, param: &Param, _: Option<(&Host, &Affine)>) -> Initial {
        if param.name.contains("lora_A") { Initial::Xavier } else { Initial::Constant(0.0) }
    }

    fn merge(&self, host: &Host, theta: &Theta, frozen: &Affine) -> Result<Affine, MethodError> {
        let mut merged = frozen.clone();
        for (part, place) in PARTS {
            let (a, b) = (theta.of(host, &format!("lora_A.{part}"))?, theta.of(host, &format!("lora_B.{part}"))?);
            for (row, delta) in rows(host, place).zip(b.times(a).values().chunks_exact(host.in_features)) {
                axpy(self.scale(), delta, merged.weight.row_mut(row));
            }
        }
        Ok(merged)
    }

    fn pull_back(
        &self,
        host: &Host,
        theta: &Theta,
        _: &Affine,
        merged: &Affine,
        gradient: &mut Theta,
    ) -> Result<(), MethodError> {
        for (part, place) in PARTS {
            let (a_name, b_name) = (format!("lora_A.{part}"), format!("lora_B.{part}"));
            let rows = rows(host, place);
            let slopes = Matrix::from_fn(rows.len(), host.in_features, |i, j| merged.weight.row(rows.start + i)[j]);
            gradient
                .of_mut(host, &a_name)?
                .add_scaled(self.scale(), &theta.of(host, &b_name)?.transposed_times(&slopes));
            gradient
                .of_mut(host, &b_name)?
                .add_scaled(self.scale(), &slopes.times_transposed(theta.of(host, &a_name)?));
        }
        Ok(())
    }

    fn forward(&self, host: &Host, theta: &Theta, frozen: &Affine, x: &[f64]) -> Result<Vec<f64>, MethodError> {
        let mut y = frozen.apply(x);
        for (part, place) in PARTS {
            let hidden: Vec<f64> = dot_rows(theta.of(host, &format!("lora_A.{part}"))?, x).collect();
            let branch =
                dot_rows(theta.of(host, &format!("lora_B.{part}"))?, &hidden).map(|value| value * self.scale());
            y[rows(host, place)].iter_mut().zip(branch).for_each(|(y, branch)| *y += branch);
        }
        Ok(y)
    }
}
