//! What a training step computes.

use std::collections::BTreeSet;

use edge_vit_models::Graph;
use edge_vit_models::cost::multiply_adds;

use crate::engine::{EngineError, Plan};

/// The floating point operations of a training step for one picture, two for each multiplication with an addition.
///
/// Counted are the products of linear layers, convolutions, attention and adapters, as [`edge_vit_models::cost`] counts them: each
/// once forward; backward the gradient of its input where an adapter lies below it, and the gradient of its own weight where that is
/// trained, as many operations each as forward. Attention has two products forward, and four backward: the gradients of queries, keys,
/// values and weights. Not counted are norms, activations, softmax, sums, the loss, the optimiser, what an engine computes a second
/// time to save memory, and what a method of weights (`--method lora` and its like) does to merge them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Work {
    /// Operations of the forward.
    pub forward: u64,
    /// Operations of the backward.
    pub backward: u64,
}

impl Work {
    /// The work of training the weights of `graph` that are named in `trainable`.
    ///
    /// # Errors
    /// When the graph is not valid or cannot be trained so.
    pub fn of(graph: &Graph, trainable: &BTreeSet<String>) -> Result<Self, EngineError> {
        let plan = Plan::new(graph, trainable)?;
        let mut work = Self { forward: 0, backward: 0 };
        for (id, (node, count)) in graph.nodes.iter().zip(multiply_adds(graph)?).enumerate() {
            let input_grad = match (plan.needs[id].input_grad, node.op.is_attention()) {
                (false, _) => 0,
                (true, false) => 1,
                (true, true) => 2,
            };
            let weight_grad = u64::from(plan.trained[id].first() == Some(&true));
            work.forward += 2 * count;
            work.backward += 2 * count * (input_grad + weight_grad);
        }
        Ok(work)
    }

    /// Operations of both.
    pub fn total(&self) -> u64 {
        self.forward + self.backward
    }
}

#[cfg(test)]
mod tests {
    use edge_vit_models::{Op, Tensor};

    use super::*;

    /// embed -> qkv -> attention -> proj -> pool -> head, on 5 tokens of width 4.
    fn graph() -> Graph {
        let mut graph = Graph::default();
        let linear = |out_features| Op::Linear { out_features, bias: true };
        let input = graph.push("tokens", Op::Input { shape: vec![5, 4] }, &[]);
        let qkv = graph.push("qkv", linear(12), &[input]);
        let attention = graph.push("attn", Op::Attention { num_heads: 2, scale: 1.0 }, &[qkv]);
        let proj = graph.push("proj", linear(4), &[attention]);
        let pool = graph.push("pool", Op::TakeClassToken, &[proj]);
        graph.push("head", linear(3), &[pool]);
        for param in graph.params().unwrap().into_iter().flatten() {
            graph.weights.insert(param.name, Tensor::full(param.shape, 1.0).unwrap());
        }
        graph
    }

    fn work(trainable: &[&str]) -> Work {
        Work::of(&graph(), &trainable.iter().map(|&name| name.to_owned()).collect()).unwrap()
    }

    const QKV: u64 = 2 * 5 * 4 * 12;
    const ATTENTION: u64 = 2 * 2 * 5 * 5 * 4;
    const PROJ: u64 = 2 * 5 * 4 * 4;
    const HEAD: u64 = 2 * 4 * 3;

    #[test]
    fn a_head_alone_costs_the_gradient_of_its_weight() {
        let forward = QKV + ATTENTION + PROJ + HEAD;
        assert_eq!(work(&["head.weight", "head.bias"]), Work { forward, backward: HEAD });
    }

    #[test]
    fn a_gradient_flows_down_to_the_lowest_trained_weight_and_no_further() {
        assert_eq!(work(&["proj.weight", "head.weight"]).backward, 2 * HEAD + PROJ);
        assert_eq!(work(&["qkv.weight"]).backward, HEAD + PROJ + 2 * ATTENTION + QKV);
    }

    #[test]
    fn a_bias_alone_costs_no_product() {
        assert_eq!(work(&["qkv.bias"]).backward, HEAD + PROJ + 2 * ATTENTION);
    }
}
