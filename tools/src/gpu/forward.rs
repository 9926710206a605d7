//! The forward of a micro-batch.

use std::collections::BTreeMap;

use edge_vit_models::graph::Node;
use edge_vit_models::{NodeId, Op};

use super::fixed::Fixed;
use super::kernels::Drop;
use super::kernels::adapter::Adapter;
use super::kernels::attention::Attention;
use super::kernels::attention_pool::AttentionPool;
use super::kernels::elementwise::{Branch, Broadcast, activation, broadcast, residual};
use super::kernels::layer_norm::Norm;
use super::kernels::maps::{Depthwise, gather_rows, normalize_heads};
use super::kernels::matmul::Product;
use super::kernels::response_norm::ResponseNorm;
use super::kernels::tokens::{Shift, Tokens, mean, shift};
use super::kernels::unfold::{Unfold, concat};
use super::pool::{Buf, PoolError};
use super::recorder::Recorder;
use super::weights::Weights;
use crate::engine::{EngineError, Noise, Plan, merged_tokens};

/// A graph as the walks over it see it.
pub(crate) struct Model {
    pub(crate) nodes: Vec<Node>,
    pub(crate) plan: Plan,
    pub(crate) weights: Weights,
    pub(crate) fixed: BTreeMap<NodeId, Fixed>,
}

/// Some pictures of a batch on their way through the graph.
pub(crate) struct Walk<'a> {
    pub(crate) model: &'a Model,
    pub(crate) rec: Recorder,
    pub(crate) pictures: usize,
    /// How many pictures of the batch stand before these.
    pub(crate) first_picture: usize,
    /// Dropout and stochastic depth; none outside of training.
    pub(crate) noise: Option<&'a Noise>,
}

impl<'a> Walk<'a> {
    /// Records the forward from the input on. The result holds the output and, while training, what the backward reads;
    /// everything else has gone back to the pool at its last use.
    ///
    /// # Errors
    /// When there is no room.
    pub(crate) fn forward(&mut self, input: Buf) -> Result<Vec<Option<Buf>>, PoolError> {
        let plan = &self.model.plan;
        let count = self.model.nodes.len();
        let mut values: Vec<Option<Buf>> = vec![None; count];
        values[0] = Some(input);
        for id in 1..count {
            let output = self.forward_node(id, &values)?;
            values[id] = Some(output);
            let kept = |at: usize| at + 1 == count || (self.noise.is_some() && plan.kept[at]);
            for &at in self.model.nodes[id].inputs.iter().chain([&id]) {
                if plan.last_use[at] <= id && !kept(at) {
                    values[at] = None;
                }
            }
        }
        Ok(values)
    }

