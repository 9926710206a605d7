//! A model as data: named operators in topological order, and the weights they read.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;

use thiserror::Error;

use crate::op::{Op, Param};
use crate::tensor::Tensor;

/// The position of a node in [`Graph::nodes`].
pub type NodeId = usize;

/// One operator of a graph.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// timm's name of the module, the prefix of its weights: `blocks.0.attn.qkv`.
    pub name: String,
    /// What is computed.
    pub op: Op,
    /// The nodes whose outputs are read; each stands earlier in the graph.
    pub inputs: Vec<NodeId>,
}

/// A model: its operators in topological order, the last one being the output, and its weights by name.
///
/// Node 0 is the only [`Op::Input`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Graph {
    /// The operators, each after all that it reads.
    pub nodes: Vec<Node>,
    /// The weights by timm's parameter name.
    pub weights: BTreeMap<String, Tensor>,
}

/// Why a graph is not one that can be run.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum GraphError {
    /// There is no node, or the first is not the input.
    #[error("a graph begins with exactly one Input node")]
    NoInput,
    /// Two nodes bear one name.
    #[error("two nodes are named `{name}`; names are the keys of the weights and must be unique")]
    DuplicateName {
        /// The name.
        name: String,
    },
    /// A node reads one that does not stand before it.
    #[error("`{node}` reads node {input}, which does not stand before it")]
    Order {
        /// The reader.
        node: String,
        /// The position read.
        input: NodeId,
    },
    /// An operator cannot take what it is given.
    #[error("`{node}` ({op}) {reason}")]
    Shape {
        /// The node.
        node: String,
        /// Its operator.
        op: &'static str,
        /// What it needs and what it got.
        reason: String,
    },
    /// A weight that an operator reads is not there.
    #[error("weight `{name}` {shape:?} is missing; is the checkpoint of another architecture?")]
    MissingWeight {
        /// Its name.
        name: String,
        /// The shape it must have.
        shape: Vec<usize>,
    },
    /// A weight has another shape than its operator needs.
    #[error("weight `{name}` has shape {got:?}, the model needs {expected:?}")]
    WeightShape {
        /// Its name.
        name: String,
        /// The shape needed.
        expected: Vec<usize>,
        /// The shape found.
        got: Vec<usize>,
    },
}

impl Graph {
    /// Appends a node and returns its position.
    pub fn push(&mut self, name: impl Into<String>, op: Op, inputs: &[NodeId]) -> NodeId {
        self.nodes.push(Node { name: name.into(), op, inputs: inputs.to_vec() });
        self.nodes.len() - 1
    }

    /// The position of the node named `name`.
    pub fn find(&self, name: &str) -> Option<NodeId> {
        self.nodes.iter().position(|node| node.name == name)
    }

    /// The shape of every node's output for one picture, in node order, without the batch.
    ///
    /// # Errors
    /// When the structure is wrong or an operator cannot take what it is given. Weights are not looked at.
    pub fn shapes(&self) -> Result<Vec<Vec<usize>>, GraphError> {
        if !matches!(self.nodes.first(), Some(Node { op: Op::Input { .. }, .. })) {
            return Err(GraphError::NoInput);
        }
        let mut names = HashSet::new();
        let mut shapes: Vec<Vec<usize>> = Vec::with_capacity(self.nodes.len());
        for (id, node) in self.nodes.iter().enumerate() {
            if id > 0 && matches!(node.op, Op::Input { .. }) {
                return Err(GraphError::NoInput);
            }
            if !names.insert(node.name.as_str()) {
                return Err(GraphError::DuplicateName { name: node.name.clone() });
            }
            if let Some(&input) = node.inputs.iter().find(|&&input| input >= id) {
                return Err(GraphError::Order { node: node.name.clone(), input });
            }
            let inputs: Vec<&[usize]> = node.inputs.iter().map(|&input| shapes[input].as_slice()).collect();
            let shape = node.op.output_shape(&inputs).map_err(|reason| GraphError::Shape {
                node: node.name.clone(),
                op: node.op.name(),
                reason,
            })?;
            shapes.push(shape);
        }
        Ok(shapes)
    }

    /// The weights of every node, in node order.
    ///
    /// # Errors
    /// As [`Graph::shapes`].
    pub fn params(&self) -> Result<Vec<Vec<Param>>, GraphError> {
        let shapes = self.shapes()?;
        let first_input = |node: &Node| node.inputs.first().map_or(&[][..], |&input| shapes[input].as_slice());
        Ok(self.nodes.iter().map(|node| node.op.params(&node.name, first_input(node))).collect())
    }

