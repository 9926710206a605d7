//! RepAdapter, arXiv 2302.08106, before or behind any linear map: `f(x) = x + s (B (A x + a) + b)` with a grouped `B`.

use super::host::{Affine, Host, Role};
use super::low_rank::LowRank;
use super::matrix::{Matrix, axpy, dot};
use super::theta::Theta;
use super::{Initial, Method, MethodError, dot_rows, misfit};
use crate::op::Param;

/// Where the adapters stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Site {
    /// Before attention: before qkv.
    BeforeAttention,
    /// Behind attention: behind its projection.
    AfterAttention,
    /// Before the MLP: before fc1.
    BeforeMlp,
    /// Behind the MLP: behind fc2.
    AfterMlp,
    /// Before every linear map, the authors' later variant.
    EveryLinear,
}

/// RepAdapter at one of the paper's four sequential places, or before every linear map.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct RepAdapter {
    /// Width of the bottleneck.
    pub(super) hidden: usize,
    /// Groups of `B`.
    pub(super) groups: usize,
    /// Fixed factor on the branch.
    pub(super) scale: f64,
    /// Where.
    pub(super) site: Site,
}

/// The four weights of one adapter.
pub(crate) struct RepAdapterWeights<'a> {
    /// `A [hidden, width]`.
    pub(crate) a: &'a Matrix,
    /// `a [hidden]`.
    pub(crate) a_bias: &'a [f64],
    /// `B [width, hidden / groups]`.
    pub(crate) b: &'a Matrix,
    /// `b [width]`.
    pub(crate) b_bias: &'a [f64],
}

impl RepAdapterWeights<'_> {
    /// The adapter as one map (equations 10 to 14): `U = s B~`, `V = A^T`, `m = s (B~ a + b)`, where `B~` is the dense form
    /// of the grouped `B`.
    pub(crate) fn map(&self, groups: usize, scale: f64) -> LowRank {
        let (width, hidden) = (self.b_bias.len(), self.a_bias.len());
        let mut up = Matrix::zeros(width, hidden);
        let mut shift = self.b_bias.to_vec();
        for (i, shift) in shift.iter_mut().enumerate() {
            let first = first_unit(groups, hidden, width, i);
            axpy(scale, self.b.row(i), &mut up.row_mut(i)[first..][..self.b.cols()]);
            *shift = scale * (dot(self.b.row(i), &self.a_bias[first..]) + *shift);
        }
        let down = Matrix::from_fn(width, hidden, |i, j| self.a.row(j)[i]);
        LowRank { up, down, shift }
    }
}

/// The first hidden unit of the group that row `i` of `B` reads.
fn first_unit(groups: usize, hidden: usize, width: usize, i: usize) -> usize {
    i * groups / width * (hidden / groups)
}

const A: &str = "adapter_A.weight";
const A_BIAS: &str = "adapter_A.bias";
const B: &str = "adapter_B.weight";
const B_BIAS: &str = "adapter_B.bias";

impl RepAdapter {
    fn is_after(self) -> bool {
        matches!(self.site, Site::AfterAttention | Site::AfterMlp)
    }

    fn width(self, host: &Host) -> usize {
        if self.is_after() { host.out_features } else { host.in_features }
    }

    fn first(self, width: usize, i: usize) -> usize {
        first_unit(self.groups, self.hidden, width, i)
    }

    fn map(self, host: &Host, theta: &Theta) -> Result<LowRank, MethodError> {
        let weights = RepAdapterWeights {
            a: theta.of(host, A)?,
            a_bias: theta.of(host, A_BIAS)?.values(),
            b: theta.of(host, B)?,
            b_bias: theta.of(host, B_BIAS)?.values(),
        };
        Ok(weights.map(self.groups, self.scale))
    }

