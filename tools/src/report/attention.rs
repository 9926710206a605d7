//! Where the last block's attention looks: how much each patch weighs for what is read out.

use std::collections::BTreeSet;

use edge_vit_models::{Graph, Op};

use crate::cpu::CpuEngine;
use crate::engine::{Engine, EngineError};

/// How much each patch of a picture weighs.
#[derive(Debug, Clone, PartialEq)]
pub struct Map {
    /// Rows and columns of patches; those of a clip's frames one below another.
    pub grid: [usize; 2],
    /// One weight a patch, row by row; they sum to at most 1, the rest falls to class token and registers.
    pub weights: Vec<f32>,
}

/// The part of a vision transformer up to its last attention.
pub struct LastAttention {
    engine: CpuEngine<f32>,
    /// Rows and columns of patches of a frame.
    grid: [usize; 2],
    tubelets: usize,
    /// Frames of a tubelet.
    tubelet_size: usize,
    tokens: usize,
    num_heads: usize,
    scale: f32,
    /// Whether the class token's attention is read; else the mean of all tokens'.
    class_token: bool,
}

impl LastAttention {
    /// The last attention of `graph` over the tokens of all patches; `None` for one that has none, such as a ConvNeXt's, or
    /// attends within windows alone, such as a Swin's.
    ///
    /// # Errors
    /// When the graph does not hold together.
    pub fn of(graph: &Graph) -> Result<Option<Self>, EngineError> {
        let shapes = graph.shapes()?;
        let embedded = graph.nodes.iter().find_map(|node| match node.op {
            Op::PatchEmbed { patch_size, tubelets, .. } => {
                let pixels = shapes[*node.inputs.first()?].as_slice();
                let &[channels, height, width] = pixels else { return None };
                Some(([height / patch_size, width / patch_size], tubelets, (channels / 3 / tubelets).max(1)))
            }
            _ => None,
        });
        let attention = graph.nodes.iter().rev().find_map(|node| match (&node.op, node.inputs.as_slice()) {
            (&Op::Attention { num_heads, scale }, &[qkv]) => Some((num_heads, scale, qkv)),
            _ => None,
        });
        let (Some(embedded), Some((num_heads, scale, qkv))) = (embedded, attention) else { return Ok(None) };
        let (grid, tubelets, tubelet_size) = embedded;
        let &[tokens, _] = shapes[qkv].as_slice() else { return Ok(None) };
        if tokens < tubelets * grid[0] * grid[1] {
            return Ok(None);
        }
        let mut upto = Graph { nodes: graph.nodes[..=qkv].to_vec(), weights: graph.weights.clone() };
        upto.retain_used_weights()?;
        let class_token = graph.nodes.iter().any(|node| node.op == Op::TakeClassToken);
        let engine = CpuEngine::new(&upto, &BTreeSet::new())?;
        Ok(Some(Self { engine, grid, tubelets, tubelet_size, tokens, num_heads, scale, class_token }))
    }

    /// The map of a preprocessed picture, `[3 frames, H, W]`: `softmax(scale q k^T)` of the class token, or the mean of all tokens'
    /// where none is read out, as the mean over the heads. What a tubelet weighs is shared by its frames.
    ///
    /// # Errors
    /// When the picture has another size.
    pub fn map(&mut self, pixels: &[f32]) -> Result<Map, EngineError> {
        let qkv = self.engine.forward(pixels, 1)?;
        let width = qkv.len() / self.tokens / 3;
        let head_dim = width / self.num_heads.max(1);
        let queries = if self.class_token { 1 } else { self.tokens };
        let mut mean = vec![0.0; self.tokens];
        for head in 0..self.num_heads {
            let part =
                |token: usize, which: usize| &qkv[token * 3 * width + which * width + head * head_dim..][..head_dim];
            for query in 0..queries {
                let query = part(query, 0);
                let scores = (0..self.tokens).map(|token| {
                    let product: f32 = query.iter().zip(part(token, 1)).map(|(q, k)| q * k).sum();
                    self.scale * product
                });
                add_softmax(scores.collect(), &mut mean);
            }
        }
        let share = ((queries * self.num_heads * self.tubelet_size) as f32).recip();
        let [rows, columns] = self.grid;
        // Class token and registers stand before the patches.
        let tubelets = mean[self.tokens - self.tubelets * rows * columns..].chunks_exact(rows * columns);
        let frames = tubelets.flat_map(|tubelet| std::iter::repeat_n(tubelet, self.tubelet_size));
        let weights = frames.flatten().map(|weight| weight * share).collect();
        Ok(Map { grid: [self.tubelets * self.tubelet_size * rows, columns], weights })
    }
}

