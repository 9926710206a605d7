//! The logits of patches, from everything that computes them.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::collections::{BTreeMap, BTreeSet};

use edge_vit::Model;
use edge_vit_models::{Graph, backbone, fold, onnx, vit};
use edge_vit_tests::{fill_random, noise, onnxruntime, relative};
use edge_vit_tools::cpu::CpuEngine;
use edge_vit_tools::engine::Engine as _;

/// What two float32 computations of the same logits may differ by, relative to the largest logit.
const F32_LOGITS: f64 = 1e-4;
/// Side of a picture in pixels.
const SIDE: usize = 32;

/// A random ViT with registers and a random head of three classes on each of its 16 patches, or on squares `mask_scale` times finer.
fn segmenter(mask_scale: usize) -> Graph {
    let config = vit::Config {
        image_size: [SIDE, SIDE],
        patch_size: 8,
        embed_dim: 64,
        depth: 2,
        num_heads: 2,
        reg_tokens: 3,
        ..edge_vit_tests::dinov2_small(SIDE)
    };
    let mut plain = vit::graph(&config);
    fill_random(&mut plain, 5).unwrap();
    let mut graph = backbone::with_patch_head(&plain, 3, mask_scale).unwrap();
    graph.weights.retain(|name, _| !name.starts_with("head."));
    fill_random(&mut graph, 6).unwrap();
    graph
}

#[test]
fn patches_have_the_same_logits_everywhere() {
    for mask_scale in [1, 2] {
        everywhere(&segmenter(mask_scale), 16 * mask_scale * mask_scale);
    }
}

/// The graph, its simplified form and its files have the same logits for each of so many `squares`.
fn everywhere(graph: &Graph, squares: usize) {
    let simplified = fold::simplify(graph).unwrap().graph;
    let input = noise(2 * 3 * SIDE * SIDE);
    let expected = CpuEngine::<f64>::new(graph, &BTreeSet::new()).unwrap().forward(&input, 2).unwrap();
    assert_eq!(expected.len(), 2 * squares * 3);
    let (first, second) = input.split_at(input.len() / 2);
    for graph in [graph, &simplified] {
        for batch in [onnx::Batch::One, onnx::Batch::Free] {
            let bytes = onnx::to_bytes(graph, batch, &BTreeMap::new()).unwrap();
            let model = Model::from_bytes(&bytes).unwrap();
            assert_eq!(model.output_shape(), [squares, 3]);
            let ours = [model.run(first).unwrap(), model.run(second).unwrap()].concat();
            let error = relative(&ours, &expected);
            assert!(error < F32_LOGITS, "the device is off by {error:e}");
        }
        let bytes = onnx::to_bytes(graph, onnx::Batch::Free, &BTreeMap::new()).unwrap();
        match onnxruntime(&bytes, &input, &[2, 3, SIDE, SIDE]).unwrap() {
            Some(theirs) => {
                let error = relative(&theirs, &expected);
                assert!(error < F32_LOGITS, "onnxruntime is off by {error:e}");
            }
            None => println!("skipped: onnxruntime is not installed"),
        }
    }
}
