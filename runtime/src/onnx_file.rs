//! An ONNX file, read piece by piece.
//!
//! Nearly all bytes of a model are weights. They go from the file into the tensors that the engine takes over, one after
//! another, so that a weight is in memory once and not also as a part of the file and of what is decoded. The rest, the graph,
//! is small, and decoded as a whole. How messages are encoded is told in protobuf's documentation (Encoding).

use std::collections::BTreeMap;
use std::io::{self, Read};

use prost::Message;
use tract_onnx::data_resolver::MmapDataResolver;
use tract_onnx::pb::tensor_proto::{DataLocation, DataType};
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension};
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto,
    type_proto,
};
use tract_onnx::prelude::*;
use tract_onnx::tensor::load_tensor;
use tract_onnx::tract_hir::ops::konst::Const;

/// From so many bytes on a weight is one that is worth the way around.
const LARGE: usize = 1024;

/// Numbers of fields, in `onnx.proto`.
const MODEL_GRAPH: u64 = 7;
const GRAPH_INITIALIZER: u64 = 5;
const TENSOR_RAW_DATA: u64 = 9;

/// The types of weights, as they are stored and as they are loaded.
const TYPES: [(DataType, DatumType); 3] =
    [(DataType::Float, DatumType::F32), (DataType::Float16, DatumType::F16), (DataType::Int8, DatumType::I8)];

/// A model file in memory.
pub(crate) struct OnnxFile {
    /// All of it but the large weights, which stand among the inputs of its graph.
    pub(crate) proto: ModelProto,
    weights: BTreeMap<String, Tensor>,
}

/// The weights of linear layers that are float16 in a file and float32 in its graph, by the names of the latter.
pub(crate) type Halves = BTreeMap<String, Tensor>;

impl OnnxFile {
    /// Reads the `length` bytes of `source`.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] and [`io::ErrorKind::UnexpectedEof`] if they are no model, others if they cannot be read.
    pub(crate) fn read(source: impl Read, length: u64) -> io::Result<Self> {
        let mut reader = Reader { source, at: 0 };
        let (mut model, mut graph, mut scratch) = (Vec::new(), Vec::new(), Vec::new());
        let (mut has_graph, mut initializers, mut weights) = (false, Vec::new(), BTreeMap::new());
        reader.fields(length, MODEL_GRAPH, &mut model, |reader, end| {
            has_graph = true;
            reader.fields(end, GRAPH_INITIALIZER, &mut graph, |reader, end| {
                let mut fields = Vec::new();
                scratch.clear();
                reader.fields(end, TENSOR_RAW_DATA, &mut fields, |reader, end| {
                    scratch.clear();
                    reader.copy(end - reader.at, &mut scratch)
                })?;
                let mut tensor = TensorProto::decode(&*fields)?;
                tensor.raw_data = std::mem::take(&mut scratch);
                if is_large(&tensor) {
                    let loaded =
                        load_tensor(&MmapDataResolver, &tensor, None).map_err(|error| invalid(format!("{error:#}")))?;
                    scratch = std::mem::take(&mut tensor.raw_data);
                    weights.insert(std::mem::take(&mut tensor.name), loaded);
                } else {
                    // The buffer has room for the largest weight so far, which a small one is not to keep.
                    let bytes = tensor.raw_data.clone();
                    scratch = std::mem::replace(&mut tensor.raw_data, bytes);
                    initializers.push(tensor);
                }
                Ok(())
            })
        })?;
        let mut proto = ModelProto::decode(&*model)?;
        if has_graph {
            let mut graph = GraphProto::decode(&*graph)?;
            graph.initializer = initializers;
            // Old files name their weights among the inputs, and may say less of them there.
            graph.input.retain(|input| !weights.contains_key(&input.name));
            graph.input.extend(weights.iter().map(|(name, tensor)| input(name, stored(tensor), tensor.shape())));
            proto.graph = Some(graph);
        }
        Ok(Self { proto, weights })
    }

