//! One graph operator as a few standard ONNX operators.

mod activation;
mod attention;
mod int8;
mod maps;
mod merging;
mod tokens;

use std::collections::{BTreeMap, BTreeSet};

use crate::graph::{Graph, GraphError, Node};
use crate::op::{Op, score_bias};
use crate::quant::{QuantError, is_halved, to_f16};
use crate::tensor::Tensor;

use super::precision::{Precision, Precisions};
use super::proto::{AttributeProto, AttributeType, DataType, NodeProto, TensorProto};
use super::{Batch, INPUT, OnnxError};
use attention::Bias;
use maps::Kernel;

/// What an ONNX node's value is called: by the node that gives it.
type Value = String;

/// Turns a graph into ONNX nodes and initializers.
///
/// A graph node `name` gives the value `name`; the nodes before its last are called `name/part`. The slash stands in no
/// name of a graph, so that these never meet names of other nodes or weights.
pub(super) struct Lowering<'a> {
    graph: &'a Graph,
    shapes: &'a [Vec<usize>],
    batch: Batch,
    precisions: &'a Precisions,
    /// That of the node at hand.
    precision: Precision,
    nodes: Vec<NodeProto>,
    initializers: Vec<TensorProto>,
    /// What is there already and is shared by all that read it.
    constants: BTreeSet<String>,
    /// By what was split and into how many parts: what the parts' names begin with.
    splits: BTreeMap<(Value, usize), String>,
    /// The first weight that did not fit its precision.
    refused: Option<QuantError>,
}

impl<'a> Lowering<'a> {
    /// `shapes` are those of a valid `graph`.
    pub(super) fn new(graph: &'a Graph, shapes: &'a [Vec<usize>], batch: Batch, precisions: &'a Precisions) -> Self {
        Self {
            graph,
            shapes,
            batch,
            precisions,
            precision: Precision::F32,
            nodes: Vec::new(),
            initializers: Vec::new(),
            constants: BTreeSet::new(),
            splits: BTreeMap::new(),
            refused: None,
        }
    }

    /// All nodes and initializers, the last value being called `output`.
    pub(super) fn run(mut self, output: &str) -> Result<(Vec<NodeProto>, Vec<TensorProto>), OnnxError> {
        let mut values: Vec<Value> = Vec::with_capacity(self.graph.nodes.len());
        for (id, node) in self.graph.nodes.iter().enumerate() {
            let inputs: Vec<&str> = node.inputs.iter().map(|&input| values[input].as_str()).collect();
            let shape = node.inputs.first().map_or(&[][..], |&input| self.shapes[input].as_slice());
            self.precision = self.precisions.get(&node.name).copied().unwrap_or(Precision::F32);
            let value = self.node(node, &inputs, shape, id)?;
            values.push(value);
        }
        if let Some(refused) = self.refused {
            return Err(refused.into());
        }
        // A valid graph has nodes, and all but the input end with the ONNX node that gives their value.
        match self.nodes.last_mut() {
            Some(last) => last.output = vec![output.to_owned()],
            None => return Err(GraphError::NoInput.into()),
        }
        Ok((self.nodes, self.initializers))
    }

