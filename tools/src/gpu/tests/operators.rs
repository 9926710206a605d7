//! Each operator between a trained layer and a head, so that its forward and its input's gradient show.

use edge_vit_models::op::Windows;
use edge_vit_models::{Activation, Graph, Op};

use super::{assert_agrees, fill, gpu, trainable};
use crate::engine::Noise;

/// tokens [7, 10] -> trained Linear -> `ops` -> mean -> head.
fn around(ops: &[Op], width: usize) -> Graph {
    let mut graph = Graph::default();
    let input = graph.push("tokens", Op::Input { shape: vec![7, 10] }, &[]);
    let mut last = graph.push("first", Op::Linear { out_features: width, bias: true }, &[input]);
    for (i, op) in ops.iter().enumerate() {
        last = graph.push(format!("op{i}"), op.clone(), &[last]);
    }
    let pool = graph.push("pool", Op::MeanTokens { skip: 1 }, &[last]);
    graph.push("head", Op::Linear { out_features: 3, bias: true }, &[pool]);
    fill(&mut graph);
    graph
}

fn check(ops: &[Op], widths: &[usize]) {
    let Some(gpu) = gpu() else { return };
    for &width in widths {
        let graph = around(ops, width);
        assert_agrees(&gpu, &graph, &trainable(&graph, &["first", "head"]), 3, &Noise::default());
    }
}

#[test]
fn layer_norm() {
    check(&[Op::LayerNorm { eps: 1e-5 }], &[12, 13]);
}

#[test]
fn activations() {
    for activation in Activation::ALL {
        check(&[Op::Act(activation)], &[12, 13]);
    }
}

#[test]
fn attention_pool() {
    let Some(gpu) = gpu() else { return };
    for width in [12, 10] {
        let mut graph = Graph::default();
        let input = graph.push("tokens", Op::Input { shape: vec![7, 10] }, &[]);
        let kv = graph.push("first", Op::Linear { out_features: 2 * width, bias: true }, &[input]);
        let pool = graph.push("pool", Op::AttentionPool { num_heads: 2, scale: 0.6 }, &[kv]);
        graph.push("head", Op::Linear { out_features: 3, bias: true }, &[pool]);
        fill(&mut graph);
        assert_agrees(&gpu, &graph, &trainable(&graph, &["first", "head"]), 3, &Noise::default());
    }
}

#[test]
fn inserted_tokens() {
    check(&[Op::InsertTokens { count: 3, at: 1 }, Op::InsertTokens { count: 1, at: 10 }], &[12, 13]);
}

#[test]
fn dropped_tokens() {
    check(&[Op::DropTokens { count: 3, at: 0 }, Op::DropTokens { count: 1, at: 2 }], &[12, 13]);
    check(&[Op::DropTokens { count: 2, at: 5 }], &[12]);
}

#[test]
fn every_weight_of_a_backbone() {
    let Some(gpu) = gpu() else { return };
    for (embed_dim, tubelets) in [(12, 1), (13, 1), (13, 3)] {
        let mut graph = Graph::default();
        let mut x = graph.push("pixels", Op::Input { shape: vec![3 * tubelets, 8, 12] }, &[]);
        for (name, op) in [
            ("patch_embed", Op::PatchEmbed { patch_size: 4, embed_dim, tubelets }),
            ("pos_embed", Op::PosEmbed),
            ("reg_token", Op::InsertTokens { count: 2, at: 1 }),
            ("norm", Op::LayerNorm { eps: 1e-5 }),
            ("ls", Op::LayerScale),
            ("fc", Op::Linear { out_features: embed_dim, bias: true }),
            ("pool", Op::MeanTokens { skip: 0 }),
            ("head", Op::Linear { out_features: 3, bias: true }),
        ] {
            x = graph.push(name, op, &[x]);
        }
        fill(&mut graph);
        let all = graph.weights.keys().cloned().collect();
        assert_agrees(&gpu, &graph, &all, 3, &Noise::default());
        let some = ["norm.bias", "fc.bias", "patch_embed.bias"].map(str::to_owned).into();
        assert_agrees(&gpu, &graph, &some, 3, &Noise::default());
    }
}

#[test]
fn causal_attention() {
    check(&[Op::CausalAttention { num_heads: 2, scale: 0.6 }], &[24, 30]);
}

#[test]
fn attention_with_whole_and_broken_lines() {
    check(&[Op::Attention { num_heads: 2, scale: 0.6 }], &[24, 30]);
}

/// tokens [24, 10] -> trained Linear -> map [4, 6, width] -> `ops`, trained where they can be -> mean -> head.
fn check_map(ops: &[Op], widths: &[usize]) {
    let Some(gpu) = gpu() else { return };
    for &width in widths {
        let mut graph = Graph::default();
        let input = graph.push("tokens", Op::Input { shape: vec![24, 10] }, &[]);
        let first = graph.push("first", Op::Linear { out_features: width, bias: true }, &[input]);
        let mut last = graph.push("grid", Op::Grid { size: [4, 6] }, &[first]);
        for (i, op) in ops.iter().enumerate() {
            last = graph.push(format!("op{i}"), op.clone(), &[last]);
        }
        let pool = graph.push("pool", Op::MeanTokens { skip: 0 }, &[last]);
        graph.push("head", Op::Linear { out_features: 3, bias: true }, &[pool]);
        fill(&mut graph);
        assert_agrees(&gpu, &graph, &trainable(&graph, &["first", "head"]), 3, &Noise::default());
        let mut all = trainable(&graph, &["first", "op0", "op1", "op2", "op3", "head"]);
        all.retain(|name| !name.ends_with("_table") && !name.ends_with(".scale"));
        assert_agrees(&gpu, &graph, &all, 3, &Noise::default());
    }
}

