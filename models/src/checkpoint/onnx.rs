//! The weights in an ONNX file that PyTorch exported: its floating-point initializers.
//!
//! The exporter renames what it transforms. The transposed matrix of a product without bias becomes `onnx::MatMul_{n}`,
//! and the position embeddings, cut in two so that they can be interpolated, become `onnx::Concat_{n}` (class token) and
//! `onnx::Reshape_{n}` (patches). Such tensors get back the name of the module by the path of the node that uses them.

use std::collections::{BTreeMap, HashMap};

use half::f16;
use prost::Message as _;

use super::CheckpointError;
use super::dtype::Float;
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
        Ok(DataType::Uint8 | DataType::Int8 | DataType::Int32 | DataType::Int64 | DataType::Bool) => return Ok(None),
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
        (None, Float::F16) => proto.int32_data.iter().map(|&bits| f16::from_bits(bits as u16).to_f32()).collect(),
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Checkpoint, to_timm};
    use super::*;
    use crate::onnx::proto::StringStringEntryProto;

    fn initializer(name: &str, dims: &[i64], values: &[f32]) -> TensorProto {
        let raw = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        TensorProto {
            name: name.into(),
            dims: dims.to_vec(),
            data_type: DataType::Float as i32,
            raw_data: Some(raw),
            ..TensorProto::default()
        }
    }

    fn node(op_type: &str, name: &str, input: &[&str], output: &str) -> NodeProto {
        NodeProto {
            op_type: op_type.into(),
            name: name.into(),
            input: input.iter().map(|&value| value.to_owned()).collect(),
            output: vec![output.to_owned()],
            ..NodeProto::default()
        }
    }

    fn model(graph: GraphProto) -> Vec<u8> {
        let metadata_props = vec![StringStringEntryProto { key: "num_heads".into(), value: "1".into() }];
        ModelProto { ir_version: 7, graph: Some(graph), metadata_props, ..ModelProto::default() }.encode_to_vec()
    }

    /// What PyTorch's exporter makes of the embeddings, one product and a decoder.
    fn exported() -> GraphProto {
        let half = TensorProto {
            name: "backbone.layernorm.bias".into(),
            dims: vec![2],
            data_type: DataType::Float16 as i32,
            int32_data: vec![0x3c00, 0xc000],
            ..TensorProto::default()
        };
        let index = TensorProto { data_type: DataType::Int64 as i32, ..initializer("axes", &[1], &[]) };
        GraphProto {
            initializer: vec![
                initializer("backbone.layernorm.weight", &[2], &[1.0, 2.0]),
                half,
                index,
                initializer("onnx::Concat_7", &[1, 1, 2], &[0.1, 0.2]),
                initializer("onnx::Reshape_8", &[1, 4, 2], &[1., 2., 3., 4., 5., 6., 7., 8.]),
                initializer("onnx::MatMul_9", &[2, 3], &[1., 2., 3., 4., 5., 6.]),
                initializer("onnx::Div_10", &[], &[0.5]),
                initializer("decoder.weight", &[1], &[0.0]),
            ],
            node: vec![
                node("Reshape", "/backbone/embeddings/Reshape_1", &["onnx::Reshape_8", "shape"], "grid"),
                node("Transpose", "/backbone/embeddings/Transpose", &["grid"], "nchw"),
                node("Shape", "/backbone/embeddings/Shape", &["nchw"], "nchw_shape"),
                node("Resize", "/backbone/embeddings/Resize", &["nchw", "", "", "sizes"], "resized"),
                node("Transpose", "/backbone/embeddings/Transpose_1", &["resized"], "nhwc"),
                node("Reshape", "/backbone/embeddings/Reshape_2", &["nhwc", "shape_2"], "tokens"),
                node("Concat", "/backbone/embeddings/Concat_6", &["onnx::Concat_7", "tokens"], "positions"),
                node("MatMul", "/backbone/encoder/layer.0/mlp/fc1/MatMul", &["x", "onnx::MatMul_9"], "y"),
            ],
            ..GraphProto::default()
        }
    }

    #[test]
    fn tensors_get_back_the_names_of_their_modules() {
        let checkpoint = Checkpoint::from_bytes(&model(exported())).unwrap();
        let tensors = &checkpoint.tensors;
        let expected =
            ["embeddings.position_embeddings", "encoder.layer.0.mlp.fc1.weight", "layernorm.bias", "layernorm.weight"];
        assert_eq!(tensors.keys().collect::<Vec<_>>(), expected);
        let fc1 = &tensors["encoder.layer.0.mlp.fc1.weight"];
        assert_eq!((fc1.shape(), fc1.values()), (&[3, 2][..], &[1., 4., 2., 5., 3., 6.][..]));
        let positions = &tensors["embeddings.position_embeddings"];
        assert_eq!((positions.shape(), &positions.values()[..3]), (&[1, 5, 2][..], &[0.1, 0.2, 1.0][..]));
        assert_eq!(tensors["layernorm.bias"].values(), [1.0, -2.0]);
        assert_eq!(checkpoint.metadata["num_heads"], "1");
    }

    #[test]
    fn values_in_another_file_are_refused() {
        let mut graph = exported();
        graph.initializer[0].data_location = DataLocation::External as i32;
        let error = Checkpoint::from_bytes(&model(graph)).unwrap_err();
        assert!(matches!(&error, CheckpointError::External { name } if name == "backbone.layernorm.weight"), "{error}");
    }

    #[test]
    fn a_shape_that_the_values_do_not_fill_is_refused() {
        for dims in [vec![3], vec![-2], vec![i64::MAX, 4]] {
            let mut graph = exported();
            graph.initializer[0].dims.clone_from(&dims);
            let error = Checkpoint::from_bytes(&model(graph)).unwrap_err();
            assert!(matches!(&error, CheckpointError::Values { .. }), "{dims:?}: {error}");
        }
    }

    #[test]
    fn a_path_that_turns_in_a_circle_ends() {
        let mut graph = exported();
        graph.node[1].output = vec!["grid".into()];
        graph.node[1].input = vec!["grid".into()];
        let checkpoint = Checkpoint::from_bytes(&model(graph)).unwrap();
        assert!(!checkpoint.tensors.contains_key("embeddings.position_embeddings"));
    }

    #[test]
    fn foreign_files_are_said_to_be_so() {
        for (bytes, says) in
            [(&b"PK\x03\x04"[..], "NumPy archive"), (b"", "empty"), (b"<html>not found", "something else")]
        {
            let error = Checkpoint::from_bytes(bytes).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }

    proptest! {
        #[test]
        fn a_truncated_file_never_panics(cut in any::<usize>()) {
            let bytes = model(exported());
            let _ = Checkpoint::from_bytes(&bytes[..cut % bytes.len()]);
        }

        #[test]
        fn changed_bytes_never_panic(changes in prop::collection::vec((any::<usize>(), any::<u8>()), 1..8)) {
            let mut bytes = model(exported());
            for (at, value) in changes {
                let at = at % bytes.len();
                bytes[at] = value;
            }
            if let Ok(checkpoint) = Checkpoint::from_bytes(&bytes) {
                let _ = to_timm(&checkpoint.tensors);
            }
        }
    }
}
