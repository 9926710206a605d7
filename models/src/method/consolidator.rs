//! Consolidator, arXiv 2305.00603: a parallel grouped linear map whose inputs are dealt to the groups in turn,
//! `W' = W + C~`: output row `i` reads the inputs `j` with `j mod groups = i groups / out`.

use super::host::{Affine, Host, Role};
use super::matrix::dot;
use super::theta::Theta;
use super::{Initial, Method, MethodError, misfit};
use crate::op::Param;

/// A grouped branch beside every linear map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Consolidator {
    /// Number of groups.
    pub(super) groups: usize,
}

const WEIGHT: &str = "consolidator";

impl Consolidator {
    /// The inputs that output row `row` reads.
    fn inputs(self, host: &Host, row: usize) -> impl Iterator<Item = usize> + use<> {
        let groups = self.groups;
        let group = row * groups / host.out_features;
        (0..host.in_features / groups).map(move |index| index * groups + group)
    }
}

impl Method for Consolidator {
    fn name(&self) -> &'static str {
        "consolidator"
    }

    fn roles(&self) -> &[Role] {
        Role::LINEAR
    }

    fn params(&self, host: &Host) -> Result<Vec<Param>, MethodError> {
        let Host { out_features, in_features, .. } = *host;
        if self.groups == 0 || out_features % self.groups != 0 || in_features % self.groups != 0 {
            let reason = format!("{} groups do not divide {out_features} x {in_features}", self.groups);
            return Err(misfit(self, host, reason));
        }
        Ok(vec![Param { name: host.param(WEIGHT), shape: vec![out_features, in_features / self.groups] }])
    }

    fn initial(&self, _: &Param, _: Option<(&Host, &Affine)>) -> Initial {
        Initial::Constant(0.0)
    }

    fn merge(&self, host: &Host, theta: &Theta, frozen: &Affine) -> Result<Affine, MethodError> {
        let branch = theta.of(host, WEIGHT)?;
        let mut merged = frozen.clone();
        for i in 0..host.out_features {
            for (j, value) in self.inputs(host, i).zip(branch.row(i)) {
                merged.weight.row_mut(i)[j] += value;
            }
        }
        Ok(merged)
    }

    fn pull_back(
        &self,
        host: &Host,
        _: &Theta,
        _: &Affine,
        merged: &Affine,
        gradient: &mut Theta,
    ) -> Result<(), MethodError> {
        let target = gradient.of_mut(host, WEIGHT)?;
        for i in 0..host.out_features {
            for (j, value) in self.inputs(host, i).zip(target.row_mut(i)) {
                *value += merged.weight.row(i)[j];
            }
        }
        Ok(())
    }

    fn forward(&self, host: &Host, theta: &Theta, frozen: &Affine, x: &[f64]) -> Result<Vec<f64>, MethodError> {
        let branch = theta.of(host, WEIGHT)?;
        let row = |(i, y): (usize, f64)| {
            let inputs: Vec<f64> = self.inputs(host, i).map(|j| x[j]).collect();
            y + dot(branch.row(i), &inputs)
        };
        Ok(frozen.apply(x).into_iter().enumerate().map(row).collect())
    }
}