    /// `f(x)` by its definition.
    fn adapted(self, host: &Host, theta: &Theta, x: &[f64]) -> Result<Vec<f64>, MethodError> {
        let hidden: Vec<f64> =
            dot_rows(theta.of(host, A)?, x).zip(theta.of(host, A_BIAS)?.values()).map(|(y, a)| y + a).collect();
        let (b, b_bias) = (theta.of(host, B)?, theta.of(host, B_BIAS)?.values());
        let row = |(i, &x): (usize, &f64)| {
            let group = &hidden[self.first(b.rows(), i)..];
            x + self.scale * (dot(b.row(i), group) + b_bias[i])
        };
        Ok(x.iter().enumerate().map(row).collect())
    }
}

impl Method for RepAdapter {
    fn name(&self) -> &'static str {
        "repadapter"
    }

    fn roles(&self) -> &[Role] {
        match self.site {
            Site::BeforeAttention => &[Role::Qkv],
            Site::AfterAttention => &[Role::Proj],
            Site::BeforeMlp => &[Role::Fc1],
            Site::AfterMlp => &[Role::Fc2],
            Site::EveryLinear => Role::LINEAR,
        }
    }

    fn params(&self, host: &Host) -> Result<Vec<Param>, MethodError> {
        let (width, Self { hidden, groups, .. }) = (self.width(host), *self);
        if groups == 0 || hidden == 0 || hidden % groups != 0 || width % groups != 0 {
            let reason = format!("hidden {hidden} and the width {width} must be positive multiples of groups {groups}");
            return Err(misfit(self, host, reason));
        }
        let param = |name: &str, shape: Vec<usize>| Param { name: host.param(name), shape };
        Ok(vec![
            param(A, vec![hidden, width]),
            param(A_BIAS, vec![hidden]),
            param(B, vec![width, hidden / groups]),
            param(B_BIAS, vec![width]),
        ])
    }

    fn initial(&self, param: &Param, _: Option<(&Host, &Affine)>) -> Initial {
        if param.name.ends_with(A) { Initial::Xavier } else { Initial::Constant(0.0) }
    }

    fn merge(&self, host: &Host, theta: &Theta, frozen: &Affine) -> Result<Affine, MethodError> {
        let map = self.map(host, theta)?;
        Ok(if self.is_after() { map.after(frozen) } else { map.before(frozen) })
    }

    fn pull_back(
        &self,
        host: &Host,
        theta: &Theta,
        frozen: &Affine,
        merged: &Affine,
        gradient: &mut Theta,
    ) -> Result<(), MethodError> {
        let map = self.map(host, theta)?;
        let slopes =
            if self.is_after() { map.after_gradients(frozen, merged) } else { map.before_gradients(frozen, merged) };
        let (a_bias, b) = (theta.of(host, A_BIAS)?.values(), theta.of(host, B)?);
        let width = self.width(host);
        let of_a = gradient.of_mut(host, A)?;
        for i in 0..width {
            for (j, value) in slopes.down.row(i).iter().enumerate() {
                of_a.row_mut(j)[i] += value;
            }
        }
        let of_b = gradient.of_mut(host, B)?;
        for i in 0..width {
            let first = self.first(width, i);
            axpy(self.scale, &slopes.up.row(i)[first..], of_b.row_mut(i));
            axpy(self.scale * slopes.shift[i], &a_bias[first..], of_b.row_mut(i));
        }
        let of_a_bias = gradient.of_mut(host, A_BIAS)?.values_mut();
        for i in 0..width {
            axpy(self.scale * slopes.shift[i], b.row(i), &mut of_a_bias[self.first(width, i)..]);
        }
        axpy(self.scale, &slopes.shift, gradient.of_mut(host, B_BIAS)?.values_mut());
        Ok(())
    }

    fn forward(&self, host: &Host, theta: &Theta, frozen: &Affine, x: &[f64]) -> Result<Vec<f64>, MethodError> {
        if self.is_after() {
            return self.adapted(host, theta, &frozen.apply(x));
        }
        Ok(frozen.apply(&self.adapted(host, theta, x)?))
    }
}
