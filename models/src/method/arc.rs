//! ARC, arXiv 2310.06234: `x' = x + P diag(c) P^T x + b` before attention and before the MLP, where all blocks of one
//! width share one `P` for attention and one for the MLP.

use std::collections::BTreeMap;

use super::host::{Affine, Host, Role};
use super::low_rank::LowRank;
use super::matrix::{Matrix, axpy, dot};
use super::theta::Theta;
use super::{Initial, Method, MethodError};
use crate::op::Param;

/// ARC of this width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Arc {
    /// Columns of `P`.
    pub(super) rank: usize,
}

const COEFFICIENTS: &str = "arc_c";
const SHIFT: &str = "arc_b";

/// The name of the projection that the host shares with others of its role and width.
fn projection(host: &Host) -> String {
    let part = if host.role == Role::Qkv { "attn" } else { "mlp" };
    format!("arc.{}.{part}", host.embed_dim)
}

impl Arc {
    fn map(self, host: &Host, theta: &Theta) -> Result<LowRank, MethodError> {
        let (p, c) = (theta.get(&projection(host))?, theta.of(host, COEFFICIENTS)?.values());
        let up = Matrix::from_fn(p.rows(), p.cols(), |i, j| p.row(i)[j] * c[j]);
        Ok(LowRank { up, down: p.clone(), shift: theta.of(host, SHIFT)?.values().to_vec() })
    }
}

impl Method for Arc {
    fn name(&self) -> &'static str {
        "arc"
    }

    fn roles(&self) -> &[Role] {
        &[Role::Qkv, Role::Fc1]
    }

    fn params(&self, host: &Host) -> Result<Vec<Param>, MethodError> {
        let c = Param { name: host.param(COEFFICIENTS), shape: vec![self.rank] };
        Ok(vec![c, Param { name: host.param(SHIFT), shape: vec![host.in_features] }])
    }

    fn shared(&self, hosts: &[Host]) -> Vec<Param> {
        let shared: BTreeMap<String, usize> = hosts.iter().map(|host| (projection(host), host.embed_dim)).collect();
        shared.into_iter().map(|(name, width)| Param { name, shape: vec![width, self.rank] }).collect()
    }

    fn initial(&self, param: &Param, host: Option<(&Host, &Affine)>) -> Initial {
        if host.is_none() && param.name.starts_with("arc.") { Initial::Xavier } else { Initial::Constant(0.0) }
    }

    fn merge(&self, host: &Host, theta: &Theta, frozen: &Affine) -> Result<Affine, MethodError> {
        Ok(self.map(host, theta)?.before(frozen))
    }

    fn pull_back(
        &self,
        host: &Host,
        theta: &Theta,
        frozen: &Affine,
        merged: &Affine,
        gradient: &mut Theta,
    ) -> Result<(), MethodError> {
        let slopes = self.map(host, theta)?.before_gradients(frozen, merged);
        let (p, c) = (theta.get(&projection(host))?, theta.of(host, COEFFICIENTS)?.values());
        let shared = gradient.get_mut(&projection(host))?;
        shared.add_scaled(1.0, &slopes.down);
        for i in 0..p.rows() {
            for (j, target) in shared.row_mut(i).iter_mut().enumerate() {
                *target += slopes.up.row(i)[j] * c[j];
            }
        }
        let column = |matrix: &Matrix, j: usize| (0..matrix.rows()).map(|i| matrix.row(i)[j]).collect::<Vec<f64>>();
        for (j, target) in gradient.of_mut(host, COEFFICIENTS)?.values_mut().iter_mut().enumerate() {
            *target += dot(&column(&slopes.up, j), &column(p, j));
        }
        axpy(1.0, &slopes.shift, gradient.of_mut(host, SHIFT)?.values_mut());
        Ok(())
    }

    fn forward(&self, host: &Host, theta: &Theta, frozen: &Affine, x: &[f64]) -> Result<Vec<f64>, MethodError> {
        let (p, c) = (theta.get(&projection(host))?, theta.of(host, COEFFICIENTS)?.values());
        let hidden = p.transposed_times(&Matrix::column(x.to_vec()));
        let scaled = hidden.values().iter().zip(c).map(|(h, c)| h * c).collect();
        let branch = p.times(&Matrix::column(scaled));
        let shift = theta.of(host, SHIFT)?.values();
        let moved: Vec<f64> = x.iter().zip(branch.values()).zip(shift).map(|((x, y), b)| x + y + b).collect();
        Ok(frozen.apply(&moved))
    }
}