    pub(crate) fn forward_node(&mut self, id: NodeId, values: &[Option<Buf>]) -> Result<Buf, PoolError> {
        let model = self.model;
        let node = &model.nodes[id];
        let weights = &model.weights;
        let pictures = self.pictures;
        let input = node.inputs[0];
        let x = value_of(values, input, node)?;
        let shape = &model.plan.shapes[input];
        let count = pictures * model.plan.len(input);
        match &node.op {
            Op::Input { .. } => Ok(x.clone()),
            Op::PatchEmbed { patch_size, embed_dim, tubelets } => {
                let &[channels, height, width] = shape.as_slice() else { return Err(misshapen(node).into()) };
                let channels = channels / tubelets;
                let patches = Unfold::patches(pictures * tubelets, [channels, height, width], *patch_size);
                let patches = patches.forward(&mut self.rec, x)?;
                let k = channels * patch_size * patch_size;
                let bias = Some(weights.of(&node.name, "bias")?);
                self.linear(&patches, weights.matrix(&node.name)?, bias, count / k, *embed_dim, k)
            }
            Op::InsertTokens { count, at } => {
                let source = self.tokens(x, shape);
                // Numbers of tokens are small.
                let how = Shift { result_tokens: source.tokens + count, at: *at, shift: -(*count as i32) };
                shift(&mut self.rec, &source, how, Some(weights.value(&node.name)?))
            }
            Op::DropTokens { count, at } => {
                let source = self.tokens(x, shape);
                let how = Shift { result_tokens: source.tokens - count, at: *at, shift: *count as i32 };
                shift(&mut self.rec, &source, how, None)
            }
            Op::PosEmbed => {
                let embedding = weights.value(&node.name)?;
                broadcast(&mut self.rec, Broadcast::Add, x, embedding, count, count / pictures)
            }
            Op::LayerNorm { eps } => {
                let bias = weights.of(&node.name, "bias")?;
                self.norm(id, x, *eps)?.forward(&mut self.rec, bias)
            }
            Op::Linear { out_features, bias } => {
                let k = width_of(shape);
                let bias = if *bias { Some(weights.of(&node.name, "bias")?) } else { None };
                self.linear(x, weights.matrix(&node.name)?, bias, count / k, *out_features, k)
            }
            Op::Act(function) => activation(&mut self.rec, *function, x, None, count),
            Op::Attention { num_heads, scale }
            | Op::CausalAttention { num_heads, scale }
            | Op::WindowAttention { num_heads, scale, .. } => {
                self.attention(id, x, *num_heads, *scale).forward(&mut self.rec)
            }
            Op::Grid { .. } => Ok(x.clone()),
            Op::SpaceToDepth { .. } | Op::PixelShuffle { .. } | Op::WindowPartition(_) | Op::WindowReverse(_) => {
                self.moved(id, x, false)
            }
            Op::NormalizeHeads { num_heads } => {
                let sizes = self.heads_of(id, *num_heads);
                normalize_heads(&mut self.rec, x, weights.of(&node.name, "scale")?, None, sizes)
            }
            Op::Unfold { .. } => self.unfold(id)?.forward(&mut self.rec, x),
            Op::Concat => {
                let widths = [0, 1].map(|which| width_of(&model.plan.shapes[node.inputs[which]]));
                let other = value_of(values, node.inputs[1], node)?;
                concat(&mut self.rec, (x, widths[0]), (other, widths[1]), count / widths[0])
            }
            Op::DepthwiseConv { .. } => {
                let bias = weights.of(&node.name, "bias")?;
                self.depthwise(id)?.forward(&mut self.rec, x, weights.of(&node.name, "weight")?, bias)
            }
            Op::GlobalResponseNorm => {
                let bias = weights.of(&node.name, "bias")?;
                self.response_norm(id, x)?.forward(&mut self.rec, bias)
            }
            Op::AttentionPool { num_heads, scale } => {
                self.attention_pool(id, x, *num_heads, *scale)?.forward(&mut self.rec)
            }
            Op::LayerScale => {
                let gamma = weights.of(&node.name, "gamma")?;
                broadcast(&mut self.rec, Broadcast::Multiply, x, gamma, count, width_of(shape))
            }
            Op::Add => {
                let branch = self.branch(id, value_of(values, node.inputs[1], node)?);
                residual(&mut self.rec, Some(x), &branch)
            }
            Op::TakeClassToken => {
                let source = self.tokens(x, shape);
                shift(&mut self.rec, &source, Shift { result_tokens: 1, at: 1, shift: 0 }, None)
            }
            Op::MeanTokens { skip } => {
                let source = self.tokens(x, shape);
                mean(&mut self.rec, &source, *skip)
            }
            Op::RepAdapter { .. } => self.adapter(id)?.forward(&mut self.rec, x),
            Op::MatchTokens { .. } | Op::MergeSizes { .. } | Op::MergeTokens => Err(no_merged_tokens(node).into()),
        }
    }

    fn linear(
        &mut self,
        x: &wgpu::Buffer,
        (weight, half): (&wgpu::Buffer, bool),
        bias: Option<&wgpu::Buffer>,
        rows: usize,
        out_features: usize,
        in_features: usize,
    ) -> Result<Buf, PoolError> {
        Product {
            a: x,
            a_transposed: false,
            b: weight,
            b_transposed: true,
            m: rows,
            n: out_features,
            k: in_features,
            bias,
            addend: None,
            half,
        }
        .record(&mut self.rec)
    }

