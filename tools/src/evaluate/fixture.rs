//! A model that can be foretold, and pictures for it.

use std::fs;
use std::path::Path;

use edge_vit::{Activation, Bundle, Preprocessing, Provenance};
use edge_vit_models::onnx::proto::{
    AttributeProto, AttributeType, DataType, Dimension, DimensionValue, GraphProto, ModelProto, NodeProto,
    OperatorSetIdProto, StringStringEntryProto, TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
};
use image::{Rgb, RgbImage};
use prost::Message as _;

/// An ONNX file that gives the mean of each colour channel of a picture of `side` by `side` pixels: its three classes
/// are red, green and blue under the names `labels`. Without labels there is no bundle.
pub(crate) fn colour_model(side: usize, labels: Option<[&str; 3]>) -> Vec<u8> {
    let value = |name: &str, dims: &[usize]| {
        let size = |&dim: &usize| Dimension { value: Some(DimensionValue::DimValue(dim as i64)) };
        let shape = TensorShapeProto { dim: dims.iter().map(size).collect() };
        let tensor_type = TensorTypeProto { elem_type: DataType::Float as i32, shape: Some(shape) };
        let kind = TypeProto { tensor_type: Some(tensor_type) };
        ValueInfoProto { name: name.into(), r#type: Some(kind), doc_string: String::new() }
    };
    let attribute = |name: &str| AttributeProto { name: name.into(), ..AttributeProto::default() };
    let axes = AttributeProto { r#type: AttributeType::Ints as i32, ints: vec![2, 3], ..attribute("axes") };
    let keepdims = AttributeProto { r#type: AttributeType::Int as i32, i: Some(0), ..attribute("keepdims") };
    let mean = NodeProto {
        input: vec!["pixels".into()],
        output: vec!["logits".into()],
        name: "mean".into(),
        op_type: "ReduceMean".into(),
        attribute: vec![axes, keepdims],
        ..NodeProto::default()
    };
    let graph = GraphProto {
        node: vec![mean],
        name: "colour".into(),
        input: vec![value("pixels", &[1, 3, side, side])],
        output: vec![value("logits", &[1, 3])],
        ..GraphProto::default()
    };
    let metadata = labels.map(|labels| {
        let bundle = Bundle {
            labels: labels.map(str::to_owned).to_vec(),
            preprocessing: Preprocessing::imagenet([side, side]),
            activation: Activation::Softmax,
            provenance: Provenance { backbone: "colours".into(), fold_error: Some(2.5e-7), ..Provenance::default() },
            golden: Vec::new(),
            rejection: None,
            golden_tolerance: None,
            half_products: edge_vit::HalfProducts::Never,
            task: edge_vit::Task::Classification,
        };
        bundle.to_metadata().unwrap()
    });
    let entry = |(key, value): (String, String)| StringStringEntryProto { key, value };
    let model = ModelProto {
        ir_version: 8,
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 17 }],
        graph: Some(graph),
        metadata_props: metadata.into_iter().flatten().map(entry).collect(),
        ..ModelProto::default()
    };
    model.encode_to_vec()
}

/// Writes a picture of one colour.
pub(crate) fn paint(path: &Path, colour: [u8; 3]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    RgbImage::from_pixel(9, 7, Rgb(colour)).save(path).unwrap();
}
