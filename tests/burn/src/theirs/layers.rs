//! The layers of a block.

use burn::module::{Module, Param};
use burn::nn::{LayerNorm, Linear};
use burn::tensor::module::{attention, linear};
use burn::tensor::{Tensor, TensorData};

use super::weights::{Weights, frozen};

/// RepAdapter at the scale of 1: `x + B (A x + a) + b`, `B` in groups.
#[derive(Module, Debug)]
pub(super) struct RepAdapter {
    /// `A` and `a`.
    pub(super) down: Linear,
    /// `[hidden, width / groups]`: row `j` is what unit `j` gives to each place of its group.
    pub(super) up: Param<Tensor<2>>,
    /// `b`.
    pub(super) up_bias: Param<Tensor<1>>,
    /// `[hidden, groups, 1]`: 1 where a unit is of a group.
    groups: Tensor<3>,
}

impl RepAdapter {
    pub(super) fn new(weights: Weights<'_>, name: &str) -> anyhow::Result<Self> {
        let part = |part: &str| format!("{name}.adapter_{part}");
        let (spec, width) = (&weights.case.spec, weights.case.config.embed_dim);
        let up = to_up(weights.case.weight(&part("B.weight"))?.values(), spec.hidden, spec.groups);
        let member = |at: usize| {
            let (unit, group) = (at / spec.groups, at % spec.groups);
            if unit * spec.groups / spec.hidden == group { 1.0 } else { 0.0 }
        };
        let groups: Vec<f32> = (0..spec.hidden * spec.groups).map(member).collect();
        Ok(Self {
            down: weights.trained_linear(&part("A.weight"), &part("A.bias"))?,
            up: Param::from_tensor(Tensor::from_data(
                TensorData::new(up, [spec.hidden, width / spec.groups]),
                weights.device,
            )),
            up_bias: Param::from_tensor(weights.read(&part("B.bias"), [width])?),
            groups: Tensor::from_data(TensorData::new(groups, [spec.hidden, spec.groups, 1]), weights.device),
        })
    }

    /// One product with the dense form of `B`, whose blocks beside the diagonal are zero: the fewest kernels, and at this width next to
    /// nothing to multiply.
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let up = self.up.val();
        let [hidden, per_group] = up.dims();
        let [_, groups, _] = self.groups.dims();
        let dense = (up.unsqueeze_dim::<3>(1) * self.groups.clone()).reshape([hidden, groups * per_group]);
        let units = self.down.forward(x.clone());
        x + linear(units, dense, Some(self.up_bias.val()))
    }
}

/// `B [width, hidden / groups]` as [`RepAdapter::up`].
pub(super) fn to_up(values: &[f32], hidden: usize, groups: usize) -> Vec<f32> {
    let units = hidden / groups;
    let per_group = values.len() / hidden;
    let at = |at: usize| {
        let (unit, place) = (at / per_group, at % per_group);
        values[(unit / units * per_group + place) * units + unit % units]
    };
    (0..values.len()).map(at).collect()
}

/// [`RepAdapter::up`] as `B [width, hidden / groups]`.
pub(super) fn from_up(values: &[f32], hidden: usize, groups: usize) -> Vec<f32> {
    let units = hidden / groups;
    let per_group = values.len() / hidden;
    let at = |at: usize| {
        let (row, column) = (at / units, at % units);
        values[(row / per_group * units + column) * per_group + row % per_group]
    };
    (0..values.len()).map(at).collect()
}

/// Attention; queries, keys and values each have a layer of their own, as in burn's `MultiHeadAttention`.
#[derive(Module, Debug)]
struct Attention {
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    heads: usize,
}

impl Attention {
    fn new(weights: Weights<'_>, name: &str) -> anyhow::Result<Self> {
        let third = |part| weights.frozen_third(&format!("{name}.qkv"), part);
        Ok(Self {
            query: third(0)?,
            key: third(1)?,
            value: third(2)?,
            output: weights.frozen_linear(&format!("{name}.proj"))?,
            heads: weights.case.config.num_heads,
        })
    }

    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [pictures, tokens, width] = x.dims();
        let heads = |x: Tensor<3>| x.reshape([pictures, tokens, self.heads, width / self.heads]).swap_dims(1, 2);
        let (query, key, value) = (self.query.forward(x.clone()), self.key.forward(x.clone()), self.value.forward(x));
        let context = attention(heads(query), heads(key), heads(value), None, None, Default::default());
        self.output.forward(context.swap_dims(1, 2).reshape([pictures, tokens, width]))
    }
}

/// `fc2(gelu(fc1(x)))`.
#[derive(Module, Debug)]
struct Mlp {
    fc1: Linear,
    fc2: Linear,
}

impl Mlp {
    /// The exact GELU by its definition. burn's own differentiates the approximation by the hyperbolic tangent, whose slopes lie
    /// farther from the exact ones than both sides may, and in more kernels.
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let x = self.fc1.forward(x);
        let gate = x.clone().mul_scalar(std::f64::consts::FRAC_1_SQRT_2).erf().mul_scalar(0.5).add_scalar(0.5);
        self.fc2.forward(x * gate)
    }
}

/// A block of the transformer with an adapter before attention and one before the MLP.
#[derive(Module, Debug)]
pub(super) struct Block {
    norm1: LayerNorm,
    pub(super) attention_adapter: RepAdapter,
    attention: Attention,
    scale1: Option<Param<Tensor<1>>>,
    norm2: LayerNorm,
    pub(super) mlp_adapter: RepAdapter,
    mlp: Mlp,
    scale2: Option<Param<Tensor<1>>>,
}

impl Block {
    pub(super) fn new(weights: Weights<'_>, name: &str) -> anyhow::Result<Self> {
        let config = &weights.case.config;
        let module = |module: &str| format!("{name}.{module}");
        let scale = |scale: &str| {
            let gamma = config.layer_scale.then(|| weights.read(&module(scale), [config.embed_dim]));
            gamma.transpose().map(|gamma| gamma.map(frozen))
        };
        Ok(Self {
            norm1: weights.frozen_norm(&module("norm1"))?,
            attention_adapter: RepAdapter::new(weights, &module("attn.adapter"))?,
            attention: Attention::new(weights, &module("attn"))?,
            scale1: scale("ls1.gamma")?,
            norm2: weights.frozen_norm(&module("norm2"))?,
            mlp_adapter: RepAdapter::new(weights, &module("mlp.adapter"))?,
            mlp: Mlp {
                fc1: weights.frozen_linear(&module("mlp.fc1"))?,
                fc2: weights.frozen_linear(&module("mlp.fc2"))?,
            },
            scale2: scale("ls2.gamma")?,
        })
    }

    pub(super) fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let branch = self.attention.forward(self.attention_adapter.forward(self.norm1.forward(x.clone())));
        let x = x + scaled(branch, self.scale1.as_ref());
        let branch = self.mlp.forward(self.mlp_adapter.forward(self.norm2.forward(x.clone())));
        x + scaled(branch, self.scale2.as_ref())
    }
}

fn scaled(x: Tensor<3>, gamma: Option<&Param<Tensor<1>>>) -> Tensor<3> {
    match gamma {
        Some(gamma) => x * gamma.val().unsqueeze(),
        None => x,
    }
}