    /// The ONNX form of one node; `shape` is that of its first input for one picture.
    fn node(&mut self, node: &Node, inputs: &[&str], shape: &[usize], id: usize) -> Result<Value, OnnxError> {
        let name = node.name.as_str();
        let x = inputs.first().copied().unwrap_or_default();
        Ok(match &node.op {
            Op::Input { .. } => INPUT.to_owned(),
            Op::PatchEmbed { patch_size, tubelets, .. } => {
                self.patch_embed(name, x, [*patch_size, *tubelets], [shape, &self.shapes[id]])?
            }
            Op::InsertTokens { count, at } => self.insert_tokens(name, x, *count, *at, shape)?,
            Op::DropTokens { count, at } => self.drop_tokens(name, x, *count, *at, shape),
            Op::PosEmbed => {
                let embedding = self.weight(name, &format!("{name}/weight"))?;
                self.push("Add", name, &[x, &embedding], Vec::new())
            }
            Op::LayerNorm { eps } => self.layer_norm(name, x, *eps)?,
            Op::Linear { bias, .. } => match self.kernel_of(node.inputs.first().copied()) {
                Some(kernel) => self.convolution(name, x, kernel, *bias)?,
                None => self.linear(name, x, *bias)?,
            },
            Op::Act(activation) => self.activation(name, x, *activation),
            op @ (Op::Attention { num_heads, scale } | Op::CausalAttention { num_heads, scale }) => {
                let bias = match inputs.get(1) {
                    Some(sizes) => Bias::Sizes(sizes),
                    None => score_bias(op, shape, None).map_or(Bias::Nothing, Bias::Fixed),
                };
                self.attention(name, x, *num_heads, *scale, bias, shape)
            }
            Op::AttentionPool { num_heads, scale } => {
                self.attention_pool(name, x, *num_heads, *scale, inputs.get(1).copied(), shape)?
            }
            op @ (Op::Grid { .. }
            | Op::SpaceToDepth { .. }
            | Op::PixelShuffle { .. }
            | Op::WindowPartition(_)
            | Op::WindowReverse(_)) => self.moved(name, x, op, shape, &self.shapes[id]),
            op @ Op::WindowAttention { num_heads, scale, .. } => {
                let table = self.tensor(&format!("{name}.relative_position_bias_table"))?;
                let bias = score_bias(op, shape, Some(table)).map_or(Bias::Nothing, Bias::Fixed);
                self.attention(name, x, *num_heads, *scale, bias, shape)
            }
            Op::NormalizeHeads { num_heads } => self.normalize_heads(name, x, *num_heads, shape)?,
            Op::Unfold { kernel_size, stride, from_pixels } => match self.kernel_of(Some(id)) {
                // The Linears behind it read the map itself.
                Some(_) => x.to_owned(),
                None => {
                    let kernel = Kernel { side: *kernel_size, stride: *stride, from_pixels: *from_pixels };
                    self.unfold(name, x, kernel, shape)
                }
            },
            Op::DepthwiseConv { kernel_size, stride } => {
                let kernel = Kernel { side: *kernel_size, stride: *stride, from_pixels: false };
                self.depthwise_conv(name, x, kernel, shape.last().copied().unwrap_or(0))?
            }
            Op::Concat => self.push("Concat", name, inputs, vec![int("axis", -1)]),
            Op::GlobalResponseNorm => self.global_response_norm(name, x)?,
            Op::LayerScale => {
                let gamma = self.own_weight(name, "gamma")?;
                self.push("Mul", name, &[x, &gamma], Vec::new())
            }
            Op::Add => self.push("Add", name, inputs, Vec::new()),
            Op::TakeClassToken => {
                let first = self.ints("constant/0", &[], &[0]);
                self.push("Gather", name, &[x, &first], vec![int("axis", 1)])
            }
            Op::MeanTokens { skip } => match inputs.get(1) {
                Some(sizes) => self.weighted_mean(name, [x, sizes], *skip, shape),
                None => self.mean_tokens(name, x, *skip, shape),
            },
            Op::MatchTokens { merged, protected, num_heads } => {
                self.match_tokens(name, x, [*merged, *protected, *num_heads], shape)
            }
            Op::MergeSizes { merged } => self.merge_sizes(name, inputs, *merged, shape),
            Op::MergeTokens => self.merge_tokens(name, inputs, shape, &self.shapes[id]),
            Op::RepAdapter { hidden, groups, scale } => self.rep_adapter(name, x, *hidden, *groups, *scale)?,
        })
    }