    /// `values` as the tokens of these pictures, of `shape` a picture.
    pub(crate) fn tokens<'b>(&self, values: &'b wgpu::Buffer, shape: &[usize]) -> Tokens<'b> {
        let width = width_of(shape);
        let tokens = shape.iter().product::<usize>() / width;
        Tokens { values, pictures: self.pictures, tokens, width }
    }

    /// The LayerNorm at `id` over its input `x`.
    pub(crate) fn norm<'b>(&self, id: NodeId, x: &'b wgpu::Buffer, eps: f32) -> Result<Norm<'b>, EngineError>
    where
        Self: 'b,
    {
        let width = width_of(&self.model.plan.shapes[id]);
        let rows = self.pictures * self.model.plan.len(id) / width;
        let weight = self.model.weights.of(&self.model.nodes[id].name, "weight")?;
        Ok(Norm { x, weight, rows, width, eps })
    }

    /// The attention at `id` over `qkv`; windows of a picture count as pictures.
    pub(crate) fn attention<'b>(&self, id: NodeId, qkv: &'b wgpu::Buffer, heads: usize, scale: f32) -> Attention<'b>
    where
        'a: 'b,
    {
        let model = self.model;
        let input = model.nodes[id].inputs[0];
        let shape = &model.plan.shapes[input];
        let width = width_of(shape);
        let tokens = shape.len().checked_sub(2).map_or(1, |at| shape[at]);
        let pictures = self.pictures * model.plan.len(input) / (tokens * width);
        let bias = match model.fixed.get(&id) {
            Some(Fixed::Bias(bias)) => Some((bias, bias.size() as usize / (4 * heads * tokens * tokens))),
            _ => None,
        };
        Attention { qkv, pictures, tokens, heads, head_dim: width / (3 * heads), scale, bias }
    }

    /// `x` with the rows of each picture where the node at `id` moves them, or from there back.
    pub(crate) fn moved(&mut self, id: NodeId, x: &Buf, back: bool) -> Result<Buf, PoolError> {
        let input = self.model.nodes[id].inputs[0];
        let width = width_of(&self.model.plan.shapes[input]).min(width_of(&self.model.plan.shapes[id]));
        let Some(Fixed::Rows { forward, backward }) = self.model.fixed.get(&id) else { return Ok(x.clone()) };
        let sizes = [self.pictures, self.model.plan.len(input) / width, width];
        gather_rows(&mut self.rec, x, if back { backward } else { forward }, sizes)
    }

    /// Rows, heads and width of a head of the queries at `id`.
    pub(crate) fn heads_of(&self, id: NodeId, heads: usize) -> [usize; 3] {
        let width = width_of(&self.model.plan.shapes[id]);
        [self.pictures * self.model.plan.len(id) / width, heads, width / (3 * heads)]
    }

    /// The depthwise convolution at `id`.
    pub(crate) fn depthwise(&self, id: NodeId) -> Result<Depthwise, EngineError> {
        let node = &self.model.nodes[id];
        match (&node.op, self.model.plan.shapes[node.inputs[0]].as_slice()) {
            (&Op::DepthwiseConv { kernel_size: kernel, stride }, &[height, width, dim]) => {
                Ok(Depthwise { pictures: self.pictures, height, width, dim, kernel, stride })
            }
            _ => Err(misshapen(node)),
        }
    }

    /// What the kernel of the convolution behind the node at `id` covers.
    pub(crate) fn unfold(&self, id: NodeId) -> Result<Unfold, EngineError> {
        let node = &self.model.nodes[id];
        match (&node.op, self.model.plan.shapes[node.inputs[0]].as_slice()) {
            (&Op::Unfold { kernel_size: kernel, stride, from_pixels }, &[a, b, c]) => {
                let [channels, height, width] = if from_pixels { [a, b, c] } else { [c, a, b] };
                let (pictures, around) = (self.pictures, kernel / 2);
                Ok(Unfold { pictures, channels, height, width, from_pixels, kernel, stride, around })
            }
            _ => Err(misshapen(node)),
        }
    }

    /// The response normalisation at `id` over its input `x`.
    pub(crate) fn response_norm<'b>(&self, id: NodeId, x: &'b wgpu::Buffer) -> Result<ResponseNorm<'b>, EngineError>
    where
        'a: 'b,
    {
        let dim = width_of(&self.model.plan.shapes[id]);
        let places = self.model.plan.len(id) / dim;
        let weight = self.model.weights.of(&self.model.nodes[id].name, "weight")?;
        Ok(ResponseNorm { x, weight, pictures: self.pictures, places, dim })
    }

    /// Pooling of `kv`, the input of the node at `id`, by attention.
    pub(crate) fn attention_pool<'b>(
        &self,
        id: NodeId,
        kv: &'b wgpu::Buffer,
        heads: usize,
        scale: f32,
    ) -> Result<AttentionPool<'b>, EngineError>
    where
        'a: 'b,
    {
        let node = &self.model.nodes[id];
        let &[tokens, width] = self.model.plan.shapes[node.inputs[0]].as_slice() else { return Err(misshapen(node)) };
        let query = self.model.weights.of(&node.name, "query")?;
        let head_dim = width / (2 * heads);
        Ok(AttentionPool { kv, query, pictures: self.pictures, tokens, heads, head_dim, scale })
    }

    /// `values` as the branch of the residual sum at `id`, with stochastic depth while training.
    pub(crate) fn branch<'b>(&self, id: NodeId, values: &'b wgpu::Buffer) -> Branch<'b> {
        let plan = &self.model.plan;
        let rate = self
            .noise
            .zip(plan.residual_of[id])
            .and_then(|(noise, residual)| noise.drop_path.get(residual).copied())
            .unwrap_or(0.0);
        Branch {
            values,
            pictures: self.pictures,
            picture_len: plan.len(id),
            first_picture: self.first_picture,
            drop: self.drop(id, rate),
        }
    }

    /// The adapter at `id`, with dropout while training.
    pub(crate) fn adapter(&self, id: NodeId) -> Result<Adapter<'a>, EngineError> {
        let node = &self.model.nodes[id];
        let Op::RepAdapter { hidden, groups, scale } = node.op else { return Err(misshapen(node)) };
        let weights = &self.model.weights;
        let width = width_of(&self.model.plan.shapes[id]);
        let rows_of_picture = self.model.plan.len(id) / width;
        let rate = self.noise.map_or(0.0, |noise| noise.dropout);
        // The noise's index is 32 bits wide and wraps.
        let first_index = (self.first_picture * rows_of_picture * hidden) as u32;
        Ok(Adapter {
            a_weight: weights.of(&node.name, "adapter_A.weight")?,
            a_bias: weights.of(&node.name, "adapter_A.bias")?,
            b_weight: weights.of(&node.name, "adapter_B.weight")?,
            b_bias: weights.of(&node.name, "adapter_B.bias")?,
            rows: self.pictures * rows_of_picture,
            width,
            hidden,
            groups,
            scale,
            drop: self.drop(id, rate).map(|drop| (drop, first_index)),
        })
    }

    fn drop(&self, id: NodeId, rate: f32) -> Option<Drop> {
        let noise = self.noise.filter(|_| rate > 0.0)?;
        // Graph positions are small.
        Some(Drop { seed: noise.seed, stream: id as u32, rate })
    }
}

/// The output of `id`, which `reader` reads.
pub(crate) fn value_of<'a>(values: &'a [Option<Buf>], id: NodeId, reader: &Node) -> Result<&'a Buf, EngineError> {
    let value = values[id].as_ref();
    value.ok_or_else(|| EngineError::Device(format!("`{}` reads a tensor that is no longer there", reader.name)))
}

/// The last dimension.
pub(crate) fn width_of(shape: &[usize]) -> usize {
    shape.last().copied().unwrap_or(1)
}

fn misshapen(node: &Node) -> EngineError {
    EngineError::Device(format!("`{}` ({}) is given a shape that it cannot take", node.name, node.op.name()))
}

/// What is said of a `node` of merged tokens.
pub(crate) fn no_merged_tokens(node: &Node) -> EngineError {
    merged_tokens(node, "which no GPU computes here")
}
