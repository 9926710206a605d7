//! The layers that methods change.

use super::matrix::Matrix;
use super::{MethodError, dot_rows};
use crate::block;
use crate::graph::Graph;
use crate::op::Op;
use crate::tensor::Tensor;

/// What a layer is within its transformer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// `attn.qkv`.
    Qkv,
    /// `attn.proj`.
    Proj,
    /// `mlp.fc1`.
    Fc1,
    /// `mlp.fc2`.
    Fc2,
    /// Any LayerNorm: a diagonal map, held as a matrix of one column.
    Norm,
    /// The patch embedding, a linear map of a patch's pixels.
    PatchEmbed,
}

impl Role {
    /// The layers of a block that multiply matrices.
    pub const LINEAR: &[Self] = &[Self::Qkv, Self::Proj, Self::Fc1, Self::Fc2];

    /// timm's name of it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Qkv => "attn.qkv",
            Self::Proj => "attn.proj",
            Self::Fc1 => "mlp.fc1",
            Self::Fc2 => "mlp.fc2",
            Self::Norm => "norm",
            Self::PatchEmbed => "patch_embed.proj",
        }
    }
}

/// A layer that a method changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// The node's name.
    pub name: String,
    /// What it is.
    pub role: Role,
    /// Rows of its weight.
    pub out_features: usize,
    /// Columns of its weight, all dimensions but the first taken together; 1 for a LayerNorm.
    pub in_features: usize,
    /// Width of the tokens.
    pub embed_dim: usize,
}

impl Host {
    /// The names of its weight and its bias.
    pub fn weights(&self) -> [String; 2] {
        [self.param("weight"), self.param("bias")]
    }

    /// The name of the host's parameter `suffix`.
    pub(super) fn param(&self, suffix: &str) -> String {
        format!("{}.{suffix}", self.name)
    }
}

/// A weight `[out, in]` and a bias `[out]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Affine {
    /// `W`.
    pub weight: Matrix,
    /// `c`; zero where the layer has none.
    pub bias: Vec<f64>,
}

impl Affine {
    /// The weight and bias of `host`.
    ///
    /// # Errors
    /// When they are not in `graph`.
    pub fn of(graph: &Graph, host: &Host) -> Result<Self, MethodError> {
        let name = host.param("weight");
        let weight = graph.weights.get(&name).ok_or(MethodError::Missing { name })?;
        let bias = graph.weights.get(&host.param("bias"));
        let bias =
            bias.map_or_else(|| vec![0.0; host.out_features], |bias| Matrix::from_tensor(bias).values().to_vec());
        Ok(Self { weight: Matrix::from_tensor(weight), bias })
    }

    /// All zero, of the shape of `host`.
    pub fn zeros(host: &Host) -> Self {
        Self { weight: Matrix::zeros(host.out_features, host.in_features), bias: vec![0.0; host.out_features] }
    }

    /// `W x + c`; with one column, `W` is a diagonal.
    pub fn apply(&self, x: &[f64]) -> Vec<f64> {
        if self.weight.cols() == 1 && x.len() == self.bias.len() {
            return x.iter().zip(self.weight.values()).zip(&self.bias).map(|((x, w), c)| w * x + c).collect();
        }
        dot_rows(&self.weight, x).zip(&self.bias).map(|(y, c)| y + c).collect()
    }

    /// `strength` of the way from `self` to `other`.
    pub fn towards(&self, other: &Self, strength: f64) -> Self {
        let mix = |from: &[f64], to: &[f64]| from.iter().zip(to).map(|(a, b)| a + strength * (b - a)).collect();
        let mut weight = self.weight.clone();
        let values: Vec<f64> = mix(self.weight.values(), other.weight.values());
        weight.values_mut().copy_from_slice(&values);
        Self { weight, bias: mix(&self.bias, &other.bias) }
    }
}

/// The layers of `graph` in these roles, in graph order.
///
/// # Errors
/// When the graph is not valid, or has none of them.
pub fn hosts(graph: &Graph, roles: &[Role], method: &'static str) -> Result<Vec<Host>, MethodError> {
    let shapes = graph.shapes()?;
    let mut hosts = Vec::new();
    for (id, node) in graph.nodes.iter().enumerate() {
        let input = node.inputs.first().map_or(&[][..], |&input| shapes[input].as_slice());
        let width = |shape: &[usize]| shape.last().copied().unwrap_or(0);
        let out_features = width(&shapes[id]);
        let of_block = |role: &Role| block::of(&node.name).is_some() && node.name.ends_with(role.name());
        let (role, in_features) = match &node.op {
            Op::Linear { .. } => match Role::LINEAR.iter().find(|role| of_block(role)) {
                Some(&role) => (role, width(input)),
                None => continue,
            },
            Op::LayerNorm { .. } => (Role::Norm, 1),
            Op::PatchEmbed { patch_size, tubelets, .. } => {
                let channels = input.first().copied().unwrap_or(0) / (*tubelets).max(1);
                (Role::PatchEmbed, channels * patch_size * patch_size)
            }
            _ => continue,
        };
        if roles.contains(&role) {
            let embed_dim = match role {
                Role::Fc2 | Role::Norm | Role::PatchEmbed => out_features,
                _ => in_features,
            };
            hosts.push(Host { name: node.name.clone(), role, out_features, in_features, embed_dim });
        }
    }
    if hosts.is_empty() {
        let wanted = roles.iter().map(|role| format!("`{}`", role.name())).collect::<Vec<_>>().join(", ");
        return Err(MethodError::NoHost { method, wanted });
    }
    Ok(hosts)
}

/// The graph whose hosts all have a bias, zero where they had none.
///
/// # Errors
/// When a bias cannot be held.
pub fn with_biases(graph: &Graph, hosts: &[Host]) -> Result<Graph, MethodError> {
    let mut graph = graph.clone();
    for host in hosts {
        let Some(id) = graph.find(&host.name) else { continue };
        if let Op::Linear { bias, .. } = &mut graph.nodes[id].op
            && !*bias
        {
            *bias = true;
            graph.weights.insert(host.param("bias"), Tensor::full([host.out_features], 0.0)?);
        }
    }
    Ok(graph)
}
