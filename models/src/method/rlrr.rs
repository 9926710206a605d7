//! RLRR, arXiv 2403.17589: `W' = W + diag(l) W diag(r)`, `c' = c + f`: a residual re-scaling of both sides of every weight.

use super::host::{Affine, Host, Role};
use super::matrix::axpy;
use super::theta::Theta;
use super::{Initial, Method, MethodError, dot_rows};
use crate::op::Param;

/// Residual re-scaling. The left side begins at 0 and the right one at 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rlrr;

const LEFT: &str = "rlrr_left";
const RIGHT: &str = "rlrr_right";
const SHIFT: &str = "rlrr_shift";

impl Method for Rlrr {
    fn name(&self) -> &'static str {
        "rlrr"
    }

    fn roles(&self) -> &[Role] {
        Role::LINEAR
    }

    fn params(&self, host: &Host) -> Result<Vec<Param>, MethodError> {
        let sizes = [(LEFT, host.out_features), (RIGHT, host.in_features), (SHIFT, host.out_features)];
        Ok(sizes.map(|(name, len)| Param { name: host.param(name), shape: vec![len] }).into())
    }

    fn initial(&self, param: &Param, _: Option<(&Host, &Affine)>) -> Initial {
        Initial::Constant(if param.name.ends_with(RIGHT) { 1.0 } else { 0.0 })
    }

    fn merge(&self, host: &Host, theta: &Theta, frozen: &Affine) -> Result<Affine, MethodError> {
        let (left, right) = (theta.of(host, LEFT)?.values(), theta.of(host, RIGHT)?.values());
        let mut merged = frozen.clone();
        for (i, left) in left.iter().enumerate() {
            for (value, right) in merged.weight.row_mut(i).iter_mut().zip(right) {
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
        let (left, right) = (theta.of(host, LEFT)?.values(), theta.of(host, RIGHT)?.values());
        let mut of_right = vec![0.0; right.len()];
        let of_left = gradient.of_mut(host, LEFT)?.values_mut();
        for (i, (of_left, left)) in of_left.iter_mut().zip(left).enumerate() {
            let products = frozen.weight.row(i).iter().zip(merged.weight.row(i)).map(|(w, slope)| w * slope);
            for (j, product) in products.enumerate() {
                *of_left += product * right[j];
                of_right[j] += product * left;
            }
        }
        axpy(1.0, &of_right, gradient.of_mut(host, RIGHT)?.values_mut());
        axpy(1.0, &merged.bias, gradient.of_mut(host, SHIFT)?.values_mut());
        Ok(())
    }

    fn forward(&self, host: &Host, theta: &Theta, frozen: &Affine, x: &[f64]) -> Result<Vec<f64>, MethodError> {
        let scaled: Vec<f64> = x.iter().zip(theta.of(host, RIGHT)?.values()).map(|(x, right)| x * right).collect();
        let branch = dot_rows(&frozen.weight, &scaled).zip(theta.of(host, LEFT)?.values()).map(|(y, left)| y * left);
        let shift = theta.of(host, SHIFT)?.values();
        Ok(frozen.apply(x).iter().zip(branch).zip(shift).map(|((y, branch), f)| y + branch + f).collect())
    }
}
