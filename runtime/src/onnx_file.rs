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
use tract_onnx::pb::{GraphProto, ModelProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto, type_proto};
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
            graph.input.extend(weights.iter().map(|(name, tensor)| input(name, tensor)));
            proto.graph = Some(graph);
        }
        Ok(Self { proto, weights })
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

/// What stands for a weight in the graph.
fn input(name: &str, tensor: &Tensor) -> ValueInfoProto {
    let side =
        |side: &usize| Dimension { value: Some(dimension::Value::DimValue(*side as i64)), ..Dimension::default() };
    let shape = TensorShapeProto { dim: tensor.shape().iter().map(side).collect() };
    let elem_type =
        TYPES.iter().find(|(_, loaded)| tensor.datum_type() == *loaded).map_or(0, |(stored, _)| *stored as i32);
    let tensor = type_proto::Tensor { elem_type, shape: Some(shape) };
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
