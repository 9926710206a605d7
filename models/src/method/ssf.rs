//! SSF, arXiv 2210.08823: `y' = gamma y + beta` behind every linear map, LayerNorm and the patch embedding.

use super::host::{Affine, Host, Role};
use super::matrix::dot;
use super::theta::Theta;
use super::{Initial, Method, MethodError};
use crate::op::Param;

/// Scaling and shifting of features.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ssf;

const GAMMA: &str = "ssf_scale";
const BETA: &str = "ssf_shift";

impl Method for Ssf {
    fn name(&self) -> &'static str {
        "ssf"
    }

    fn roles(&self) -> &[Role] {
        &[Role::Qkv, Role::Proj, Role::Fc1, Role::Fc2, Role::Norm, Role::PatchEmbed]
    }

    fn params(&self, host: &Host) -> Result<Vec<Param>, MethodError> {
        Ok([GAMMA, BETA].map(|name| Param { name: host.param(name), shape: vec![host.out_features] }).into())
    }

    fn initial(&self, param: &Param, _: Option<(&Host, &Affine)>) -> Initial {
        Initial::Constant(if param.name.ends_with(GAMMA) { 1.0 } else { 0.0 })
    }

    fn merge(&self, host: &Host, theta: &Theta, frozen: &Affine) -> Result<Affine, MethodError> {
        let (gamma, beta) = (theta.of(host, GAMMA)?.values(), theta.of(host, BETA)?.values());
        let mut merged = frozen.clone();
        for (i, (gamma, beta)) in gamma.iter().zip(beta).enumerate() {
            merged.weight.row_mut(i).iter_mut().for_each(|value| *value *= gamma);
            merged.bias[i] = gamma * merged.bias[i] + beta;
        }
        Ok(merged)
    }

    fn pull_back(
        &self,
        host: &Host,
        _: &Theta,
        frozen: &Affine,
        merged: &Affine,
        gradient: &mut Theta,
    ) -> Result<(), MethodError> {
        let gamma = gradient.of_mut(host, GAMMA)?.values_mut();
        for (i, gamma) in gamma.iter_mut().enumerate() {
            *gamma += dot(frozen.weight.row(i), merged.weight.row(i)) + frozen.bias[i] * merged.bias[i];
        }
        let beta = gradient.of_mut(host, BETA)?.values_mut();
        beta.iter_mut().zip(&merged.bias).for_each(|(beta, slope)| *beta += slope);
        Ok(())
    }

    fn forward(&self, host: &Host, theta: &Theta, frozen: &Affine, x: &[f64]) -> Result<Vec<f64>, MethodError> {
        let (gamma, beta) = (theta.of(host, GAMMA)?.values(), theta.of(host, BETA)?.values());
        Ok(frozen.apply(x).iter().zip(gamma).zip(beta).map(|((y, gamma), beta)| gamma * y + beta).collect())
    }
}
