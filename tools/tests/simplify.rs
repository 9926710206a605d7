//! The law of simplification over random architectures: the simpler graph computes what the graph did.

#![allow(clippy::unwrap_used, reason = "the helpers of a test may panic as the test does")]

use std::collections::{BTreeMap, BTreeSet};

use edge_vit::Model;
use edge_vit_models::fold::simplify;
use edge_vit_models::onnx::{self, Batch};
use edge_vit_models::vit::{self, GlobalPool};
use edge_vit_models::{Activation, Graph, Tensor, convnext, mobilevit, swin};
use edge_vit_tools::cpu::CpuEngine;
use edge_vit_tools::engine::{Engine as _, uniform};
use proptest::prelude::*;

/// Rounding of the merged weights to float32, through some blocks.
const F64_TOLERANCE: f64 = 1e-5;
/// The same, computed in float32.
const F32_TOLERANCE: f64 = 1e-4;

fn filled(mut graph: Graph, seed: u32) -> Graph {
    for (stream, param) in graph.params().unwrap().into_iter().flatten().enumerate() {
        let len = param.shape.iter().product::<usize>();
        let values = (0..len).map(|index| uniform(seed, stream as u32, index as u32) - 0.5).collect();
        graph.weights.insert(param.name, Tensor::new(param.shape, values).unwrap());
    }
    graph
}

fn relative(got: &[f32], expected: &[f32]) -> f64 {
    let largest = expected.iter().fold(f32::MIN_POSITIVE, |largest, value| largest.max(value.abs()));
    let worst = got.iter().zip(expected).map(|(got, expected)| (got - expected).abs()).fold(0.0, f32::max);
    f64::from(worst) / f64::from(largest)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn a_simplified_graph_computes_what_the_graph_did(
        (num_heads, head_dim, depth) in (1usize..4, 1usize..5, 1usize..4),
        (layer_scale, pre_norm, class_token) in any::<(bool, bool, bool)>(),
        pool in 0usize..4,
        act in 0usize..4,
        seed in any::<u32>(),
    ) {
        let pools = [GlobalPool::Token, GlobalPool::Avg, GlobalPool::AvgFcNorm, GlobalPool::Map];
        let config = vit::Config {
            image_size: [8, 12],
            patch_size: 4,
            embed_dim: 4 * num_heads * head_dim,
            depth,
            num_heads,
            mlp_ratio: 2.0,
            layer_scale,
            pre_norm,
            class_token: class_token || pools[pool] == GlobalPool::Token,
            act_layer: Activation::ALL[act],
            global_pool: pools[pool],
            num_classes: Some(5),
            ..vit::Config::default()
        };
        check(&filled(vit::graph(&config), seed), seed)?;
    }

    #[test]
    fn so_does_a_simplified_swin(
        (num_heads, head_dim, is_v2) in (1usize..3, 1usize..5, any::<bool>()),
        (window, tall, wide) in (2usize..4, 1usize..3, 1usize..3),
        seed in any::<u32>(),
    ) {
        let config = swin::Config {
            image_size: [8 * window * tall, 8 * window * wide],
            embed_dim: 4 * num_heads * head_dim,
            depths: vec![2, 1],
            num_heads: vec![num_heads, 2 * num_heads],
            window_sizes: vec![window; 2],
            mlp_ratio: 2.0,
            v2: is_v2.then(|| swin::V2 { pretrained_window_sizes: vec![0; 2] }),
            num_classes: Some(5),
            ..swin::Config::default()
        };
        check(&filled(swin::graph(&config), seed), seed)?;
    }

    #[test]
    fn so_does_a_simplified_convnext(
        (dim, kernel, use_grn, layer_scale) in (1usize..9, 0usize..3, any::<bool>(), any::<bool>()),
        (tall, wide) in (1usize..4, 1usize..4),
        seed in any::<u32>(),
    ) {
        let config = convnext::Config {
            image_size: [8 * tall, 8 * wide],
            depths: vec![1, 2],
            dims: vec![dim, dim + 3],
            kernel_size: 2 * kernel + 1,
            use_grn,
            layer_scale,
            num_classes: Some(5),
            ..convnext::Config::default()
        };
        check(&filled(convnext::graph(&config), seed), seed)?;
    }

    #[test]
    fn so_does_a_simplified_mobilevit(
        (num_heads, head_dim, depth) in (1usize..3, 1usize..5, 1usize..3),
        (dim, tall, wide) in (1usize..6, 1usize..3, 1usize..3),
        seed in any::<u32>(),
    ) {
        let embed_dim = 4 * num_heads * head_dim;
        let transformer = mobilevit::Transformer { embed_dim, depth, mlp_hidden: 2 * embed_dim };
        let stage = |out, transformer| mobilevit::Stage { bottlenecks: vec![[2 * dim, out]], transformer };
        let config = mobilevit::Config {
            image_size: [8 * tall, 8 * wide],
            stem_chs: dim,
            stages: vec![stage(dim, None), stage(dim + 1, Some(transformer))],
            num_heads,
            num_classes: Some(5),
            ..mobilevit::Config::of_widths([4; 5], [8; 3], 2, 7)
        };
        check(&filled(mobilevit::graph(&config), seed), seed)?;
    }
}

/// The simplified graph against `graph`: in float64 on the CPU engine, and in float32 in the device's engine.
fn check(graph: &Graph, seed: u32) -> Result<(), TestCaseError> {
    let simplified = simplify(graph).unwrap();
    let len: usize = graph.shapes().unwrap()[0].iter().product();
    let input: Vec<f32> = (0..len as u32).map(|index| uniform(seed, 999, index) - 0.5).collect();
    let run = |graph: &Graph| CpuEngine::<f64>::new(graph, &BTreeSet::new()).unwrap().forward(&input, 1).unwrap();
    let expected = run(graph);
    let difference = relative(&run(&simplified.graph), &expected);
    prop_assert!(difference < F64_TOLERANCE, "{difference:e}");
    let bytes = |graph: &Graph| onnx::to_bytes(graph, Batch::One, &BTreeMap::new()).unwrap();
    let (plain, simple) = (bytes(graph), bytes(&simplified.graph));
    let difference = relative(&Model::from_bytes(&simple).unwrap().run(&input).unwrap(), &expected);
    prop_assert!(difference < F32_TOLERANCE, "{difference:e} in tract");
    prop_assert!(simple.len() <= plain.len());
    Ok(())
}