    /// The kernel of the node at `id` where it is an [`Op::Unfold`] that only Linears read, which are convolutions then.
    fn kernel_of(&self, id: Option<usize>) -> Option<Kernel> {
        let id = id?;
        let Op::Unfold { kernel_size: side, stride, from_pixels } = self.graph.nodes[id].op else { return None };
        let mut readers = self.graph.nodes.iter().filter(|node| node.inputs.contains(&id)).peekable();
        readers.peek()?;
        readers.all(|node| matches!(node.op, Op::Linear { .. })).then_some(Kernel { side, stride, from_pixels })
    }

    fn patch_embed(
        &mut self,
        name: &str,
        x: &str,
        [patch, tubelets]: [usize; 2],
        [input, output]: [&[usize]; 2],
    ) -> Result<Value, OnnxError> {
        let weight = self.own_weight(name, "weight")?;
        let bias = self.own_weight(name, "bias")?;
        let kernel = [patch as i64; 2];
        let attributes = vec![ints("kernel_shape", &kernel), ints("strides", &kernel)];
        let convolve =
            |lower: &mut Self, x: &str| lower.push("Conv", &format!("{name}/conv"), &[x, &weight, &bias], attributes);
        let turned = || vec![ints("perm", &[0, 2, 1])];
        if tubelets == 1 {
            let grid = convolve(self, x);
            // [N, D, h, w] to [N, D, L] to [N, L, D].
            let flat: Vec<usize> = output.iter().rev().copied().collect();
            let flat = self.reshape(&format!("{name}/flat"), &grid, &flat);
            return Ok(self.push("Transpose", name, &[&flat], turned()));
        }
        // Tubelets are pictures of a batch: [N, T C, H, W] to [N T, C, H, W], and [N T, L, D] to [N, T L, D] at the end.
        let each = |dims: &[usize]| [&[dims[0] / tubelets], &dims[1..]].concat();
        let cut = self.reshape_batch(&format!("{name}/tubelets"), x, tubelets, &each(input));
        let grid = convolve(self, &cut);
        let flat: Vec<usize> = each(output).into_iter().rev().collect();
        let flat = self.reshape_batch(&format!("{name}/flat"), &grid, tubelets, &flat);
        let tokens = self.push("Transpose", &format!("{name}/tokens"), &[&flat], turned());
        Ok(self.reshape_batch(name, &tokens, 1, output))
    }

    /// A weight of ones is shared by all layers that have it, a bias of zeros left out: simplified graphs have such.
    fn layer_norm(&mut self, name: &str, x: &str, eps: f32) -> Result<Value, OnnxError> {
        let gamma = self.tensor(&format!("{name}.weight"))?;
        let weight = match gamma.values().iter().all(|&value| value == 1.0) {
            true => {
                let shared = format!("constant/ones[{}]", gamma.len());
                self.floats(&shared, gamma.shape(), gamma.values());
                shared
            }
            false => self.own_weight(name, "weight")?,
        };
        let attributes = vec![int("axis", -1), float("epsilon", eps)];
        if self.tensor(&format!("{name}.bias"))?.values().iter().all(|&value| value == 0.0) {
            return Ok(self.push("LayerNormalization", name, &[x, &weight], attributes));
        }
        let bias = self.own_weight(name, "bias")?;
        Ok(self.push("LayerNormalization", name, &[x, &weight, &bias], attributes))
    }

    fn linear(&mut self, name: &str, x: &str, bias: bool) -> Result<Value, OnnxError> {
        if !bias {
            return self.product(name, name, x);
        }
        let product = self.product(name, &format!("{name}/matmul"), x)?;
        let bias = self.own_weight(name, "bias")?;
        Ok(self.push("Add", name, &[&product, &bias], Vec::new()))
    }

    /// `x W^T` of the Linear `node`, as the value `name`.
    fn product(&mut self, node: &str, name: &str, x: &str) -> Result<Value, OnnxError> {
        if self.precision == Precision::Int8 {
            return self.int8_product(node, name, x);
        }
        let weight = self.transposed(&format!("{node}.weight"))?;
        Ok(self.push("MatMul", name, &[x, &weight], Vec::new()))
    }

