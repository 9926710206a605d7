//! The vision transformer.

use std::collections::BTreeMap;

use anyhow::Context;
use burn::module::{Module, Param};
use burn::nn::{LayerNorm, Linear};
use burn::tensor::{Gradients, Tensor};

use super::layers::{Block, RepAdapter, from_up};
use super::weights::{Weights, frozen, gradient, transposed};
use crate::case::Case;

/// ViT or DINOv2 with adapters and a head over the class token.
#[derive(Module, Debug)]
pub(super) struct VisionTransformer {
    /// Of a patch's pixels, channel by channel and row by row.
    patches: Linear,
    patch_size: usize,
    /// `[1, 1, width]`.
    class_token: Param<Tensor<3>>,
    /// `[1, tokens, width]`.
    positions: Param<Tensor<3>>,
    blocks: Vec<Block>,
    norm: LayerNorm,
    head: Linear,
}

impl VisionTransformer {
    pub(super) fn new(case: &Case, device: &burn::tensor::Device) -> anyhow::Result<Self> {
        let weights = Weights { case, device };
        let width = case.config.embed_dim;
        let [rows, columns] = case.config.grid()?;
        let blocks = (0..case.config.depth).map(|block| Block::new(weights, &format!("blocks.{block}")));
        Ok(Self {
            patches: weights.frozen_linear("patch_embed.proj")?,
            patch_size: case.config.patch_size,
            class_token: frozen(weights.read("cls_token", [1, 1, width])?),
            positions: frozen(weights.read("pos_embed", [1, 1 + rows * columns, width])?),
            blocks: blocks.collect::<anyhow::Result<_>>()?,
            norm: weights.frozen_norm("norm")?,
            head: weights.trained_linear("head.weight", "head.bias")?,
        })
    }

    /// Logits `[pictures, classes]` of `[pictures, channels, height, width]`.
    pub(super) fn forward(&self, pictures: Tensor<4>) -> Tensor<2> {
        let [batch, channels, height, width] = pictures.dims();
        let side = self.patch_size;
        let [rows, columns] = [height / side, width / side];
        let patches = pictures
            .reshape([batch, channels, rows, side, columns, side])
            .permute([0, 2, 4, 1, 3, 5])
            .reshape([batch, rows * columns, channels * side * side]);
        let patches = self.patches.forward(patches);
        let [_, _, embed_dim] = patches.dims();
        let class_tokens = self.class_token.val().expand([batch, 1, embed_dim]);
        let mut tokens = Tensor::cat(vec![class_tokens, patches], 1) + self.positions.val();
        for block in &self.blocks {
            tokens = block.forward(tokens);
        }
        let class_tokens = self.norm.forward(tokens).slice([0..batch, 0..1, 0..embed_dim]);
        self.head.forward(class_tokens.reshape([batch, embed_dim]))
    }

    /// The gradients of all that is trained, by the graph's names and in its shapes.
    pub(super) fn gradients(
        &self,
        case: &Case,
        gradients: &Gradients,
    ) -> anyhow::Result<BTreeMap<String, edge_vit_models::Tensor>> {
        let mut named = BTreeMap::new();
        let mut add = |name: String, tensor: edge_vit_models::Tensor| named.insert(name, tensor);
        for (index, block) in self.blocks.iter().enumerate() {
            for (site, adapter) in [("attn", &block.attention_adapter), ("mlp", &block.mlp_adapter)] {
                let name = |part: &str| format!("blocks.{index}.{site}.adapter.adapter_{part}");
                let RepAdapter { down, up, up_bias, .. } = adapter;
                let (hidden, groups) = (case.spec.hidden, case.spec.groups);
                add(name("A.weight"), turned(case, &name("A.weight"), down, gradients)?);
                add(name("A.bias"), bias(case, &name("A.bias"), down, gradients)?);
                let of_up = of(up, &name("B.weight"), gradients)?;
                let of_up = gradient(case, &name("B.weight"), of_up, |values| from_up(&values, hidden, groups))?;
                add(name("B.weight"), of_up);
                let of_bias = of(up_bias, &name("B.bias"), gradients)?;
                add(name("B.bias"), gradient(case, &name("B.bias"), of_bias, |values| values)?);
            }
        }
        add("head.weight".to_owned(), turned(case, "head.weight", &self.head, gradients)?);
        add("head.bias".to_owned(), bias(case, "head.bias", &self.head, gradients)?);
        Ok(named)
    }
}

/// The gradient of a parameter.
fn of<const D: usize>(param: &Param<Tensor<D>>, name: &str, gradients: &Gradients) -> anyhow::Result<Tensor<D>> {
    param.val().grad(gradients).with_context(|| format!("burn has no gradient of `{name}`"))
}

/// The gradient of a layer's weight, `[out, in]`.
fn turned(case: &Case, name: &str, layer: &Linear, gradients: &Gradients) -> anyhow::Result<edge_vit_models::Tensor> {
    let [inputs, _] = layer.weight.val().dims();
    gradient(case, name, of(&layer.weight, name, gradients)?, |values| transposed(&values, inputs))
}

/// The gradient of a layer's bias.
fn bias(case: &Case, name: &str, layer: &Linear, gradients: &Gradients) -> anyhow::Result<edge_vit_models::Tensor> {
    let bias = layer.bias.as_ref().with_context(|| format!("there is no `{name}`"))?;
    gradient(case, name, of(bias, name, gradients)?, |values| values)
}
