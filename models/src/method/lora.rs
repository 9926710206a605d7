//! LoRA, arXiv 2106.09685: `W' = W + (alpha / rank) B A`, on any layers of a block.

use std::collections::BTreeSet;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::host::{Affine, Host, Role};
use super::matrix::{Matrix, axpy};
use super::theta::Theta;
use super::{Initial, Method, MethodError, dot_rows};
use crate::op::Param;

/// What a LoRA stands beside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LoraTarget {
    /// The queries' rows of qkv.
    Q,
    /// The keys' rows of qkv.
    K,
    /// The values' rows of qkv.
    V,
    /// All rows of qkv together, with one `A`.
    Qkv,
    /// The projection behind attention.
    Proj,
    /// The first layer of the MLP.
    Fc1,
    /// The second layer of the MLP.
    Fc2,
}

impl LoraTarget {
    /// All of them.
    pub const ALL: [Self; 7] = [Self::Q, Self::K, Self::V, Self::Qkv, Self::Proj, Self::Fc1, Self::Fc2];

    /// The paper's choice, queries and values.
    pub fn queries_and_values() -> BTreeSet<Self> {
        BTreeSet::from([Self::Q, Self::V])
    }

    /// Its name, as files and command lines write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Q => "q",
            Self::K => "k",
            Self::V => "v",
            Self::Qkv => "qkv",
            Self::Proj => "proj",
            Self::Fc1 => "fc1",
            Self::Fc2 => "fc2",
        }
    }

    fn role(self) -> Role {
        match self {
            Self::Q | Self::K | Self::V | Self::Qkv => Role::Qkv,
            Self::Proj => Role::Proj,
            Self::Fc1 => Role::Fc1,
            Self::Fc2 => Role::Fc2,
        }
    }

    /// timm's name of the layer within its block.
    pub(crate) fn host(self) -> &'static str {
        self.role().name()
    }

    /// The rows of the layer's weight that are changed.
    fn rows(self, host: &Host) -> Range<usize> {
        let third = host.out_features / 3;
        match self {
            Self::Q => 0..third,
            Self::K => third..2 * third,
            Self::V => 2 * third..host.out_features,
            _ => 0..host.out_features,
        }
    }

    /// What stands behind the layer in the names of `A` and `B`: one of q, k and v says which.
    pub(crate) fn matrices(self) -> [String; 2] {
        ["lora_A", "lora_B"].map(|matrix| match self {
            Self::Q | Self::K | Self::V => format!("{matrix}.{}", self.name()),
            _ => matrix.to_owned(),
        })
    }
}

/// LoRA of this rank.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Lora {
    rank: usize,
    /// `alpha / rank`.
    scale: f64,
    targets: BTreeSet<LoraTarget>,
    roles: Vec<Role>,
}

impl Lora {
    /// `alpha` is the factor on the branch, times the rank.
    pub(super) fn new(rank: usize, alpha: f64, targets: &BTreeSet<LoraTarget>) -> Self {
        let roles: BTreeSet<Role> = targets.iter().map(|target| target.role()).collect();
        Self { rank, scale: alpha / rank as f64, targets: targets.clone(), roles: roles.into_iter().collect() }
    }

    fn targets_of(&self, host: &Host) -> impl Iterator<Item = LoraTarget> {
        let role = host.role;
        self.targets.iter().copied().filter(move |target| target.role() == role)
    }
}

impl Method for Lora {
    fn name(&self) -> &'static str {
        "lora"
    }

    fn roles(&self) -> &[Role] {
        &self.roles
    }

    fn params(&self, host: &Host) -> Result<Vec<Param>, MethodError> {
        let pair = |target: LoraTarget| {
            let [a, b] = target.matrices();
            [
                Param { name: host.param(&a), shape: vec![self.rank, host.in_features] },
                Param { name: host.param(&b), shape: vec![target.rows(host).len(), self.rank] },
            ]
        };
        Ok(self.targets_of(host).flat_map(pair).collect())
    }

    fn initial(&self, param: &Param, _: Option<(&Host, &Affine)>) -> Initial {
        if param.name.contains("lora_A") { Initial::Xavier } else { Initial::Constant(0.0) }
    }

    fn merge(&self, host: &Host, theta: &Theta, frozen: &Affine) -> Result<Affine, MethodError> {
        let mut merged = frozen.clone();
        for target in self.targets_of(host) {
            let [a, b] = target.matrices();
            let delta = theta.of(host, &b)?.times(theta.of(host, &a)?);
            for (row, delta) in target.rows(host).zip(delta.values().chunks_exact(host.in_features)) {
                axpy(self.scale, delta, merged.weight.row_mut(row));
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
        for target in self.targets_of(host) {
            let [a, b] = target.matrices();
            let rows = target.rows(host);
            let slopes = Matrix::from_fn(rows.len(), host.in_features, |i, j| merged.weight.row(rows.start + i)[j]);
            gradient.of_mut(host, &a)?.add_scaled(self.scale, &theta.of(host, &b)?.transposed_times(&slopes));
            gradient.of_mut(host, &b)?.add_scaled(self.scale, &slopes.times_transposed(theta.of(host, &a)?));
        }
        Ok(())
    }

    fn forward(&self, host: &Host, theta: &Theta, frozen: &Affine, x: &[f64]) -> Result<Vec<f64>, MethodError> {
        let mut y = frozen.apply(x);
        for target in self.targets_of(host) {
            let [a, b] = target.matrices();
            let hidden: Vec<f64> = dot_rows(theta.of(host, &a)?, x).collect();
            let branch = dot_rows(theta.of(host, &b)?, &hidden).map(|value| value * self.scale);
            y[target.rows(host)].iter_mut().zip(branch).for_each(|(y, branch)| *y += branch);
        }
        Ok(y)
    }
}