    /// The unmerged adapter; the grouped `B` as its block-diagonal dense form.
    fn rep_adapter(&mut self, name: &str, x: &str, hidden: usize, groups: usize, s: f32) -> Result<Value, OnnxError> {
        let part = |suffix: &str| format!("{name}/{suffix}");
        let a_weight = self.transposed(&format!("{name}.adapter_A.weight"))?;
        let a_bias = self.own_weight(name, "adapter_A.bias")?;
        let b_weight = self.block_diagonal(&format!("{name}.adapter_B.weight"), hidden, groups)?;
        let b_bias = self.own_weight(name, "adapter_B.bias")?;
        let scale = self.scalar(&part("scale"), s);
        let down = self.push("MatMul", &part("A/matmul"), &[x, &a_weight], Vec::new());
        let down = self.push("Add", &part("A"), &[&down, &a_bias], Vec::new());
        let up = self.push("MatMul", &part("B/matmul"), &[&down, &b_weight], Vec::new());
        let up = self.push("Add", &part("B"), &[&up, &b_bias], Vec::new());
        let branch = self.push("Mul", &part("scaled"), &[&up, &scale], Vec::new());
        Ok(self.push("Add", name, &[x, &branch], Vec::new()))
    }

    /// A node of one output, which bears the node's name.
    fn push(&mut self, op_type: &str, name: &str, inputs: &[&str], attribute: Vec<AttributeProto>) -> Value {
        self.push_many(op_type, name, inputs, vec![name.to_owned()], attribute);
        name.to_owned()
    }

    /// A node of several outputs.
    fn push_many(
        &mut self,
        op_type: &str,
        name: &str,
        inputs: &[&str],
        output: Vec<Value>,
        attribute: Vec<AttributeProto>,
    ) {
        self.nodes.push(NodeProto {
            input: inputs.iter().map(|&input| input.to_owned()).collect(),
            output,
            name: name.to_owned(),
            op_type: op_type.to_owned(),
            attribute,
            ..NodeProto::default()
        });
    }

    /// `x` as `[N, shape..]`.
    fn reshape(&mut self, name: &str, x: &str, shape: &[usize]) -> Value {
        let batch = match self.batch {
            Batch::One => 1,
            // 0 stands for the input's own dimension at that place.
            Batch::Free => 0,
        };
        self.reshape_to(name, x, batch, shape)
    }

    /// As [`Self::reshape`], with `pieces` of the batch for every picture.
    fn reshape_batch(&mut self, name: &str, x: &str, pieces: usize, shape: &[usize]) -> Value {
        let batch = match self.batch {
            Batch::One => pieces as i64,
            // -1 stands for what is left.
            Batch::Free => -1,
        };
        self.reshape_to(name, x, batch, shape)
    }

    /// `x` as `[batch, shape..]`.
    fn reshape_to(&mut self, name: &str, x: &str, batch: i64, shape: &[usize]) -> Value {
        let dims: Vec<i64> = std::iter::once(batch).chain(shape.iter().map(|&dim| dim as i64)).collect();
        let target = self.ints(&format!("{name}/shape"), &[dims.len()], &dims);
        self.push("Reshape", name, &[x, &target], Vec::new())
    }

