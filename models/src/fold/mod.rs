//! The exact fold: an adapter before or behind a linear layer becomes part of that layer.
//!
//! Everything is computed in float64 and cast to float32 last, so that the folded graph differs from the unfolded one by
//! the rounding of its weights alone.

mod input;
mod simplify;

use thiserror::Error;

use crate::graph::{Graph, GraphError, Node, NodeId};
use crate::method::{Affine, LowRank, Matrix, RepAdapterWeights};
use crate::op::Op;
use crate::tensor::{Tensor, TensorError};

pub use input::normalization;
pub use simplify::{Simplified, simplify};

/// Why a graph was not folded.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum FoldError {
    /// The graph is not valid, or lacks a weight.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// A merged weight could not be made.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// There is nothing to fold.
    #[error("the graph has no adapter; was it folded already?")]
    NoAdapter,
    /// The strength is not between 0 and 1.
    #[error("the strength of a fold must lie in [0, 1], got {strength}")]
    Strength {
        /// The strength asked for.
        strength: f64,
    },
    /// An adapter's output is read by something that is not linear in it, and its input is of no layer of its own.
    #[error(
        "`{adapter}` cannot be folded: `{reader}` reads it and is a {op}, only a Linear can take an adapter in, or a \
         Linear or patch embedding before it that nothing else reads"
    )]
    Reader {
        /// The adapter.
        adapter: String,
        /// The node that reads it.
        reader: String,
        /// That node's operator.
        op: &'static str,
    },
    /// An adapter's output is read by a depthwise convolution.
    #[error(
        "`{adapter}` cannot be folded: `{reader}` reads it and is a depthwise convolution, which would become dense, and \
         the adapter's bias would not reach the zeros around the map"
    )]
    Depthwise {
        /// The adapter.
        adapter: String,
        /// The convolution.
        reader: String,
    },
    /// An adapter's output is what the graph gives, and its input is of no layer of its own.
    #[error("`{adapter}` cannot be folded: it is the graph's output, and no Linear of its own stands before it")]
    Output {
        /// The adapter.
        adapter: String,
    },
    /// A picture's normalisation has another number of channels than the picture.
    #[error("the pictures have {expected} channels, the mean {} and the deviation {}; give one value a channel", got[0], got[1])]
    Channels {
        /// Channels of a picture.
        expected: usize,
        /// Values of the mean and of the deviation.
        got: [usize; 2],
    },
    /// A weight of an adapter or a merged weight is infinite or not a number.
    #[error("the weights of `{node}`, merged or to be merged, are not all finite; did the training diverge?")]
    NotFinite {
        /// The adapter, or the linear layer that took one in.
        node: String,
    },
}

/// The graph without adapters that computes what `graph` computes: each adapter `f(x) = R x + m` is put into every linear
/// layer that reads it, `W' = W R`, `c' = c + W m` (arXiv 2302.08106, equations 10 to 14). Where anything else reads it, it
/// is put into the linear layer or the patch embedding that it reads, if nothing else reads that: `W' = R W`, `c' = R c + m`.
///
/// `strength` in [0, 1] scales each adapter's departure from the identity: 1 is the trained model, 0 the backbone.
/// A layer without bias gets one where the shift `m` is not 0. An adapter that is the identity changes no bit.
///
/// # Errors
/// When there is no adapter, one stands neither before nor behind a layer that can take it in, `strength` is out of range,
/// weights are not finite, or the graph is not valid.
pub fn fold(graph: &Graph, strength: f64) -> Result<Graph, FoldError> {
    if !(0.0..=1.0).contains(&strength) {
        return Err(FoldError::Strength { strength });
    }
    graph.validate()?;
    let mut folded = graph.clone();
    let mut is_adapter = vec![false; graph.nodes.len()];
    for (id, node) in graph.nodes.iter().enumerate() {
        let Op::RepAdapter { groups, scale, .. } = node.op else { continue };
        is_adapter[id] = true;
        let map = map(graph, node, groups, strength * f64::from(scale))?;
        match hosts(graph, id)? {
            Hosts::Behind(readers) => readers
                .into_iter()
                .try_for_each(|host| merge(&mut folded, host, map.shifts(), |host| map.before(host)))?,
            Hosts::Before(host) => merge(&mut folded, host, map.shifts(), |host| map.after(host))?,
        }
    }
    if !is_adapter.contains(&true) {
        return Err(FoldError::NoAdapter);
    }
    remove(&mut folded, &is_adapter);
    folded.retain_used_weights()?;
    Ok(folded)
}

/// The layers that take an adapter in.
enum Hosts {
    /// All that read it.
    Behind(Vec<NodeId>),
    /// The one that it reads.
    Before(NodeId),
}

