//! The file around the operators: what goes in, what comes out, and who wrote it.

use std::collections::BTreeMap;
use std::path::Path;

use prost::Message;

use crate::file::write_atomic;
use crate::graph::Graph;
use crate::op::Op;

use super::lower::Lowering;
use super::precision::{self, Precisions};
use super::proto::{
    DataType, Dimension, DimensionValue, GraphProto, ModelProto, OperatorSetIdProto, StringStringEntryProto,
    TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
};
use super::{Batch, FEATURES, INPUT, LOGITS, OnnxError};

/// The version of the file format that goes with [`OPSET`].
const IR_VERSION: i64 = 8;
/// The first operator set that has LayerNormalization.
const OPSET: i64 = 17;
/// Protocol buffers cannot hold more in one message.
const SIZE_LIMIT: usize = i32::MAX as usize;

/// The graph as an ONNX model of standard operators (opset 17, IR version 8), float32 throughout: see [`to_bytes_at`].
///
/// # Errors
/// When the graph is not valid, or the model does not fit one file.
pub fn to_bytes(graph: &Graph, batch: Batch, metadata: &BTreeMap<String, String>) -> Result<Vec<u8>, OnnxError> {
    to_bytes_at(graph, batch, &Precisions::new(), metadata)
}

/// The graph as an ONNX model of standard operators (opset 17, IR version 8), with the weights held at `precisions`. Input and
/// output are float32 at any.
///
/// The input is [`INPUT`], the output [`LOGITS`] where the graph has a Linear named `head`, else [`FEATURES`].
/// Nodes bear the names of the graph's nodes, with `/part` behind them where one node becomes several. `metadata` is
/// written as it is into `metadata_props`. Equal arguments give equal bytes.
///
/// # Errors
/// When the graph is not valid, a node cannot have its precision, a weight has no form in it, or the model does not fit one
/// file.
pub fn to_bytes_at(
    graph: &Graph,
    batch: Batch,
    precisions: &Precisions,
    metadata: &BTreeMap<String, String>,
) -> Result<Vec<u8>, OnnxError> {
    let shapes = graph.validate()?;
    precision::check(graph, precisions)?;
    let has_head = graph.nodes.iter().any(|node| node.name == "head" && matches!(node.op, Op::Linear { .. }));
    let output = if has_head { LOGITS } else { FEATURES };
    let output_shape = shapes.last().ok_or(OnnxError::Graph(crate::GraphError::NoInput))?;
    let input = value_info(INPUT, &shapes[0], batch);
    let (node, initializer) = Lowering::new(graph, &shapes, batch, precisions).run(output)?;
    let model = ModelProto {
        ir_version: IR_VERSION,
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: OPSET }],
        producer_name: "edge-vit".to_owned(),
        producer_version: env!("CARGO_PKG_VERSION").to_owned(),
        graph: Some(GraphProto {
            name: "edge-vit".to_owned(),
            node,
            initializer,
            input: vec![input],
            output: vec![value_info(output, output_shape, batch)],
            ..GraphProto::default()
        }),
        metadata_props: metadata
            .iter()
            .map(|(key, value)| StringStringEntryProto { key: key.clone(), value: value.clone() })
            .collect(),
        ..ModelProto::default()
    };
    match model.encoded_len() {
        bytes if bytes > SIZE_LIMIT => Err(OnnxError::TooLarge { bytes, limit: SIZE_LIMIT }),
        _ => Ok(model.encode_to_vec()),
    }
}

/// Writes [`to_bytes`] to `path`; a killed run leaves the old file or the new one.
///
/// # Errors
/// As [`to_bytes`], and when the file cannot be written.
pub fn write(path: &Path, graph: &Graph, batch: Batch, metadata: &BTreeMap<String, String>) -> Result<(), OnnxError> {
    let bytes = to_bytes(graph, batch, metadata)?;
    write_atomic(path, &bytes).map_err(|source| OnnxError::Write { path: path.to_owned(), source })
}

fn value_info(name: &str, shape: &[usize], batch: Batch) -> ValueInfoProto {
    let batch = match batch {
        Batch::One => DimensionValue::DimValue(1),
        Batch::Free => DimensionValue::DimParam("batch".to_owned()),
    };
    let fixed = shape.iter().map(|&dim| DimensionValue::DimValue(dim as i64));
    let dim = std::iter::once(batch).chain(fixed).map(|value| Dimension { value: Some(value) }).collect();
    let tensor_type = TensorTypeProto { elem_type: DataType::Float as i32, shape: Some(TensorShapeProto { dim }) };
    ValueInfoProto {
        name: name.to_owned(),
        r#type: Some(TypeProto { tensor_type: Some(tensor_type) }),
        ..ValueInfoProto::default()
    }
}
