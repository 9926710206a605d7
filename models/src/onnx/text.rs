//! An ONNX model as text, to be compared by line.

use std::fmt::Write as _;

use prost::Message;

use super::OnnxError;
use super::proto::{AttributeProto, DataType, DimensionValue, ModelProto, NodeProto, TensorProto, ValueInfoProto};

/// The structure of an ONNX model, one line a thing: versions, input and output with their shapes, every node as
/// `OpType name (inputs) -> (outputs) {attributes}`, every initializer with type and shape. Integers, which are shapes and
/// indices, are written out; values of floats are not, nor who wrote the file.
///
/// # Errors
/// When the bytes are not an ONNX model.
pub fn to_text(bytes: &[u8]) -> Result<String, OnnxError> {
    let model = ModelProto::decode(bytes)?;
    let mut text = format!("ir_version {}\n", model.ir_version);
    // Writing to a String cannot fail.
    for opset in &model.opset_import {
        let domain = if opset.domain.is_empty() { "ai.onnx" } else { &opset.domain };
        let _ = writeln!(text, "opset {domain} {}", opset.version);
    }
    for entry in &model.metadata_props {
        let _ = writeln!(text, "metadata {}", entry.key);
    }
    let graph = model.graph.unwrap_or_default();
    for (kind, values) in [("input", &graph.input), ("output", &graph.output)] {
        values.iter().for_each(|value| text.push_str(&value_line(kind, value)));
    }
    graph.node.iter().for_each(|node| text.push_str(&node_line(node)));
    graph.initializer.iter().for_each(|tensor| text.push_str(&initializer_line(tensor)));
    Ok(text)
}

fn value_line(kind: &str, value: &ValueInfoProto) -> String {
    let tensor = value.r#type.clone().and_then(|r#type| r#type.tensor_type).unwrap_or_default();
    let dims = tensor.shape.clone().unwrap_or_default().dim.into_iter().map(|dim| match dim.value {
        Some(DimensionValue::DimValue(len)) => len.to_string(),
        Some(DimensionValue::DimParam(name)) => name,
        None => "?".to_owned(),
    });
    format!("{kind} {} {} [{}]\n", value.name, type_name(tensor.elem_type), dims.collect::<Vec<_>>().join(", "))
}

fn node_line(node: &NodeProto) -> String {
    let mut line =
        format!("{} {} ({}) -> ({})", node.op_type, node.name, node.input.join(", "), node.output.join(", "));
    if !node.attribute.is_empty() {
        let attributes: Vec<String> = node.attribute.iter().map(attribute).collect();
        let _ = write!(line, " {{{}}}", attributes.join(", "));
    }
    line.push('\n');
    line
}

fn attribute(attribute: &AttributeProto) -> String {
    let name = &attribute.name;
    match (attribute.i, attribute.f) {
        (Some(value), _) => format!("{name}={value}"),
        (None, Some(value)) => format!("{name}={value:?}"),
        (None, None) => format!("{name}={:?}", attribute.ints),
    }
}

fn initializer_line(tensor: &TensorProto) -> String {
    let mut line = format!("initializer {} {} {:?}", tensor.name, type_name(tensor.data_type), tensor.dims);
    if let (true, Some(bytes)) = (tensor.data_type == DataType::Int64 as i32, &tensor.raw_data) {
        let values =
            bytes.chunks_exact(8).map(|chunk| chunk.iter().rev().fold(0i64, |sum, &byte| sum << 8 | i64::from(byte)));
        let _ = write!(line, " = {:?}", values.collect::<Vec<_>>());
    }
    line.push('\n');
    line
}

fn type_name(data_type: i32) -> String {
    DataType::try_from(data_type).map_or_else(|_| format!("type {data_type}"), |known| format!("{known:?}"))
}
