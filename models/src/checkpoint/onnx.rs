//! The weights in an ONNX file that PyTorch exported: its floating-point initializers.
//!
//! The exporter renames what it transforms. The transposed matrix of a product without bias becomes `onnx::MatMul_{n}`,
//! and the position embeddings, cut in two so that they can be interpolated, become `onnx::Concat_{n}` (class token) and
//! `onnx::Reshape_{n}` (patches). Such tensors get back the name of the module by the path of the node that uses them.

use std::collections::{BTreeMap, HashMap};

use prost::Message as _;

use super::CheckpointError;
use super::dtype::{Float, f16_to_f32};
use crate::Tensor;
use crate::onnx::proto::{DataLocation, DataType, GraphProto, ModelProto, NodeProto, TensorProto};

type Contents = (BTreeMap<String, Tensor>, BTreeMap<String, String>);

pub(super) fn parse(bytes: &[u8]) -> Result<Contents, CheckpointError> {
    let model = ModelProto::decode(bytes)?;
    let graph = model.graph.unwrap_or_default();
    let metadata = model.metadata_props.into_iter().map(|entry| (entry.key, entry.value)).collect();
    let mut tensors = BTreeMap::new();
    for initializer in &graph.initializer {
        if let Some(tensor) = decode(initializer)? {
            tensors.insert(initializer.name.clone(), tensor);
        }
    }
    restore_names(&graph, &mut tensors);
    Ok((keep_backbone(tensors), metadata))
}

/// The tensor, or `None` where it is an integer: those are shapes and indices of the graph, not weights.
fn decode(proto: &TensorProto) -> Result<Option<Tensor>, CheckpointError> {
    let name = proto.name.as_str();
    let float = match DataType::try_from(proto.data_type) {
        Ok(DataType::Float) => Float::F32,
        Ok(DataType::Float16) => Float::F16,
        Ok(DataType::Bfloat16) => Float::Bf16,
        Ok(DataType::Double) => Float::F64,
        Ok(DataType::Int32 | DataType::Int64 | DataType::Bool) => return Ok(None),
        Ok(DataType::Undefined) | Err(_) => {
            let got = format!("ONNX type {}", proto.data_type);
            return Err(CheckpointError::Dtype { name: name.to_owned(), got });
        }
    };
    if proto.data_location == DataLocation::External as i32 || !proto.external_data.is_empty() {
        return Err(CheckpointError::External { name: name.to_owned() });
    }
    let values = match (&proto.raw_data, float) {
        (Some(raw), _) => float.decode(raw).ok_or_else(|| CheckpointError::Values {
            name: name.to_owned(),
            reason: format!("{} bytes are no whole number of values", raw.len()),
        })?,
        (None, Float::F32) => proto.float_data.clone(),
        (None, Float::F64) => proto.double_data.iter().map(|&value| value as f32).collect(),
        // The upper half of each entry is padding.
        (None, Float::F16) => proto.int32_data.iter().map(|&bits| f16_to_f32(bits as u16)).collect(),
        (None, Float::Bf16) => proto.int32_data.iter().map(|&bits| f32::from_bits((bits as u32) << 16)).collect(),
    };
    let shape: Result<Vec<usize>, _> = proto.dims.iter().map(|&dim| usize::try_from(dim)).collect();
    let shape = shape.map_err(|_| CheckpointError::Values {
        name: name.to_owned(),
        reason: format!("a dimension of {:?} is negative", proto.dims),
    })?;
    Tensor::new(shape, values).map(Some).map_err(|error| CheckpointError::values(name, &error))
}

/// Names the exporter's nameless tensors by their use; those whose use says nothing are constants and are dropped.
fn restore_names(graph: &GraphProto, tensors: &mut BTreeMap<String, Tensor>) {
    let nameless: Vec<String> = tensors.keys().filter(|name| name.contains("::")).cloned().collect();
    let readers = readers(graph);
    let mut named = Vec::new();
    for name in &nameless {
        for &node in readers.get(name.as_str()).into_iter().flatten() {
            if let Some(found) =
                matrix(node, name, tensors).or_else(|| position_embeddings(node, name, &readers, tensors))
            {
                named.push(found);
            }
        }
    }
    for name in nameless {
        tensors.remove(&name);
    }
    for (name, tensor) in named {
        tensors.entry(name).or_insert(tensor);
    }
}

