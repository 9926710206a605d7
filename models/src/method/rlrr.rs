//! RLRR, arXiv 2403.17589: `W' = W + diag(l) W diag(r)`, `c' = c + f`: a residual re-scaling of both sides of every weight, of
//! queries, keys and values each with its own `r`; LayerNorms are scaled and shifted as SSF does it (its authors'
//! `networks.py`).

use super::host::{Affine, Host, Role};
use super::matrix::{axpy, dot};
use super::ssf::Ssf;
use super::theta::Theta;
use super::{Initial, Method, MethodError};
use crate::op::Param;

/// Residual re-scaling. The left side begins at 0 and the right one at 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rlrr;

/// How many linear maps a host holds, one below the other.
fn parts(host: &Host) -> usize {
    if host.role == Role::Qkv { 3 } else { 1 }
}

/// The part that row `i` belongs to.
fn part(host: &Host, i: usize) -> usize {
    i * parts(host) / host.out_features
}

const LEFT: &str = "rlrr_left";
const RIGHT: &str = "rlrr_right";
const SHIFT: &str = "rlrr_shift";

impl Method for Rlrr {
    fn name(&self) -> &'static str {
        "rlrr"
    }

    fn roles(&self) -> &[Role] {
        &[Role::Qkv, Role::Proj, Role::Fc1, Role::Fc2, Role::Norm]
    }

    fn params(&self, host: &Host) -> Result<Vec<Param>, MethodError> {
        if host.role == Role::Norm {
            return Ssf.params(host);
        }
        let right = match parts(host) {
            1 => vec![host.in_features],
            parts => vec![parts, host.in_features],
        };
        let shapes = [(LEFT, vec![host.out_features]), (RIGHT, right), (SHIFT, vec![host.out_features])];
        Ok(shapes.map(|(name, shape)| Param { name: host.param(name), shape }).into())
    }

    fn initial(&self, param: &Param, host: Option<(&Host, &Affine)>) -> Initial {
        if host.is_some_and(|(host, _)| host.role == Role::Norm) {
            return Ssf.initial(param, host);
        }
        Initial::Constant(if param.name.ends_with(RIGHT) { 1.0 } else { 0.0 })
    }

    fn merge(&self, host: &Host, theta: &Theta, frozen: &Affine) -> Result<Affine, MethodError> {
        if host.role == Role::Norm {
            return Ssf.merge(host, theta, frozen);
        }
        let (left, right) = (theta.of(host, LEFT)?.values(), theta.of(host, RIGHT)?.values());
        let mut merged = frozen.clone();
        for (i, left) in left.iter().enumerate() {
            for (value, right) in merged.weight.row_mut(i).iter_mut().zip(&right[part(host, i) * host.in_features..]) {
                *value += left * *value * right;
            }
        }
        axpy(1.0, theta.of(host, SHIFT)?.values(), &mut merged.bias);
        Ok(merged)
    }

    fn pull_back(
        &self,
        host: &Host,
        theta: &Theta,
        frozen: &Affine,
        merged: &Affine,
        gradient: &mut Theta,
    ) -> Result<(), MethodError> {
        if host.role == Role::Norm {
            return Ssf.pull_back(host, theta, frozen, merged, gradient);
        }
        let (left, right) = (theta.of(host, LEFT)?.values(), theta.of(host, RIGHT)?.values());
        let mut of_right = vec![0.0; right.len()];
        let of_left = gradient.of_mut(host, LEFT)?.values_mut();
        for (i, (of_left, left)) in of_left.iter_mut().zip(left).enumerate() {
            let products = frozen.weight.row(i).iter().zip(merged.weight.row(i)).map(|(w, slope)| w * slope);
            let first = part(host, i) * host.in_features;
            for (j, product) in products.enumerate() {
                *of_left += product * right[first + j];
                of_right[first + j] += product * left;
            }
        }
        axpy(1.0, &of_right, gradient.of_mut(host, RIGHT)?.values_mut());
        axpy(1.0, &merged.bias, gradient.of_mut(host, SHIFT)?.values_mut());
        Ok(())
    }

    fn forward(&self, host: &Host, theta: &Theta, frozen: &Affine, x: &[f64]) -> Result<Vec<f64>, MethodError> {
        if host.role == Role::Norm {
            return Ssf.forward(host, theta, frozen, x);
        }
        let right = theta.of(host, RIGHT)?.values();
        let scaled = |right: &[f64]| -> Vec<f64> { x.iter().zip(right).map(|(x, right)| x * right).collect() };
        // Each part's rows read the input in their own scale.
        let inputs: Vec<Vec<f64>> = right.chunks_exact(host.in_features).map(scaled).collect();
        let row = |(i, left): (usize, &f64)| left * dot(frozen.weight.row(i), &inputs[part(host, i)]);
        let branch = theta.of(host, LEFT)?.values().iter().enumerate().map(row);
        let shift = theta.of(host, SHIFT)?.values();
        Ok(frozen.apply(x).iter().zip(branch).zip(shift).map(|((y, branch), f)| y + branch + f).collect())
    }
}
