//! Token Merging: what graphs and files compute with it, against the paper's statement in float64, over random architectures.

#![allow(clippy::unwrap_used, reason = "the helpers of a test may panic as the test does")]

mod naive;

use std::collections::{BTreeMap, BTreeSet};

use edge_vit::Model;
use edge_vit_models::onnx::{self, Batch};
use edge_vit_models::vit::{self, Config, GlobalPool};
use edge_vit_models::{Graph, Node, Op, Tensor, fold, tokens};
use edge_vit_tools::cpu::CpuEngine;
use edge_vit_tools::engine::{Engine as _, EngineError, uniform};
use proptest::prelude::*;

/// The logits are float32 in the end, the paper's are float64.
const F64_TOLERANCE: f64 = 1e-6;
/// float32 throughout.
const F32_TOLERANCE: f64 = 1e-4;

fn filled(config: &Config, seed: u32) -> Graph {
    let mut graph = vit::graph(config);
    for (stream, param) in graph.params().unwrap().into_iter().flatten().enumerate() {
        let len = param.shape.iter().product::<usize>();
        let values = (0..len).map(|index| uniform(seed, stream as u32, index as u32) - 0.5).collect();
        graph.weights.insert(param.name, Tensor::new(param.shape, values).unwrap());
    }
    graph
}

fn pixels(config: &Config, pictures: usize, seed: u32) -> Vec<f32> {
    let [height, width] = config.image_size;
    (0..(pictures * 3 * height * width) as u32).map(|index| 2.0 * uniform(seed, 999, index) - 1.0).collect()
}

fn engine(graph: &Graph, input: &[f32], pictures: usize) -> Vec<f32> {
    CpuEngine::<f64>::new(graph, &BTreeSet::new()).unwrap().forward(input, pictures).unwrap()
}

/// The largest difference, relative to the largest of `expected`.
fn relative(got: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(got.len(), expected.len());
    let largest = expected.iter().fold(f64::MIN_POSITIVE, |largest, value| largest.max(value.abs()));
    got.iter().zip(expected).map(|(&got, expected)| (f64::from(got) - expected).abs()).fold(0.0, f64::max) / largest
}

fn doubled(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { max_global_rejects: 4, ..ProptestConfig::with_cases(24) })]

    #[test]
    fn a_graph_with_merged_tokens_computes_what_the_paper_says(
        (num_heads, head_dim, depth) in (1usize..4, 3usize..6, 2usize..4),
        (tall, wide) in (2usize..4, 3usize..5),
        (dist_token, reg_tokens) in (any::<bool>(), 0usize..4),
        (class_token, pool, share) in (any::<bool>(), 0usize..4, 0usize..100),
        seed in any::<u32>(),
    ) {
        let global_pool = [GlobalPool::Token, GlobalPool::Avg, GlobalPool::AvgFcNorm, GlobalPool::Map][pool];
        let class_token = class_token || global_pool == GlobalPool::Token;
        let config = Config {
            image_size: [4 * tall, 4 * wide],
            patch_size: 4,
            embed_dim: num_heads * head_dim,
            depth,
            num_heads,
            mlp_ratio: 2.0,
            class_token,
            dist_token: class_token && dist_token,
            reg_tokens,
            global_pool,
            num_classes: Some(5),
            ..Config::default()
        };
        let graph = filled(&config, seed);
        let most = match tokens::merge(&graph, usize::MAX).unwrap_err() {
            tokens::TokenError::Count { most, .. } => most,
            other => panic!("{other}"),
        };
        let per_block = 1 + share * (most - 1) / 99;
        let merged = tokens::merge(&graph, per_block).unwrap().graph;
        let input = pixels(&config, 2, seed);
        let expected: Vec<f64> = input
            .chunks(input.len() / 2)
            .flat_map(|pixels| naive::logits(&graph, &config, per_block, pixels))
            .collect();
        let difference = relative(&engine(&merged, &input, 2), &expected);
        prop_assert!(difference < F64_TOLERANCE, "{difference:e}");
        // Where merging changes next to nothing, the agreement says nothing of it, and another graph is drawn: few are such.
        let all = relative(&engine(&graph, &input, 2), &expected);
        prop_assume!(all > 10.0 * F64_TOLERANCE);

        let simplified = fold::simplify(&graph).unwrap().graph;
        let simplified = tokens::merge(&simplified, per_block).unwrap().graph;
        for batch in [Batch::One, Batch::Free] {
            let bytes = onnx::to_bytes(&simplified, batch, &BTreeMap::new()).unwrap();
            let device = Model::from_bytes(&bytes).unwrap().run(&input[..input.len() / 2]).unwrap();
            let difference = relative(&device, &expected[..5]);
            prop_assert!(difference < F32_TOLERANCE, "{difference:e} in the runtime, {batch:?}");
        }
    }
}