#[test]
fn windows() {
    for shift in [[0, 0], [1, 2], [0, 1]] {
        let windows = Windows { grid: [4, 6], window: [2, 3], shift, is_dilated: false };
        let (cut, back) = (Op::WindowPartition(windows), Op::WindowReverse(windows));
        let attention = Op::WindowAttention { num_heads: 2, scale: 0.6, windows };
        check_map(&[cut.clone(), attention.clone(), back.clone()], &[24, 30]);
        check_map(&[cut, Op::NormalizeHeads { num_heads: 2 }, attention, back], &[24, 30]);
    }
}

#[test]
fn space_to_depth() {
    check_map(&[Op::SpaceToDepth { block: 2 }, Op::LayerNorm { eps: 1e-5 }], &[4, 5]);
    check(&[Op::PixelShuffle { grid: [7, 1], factor: 2 }, Op::LayerNorm { eps: 1e-5 }], &[16, 20]);
}

#[test]
fn depthwise_convolutions() {
    let conv = |kernel_size, stride| Op::DepthwiseConv { kernel_size, stride };
    check_map(&[conv(3, 1), conv(7, 1)], &[4, 5]);
    check_map(&[conv(3, 2), conv(5, 3)], &[4, 5]);
}

#[test]
fn convolutions() {
    let unfold = |kernel_size, stride| Op::Unfold { kernel_size, stride, from_pixels: false };
    let linear = |out_features| Op::Linear { out_features, bias: true };
    check_map(&[unfold(3, 1), linear(6), unfold(3, 2), linear(5)], &[4, 5]);
    check_map(&[unfold(5, 3), linear(6)], &[4]);
}

#[test]
fn a_convolution_over_pixels_and_both_halves_of_a_pair() {
    let Some(gpu) = gpu() else { return };
    let mut graph = Graph::default();
    let linear = |out_features| Op::Linear { out_features, bias: true };
    let input = graph.push("pixels", Op::Input { shape: vec![3, 5, 8] }, &[]);
    let covered = graph.push("patches", Op::Unfold { kernel_size: 3, stride: 2, from_pixels: true }, &[input]);
    let first = graph.push("first", linear(6), &[covered]);
    let second = graph.push("second", linear(3), &[first]);
    let pair = graph.push("cat", Op::Concat, &[first, second]);
    let frozen = graph.push("frozen", linear(5), &[covered]);
    let pair = graph.push("cat2", Op::Concat, &[frozen, pair]);
    let pool = graph.push("pool", Op::MeanTokens { skip: 0 }, &[pair]);
    graph.push("head", linear(3), &[pool]);
    fill(&mut graph);
    assert_agrees(&gpu, &graph, &trainable(&graph, &["first", "second", "head"]), 3, &Noise::default());
}

#[test]
fn attention_within_dilated_windows() {
    let windows = Windows { grid: [4, 6], window: [2, 3], shift: [0, 0], is_dilated: true };
    let (cut, back) = (Op::WindowPartition(windows), Op::WindowReverse(windows));
    check_map(&[cut, Op::Attention { num_heads: 2, scale: 0.6 }, back], &[24, 30]);
}

#[test]
fn global_response_norm() {
    check_map(&[Op::Act(Activation::Gelu), Op::GlobalResponseNorm], &[8, 5]);
}

#[test]
fn layer_scale() {
    check(&[Op::LayerScale], &[12, 13]);
}

#[test]
fn class_token_and_position() {
    check(&[Op::InsertTokens { count: 1, at: 0 }, Op::PosEmbed], &[12, 13]);
}

#[test]
fn a_frozen_linear_without_bias() {
    check(&[Op::Linear { out_features: 9, bias: false }], &[12, 13]);
}

#[test]
fn adapters() {
    check(&[Op::RepAdapter { hidden: 8, groups: 2, scale: 0.5 }], &[12]);
    check(&[Op::RepAdapter { hidden: 6, groups: 3, scale: 2.0 }], &[9]);
}

#[test]
fn a_frozen_adapter_passes_gradients() {
    let Some(gpu) = gpu() else { return };
    let graph = around(&[Op::RepAdapter { hidden: 4, groups: 1, scale: 0.5 }], 12);
    let mut chosen = trainable(&graph, &["first", "head"]);
    chosen.retain(|name| !name.contains("adapter_"));
    assert_agrees(&gpu, &graph, &chosen, 3, &Noise::default());
}

#[test]
fn both_branches_of_a_residual_sum() {
    let Some(gpu) = gpu() else { return };
    let mut graph = Graph::default();
    let input = graph.push("tokens", Op::Input { shape: vec![5, 10] }, &[]);
    let trunk = graph.push("first", Op::Linear { out_features: 12, bias: true }, &[input]);
    let branch = graph.push("second", Op::Linear { out_features: 12, bias: true }, &[trunk]);
    let add = graph.push("add", Op::Add, &[trunk, branch]);
    let pool = graph.push("pool", Op::TakeClassToken, &[add]);
    graph.push("head", Op::Linear { out_features: 3, bias: true }, &[pool]);
    fill(&mut graph);
    let chosen = trainable(&graph, &["first", "second", "head"]);
    let noise = Noise { seed: 5, dropout: 0.0, drop_path: vec![0.5] };
    for noise in [Noise::default(), noise] {
        assert_agrees(&gpu, &graph, &chosen, 6, &noise);
    }
}
