//! Files in eight and sixteen bits: everything that runs them computes what the arithmetic that they describe gives.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::collections::{BTreeMap, BTreeSet};

use edge_vit::{HalfProducts, Model};
use edge_vit_models::onnx::{self, Batch, Precision, Precisions};
use edge_vit_models::{Graph, Op, convnext, quant, swin, vit};
use edge_vit_tests::{fill_random, noise, onnxruntime, plain_tract, relative};
use edge_vit_tools::cpu::CpuEngine;
use edge_vit_tools::engine::Engine as _;

const SIDE: usize = 32;

/// What float32 sums in another order may change of the largest output.
const F32_OUTPUTS: f64 = 2e-5;

/// What roundings that fall the other way may change of a model's outputs in eight bits, as a share of what eight bits change of
/// them: through a few layers two sound computations come to round independently of each other.
const OF_THE_ERROR: f64 = 1.5;

fn graphs() -> Vec<(&'static str, Graph)> {
    let vit = vit::Config {
        image_size: [SIDE, SIDE],
        patch_size: 8,
        embed_dim: 96,
        depth: 1,
        num_heads: 3,
        num_classes: Some(7),
        ..vit::Config::default()
    };
    let swin = swin::Config {
        image_size: [SIDE, SIDE],
        embed_dim: 32,
        depths: vec![1, 1],
        num_heads: vec![2, 4],
        window_sizes: vec![4, 4],
        num_classes: Some(7),
        ..swin::Config::default()
    };
    let convnext = convnext::Config {
        image_size: [SIDE, SIDE],
        depths: vec![1, 1],
        dims: vec![32, 64],
        num_classes: Some(7),
        ..convnext::Config::default()
    };
    let graphs = [("vit", vit::graph(&vit)), ("swin", swin::graph(&swin)), ("convnext", convnext::graph(&convnext))];
    let filled = |(name, mut graph): (&'static str, Graph)| {
        fill_random(&mut graph, 3).unwrap();
        (name, graph)
    };
    graphs.into_iter().map(filled).collect()
}

fn picture() -> Vec<f32> {
    noise(3 * SIDE * SIDE)
}

fn float32(graph: &Graph) -> Vec<f32> {
    CpuEngine::<f32>::new(graph, &BTreeSet::new()).unwrap().forward(&picture(), 1).unwrap()
}

fn bytes(graph: &Graph, precisions: &Precisions) -> Vec<u8> {
    onnx::to_bytes_at(graph, Batch::One, precisions, &BTreeMap::new()).unwrap()
}

/// Runs `model` on the device's code, plain tract and, where it is, onnxruntime.
fn everywhere(name: &str, model: &[u8], expected: &[f32], tolerance: f64) {
    let (picture, shape) = (picture(), [3, SIDE, SIDE]);
    let mut outputs = vec![
        ("the device's code", Model::from_bytes(model).unwrap().run(&picture).unwrap()),
        ("tract", plain_tract(model, shape).unwrap()(&picture).unwrap()),
    ];
    match onnxruntime(model, &picture, &[1, 3, SIDE, SIDE]).unwrap() {
        Some(output) => outputs.push(("onnxruntime", output)),
        None => println!("skipped onnxruntime: python with numpy and onnxruntime is not there"),
    }
    for (by, output) in outputs {
        assert_eq!(output.len(), expected.len());
        let difference = relative(&output, expected);
        println!("{name} by {by}: {difference:.2e}");
        assert!(difference <= tolerance, "{name} by {by} departs by {difference:.3e}, at most {tolerance:.3e} is due");
    }
}

/// The input of a layer alone is the same to the last bit everywhere, and so are its integers.
#[test]
fn a_layer_in_eight_bits_is_the_same_but_for_float32s_rounding() {
    let mut graph = Graph::default();
    let input = graph.push("pixels", Op::Input { shape: vec![3, SIDE, SIDE] }, &[]);
    let [with, without] =
        [true, false].map(|bias| graph.push(format!("bias {bias}"), Op::Linear { out_features: 40, bias }, &[input]));
    let sum = graph.push("sum", Op::Add, &[with, without]);
    graph.push("pool", Op::MeanTokens { skip: 0 }, &[sum]);
    fill_random(&mut graph, 4).unwrap();
    let layers = onnx::int8_layers(&graph);
    let precisions: Precisions = layers.iter().map(|layer| (layer.clone(), Precision::Int8)).collect();
    let expected = CpuEngine::<f32>::quantized(&graph, &layers).unwrap().forward(&picture(), 1).unwrap();
    let error = relative(&expected, &float32(&graph));
    assert!(error > 20.0 * F32_OUTPUTS, "{error:e}");
    everywhere("layer", &bytes(&graph, &precisions), &expected, F32_OUTPUTS);
}

