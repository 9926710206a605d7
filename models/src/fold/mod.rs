//! The exact fold: an adapter before a linear layer becomes part of that layer.
//!
//! Everything is computed in float64 and cast to float32 last, so that the folded graph differs from the unfolded one by
//! the rounding of its weights alone.

mod maps;
mod simplify;

use std::collections::BTreeMap;

use thiserror::Error;

use crate::graph::{Graph, GraphError, Node, NodeId};
use crate::op::Op;
use crate::tensor::{Tensor, TensorError};

use maps::{Maps, RepAdapterWeights, doubled};

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
    /// An adapter's output is read by something that is not linear in it.
    #[error("`{adapter}` cannot be folded: `{reader}` reads it and is a {op}, only a Linear can take an adapter in")]
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
    /// An adapter's output is what the graph gives.
    #[error("`{adapter}` cannot be folded: it is the graph's output, no Linear stands behind it")]
    Output {
        /// The adapter.
        adapter: String,
    },
    /// A weight of an adapter or a merged weight is infinite or not a number.
    #[error("the weights of `{node}`, merged or to be merged, are not all finite; did the training diverge?")]
    NotFinite {
        /// The adapter, or the linear layer that took one in.
        node: String,
    },
}

/// The graph without adapters that computes what `graph` computes: each adapter `f(x) = R x + m` is put into every linear
/// layer that reads it, `W' = W R`, `c' = c + W m` (arXiv 2302.08106, equations 10 to 14).
///
/// `strength` in [0, 1] scales each adapter's departure from the identity: 1 is the trained model, 0 the backbone.
/// A layer without bias gets one where the shift `m` is not 0. An adapter that is the identity changes no bit.
///
/// # Errors
/// When there is no adapter, one is read by anything but a [`Op::Linear`] or is the output, `strength` is out of range,
/// weights are not finite, or the graph is not valid.
pub fn fold(graph: &Graph, strength: f64) -> Result<Graph, FoldError> {
    if !(0.0..=1.0).contains(&strength) {
        return Err(FoldError::Strength { strength });
    }
    graph.validate()?;
    let maps = adapter_maps(graph, strength)?;
    if maps.is_empty() {
        return Err(FoldError::NoAdapter);
    }
    let mut folded = Graph { nodes: Vec::new(), weights: graph.weights.clone() };
    let mut moved: Vec<NodeId> = Vec::with_capacity(graph.nodes.len());
    for (id, node) in graph.nodes.iter().enumerate() {
        let inputs: Vec<NodeId> = node.inputs.iter().map(|&input| moved[input]).collect();
        if maps.contains_key(&id) {
            // Whoever reads an adapter reads the adapter's own input from here on.
            moved.extend(inputs);
            continue;
        }
        let adapter = node.inputs.iter().find_map(|input| maps.get(input).map(|maps| (*input, maps)));
        let op = match (adapter, &node.op) {
            (None, op) => op.clone(),
            (Some((_, maps)), &Op::Linear { out_features, bias }) => {
                let bias = merge(&mut folded, node, maps, bias)?;
                Op::Linear { out_features, bias }
            }
            (Some((adapter, _)), Op::DepthwiseConv { .. }) => {
                let adapter = graph.nodes[adapter].name.clone();
                return Err(FoldError::Depthwise { adapter, reader: node.name.clone() });
            }
            (Some((adapter, _)), op) => {
                return Err(FoldError::Reader {
                    adapter: graph.nodes[adapter].name.clone(),
                    reader: node.name.clone(),
                    op: op.name(),
                });
            }
        };
        moved.push(folded.push(node.name.clone(), op, &inputs));
    }
    folded.retain_used_weights()?;
    Ok(folded)
}

/// The maps of every adapter, by its position.
fn adapter_maps(graph: &Graph, strength: f64) -> Result<BTreeMap<NodeId, Maps>, FoldError> {
    let mut maps = BTreeMap::new();
    for (id, node) in graph.nodes.iter().enumerate() {
        let Op::RepAdapter { groups, scale, .. } = node.op else { continue };
        if id + 1 == graph.nodes.len() {
            return Err(FoldError::Output { adapter: node.name.clone() });
        }
        if let Some(inner) = node.inputs.iter().find(|input| maps.contains_key(*input)) {
            return Err(FoldError::Reader {
                adapter: graph.nodes[*inner].name.clone(),
                reader: node.name.clone(),
                op: node.op.name(),
            });
        }
        let weights = RepAdapterWeights {
            a_weight: weight(graph, node, "adapter_A.weight")?,
            a_bias: weight(graph, node, "adapter_A.bias")?,
            b_weight: weight(graph, node, "adapter_B.weight")?,
            b_bias: weight(graph, node, "adapter_B.bias")?,
        };
        let node_maps = Maps::rep_adapter(&weights, groups, strength * f64::from(scale));
        if !node_maps.is_finite() {
            return Err(FoldError::NotFinite { node: node.name.clone() });
        }
        maps.insert(id, node_maps);
    }
    Ok(maps)
}

/// Puts the maps into the host's weights; returns whether the host has a bias now.
fn merge(folded: &mut Graph, host: &Node, maps: &Maps, bias: bool) -> Result<bool, FoldError> {
    let weight_tensor = weight(folded, host, "weight")?;
    let shape = weight_tensor.shape().to_vec();
    let original = doubled(weight_tensor);
    if let Some(values) = maps.weight(&original) {
        store(folded, host, "weight", shape, values)?;
    }
    let Some(mut shift) = maps.bias(&original) else { return Ok(bias) };
    if bias {
        let old = doubled(weight(folded, host, "bias")?);
        shift.iter_mut().zip(old).for_each(|(shift, old)| *shift += old);
    }
    store(folded, host, "bias", vec![shift.len()], shift)?;
    Ok(true)
}

fn weight<'a>(graph: &'a Graph, node: &Node, suffix: &str) -> Result<&'a Tensor, GraphError> {
    let name = format!("{}.{suffix}", node.name);
    graph.weights.get(&name).ok_or(GraphError::MissingWeight { name, shape: Vec::new() })
}

fn store(graph: &mut Graph, node: &Node, suffix: &str, shape: Vec<usize>, values: Vec<f64>) -> Result<(), FoldError> {
    let values: Vec<f32> = values.into_iter().map(|value| value as f32).collect();
    if !values.iter().all(|value| value.is_finite()) {
        return Err(FoldError::NotFinite { node: node.name.clone() });
    }
    graph.weights.insert(format!("{}.{suffix}", node.name), Tensor::new(shape, values)?);
    Ok(())
}

#[cfg(test)]
mod tests;
