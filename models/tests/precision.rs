//! Files whose weights are in eight or sixteen bits: what stands in them, how large they are, and what is refused.

#![allow(clippy::unwrap_used, reason = "the helpers of a test may panic as the test does")]

mod common;

use std::collections::BTreeMap;

use edge_vit_models::onnx::{Batch, OnnxError, Precision, Precisions, all_f16, int8_layers, to_bytes_at, to_text};
use edge_vit_models::quant::QuantError;
use edge_vit_models::{Graph, Op};

use common::{fill, small_vit};

fn bytes(graph: &Graph, precisions: &Precisions) -> Result<Vec<u8>, OnnxError> {
    to_bytes_at(graph, Batch::One, precisions, &BTreeMap::new())
}

fn all_int8(graph: &Graph) -> Precisions {
    int8_layers(graph).into_iter().map(|name| (name, Precision::Int8)).collect()
}

fn one(name: &str, precision: Precision) -> Precisions {
    Precisions::from([(name.to_owned(), precision)])
}

/// How often each operator stands in the text of a model.
fn count(text: &str, operator: &str) -> usize {
    text.lines().filter(|line| line.split(' ').next() == Some(operator)).count()
}

#[test]
fn linears_multiply_integers_and_the_head_stays() {
    let graph = small_vit();
    let layers = int8_layers(&graph);
    assert_eq!(layers.len(), 8);
    assert_eq!(layers[..2], ["blocks.0.attn.qkv", "blocks.0.attn.proj"]);
    let text = to_text(&bytes(&graph, &all_int8(&graph)).unwrap()).unwrap();
    assert_eq!(count(&text, "MatMulInteger"), 8);
    assert_eq!(count(&text, "DynamicQuantizeLinear"), 8);
    assert!(text.contains("initializer blocks.0.attn.qkv.weight/int8 Int8 [16, 48]\n"), "{text}");
    assert!(text.contains("initializer blocks.0.attn.qkv.weight/scales Float [48]\n"), "{text}");
    assert!(text.contains("MatMul head/matmul ") && text.contains("Conv patch_embed.proj/conv "), "{text}");
}

#[test]
fn layers_that_read_one_tensor_share_its_integers() {
    let mut graph = Graph::default();
    let input = graph.push("tokens", Op::Input { shape: vec![5, 4] }, &[]);
    let linear = Op::Linear { out_features: 3, bias: false };
    let [q, k] = ["q", "k"].map(|name| graph.push(name, linear.clone(), &[input]));
    graph.push("sum", Op::Add, &[q, k]);
    fill(&mut graph, 1);
    let text = to_text(&bytes(&graph, &all_int8(&graph)).unwrap()).unwrap();
    assert_eq!((count(&text, "DynamicQuantizeLinear"), count(&text, "MatMulInteger")), (1, 2), "{text}");
}

#[test]
fn matrices_are_halved_and_vectors_are_not() {
    let graph = small_vit();
    let text = to_text(&bytes(&graph, &all_f16(&graph)).unwrap()).unwrap();
    assert!(text.contains("initializer head.weight/transposed/half Float16 [16, 5]\n"), "{text}");
    assert!(text.contains("initializer head.bias Float [5]\n"), "{text}");
    assert!(text.contains("initializer patch_embed.proj.weight/half Float16 [16, 3, 4, 4]\n"), "{text}");
    assert_eq!(count(&text, "Cast"), text.lines().filter(|line| line.contains(" Float16 [")).count());
}

#[test]
fn equal_arguments_give_equal_bytes() {
    let graph = small_vit();
    for precisions in [all_int8(&graph), all_f16(&graph)] {
        assert_eq!(bytes(&graph, &precisions).unwrap(), bytes(&graph, &precisions).unwrap());
    }
    assert_eq!(
        bytes(&graph, &one("head", Precision::F32)).unwrap(),
        bytes(&graph, &Precisions::new()).unwrap(),
        "float32 is what is not named"
    );
}

#[test]
fn a_node_without_a_product_of_matrices_is_refused_by_name() {
    let graph = small_vit();
    for (name, precision) in [
        ("norm", Precision::Int8),
        ("head", Precision::Int8),
        ("nowhere", Precision::Int8),
        ("nowhere", Precision::F16),
    ] {
        let error = bytes(&graph, &one(name, precision)).unwrap_err();
        assert!(matches!(&error, OnnxError::Precision { node, .. } if node == name), "{error}");
    }
    let mut graph = Graph::default();
    let input = graph.push("pixels", Op::Input { shape: vec![3, 4, 4] }, &[]);
    let kernel = graph.push("kernel", Op::Unfold { kernel_size: 3, stride: 1, from_pixels: true }, &[input]);
    graph.push("conv", Op::Linear { out_features: 2, bias: false }, &[kernel]);
    assert!(int8_layers(&graph).is_empty(), "a convolution stays one");
}

#[test]
fn weights_that_have_no_such_form_are_refused_by_name() {
    let mut graph = small_vit();
    graph.weights.get_mut("blocks.1.mlp.fc2.weight").unwrap().values_mut()[3] = 1e5;
    let error = bytes(&graph, &all_f16(&graph)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "weight `blocks.1.mlp.fc2.weight` holds 100000, float16 holds at most 65504; use --precision f32 or int8"
    );
    bytes(&graph, &all_int8(&graph)).unwrap();
    graph.weights.get_mut("blocks.1.mlp.fc2.weight").unwrap().values_mut()[3] = f32::NAN;
    let error = bytes(&graph, &all_int8(&graph)).unwrap_err();
    assert!(matches!(error, OnnxError::Quant(QuantError::NonFinite { .. })), "{error}");
}