fn hosts(graph: &Graph, adapter: NodeId) -> Result<Hosts, FoldError> {
    let readers = readers(graph, adapter);
    let is_linear = |&id: &NodeId| matches!(graph.nodes[id].op, Op::Linear { .. });
    if !readers.is_empty() && readers.iter().all(is_linear) {
        return Ok(Hosts::Behind(readers));
    }
    let name = |id: NodeId| graph.nodes[id].name.clone();
    let stray = readers.into_iter().find(|id| !is_linear(id));
    if let Some(reader) = stray.filter(|&id| matches!(graph.nodes[id].op, Op::DepthwiseConv { .. })) {
        return Err(FoldError::Depthwise { adapter: name(adapter), reader: name(reader) });
    }
    let is_host = |&&id: &&NodeId| matches!(graph.nodes[id].op, Op::Linear { .. } | Op::PatchEmbed { .. });
    let host = graph.nodes[adapter].inputs.first().filter(is_host);
    match (host, stray) {
        (Some(&host), _) if self::readers(graph, host) == [adapter] => Ok(Hosts::Before(host)),
        (_, Some(reader)) => {
            let op = graph.nodes[reader].op.name();
            Err(FoldError::Reader { adapter: name(adapter), reader: name(reader), op })
        }
        (_, None) => Err(FoldError::Output { adapter: name(adapter) }),
    }
}

/// The nodes that read `id`.
fn readers(graph: &Graph, id: NodeId) -> Vec<NodeId> {
    (0..graph.nodes.len()).filter(|&reader| graph.nodes[reader].inputs.contains(&id)).collect()
}

/// An adapter as one map of tokens.
fn map(graph: &Graph, node: &Node, groups: usize, scale: f64) -> Result<LowRank, FoldError> {
    let get = |suffix: &str| Ok::<_, GraphError>(Matrix::from_tensor(weight(graph, node, suffix)?));
    let (a, a_bias) = (get("adapter_A.weight")?, get("adapter_A.bias")?);
    let (b, b_bias) = (get("adapter_B.weight")?, get("adapter_B.bias")?);
    let weights = RepAdapterWeights { a: &a, a_bias: a_bias.values(), b: &b, b_bias: b_bias.values() };
    let map = weights.map(groups, scale);
    if map.is_finite() { Ok(map) } else { Err(FoldError::NotFinite { node: node.name.clone() }) }
}

/// Puts a map into the host's weights; a host without bias gets one if the map `shifts`.
fn merge(folded: &mut Graph, host: NodeId, shifts: bool, merged: impl Fn(&Affine) -> Affine) -> Result<(), FoldError> {
    let node = folded.nodes[host].clone();
    let weight_tensor = weight(folded, &node, "weight")?;
    let shape = weight_tensor.shape().to_vec();
    let old = Matrix::from_tensor(weight_tensor);
    let bias = folded.weights.get(&format!("{}.bias", node.name)).map(doubled);
    let has_bias = bias.is_some() || shifts;
    let bias = bias.unwrap_or_else(|| vec![0.0; old.rows()]);
    let Affine { weight, bias } = merged(&Affine { weight: old, bias });
    store(folded, &node.name, "weight", shape, weight.values())?;
    if has_bias {
        store(folded, &node.name, "bias", vec![bias.len()], &bias)?;
        if let Op::Linear { bias, .. } = &mut folded.nodes[host].op {
            *bias = true;
        }
    }
    Ok(())
}

/// Takes nodes of one input out; whoever read one reads what it read.
fn remove(graph: &mut Graph, is_out: &[bool]) {
    let mut moved: Vec<NodeId> = Vec::with_capacity(is_out.len());
    let mut nodes = Vec::new();
    for (mut node, &is_out) in std::mem::take(&mut graph.nodes).into_iter().zip(is_out) {
        node.inputs.iter_mut().for_each(|input| *input = moved[*input]);
        match node.inputs.first() {
            Some(&input) if is_out => moved.push(input),
            _ => {
                moved.push(nodes.len());
                nodes.push(node);
            }
        }
    }
    graph.nodes = nodes;
}

fn weight<'a>(graph: &'a Graph, node: &Node, suffix: &str) -> Result<&'a Tensor, GraphError> {
    let name = format!("{}.{suffix}", node.name);
    graph.weights.get(&name).ok_or(GraphError::MissingWeight { name, shape: Vec::new() })
}

/// Stores the merged weight `suffix` of the node `name` in float32.
fn store(graph: &mut Graph, name: &str, suffix: &str, shape: Vec<usize>, values: &[f64]) -> Result<(), FoldError> {
    put(graph, name, format!("{name}.{suffix}"), shape, values)
}

/// Stores the merged weight `key` of the node `name` in float32.
fn put(graph: &mut Graph, name: &str, key: String, shape: Vec<usize>, values: &[f64]) -> Result<(), FoldError> {
    let values: Vec<f32> = values.iter().map(|&value| value as f32).collect();
    if !values.iter().all(|value| value.is_finite()) {
        return Err(FoldError::NotFinite { node: name.to_owned() });
    }
    graph.weights.insert(key, Tensor::new(shape, values)?);
    Ok(())
}

/// The values of a tensor in float64.
fn doubled(tensor: &Tensor) -> Vec<f64> {
    tensor.values().iter().map(|&value| f64::from(value)).collect()
}

#[cfg(test)]
mod tests;