/// The nodes that read each value.
fn readers(graph: &GraphProto) -> HashMap<&str, Vec<&NodeProto>> {
    let mut readers: HashMap<&str, Vec<&NodeProto>> = HashMap::new();
    for node in &graph.node {
        for input in &node.input {
            readers.entry(input).or_default().push(node);
        }
    }
    readers
}

/// The module that a node stands in, by its name: `/backbone/layernorm/MatMul_1` is in `backbone.layernorm`.
fn module(node: &NodeProto) -> Option<String> {
    let (path, _) = node.name.strip_prefix('/')?.rsplit_once('/')?;
    Some(path.replace('/', "."))
}

/// The weight `[out, in]` of a Linear whose product reads it as `[in, out]`.
fn matrix(node: &NodeProto, name: &str, tensors: &BTreeMap<String, Tensor>) -> Option<(String, Tensor)> {
    if node.op_type != "MatMul" || node.input.get(1).map(String::as_str) != Some(name) {
        return None;
    }
    Some((format!("{}.weight", module(node)?), tensors.get(name)?.transposed()?))
}

/// The whole position embeddings `[1, 1 + L, D]`, from the patches' part `name` `[1, L, D]`, which `node` reshapes to a
/// grid that a Resize reads, and the class token's part `[1, 1, D]`, which the resized grid is concatenated to.
fn position_embeddings(
    node: &NodeProto,
    name: &str,
    readers: &HashMap<&str, Vec<&NodeProto>>,
    tensors: &BTreeMap<String, Tensor>,
) -> Option<(String, Tensor)> {
    let patches = tensors.get(name)?;
    let &[1, len, dim] = patches.shape() else { return None };
    if node.op_type != "Reshape" {
        return None;
    }
    let class = tensors.get(concatenated_to_resized(node, readers)?)?;
    if class.shape() != [1, 1, dim] {
        return None;
    }
    let values = [class.values(), patches.values()].concat();
    let tensor = Tensor::new([1, 1 + len, dim], values).ok()?;
    Some((format!("{}.position_embeddings", module(node)?), tensor))
}

/// Follows the data from `node` through a Resize to a Concat, and returns what that puts before them.
fn concatenated_to_resized<'a>(node: &'a NodeProto, readers: &HashMap<&str, Vec<&'a NodeProto>>) -> Option<&'a str> {
    // A path of changes of form and type is short; the bound keeps a cyclic file from being followed forever.
    const LONGEST_PATH: usize = 16;
    let mut node = node;
    let mut resized = false;
    for _ in 0..LONGEST_PATH {
        let value = node.output.first()?.as_str();
        node = readers.get(value)?.iter().copied().find(|reader| match reader.op_type.as_str() {
            "Reshape" | "Transpose" | "Cast" | "Resize" => reader.input.first().is_some_and(|input| input == value),
            "Concat" => reader.input.get(1).is_some_and(|input| input == value),
            _ => false,
        })?;
        match node.op_type.as_str() {
            "Concat" => return if resized { node.input.first().map(String::as_str) } else { None },
            "Resize" => resized = true,
            _ => {}
        }
    }
    None
}

/// Where a file holds a backbone and more (a decoder, a head of another task), the backbone alone.
fn keep_backbone(tensors: BTreeMap<String, Tensor>) -> BTreeMap<String, Tensor> {
    const PREFIX: &str = "backbone.";
    if !tensors.keys().any(|name| name.starts_with(PREFIX)) {
        return tensors;
    }
    tensors.into_iter().filter_map(|(name, tensor)| Some((name.strip_prefix(PREFIX)?.to_owned(), tensor))).collect()
}