#[test]
fn models_in_eight_bits_are_the_same_everywhere() {
    for (name, graph) in graphs() {
        let layers = onnx::int8_layers(&graph);
        let precisions: Precisions = layers.iter().map(|layer| (layer.clone(), Precision::Int8)).collect();
        let expected = CpuEngine::<f32>::quantized(&graph, &layers).unwrap().forward(&picture(), 1).unwrap();
        let error = relative(&expected, &float32(&graph));
        println!("{name}: eight bits change {error:.2e}");
        assert!(error > 1e-4 && error < 0.1, "{name}: {error:e}");
        let (model, whole) = (bytes(&graph, &precisions), bytes(&graph, &Precisions::new()));
        everywhere(name, &model, &expected, OF_THE_ERROR * error);
        let weights: usize = layers.iter().map(|layer| graph.weights[&format!("{layer}.weight")].len()).sum();
        let saved = whole.len() as f64 - model.len() as f64;
        // Three of four bytes, less a scale an output and the names of a few nodes.
        assert!(saved > 2.4 * weights as f64 && saved < 3.0 * weights as f64, "{name}: {saved} of {weights} weights");
    }
}

/// What roundings of products in sixteen bits change of a model's outputs: 2^-11 each, of which most take each other away.
const HALF_OUTPUTS: std::ops::Range<f64> = 2e-4..1e-2;

#[test]
fn products_in_sixteen_bits_are_computed_where_a_file_allows_them() {
    for (name, graph) in graphs() {
        let rounded = float32(&quant::round_to_f16(&graph).unwrap());
        let that_says = |products: HalfProducts| {
            let metadata =
                BTreeMap::from([("edge_vit.half_products".into(), serde_json::to_string(&products).unwrap())]);
            let bytes = onnx::to_bytes_at(&graph, Batch::One, &onnx::all_f16(&graph), &metadata).unwrap();
            Model::from_bytes(&bytes).unwrap()
        };
        let [never, native, everywhere] =
            [HalfProducts::Never, HalfProducts::WhereNative, HalfProducts::Everywhere].map(that_says);
        let in_halves = |model: &Model| model.kernels().iter().any(|kernel| kernel.contains("mmm_f16"));
        assert!(!in_halves(&never) && in_halves(&everywhere), "{name}: {:?}", everywhere.kernels());
        let change = relative(&everywhere.run(&picture()).unwrap(), &rounded);
        println!("{name}: products in sixteen bits change {change:.2e}");
        assert!(HALF_OUTPUTS.contains(&change), "{name}: {change:e}");
        let expected = if in_halves(&native) { &everywhere } else { &never };
        assert_eq!(native.run(&picture()).unwrap(), expected.run(&picture()).unwrap(), "{name}");
    }
}

#[test]
fn models_in_sixteen_bits_are_the_same_everywhere() {
    for (name, graph) in graphs() {
        let rounded = quant::round_to_f16(&graph).unwrap();
        let expected = float32(&rounded);
        let error = relative(&expected, &float32(&graph));
        assert!(error > F32_OUTPUTS && error < 1e-2, "{name}: {error:e}");
        let (model, whole) = (bytes(&graph, &onnx::all_f16(&graph)), bytes(&graph, &Precisions::new()));
        everywhere(name, &model, &expected, F32_OUTPUTS);
        // The device runs the same operators on the same numbers, however these are stored.
        let [halves, floats] =
            [&model, &bytes(&rounded, &Precisions::new())].map(|file| Model::from_bytes(file).unwrap());
        assert_eq!(halves.operators(), floats.operators(), "{name}");
        assert_eq!(halves.run(&picture()).unwrap(), floats.run(&picture()).unwrap(), "{name}");
        let share = model.len() as f64 / whole.len() as f64;
        assert!(share < 0.6, "{name}: {share} of float32");
    }
}