fn small(global_pool: GlobalPool, depth: usize) -> Config {
    Config {
        image_size: [16, 16],
        patch_size: 4,
        embed_dim: 12,
        depth,
        num_heads: 2,
        global_pool,
        num_classes: Some(5),
        ..Config::default()
    }
}

/// Each patch of a picture beside another one like it, and no positions to tell them apart.
#[test]
fn tokens_that_are_alike_can_be_merged_without_any_cost() {
    for (global_pool, depth, class_token) in [
        (GlobalPool::Token, 2, true),
        (GlobalPool::AvgFcNorm, 1, true),
        (GlobalPool::Avg, 1, false),
        (GlobalPool::Map, 1, false),
    ] {
        let config = Config { class_token, ..small(global_pool, depth) };
        let mut graph = filled(&config, 11);
        graph.weights.get_mut("pos_embed").unwrap().values_mut().fill(0.25);
        let mut input = pixels(&config, 1, 4);
        for row in input.chunks_exact_mut(16) {
            row.copy_within(0..4, 4);
            row.copy_within(8..12, 12);
        }
        // Four rows of two pairs, one of each in A and one in B; five of them are merged.
        let merged = tokens::merge(&graph, 5).unwrap().graph;
        let all = doubled(&engine(&graph, &input, 1));
        let difference = relative(&engine(&merged, &input, 1), &all);
        assert!(difference < F64_TOLERANCE, "{global_pool:?}: {difference:e}");
        let mut unsized_tokens = merged;
        let reads_sizes = |node: &&mut Node| {
            matches!(node.op, Op::Attention { .. } | Op::AttentionPool { .. } | Op::MeanTokens { .. })
        };
        unsized_tokens.nodes.iter_mut().filter(reads_sizes).for_each(|node| node.inputs.truncate(1));
        let difference = relative(&engine(&unsized_tokens, &input, 1), &all);
        assert!(
            difference > 100.0 * F64_TOLERANCE,
            "{global_pool:?}: without the sizes something is lost: {difference:e}"
        );
    }
}

#[test]
fn a_batch_is_merged_picture_by_picture() {
    let config = small(GlobalPool::Avg, 3);
    let merged = tokens::merge(&filled(&config, 3), 3).unwrap().graph;
    let input = pixels(&config, 9, 5);
    let together = engine(&merged, &input, 9);
    let apart: Vec<f32> = input.chunks(input.len() / 9).flat_map(|picture| engine(&merged, picture, 1)).collect();
    assert_eq!(together, apart);
}

#[test]
fn merged_tokens_are_not_trained() {
    let merged = tokens::merge(&filled(&small(GlobalPool::Token, 2), 3), 3).unwrap().graph;
    let head: BTreeSet<String> = ["head.weight", "head.bias"].map(str::to_owned).into();
    CpuEngine::<f32>::new(&merged, &head).unwrap();
    let qkv: BTreeSet<String> = ["blocks.0.attn.qkv.weight".to_owned()].into();
    let error = CpuEngine::<f32>::new(&merged, &qkv).unwrap_err();
    assert!(matches!(&error, EngineError::MergedTokens { node, .. } if node == "blocks.0.merge.match"), "{error}");
    assert!(merged.nodes.iter().any(|node| node.op == Op::MergeTokens));
}