    /// Takes out the float16 weights that become float32 for one product alone, and the casts; inputs stand for the floats.
    pub(crate) fn take_halves(&mut self) -> Halves {
        let mut halves = Halves::new();
        let is_half = |tensor: &Tensor| tensor.datum_type() == DatumType::F16;
        if !self.weights.values().any(is_half) {
            return halves;
        }
        let Some(graph) = &mut self.proto.graph else { return halves };
        // What a graph within a node reads is not among the node's inputs.
        if graph.node.iter().flat_map(|node| &node.attribute).any(|attribute| attribute.g.is_some()) {
            return halves;
        }
        let mut readers: BTreeMap<&str, Vec<(&NodeProto, usize)>> = BTreeMap::new();
        for node in &graph.node {
            for (slot, name) in node.input.iter().enumerate() {
                readers.entry(name).or_default().push((node, slot));
            }
        }
        let is_output = |name: &str| graph.output.iter().any(|output| output.name == *name);
        let mut casts = BTreeMap::new();
        for (name, tensor) in self.weights.iter().filter(|(_, tensor)| is_half(tensor)) {
            let Some([(cast, 0)]) = readers.get(name.as_str()).map(Vec::as_slice) else { continue };
            let ([floats], true) = (cast.output.as_slice(), is_cast_to_float(cast)) else { continue };
            let Some([(product, 1)]) = readers.get(floats.as_str()).map(Vec::as_slice) else { continue };
            if tensor.rank() == 2 && product.op_type == "MatMul" && !is_output(name) && !is_output(floats) {
                casts.insert(name.clone(), floats.clone());
            }
        }
        graph.node.retain(|node| !node.input.first().is_some_and(|input| casts.contains_key(input)));
        graph.input.retain(|input| !casts.contains_key(&input.name));
        for (name, floats) in casts {
            if let Some(tensor) = self.weights.remove(&name) {
                graph.input.push(input(&floats, DataType::Float, tensor.shape()));
                halves.insert(floats, tensor);
            }
        }
        halves
    }

    /// Puts the large weights into the model that was made of `proto`: constants where inputs stood for them.
    pub(crate) fn fill(self, model: &mut InferenceModel) -> TractResult<()> {
        let Self { mut weights, .. } = self;
        let (mut inputs, mut constants) = (Vec::new(), Vec::new());
        for outlet in model.inputs.drain(..) {
            match weights.remove(&model.nodes[outlet.node].name) {
                Some(tensor) => constants.push((outlet, tensor)),
                None => inputs.push(outlet),
            }
        }
        model.inputs = inputs;
        for (outlet, tensor) in constants {
            let tensor = Arc::new(tensor);
            model.set_outlet_fact(outlet, InferenceFact::try_from(&tensor)?)?;
            model.nodes[outlet.node].op = Const::new(tensor)?.into();
        }
        Ok(())
    }
}

/// Whether `tensor` is one of the weights that a model is large by.
fn is_large(tensor: &TensorProto) -> bool {
    let is_weight = TYPES.iter().any(|(stored, _)| tensor.data_type == *stored as i32);
    let is_here = tensor.data_location != Some(DataLocation::External as i32);
    is_weight && is_here && tensor.raw_data.len() >= LARGE
}

/// Whether `node` makes float32 of what it reads.
fn is_cast_to_float(node: &NodeProto) -> bool {
    let to_float = |attribute: &AttributeProto| attribute.name == "to" && attribute.i == DataType::Float as i64;
    node.op_type == "Cast" && node.attribute.iter().any(to_float)
}

/// The type that a weight has in a file.
fn stored(tensor: &Tensor) -> DataType {
    let same = TYPES.iter().find(|(_, loaded)| tensor.datum_type() == *loaded);
    same.map_or(DataType::Undefined, |(stored, _)| *stored)
}

/// What stands for a weight in the graph.
fn input(name: &str, data_type: DataType, shape: &[usize]) -> ValueInfoProto {
    let side =
        |side: &usize| Dimension { value: Some(dimension::Value::DimValue(*side as i64)), ..Dimension::default() };
    let shape = TensorShapeProto { dim: shape.iter().map(side).collect() };
    let tensor = type_proto::Tensor { elem_type: data_type as i32, shape: Some(shape) };
    let value = Some(type_proto::Value::TensorType(tensor));
    ValueInfoProto {
        name: name.to_owned(),
        r#type: Some(TypeProto { value, ..TypeProto::default() }),
        ..Default::default()
    }
}

/// What has been read of a file.
struct Reader<R> {
    source: R,
    /// Bytes that were read.
    at: u64,
}

