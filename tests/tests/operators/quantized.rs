//! Linear layers of 8-bit integers, in graphs as onnxruntime's `quantize_dynamic` writes them.

use std::collections::{BTreeMap, BTreeSet};

use edge_vit::Model;
use edge_vit_models::{onnx, vit};
use edge_vit_tests::{fill_random, noise, plain_tract};
use edge_vit_tools::engine::uniform;
use prost::Message;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::Dimension;
use tract_onnx::pb::tensor_shape_proto::dimension::Value as Side;
use tract_onnx::pb::type_proto::{Tensor, Value};
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto,
};

/// How weights are quantised.
#[derive(Clone, Copy)]
struct Weights {
    /// The greatest of them.
    most: i8,
    /// Their zero points.
    zero: i8,
}

fn node(op: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    NodeProto {
        op_type: op.to_owned(),
        name: outputs[0].to_owned(),
        input: names(inputs),
        output: names(outputs),
        ..NodeProto::default()
    }
}

fn attribute(name: &str, value: i64) -> AttributeProto {
    AttributeProto { name: name.to_owned(), r#type: 2, i: value, ..AttributeProto::default() }
}

fn tensor(name: &str, dims: &[usize], data_type: DataType, raw_data: Vec<u8>) -> TensorProto {
    let dims = dims.iter().map(|side| *side as i64).collect();
    TensorProto { name: name.to_owned(), dims, data_type: data_type as i32, raw_data, ..TensorProto::default() }
}

fn floats(name: &str, values: &[f32]) -> TensorProto {
    tensor(name, &[values.len()], DataType::Float, values.iter().flat_map(|value| value.to_le_bytes()).collect())
}

/// The nodes and constants of `out = x W`, quantised; `x` is quantised with the first of its products.
fn quantized_product(
    graph: &mut GraphProto,
    product: &NodeProto,
    weight: &TensorProto,
    weights: Weights,
    first: bool,
) -> Vec<NodeProto> {
    let [depth, columns] = [weight.dims[0], weight.dims[1]].map(|side| side as usize);
    let values: Vec<f32> = weight.raw_data.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    let largest = |column: usize| values[column..].iter().step_by(columns).fold(1e-9_f32, |most, w| most.max(w.abs()));
    let scales: Vec<f32> = (0..columns).map(|column| largest(column) / f32::from(weights.most)).collect();
    let quantized = values.iter().zip(scales.iter().cycle()).map(|(value, scale)| (value / scale).round() as i8);
    let (x, name, out) = (&product.input[0], &weight.name, &product.output[0]);
    let part = |of: &str, part: &str| format!("{of}/{part}");
    let bytes = quantized.map(|weight| weight.wrapping_add(weights.zero).cast_unsigned()).collect();
    graph.initializer.push(tensor(&part(name, "quantized"), &[depth, columns], DataType::Int8, bytes));
    let zeros = vec![weights.zero.cast_unsigned(); columns];
    graph.initializer.push(tensor(&part(name, "zeros"), &[columns], DataType::Int8, zeros));
    graph.initializer.push(floats(&part(name, "scales"), &scales));
    let [xq, xs, xz] = ["quantized/values", "quantized/scale", "quantized/zero"].map(|suffix| part(x, suffix));
    let mut cast = node("Cast", &[&part(out, "sums")], &[&part(out, "floats")]);
    cast.attribute.push(attribute("to", 1));
    let quantize = node("DynamicQuantizeLinear", &[x], &[&xq, &xs, &xz]);
    let rest = [
        node("MatMulInteger", &[&xq, &part(name, "quantized"), &xz, &part(name, "zeros")], &[&part(out, "sums")]),
        cast,
        node("Mul", &[&xs, &part(name, "scales")], &[&part(out, "scales")]),
        node("Mul", &[&part(out, "floats"), &part(out, "scales")], &[out]),
    ];
    first.then_some(quantize).into_iter().chain(rest).collect()
}

/// The model with every product of constant weights quantised.
fn quantized(bytes: &[u8], weights: Weights) -> Vec<u8> {
    let mut model = ModelProto::decode(bytes).unwrap();
    let graph = model.graph.as_mut().unwrap();
    let (nodes, mut seen) = (std::mem::take(&mut graph.node), BTreeSet::new());
    for product in nodes {
        let is_weight = |tensor: &&TensorProto| tensor.name == product.input[1] && tensor.dims.len() == 2;
        let weight = (product.op_type == "MatMul").then(|| graph.initializer.iter().find(is_weight).cloned()).flatten();
        let new = match weight {
            Some(weight) => {
                let first = seen.insert(product.input[0].clone());
                quantized_product(graph, &product, &weight, weights, first)
            }
            None => vec![product],
        };
        graph.node.extend(new);
    }
    model.encode_to_vec()
}

/// A small vision transformer with layer scale, whose queries, keys and values come from one layer.
fn transformer() -> Vec<u8> {
    let config = vit::Config {
        image_size: [24, 24],
        patch_size: 8,
        embed_dim: 48,
        depth: 3,
        num_heads: 3,
        layer_scale: true,
        num_classes: Some(10),
        ..vit::Config::default()
    };
    let mut graph = vit::graph(&config);
    fill_random(&mut graph, 1).unwrap();
    onnx::to_bytes(&graph, onnx::Batch::One, &BTreeMap::new()).unwrap()
}

/// The root of the mean square of the differences.
fn apart(a: &[f32], b: &[f32]) -> f32 {
    let squares = a.iter().zip(b).map(|(a, b)| (a - b).powi(2));
    (squares.sum::<f32>() / a.len() as f32).sqrt()
}

fn count(model: &Model, name: &str) -> usize {
    model.operators().get(name).copied().unwrap_or(0)
}

fn has_kernels() -> bool {
    ["x86_64", "aarch64"].contains(&std::env::consts::ARCH)
}

/// What `bytes` give in ours, on one thread and on three, and in plain tract.
fn run(bytes: &[u8]) -> (Model, [Vec<f32>; 2]) {
    let model = Model::from_bytes(bytes).unwrap();
    let picture = noise(model.input_shape().iter().product());
    let ours = model.run(&picture).unwrap();
    assert_eq!(model.clone().with_threads(3).unwrap().run(&picture).unwrap(), ours, "on three threads");
    let theirs = plain_tract(bytes, model.input_shape()).unwrap()(&picture).unwrap();
    (model, [ours, theirs])
}

#[test]
fn all_layers_of_a_quantised_vit_are_ours() {
    let exact = transformer();
    let exact_values = Model::from_bytes(&exact).unwrap();
    let exact_values = exact_values.run(&noise(3 * 24 * 24)).unwrap();
    for most in [64, 127] {
        let (model, [ours, theirs]) = run(&quantized(&exact, Weights { most, zero: 0 }));
        if has_kernels() {
            let found = ["QuantizedLinear", "DynamicQuantize", "Linear", "LayerNorm", "Attention", "IntegerProduct"];
            let found = found.map(|name| count(&model, &format!("EdgeVit{name}")));
            // Queries, keys and values are one layer. Patches stay float32.
            assert_eq!(found, [3 * 4 + 1, 3 * 4 + 1, 1, 7, 3, 0], "{:?}", model.operators());
            for name in ["Cast", "GeluExact", "Softmax"] {
                assert_eq!(count(&model, name), 0, "{:?}", model.operators());
            }
            assert!(model.kernels().iter().any(|name| name.contains("_mmm_i")), "{:?}", model.kernels());
        }
        // A value that lies between two steps can fall to the other one, by the rounding of float32 before it.
        let (error, difference) = (apart(&theirs, &exact_values), apart(&ours, &theirs));
        assert!(difference < 0.1 * error, "{difference} from tract's, whose quantisation errs by {error}");
    }
}

/// A model of one layer: rows of 8 pixels times weights `[8, 5]`, then `tail`, then the mean over the rows.
fn one_layer(weights: Weights, tail: impl FnOnce(&mut GraphProto)) -> (Vec<u8>, Vec<f32>) {
    let matrix: Vec<f32> = (0..8 * 5).map(|index| uniform(9, 1, index) - 0.5).collect();
    let mut graph = GraphProto { name: "layer".to_owned(), ..GraphProto::default() };
    let info = |name: &str, sides: &[i64]| {
        let dim = sides.iter().map(|side| Dimension { value: Some(Side::DimValue(*side)), ..Dimension::default() });
        let shape = Some(TensorShapeProto { dim: dim.collect() });
        let value = Some(Value::TensorType(Tensor { elem_type: 1, shape }));
        ValueInfoProto {
            name: name.to_owned(),
            r#type: Some(TypeProto { value, ..TypeProto::default() }),
            ..ValueInfoProto::default()
        }
    };
    graph.input.push(info("pixels", &[1, 3, 8, 8]));
    graph.output.push(info("row", &[1, 5]));
    let shape = [1_i64, 24, 8].iter().flat_map(|side| side.to_le_bytes()).collect();
    graph.initializer.push(tensor("shape", &[3], DataType::Int64, shape));
    let mut weight = floats("weight", &matrix);
    weight.dims = vec![8, 5];
    let product = node("MatMul", &["rows", "weight"], &["product"]);
    graph.node.push(node("Reshape", &["pixels", "shape"], &["rows"]));
    let nodes = quantized_product(&mut graph, &product, &weight, weights, true);
    graph.node.extend(nodes);
    tail(&mut graph);
    let mut mean = node("ReduceMean", &["out"], &["row"]);
    let axes = AttributeProto { name: "axes".to_owned(), r#type: 7, ints: vec![1], ..AttributeProto::default() };
    mean.attribute = vec![axes, attribute("keepdims", 0)];
    graph.node.push(mean);
    let opset = tract_onnx::pb::OperatorSetIdProto { version: 17, ..Default::default() };
    let model = ModelProto { ir_version: 8, opset_import: vec![opset], graph: Some(graph), ..ModelProto::default() };
    (model.encode_to_vec(), matrix)
}

/// A bias, as `quantize_dynamic` leaves it behind the product.
fn biased(graph: &mut GraphProto) {
    graph.initializer.push(floats("bias", &[0.5, -0.25, 0.0, 1.0, 2.0]));
    graph.node.push(node("Add", &["product", "bias"], &["out"]));
}

#[test]
fn a_quantised_layer_is_what_its_integers_say() {
    let picture = noise(3 * 8 * 8);
    for most in [64, 127] {
        let (bytes, matrix) = one_layer(Weights { most, zero: 0 }, biased);
        let (model, [ours, theirs]) = run(&bytes);
        assert!(!has_kernels() || count(&model, "EdgeVitQuantizedLinear") == 1, "{:?}", model.operators());
        let least = picture.iter().fold(0.0_f32, |least, x| least.min(*x));
        let largest = picture.iter().fold(0.0_f32, |largest, x| largest.max(*x));
        let scale = (largest - least) / 255.0;
        let zero = (-least / scale).round_ties_even();
        for (column, bias) in [0.5, -0.25, 0.0, 1.0, 2.0].into_iter().enumerate() {
            let weights: Vec<f32> = matrix[column..].iter().step_by(5).copied().collect();
            let step = weights.iter().fold(1e-9_f32, |most, w| most.max(w.abs())) / f32::from(most);
            let products = picture.chunks(8).flat_map(|row| row.iter().zip(&weights)).map(|(x, w)| {
                let x = ((x / scale).round_ties_even() + zero).clamp(0.0, 255.0) - zero;
                f64::from(x) * f64::from((w / step).round())
            });
            let mean = products.sum::<f64>() / 24.0 * f64::from(scale) * f64::from(step) + bias;
            assert!((f64::from(ours[column]) - mean).abs() < 1e-6, "{} instead of {mean}", ours[column]);
            assert!((f64::from(theirs[column]) - mean).abs() < 1e-6, "{} in tract, not {mean}", theirs[column]);
        }
    }
}

#[test]
fn what_is_no_layer_of_ours_is_computed_all_the_same() {
    let absolute = |graph: &mut GraphProto| {
        // The scales come after a function that no layer has.
        let scaling = graph.node.pop().unwrap();
        graph.node.push(node("Abs", &[&scaling.input[0]], &["sizes"]));
        graph.node.push(node("Mul", &["sizes", &scaling.input[1]], &["out"]));
    };
    let cases = [
        (one_layer(Weights { most: 64, zero: 3 }, biased), "zero points other than 0", 0),
        (one_layer(Weights { most: 64, zero: 0 }, absolute), "a product that is not scaled", 1),
    ];
    for ((bytes, _), what, products) in cases {
        let (model, [ours, theirs]) = run(&bytes);
        assert_eq!(count(&model, "EdgeVitQuantizedLinear"), 0, "{what}");
        assert!(
            !has_kernels() || count(&model, "EdgeVitIntegerProduct") == products,
            "{what}: {:?}",
            model.operators()
        );
        assert!(apart(&ours, &theirs) < 1e-6, "{what}: {ours:?} instead of {theirs:?}");
    }
}
