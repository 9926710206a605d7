//! Files that merge tokens: everything that runs them gives the logits of the CPU engine.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::collections::{BTreeMap, BTreeSet};

use edge_vit::Model;
use edge_vit_models::onnx::{self, Batch};
use edge_vit_models::vit::{self, Config, GlobalPool};
use edge_vit_models::{Activation, Graph, tokens};
use edge_vit_tests::{onnxruntime, plain_tract, relative, variants};
use edge_vit_tools::cpu::CpuEngine;
use edge_vit_tools::engine::{Engine as _, uniform};

/// Where no near tie decides.
const F32_OUTPUTS: f64 = 1e-4;

/// A transformer, how many tokens a block merges, how many blocks do, and the tokens at the start and at the end.
type Case = (&'static str, Config, usize, usize, [usize; 2]);

fn cases() -> [Case; 5] {
    let tiny = Config { embed_dim: 192, num_heads: 3, num_classes: Some(7), ..Config::default() };
    let sized = |side: usize| Config { image_size: [side, side], ..tiny.clone() };
    let distilled = Config { dist_token: true, ..sized(80) };
    let registers = Config { reg_tokens: 4, no_embed_class: true, layer_scale: true, ..sized(80) };
    let clip = Config { pre_norm: true, act_layer: Activation::QuickGelu, head_bias: false, ..sized(80) };
    let siglip = Config { class_token: false, global_pool: GlobalPool::Map, depth: 6, ..sized(96) };
    [
        ("ViT", sized(112), 4, 11, [50, 6]),
        ("distilled DeiT", distilled, 2, 11, [27, 5]),
        ("DINOv2 with registers", registers, 2, 11, [30, 8]),
        ("CLIP", clip, 2, 11, [26, 4]),
        ("SigLIP", siglip, 5, 6, [36, 6]),
    ]
}

/// The graph as it is folded and simplified, and the same with merged tokens.
fn graphs(config: &Config, per_block: usize) -> (Graph, tokens::Merged) {
    let [_, _, (_, simplified), _] = variants(vit::graph(config), 3).unwrap();
    let merged = tokens::merge(&simplified, per_block).unwrap();
    (simplified, merged)
}

fn pictures(side: usize, count: usize) -> Vec<f32> {
    (0..count * 3 * side * side).map(|index| 2.0 * uniform(5, 0, index as u32) - 1.0).collect()
}

fn engine(graph: &Graph, input: &[f32], count: usize) -> Vec<f32> {
    CpuEngine::<f32>::new(graph, &BTreeSet::new()).unwrap().forward(input, count).unwrap()
}

#[test]
fn merged_tokens_are_the_same_everywhere() {
    for (name, config, per_block, blocks, ends) in cases() {
        let side = config.image_size[0];
        let (all, merged) = graphs(&config, per_block);
        assert_eq!((merged.blocks, merged.tokens), (blocks, ends), "{name}");
        let input = pictures(side, 2);
        let one = &input[..input.len() / 2];
        let expected = engine(&merged.graph, &input, 2);
        let first = &expected[..expected.len() / 2];
        let change = relative(first, &engine(&all, one, 1));
        assert!(change > 10.0 * F32_OUTPUTS, "{name}: merging changes something: {change:e}");

        let [fixed, free] =
            [Batch::One, Batch::Free].map(|batch| onnx::to_bytes(&merged.graph, batch, &BTreeMap::new()).unwrap());
        let mut outputs = vec![
            ("the device's code", first, Model::from_bytes(&fixed).unwrap().run(one).unwrap()),
            ("the device's code, free batch", first, Model::from_bytes(&free).unwrap().run(one).unwrap()),
            ("tract", first, plain_tract(&fixed, [3, side, side]).unwrap()(one).unwrap()),
            ("tract, free batch", first, plain_tract(&free, [3, side, side]).unwrap()(one).unwrap()),
        ];
        for (by, file, count) in [("onnxruntime", &fixed, 1), ("onnxruntime, two pictures", &free, 2)] {
            match onnxruntime(file, &input[..count * one.len()], &[count, 3, side, side]).unwrap() {
                Some(output) => outputs.push((by, &expected[..count * first.len()], output)),
                None => println!("skipped {by}: python with numpy and onnxruntime is not there"),
            }
        }
        for (by, expected, output) in outputs {
            assert_eq!(output.len(), expected.len());
            let difference = relative(&output, expected);
            println!("{name} by {by}: {difference:.2e}");
            assert!(difference < F32_OUTPUTS, "{name} by {by} departs by {difference:.3e}");
        }
    }
}