    /// Checks structure, shapes and that every weight is there in its shape; returns the shapes.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn validate(&self) -> Result<Vec<Vec<usize>>, GraphError> {
        for param in self.params()?.into_iter().flatten() {
            match self.weights.get(&param.name) {
                None => return Err(GraphError::MissingWeight { name: param.name, shape: param.shape }),
                Some(tensor) if tensor.shape() != param.shape => {
                    return Err(GraphError::WeightShape {
                        name: param.name,
                        expected: param.shape,
                        got: tensor.shape().to_vec(),
                    });
                }
                Some(_) => {}
            }
        }
        self.shapes()
    }

    /// Drops the weights that no node reads.
    ///
    /// # Errors
    /// As [`Graph::shapes`].
    pub fn retain_used_weights(&mut self) -> Result<(), GraphError> {
        let used: HashSet<String> = self.params()?.into_iter().flatten().map(|param| param.name).collect();
        self.weights.retain(|name, _| used.contains(name));
        Ok(())
    }

    /// Cuts the graph in two after node `at`: the first part ends with that node, the second takes its output as input.
    /// `None` where another earlier output is read behind the cut.
    ///
    /// # Errors
    /// As [`Graph::shapes`].
    pub fn split_after(&self, at: NodeId) -> Result<Option<(Graph, Graph)>, GraphError> {
        let shapes = self.shapes()?;
        let crosses = |node: &Node| node.inputs.iter().any(|&input| input < at);
        if at + 1 >= self.nodes.len() || self.nodes[at + 1..].iter().any(crosses) {
            return Ok(None);
        }
        let mut head = Graph { nodes: self.nodes[..=at].to_vec(), weights: self.weights.clone() };
        let mut tail = Graph { nodes: Vec::new(), weights: self.weights.clone() };
        tail.push("features", Op::Input { shape: shapes[at].clone() }, &[]);
        for node in &self.nodes[at + 1..] {
            let inputs: Vec<NodeId> = node.inputs.iter().map(|&input| input - at).collect();
            tail.push(node.name.clone(), node.op.clone(), &inputs);
        }
        head.retain_used_weights()?;
        tail.retain_used_weights()?;
        Ok(Some((head, tail)))
    }

    /// The operators as text, one a line with inputs and output shape and no weights: what snapshots compare.
    ///
    /// # Errors
    /// As [`Graph::shapes`].
    pub fn to_text(&self) -> Result<String, GraphError> {
        let shapes = self.shapes()?;
        let mut text = String::new();
        for (node, shape) in self.nodes.iter().zip(shapes) {
            let inputs: Vec<&str> = node.inputs.iter().map(|&input| self.nodes[input].name.as_str()).collect();
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{} = {:?}({}) -> {shape:?}", node.name, node.op, inputs.join(", "));
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Activation;

    fn two_linears() -> Graph {
        let mut graph = Graph::default();
        let input = graph.push("tokens", Op::Input { shape: vec![5, 4] }, &[]);
        let fc1 = graph.push("fc1", Op::Linear { out_features: 3, bias: true }, &[input]);
        let act = graph.push("act", Op::Act(Activation::Gelu), &[fc1]);
        let fc2 = graph.push("fc2", Op::Linear { out_features: 4, bias: false }, &[act]);
        graph.push("add", Op::Add, &[input, fc2]);
        for param in graph.params().unwrap().into_iter().flatten() {
            graph.weights.insert(param.name, Tensor::full(param.shape, 1.0).unwrap());
        }
        graph
    }

    #[test]
    fn shapes_follow_the_operators() {
        assert_eq!(two_linears().validate().unwrap(), [[5, 4], [5, 3], [5, 3], [5, 4], [5, 4]].map(Vec::from));
    }

    #[test]
    fn a_missing_or_wrong_weight_is_named() {
        let mut graph = two_linears();
        graph.weights.insert("fc2.weight".into(), Tensor::full([4, 2], 0.0).unwrap());
        assert_eq!(
            graph.validate().unwrap_err().to_string(),
            "weight `fc2.weight` has shape [4, 2], the model needs [4, 3]"
        );
        graph.weights.remove("fc1.bias");
        assert!(matches!(graph.validate(), Err(GraphError::MissingWeight { name, .. }) if name == "fc1.bias"));
    }

    #[test]
    fn a_cut_is_made_only_where_one_output_crosses() {
        let graph = two_linears();
        assert_eq!(graph.split_after(1).unwrap(), None, "the residual crosses");
        let (head, tail) = graph.split_after(0).unwrap().unwrap();
        assert_eq!((head.nodes.len(), tail.nodes.len()), (1, 5));
        assert!(head.weights.is_empty());
        assert_eq!(tail.validate().unwrap(), graph.validate().unwrap());
    }

    #[test]
    fn a_reader_before_its_source_is_refused() {
        let mut graph = two_linears();
        graph.nodes[1].inputs = vec![3];
        assert_eq!(graph.shapes(), Err(GraphError::Order { node: "fc1".into(), input: 3 }));
    }
}
