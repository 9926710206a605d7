//! A graph with its weights in the engine's numbers.

use std::collections::{BTreeMap, BTreeSet};

use edge_vit_models::op::{inverse, rows, score_bias};
use edge_vit_models::quant::Int8Matrix;
use edge_vit_models::{Graph, Node, NodeId, Op, Tensor};

use super::Real;
use crate::engine::{EngineError, Plan};

/// What a walk over the graph reads.
#[derive(Debug)]
pub(super) struct Model<T> {
    /// The operators in order.
    pub(super) nodes: Vec<Node>,
    /// The graph's analysis.
    pub(super) plan: Plan,
    /// The weights of every node, in the order of [`Plan::params`].
    pub(super) weights: Vec<Vec<Vec<T>>>,
    /// What every node computes from its shape and its frozen weights alone.
    pub(super) fixed: Vec<Fixed<T>>,
}

/// What a node computes once.
#[derive(Debug)]
pub(super) enum Fixed<T> {
    /// Nothing.
    Nothing,
    /// Which row of the input each row of the output is, and the other way round.
    Rows { forward: Vec<u32>, backward: Vec<u32> },
    /// What attention adds to its scores, see [`score_bias`].
    Bias(Vec<T>),
    /// The weight of a Linear that multiplies integers.
    Int8(Int8Matrix),
}

impl<T: Real> Model<T> {
    /// Takes over a graph of which the weights named in `trainable` are trained.
    pub(super) fn new(graph: &Graph, trainable: &BTreeSet<String>) -> Result<Self, EngineError> {
        let plan = Plan::new(graph, trainable)?;
        if let Some(id) = plan.shapes.iter().position(|shape| shape.contains(&0)) {
            let expected = format!("values at the output of `{}`", graph.nodes[id].name);
            let got = format!("the shape {:?}", plan.shapes[id]);
            return Err(EngineError::Mismatch { what: "graph", expected, got });
        }
        // The plan has found every parameter in the graph.
        let weight = |name: &str| graph.weights.get(name).map_or(&[][..], |tensor| tensor.values());
        let load = |name: &str| weight(name).iter().copied().map(T::from_f32).collect();
        let weights = plan.params.iter().map(|params| params.iter().map(|param| load(&param.name)).collect()).collect();
        let fixed = graph.nodes.iter().map(|node| {
            let input = node.inputs.first().map_or(&[][..], |&input| plan.shapes[input].as_slice());
            let table = graph.weights.get(&format!("{}.relative_position_bias_table", node.name));
            match (rows(&node.op, input), score_bias(&node.op, input, table)) {
                (Some(forward), _) => Fixed::Rows { backward: inverse(&forward), forward },
                (_, Some(bias)) => Fixed::Bias(bias.into_iter().map(T::from_f32).collect()),
                _ => Fixed::Nothing,
            }
        });
        let fixed = fixed.collect();
        Ok(Self { nodes: graph.nodes.clone(), plan, weights, fixed })
    }

    /// The weights of the Linears `layers` in eight bits, by node.
    pub(super) fn int8(&self, layers: &[String]) -> Result<BTreeMap<NodeId, Int8Matrix>, EngineError> {
        let matrix = |name: &String| {
            let is_it = |node: &Node| node.name == *name && matches!(node.op, Op::Linear { .. });
            let Some(id) = self.nodes.iter().position(is_it) else {
                let expected = "a Linear of the graph".to_owned();
                return Err(EngineError::Mismatch { what: "int8 layer", expected, got: format!("`{name}`") });
            };
            let param = &self.plan.params[id][0];
            let values = self.weights[id][0].iter().map(|value| value.to_f32()).collect();
            let weight =
                Tensor::new(param.shape.clone(), values).map_err(|error| EngineError::Device(error.to_string()))?;
            Ok((id, Int8Matrix::new(&param.name, &weight)?))
        };
        layers.iter().map(matrix).collect()
    }

    /// The bias of the Linear `id`, where it has one.
    pub(super) fn bias(&self, id: NodeId) -> Option<&[T]> {
        self.weights[id].get(1).map(Vec::as_slice)
    }

    /// The shape of what node `id` reads first.
    pub(super) fn input_shape(&self, id: usize) -> &[usize] {
        self.nodes[id].inputs.first().map_or(&[], |&input| &self.plan.shapes[input])
    }

    /// Tokens and width of what node `id` reads first: the last two dimensions.
    pub(super) fn tokens(&self, id: usize) -> (usize, usize) {
        match self.input_shape(id) {
            [.., len, dim] => (*len, *dim),
            [dim] => (1, *dim),
            [] => (1, 1),
        }
    }

    /// Width of the rows that node `id`, which only moves some, moves: the smaller of those of its input and its output.
    pub(super) fn moved_width(&self, id: usize) -> usize {
        let output = self.plan.shapes[id].last().copied().unwrap_or(1);
        self.tokens(id).1.min(output)
    }

    /// The trained weights, each by its node and its place among that node's: the order of a list of gradients.
    pub(super) fn trained(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.plan.trained.iter().enumerate().flat_map(|(id, trained)| {
            let chosen = trained.iter().enumerate().filter(|(_, trained)| **trained);
            chosen.map(move |(param, _)| (id, param))
        })
    }
}
