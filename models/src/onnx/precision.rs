//! In which numbers a file holds the weights, node by node.

use std::collections::BTreeMap;

use super::OnnxError;
use crate::graph::{Graph, Node};
use crate::op::Op;

/// In which numbers the weights of a node lie in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// 32-bit floats.
    F32,
    /// 16-bit floats, vectors left out, which the model turns into 32-bit ones when it is loaded.
    F16,
    /// 8-bit integers with a scale an output, for a Linear. The model brings the layer's input to eight bits for each picture, by
    /// the least and the largest value of all tokens, multiplies integers, and goes on in 32-bit floats.
    Int8,
}

/// The precision of nodes by name; nodes that are not named are [`Precision::F32`].
pub type Precisions = BTreeMap<String, Precision>;

/// The names of the nodes that can be [`Precision::Int8`], in the graph's order: Linears that are written as a product of
/// matrices and not as a convolution. A `head` is not among them, for it is small and what it gives is the answer.
pub fn int8_layers(graph: &Graph) -> Vec<String> {
    let reads_kernels = |node: &Node| node.inputs.iter().any(|&id| matches!(graph.nodes[id].op, Op::Unfold { .. }));
    let fits = |node: &&Node| matches!(node.op, Op::Linear { .. }) && node.name != "head" && !reads_kernels(node);
    graph.nodes.iter().filter(fits).map(|node| node.name.clone()).collect()
}

/// Every node of `graph` in [`Precision::F16`].
pub fn all_f16(graph: &Graph) -> Precisions {
    graph.nodes.iter().map(|node| (node.name.clone(), Precision::F16)).collect()
}

/// Says whether every node that is named is there and can have its precision.
pub(super) fn check(graph: &Graph, precisions: &Precisions) -> Result<(), OnnxError> {
    let layers = int8_layers(graph);
    for (name, &precision) in precisions {
        let fits = match precision {
            Precision::Int8 => layers.contains(name),
            Precision::F32 | Precision::F16 => graph.find(name).is_some(),
        };
        if !fits {
            return Err(OnnxError::Precision { node: name.clone(), precision });
        }
    }
    Ok(())
}