    fn tensor(&self, name: &str) -> Result<&'a Tensor, GraphError> {
        let missing = || GraphError::MissingWeight { name: name.to_owned(), shape: Vec::new() };
        self.graph.weights.get(name).ok_or_else(missing)
    }

    /// The weight `node.suffix`, under its own name.
    fn own_weight(&mut self, node: &str, suffix: &str) -> Result<Value, OnnxError> {
        let name = format!("{node}.{suffix}");
        self.weight(&name, &name)
    }

    /// The weight `name` as the initializer `value`.
    fn weight(&mut self, name: &str, value: &str) -> Result<Value, OnnxError> {
        let tensor = self.tensor(name)?;
        self.floats(value, tensor.shape(), tensor.values());
        Ok(value.to_owned())
    }

    /// The matrix `name` as `name/transposed`: MatMul takes `[in, out]`.
    fn transposed(&mut self, name: &str) -> Result<Value, OnnxError> {
        let tensor = self.tensor(name)?;
        let malformed = || OnnxError::Weight { name: name.to_owned(), shape: tensor.shape().to_vec() };
        let transposed = tensor.transposed().ok_or_else(malformed)?;
        let value = format!("{name}/transposed");
        self.floats(&value, transposed.shape(), transposed.values());
        Ok(value)
    }

    /// The grouped matrix `name` `[D, hidden / groups]` as the transpose of its dense form, `[hidden, D]`.
    fn block_diagonal(&mut self, name: &str, hidden: usize, groups: usize) -> Result<Value, OnnxError> {
        let tensor = self.tensor(name)?;
        let &[dim, per_group] = tensor.shape() else {
            return Err(OnnxError::Weight { name: name.to_owned(), shape: tensor.shape().to_vec() });
        };
        let mut dense = vec![0.0; hidden * dim];
        for (row, values) in tensor.values().chunks_exact(per_group).enumerate() {
            let first = row * groups / dim * per_group;
            for (column, &value) in values.iter().enumerate() {
                dense[(first + column) * dim + row] = value;
            }
        }
        let value = format!("{name}/dense");
        self.floats(&value, &[hidden, dim], &dense);
        Ok(value)
    }

    fn scalar(&mut self, name: &str, value: f32) -> Value {
        self.floats(name, &[], &[value]);
        name.to_owned()
    }

    /// Constant floats: a float32 initializer, or a float16 one and its cast; one that is there already is kept.
    fn floats(&mut self, name: &str, shape: &[usize], values: &[f32]) {
        if self.precision == Precision::F16 && is_halved(shape) {
            return self.halves(name, shape, values);
        }
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.initializer(name, DataType::Float, shape, bytes);
    }

    fn halves(&mut self, name: &str, shape: &[usize], values: &[f32]) {
        if !self.constants.insert(name.to_owned()) {
            return;
        }
        let weight = name.split('/').next().unwrap_or(name);
        match values.iter().map(|&value| Ok(to_f16(weight, value)?.to_le_bytes())).collect::<Result<Vec<_>, _>>() {
            Ok(halves) => {
                let half = format!("{name}/half");
                self.initializer(&half, DataType::Float16, shape, halves.concat());
                self.push("Cast", name, &[&half], vec![int("to", DataType::Float as i64)]);
            }
            Err(refused) => self.refused = self.refused.take().or(Some(refused)),
        }
    }

    /// An int64 initializer; one that is there already is kept.
    fn ints(&mut self, name: &str, shape: &[usize], values: &[i64]) -> Value {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.initializer(name, DataType::Int64, shape, bytes);
        name.to_owned()
    }

    fn initializer(&mut self, name: &str, data_type: DataType, shape: &[usize], bytes: Vec<u8>) {
        if self.constants.insert(name.to_owned()) {
            self.initializers.push(TensorProto {
                name: name.to_owned(),
                data_type: data_type as i32,
                dims: shape.iter().map(|&dim| dim as i64).collect(),
                raw_data: Some(bytes),
                ..TensorProto::default()
            });
        }
    }
}

fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { i: Some(value), ..attribute(name, AttributeType::Int) }
}

fn ints(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto { ints: values.to_vec(), ..attribute(name, AttributeType::Ints) }
}

fn float(name: &str, value: f32) -> AttributeProto {
    AttributeProto { f: Some(value), ..attribute(name, AttributeType::Float) }
}

fn attribute(name: &str, kind: AttributeType) -> AttributeProto {
    AttributeProto { name: name.to_owned(), r#type: kind as i32, ..AttributeProto::default() }
}