fn add_softmax(mut scores: Vec<f32>, sums: &mut [f32]) {
    let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    scores.iter_mut().for_each(|score| *score = (*score - largest).exp());
    let whole: f32 = scores.iter().sum();
    sums.iter_mut().zip(scores).for_each(|(sum, score)| *sum += score / whole);
}

#[cfg(test)]
mod tests {
    use edge_vit_models::vit::{self, Config, GlobalPool};
    use edge_vit_models::{Tensor, convnext};

    use super::*;

    /// A transformer of one block whose values are so that the output shows the attention.
    fn graph(config: &Config) -> Graph {
        let mut graph = vit::graph(config);
        let mut state = 1u32;
        for param in graph.params().unwrap().into_iter().flatten() {
            let values = (0..param.shape.iter().product())
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (state >> 8) as f32 / (1u32 << 24) as f32 - 0.5
                })
                .collect();
            graph.weights.insert(param.name, Tensor::new(param.shape, values).unwrap());
        }
        graph
    }

    fn config() -> Config {
        Config {
            image_size: [8, 12],
            patch_size: 4,
            embed_dim: 8,
            depth: 2,
            num_heads: 2,
            reg_tokens: 2,
            ..Config::default()
        }
    }

    #[test]
    fn the_map_is_what_the_attention_gives_for_values_of_one_patch() {
        for global_pool in [GlobalPool::Token, GlobalPool::Avg] {
            let config = Config { global_pool, ..config() };
            let graph = graph(&config);
            let pixels: Vec<f32> = (0..3 * 8 * 12).map(|at| (at as f32 * 0.37).sin()).collect();
            let map = LastAttention::of(&graph).unwrap().unwrap().map(&pixels).unwrap();
            assert_eq!((map.grid, map.weights.len()), ([2, 3], 6));

            // The attention itself, over values that are 1 for one patch and 0 for the others.
            let qkv_node = graph.find("blocks.1.attn.qkv").unwrap();
            let upto = Graph { nodes: graph.nodes[..=qkv_node].to_vec(), weights: graph.weights.clone() };
            let qkv = CpuEngine::<f32>::new(&upto, &BTreeSet::new()).unwrap().forward(&pixels, 1).unwrap();
            let tokens = qkv.len() / 24;
            let mut alone = Graph::default();
            let input = alone.push("qkv", Op::Input { shape: vec![tokens, 24] }, &[]);
            alone.push("attn", graph.nodes[qkv_node + 1].op.clone(), &[input]);
            let mut attention = CpuEngine::<f32>::new(&alone, &BTreeSet::new()).unwrap();
            for (patch, &weight) in map.weights.iter().enumerate() {
                let mut values = qkv.clone();
                for (token, row) in values.chunks_mut(24).enumerate() {
                    row[16..].fill(if token == tokens - 6 + patch { 1.0 } else { 0.0 });
                }
                let out = attention.forward(&values, 1).unwrap();
                let read = if global_pool == GlobalPool::Token { &out[..8] } else { &out[..] };
                let expected = read.iter().sum::<f32>() / read.len() as f32;
                assert!((weight - expected).abs() < 1e-6, "{weight} {expected}");
            }
        }
    }

    #[test]
    fn a_network_without_attention_over_all_patches_has_no_map() {
        let graph = convnext::graph(&convnext::Config::default());
        assert!(LastAttention::of(&graph).unwrap().is_none());
    }
}
