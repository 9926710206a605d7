//! FacT in its tensor-train form, arXiv 2212.03145: every matrix of width `D x D` of every block changes by
//! `scale V S U^T`, where `U` and `V` are shared by all blocks of one width. A layer of `p D x q D` is `p q` such matrices.

use std::collections::BTreeSet;

use super::host::{Affine, Host, Role};
use super::matrix::{Matrix, axpy};
use super::theta::Theta;
use super::{Initial, Method, MethodError, dot_rows, misfit};
use crate::op::Param;

/// FacT-TT of this rank.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Fact {
    /// Columns of `U` and `V`.
    pub(super) rank: usize,
    /// Fixed factor on the change.
    pub(super) scale: f64,
}

/// The names of `U` and `V` of blocks of this width.
fn shared_names(width: usize) -> [String; 2] {
    ["U", "V"].map(|factor| format!("fact.{width}.{factor}"))
}

/// One below the other, row of matrices by row of matrices.
const CORES: &str = "fact_S";

impl Fact {
    /// `U` and `V` of the host's width.
    fn factors<'a>(self, host: &Host, theta: &'a Theta) -> Result<[&'a Matrix; 2], MethodError> {
        let [u, v] = shared_names(host.embed_dim);
        Ok([theta.get(&u)?, theta.get(&v)?])
    }

    /// The matrices of a host: row and column of each, and its core.
    fn cores<'a>(self, host: &Host, cores: &'a Matrix) -> impl Iterator<Item = (usize, usize, Matrix)> + 'a {
        let across = host.in_features / host.embed_dim;
        let count = cores.rows() / self.rank.max(1);
        (0..count).map(move |index| {
            let core = Matrix::from_fn(self.rank, self.rank, |i, j| cores.row(index * self.rank + i)[j]);
            (index / across, index % across, core)
        })
    }
}

/// The matrix at row `down` and column `across` of a host's.
fn part(weight: &Matrix, width: usize, down: usize, across: usize) -> Matrix {
    Matrix::from_fn(width, width, |i, j| weight.row(down * width + i)[across * width + j])
}

impl Method for Fact {
    fn name(&self) -> &'static str {
        "fact"
    }

    fn roles(&self) -> &[Role] {
        Role::LINEAR
    }

    fn params(&self, host: &Host) -> Result<Vec<Param>, MethodError> {
        let Host { out_features, in_features, embed_dim, .. } = *host;
        if embed_dim == 0 || out_features % embed_dim != 0 || in_features % embed_dim != 0 {
            let reason = format!("{out_features} x {in_features} is not made of {embed_dim} x {embed_dim}");
            return Err(misfit(self, host, reason));
        }
        let count = out_features / embed_dim * (in_features / embed_dim);
        Ok(vec![Param { name: host.param(CORES), shape: vec![count * self.rank, self.rank] }])
    }

    fn shared(&self, hosts: &[Host]) -> Vec<Param> {
        let widths: BTreeSet<usize> = hosts.iter().map(|host| host.embed_dim).collect();
        let of_width = |width| shared_names(width).map(|name| Param { name, shape: vec![width, self.rank] });
        widths.into_iter().flat_map(of_width).collect()
    }

    fn initial(&self, param: &Param, _: Option<(&Host, &Affine)>) -> Initial {
        if param.name.ends_with(".V") { Initial::Constant(0.0) } else { Initial::Xavier }
    }

    fn merge(&self, host: &Host, theta: &Theta, frozen: &Affine) -> Result<Affine, MethodError> {
        let ([u, v], width) = (self.factors(host, theta)?, host.embed_dim);
        let mut merged = frozen.clone();
        for (down, across, core) in self.cores(host, theta.of(host, CORES)?) {
            let change = v.times(&core).times_transposed(u);
            for i in 0..width {
                let target = &mut merged.weight.row_mut(down * width + i)[across * width..][..width];
                axpy(self.scale, change.row(i), target);
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
        let ([u, v], [u_name, v_name]) = (self.factors(host, theta)?, shared_names(host.embed_dim));
        for (index, (down, across, core)) in self.cores(host, theta.of(host, CORES)?).enumerate() {
            let slopes = part(&merged.weight, host.embed_dim, down, across);
            // `slopes U` and `slopes^T V`, each `[D, rank]`.
            let (of_u, of_v) = (slopes.times(u), slopes.transposed_times(v));
            gradient.get_mut(&v_name)?.add_scaled(self.scale, &of_u.times_transposed(&core));
            gradient.get_mut(&u_name)?.add_scaled(self.scale, &of_v.times(&core));
            let of_core = v.transposed_times(&of_u);
            let cores = gradient.of_mut(host, CORES)?;
            for i in 0..self.rank {
                axpy(self.scale, of_core.row(i), cores.row_mut(index * self.rank + i));
            }
        }
        Ok(())
    }

    fn forward(&self, host: &Host, theta: &Theta, frozen: &Affine, x: &[f64]) -> Result<Vec<f64>, MethodError> {
        let ([u, v], width) = (self.factors(host, theta)?, host.embed_dim);
        let mut y = frozen.apply(x);
        for (down, across, core) in self.cores(host, theta.of(host, CORES)?) {
            let hidden = u.transposed_times(&Matrix::column(x[across * width..][..width].to_vec()));
            let mixed: Vec<f64> = dot_rows(&core, hidden.values()).collect();
            let branch: Vec<f64> = dot_rows(v, &mixed).collect();
            axpy(self.scale, &branch, &mut y[down * width..][..width]);
        }
        Ok(y)
    }
}