impl<R: Read> Reader<R> {
    /// Copies the fields of the message that ends at `end` to `rest`, but for those with the number `number`, which are messages
    /// or bytes: `take` reads them, and is told where they end.
    fn fields(
        &mut self,
        end: u64,
        number: u64,
        rest: &mut Vec<u8>,
        mut take: impl FnMut(&mut Self, u64) -> io::Result<()>,
    ) -> io::Result<()> {
        while self.at < end {
            let start = rest.len();
            let key = self.varint(rest)?;
            match key & 7 {
                0 => _ = self.varint(rest)?,
                1 => self.copy(8, rest)?,
                2 => {
                    let len = self.varint(rest)?;
                    if len > end.saturating_sub(self.at) {
                        return Err(invalid("a field is longer than what holds it".to_owned()));
                    }
                    let field_end = self.at + len;
                    if key >> 3 == number {
                        rest.truncate(start);
                        take(self, field_end)?;
                    } else {
                        self.copy(len, rest)?;
                    }
                }
                5 => self.copy(4, rest)?,
                other => return Err(invalid(format!("a field is of the unknown kind {other}"))),
            }
        }
        if self.at == end { Ok(()) } else { Err(invalid("a field is longer than what holds it".to_owned())) }
    }

    /// A number of seven bits a byte; its bytes are copied to `bytes`.
    fn varint(&mut self, bytes: &mut Vec<u8>) -> io::Result<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let mut byte = [0];
            self.source.read_exact(&mut byte)?;
            self.at += 1;
            bytes.extend(byte);
            number |= u64::from(byte[0] & 0x7f) << shift;
            if byte[0] < 0x80 {
                return Ok(number);
            }
        }
        Err(invalid("a number has no end".to_owned()))
    }

    /// Copies the next `len` bytes to the end of `bytes`.
    fn copy(&mut self, len: u64, bytes: &mut Vec<u8>) -> io::Result<()> {
        bytes.try_reserve(usize::try_from(len).unwrap_or(usize::MAX)).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let read = (&mut self.source).take(len).read_to_end(bytes)? as u64;
        self.at += read;
        if read == len { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}

fn invalid(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weight(name: &str, dims: &[i64], bytes: usize) -> TensorProto {
        TensorProto {
            name: name.to_owned(),
            dims: dims.to_vec(),
            data_type: DataType::Float as i32,
            raw_data: (0..bytes).map(|i| (i * 7 % 120) as u8).collect(),
            ..TensorProto::default()
        }
    }

    fn file(initializer: Vec<TensorProto>) -> ModelProto {
        let input = ["picture", "large"].map(|name| ValueInfoProto { name: name.to_owned(), ..Default::default() });
        let graph = GraphProto { name: "g".to_owned(), initializer, input: input.to_vec(), ..GraphProto::default() };
        ModelProto { ir_version: 8, producer_name: "p".to_owned(), graph: Some(graph), ..ModelProto::default() }
    }

    fn read(bytes: &[u8]) -> io::Result<OnnxFile> {
        OnnxFile::read(bytes, bytes.len() as u64)
    }

    #[test]
    fn large_weights_are_taken_out_and_all_else_is_as_it_was() {
        let whole =
            file(vec![weight("small", &[2, 3], 24), weight("large", &[16, 20], 1280), weight("other", &[400], 1600)]);
        let OnnxFile { proto, weights } = read(&whole.encode_to_vec()).unwrap();
        let graph = proto.graph.as_ref().unwrap();
        assert_eq!(graph.initializer, whole.graph.as_ref().unwrap().initializer[..1]);
        // `large` was an input already, without a type.
        let names: Vec<_> = graph.input.iter().map(|input| input.name.as_str()).collect();
        assert_eq!(names, ["picture", "large", "other"]);
        assert!(graph.input[1..].iter().all(|input| input.r#type.is_some()));
        assert_eq!((proto.ir_version, proto.producer_name.as_str(), graph.name.as_str()), (8, "p", "g"));
        for tensor in &whole.graph.as_ref().unwrap().initializer[1..] {
            let loaded = load_tensor(&MmapDataResolver, tensor, None).unwrap();
            assert_eq!(weights[&tensor.name], loaded, "{}", tensor.name);
        }
    }

    fn node(op_type: &str, input: &[&str], output: &str) -> NodeProto {
        NodeProto {
            op_type: op_type.to_owned(),
            input: input.iter().map(|&name| name.to_owned()).collect(),
            output: vec![output.to_owned()],
            ..NodeProto::default()
        }
    }

    fn cast(input: &str, output: &str, to: DataType) -> NodeProto {
        let to = AttributeProto { name: "to".to_owned(), i: to as i64, ..AttributeProto::default() };
        NodeProto { attribute: vec![to], ..node("Cast", &[input], output) }
    }

    fn half(name: &str) -> TensorProto {
        TensorProto { data_type: DataType::Float16 as i32, ..weight(name, &[16, 40], 1280) }
    }

    /// What is taken out of a graph with the float16 weights `weights`, and the nodes that are left.
    fn taken(weights: Vec<TensorProto>, nodes: &[NodeProto], output: &str) -> (Vec<String>, usize) {
        let mut whole = file(weights);
        let graph = whole.graph.as_mut().unwrap();
        graph.node = nodes.to_vec();
        graph.output = vec![ValueInfoProto { name: output.to_owned(), ..ValueInfoProto::default() }];
        let mut file = read(&whole.encode_to_vec()).unwrap();
        let halves = file.take_halves();
        assert!(halves.values().all(|tensor| tensor.datum_type() == DatumType::F16));
        let graph = file.proto.graph.unwrap();
        let typed = |input: &&ValueInfoProto| match &input.r#type.as_ref()?.value {
            Some(type_proto::Value::TensorType(tensor)) => Some(tensor.elem_type),
            _ => None,
        };
        for name in halves.keys() {
            let stands = graph.input.iter().filter(|input| input.name == *name).collect::<Vec<_>>();
            assert_eq!(stands.iter().map(typed).collect::<Vec<_>>(), [Some(DataType::Float as i32)]);
        }
        (halves.into_keys().collect(), graph.node.len())
    }

    #[test]
    fn halves_that_become_the_floats_of_one_product_are_taken_out() {
        let product = |input: [&str; 2]| node("MatMul", &input, "y");
        let floats = || cast("w", "floats", DataType::Float);
        let nodes = [floats(), product(["picture", "floats"])];
        assert_eq!(taken(vec![half("w")], &nodes, "y"), (vec!["floats".to_owned()], 1));
        let none = |nodes: &[NodeProto], output| assert_eq!(taken(vec![half("w")], nodes, output).0, [""; 0]);
        // Read twice, by another operator, as the other operand, as an output, as other floats, within another graph.
        none(&[floats(), product(["picture", "floats"]), node("Relu", &["floats"], "z")], "y");
        none(&[floats(), product(["picture", "floats"]), node("Relu", &["w"], "z")], "y");
        none(&[floats(), node("Add", &["picture", "floats"], "y")], "y");
        none(&[floats(), product(["floats", "picture"])], "y");
        none(&nodes, "floats");
        none(&[cast("w", "floats", DataType::Double), product(["picture", "floats"])], "y");
        let within = AttributeProto { g: Some(GraphProto::default()), ..AttributeProto::default() };
        let branch = NodeProto { attribute: vec![within], ..node("If", &["picture"], "z") };
        none(&[floats(), product(["picture", "floats"]), branch], "y");
        let vector = TensorProto { dims: vec![640], ..half("w") };
        assert_eq!(taken(vec![vector], &nodes, "y").0, [""; 0]);
    }

    #[test]
    fn a_tensor_without_raw_bytes_keeps_its_values() {
        let values = TensorProto { float_data: vec![1.0, 2.0], ..weight("values", &[2], 0) };
        let whole = file(vec![weight("large", &[16, 20], 1280), values.clone(), weight("behind", &[1], 4)]);
        let graph = read(&whole.encode_to_vec()).unwrap().proto.graph.unwrap();
        assert_eq!(graph.initializer, [values, weight("behind", &[1], 4)]);
    }

    #[test]
    fn what_does_not_hold_together_is_refused() {
        let refused = |bytes: &[u8]| read(bytes).err().map(|error| error.kind());
        let whole = file(vec![weight("large", &[16, 20], 1280)]).encode_to_vec();
        for end in 1..whole.len() {
            let cut = OnnxFile::read(&whole[..end], whole.len() as u64).err().map(|error| error.kind());
            assert_eq!(cut, Some(io::ErrorKind::UnexpectedEof), "cut at {end}");
        }
        let shape = file(vec![weight("large", &[16, 21], 1280)]).encode_to_vec();
        let no_shape = file(vec![weight("large", &[i64::MAX, 9], 1280)]).encode_to_vec();
        // A graph of 200 bytes where there are three; one that ends within its initializer's length; a kind that is none.
        for bytes in
            [&shape[..], &no_shape, &[0x3a, 200, 1, 1, 2, 3], &[0x3a, 2, 0x2a, 9], &[0x0f], &[0x08; 1], &[0xff; 12]]
        {
            let kind = refused(bytes);
            let told = matches!(kind, Some(io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof));
            assert!(told, "{kind:?} of {bytes:?}");
        }
    }
}
