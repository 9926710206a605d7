//! What a training step over a graph has to compute and to keep, worked out once for every engine.

use std::collections::BTreeSet;

use edge_vit_models::op::Param;
use edge_vit_models::{Graph, Node, Op};

use super::EngineError;
use super::checkpointing::{Checkpointing, Recompute};

/// The analysis of a graph with some weights trainable. All vectors are indexed by graph position.
///
/// A gradient flows only where a trainable weight lies behind: a node whose [`Plan::carries_grad`] is false has no
/// backward, and no weight gradient exists for a node whose [`Plan::trains`] is false.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Output shape for one picture, without the batch.
    pub shapes: Vec<Vec<usize>>,
    /// The weights read.
    pub params: Vec<Vec<Param>>,
    /// Whether any of the node's own weights is trained.
    pub trains: Vec<bool>,
    /// Which of the node's own weights are trained, in the order of [`Plan::params`].
    pub trained: Vec<Vec<bool>>,
    /// Whether the output depends on a trained weight, so that its gradient is needed.
    pub carries_grad: Vec<bool>,
    /// What the backward of the node reads again.
    pub needs: Vec<BackwardNeeds>,
    /// Whether a reader's backward reads the output.
    pub saved: Vec<bool>,
    /// Whether the output outlives the forward: what is saved, or, with activation checkpointing, the checkpoints and what is
    /// behind the last of them.
    pub kept: Vec<bool>,
    /// With activation checkpointing, what is computed again, in this order, before the backward of the node.
    pub recompute: Vec<Vec<Recompute>>,
    /// The last node that reads the output in the forward; its own position where none does.
    pub last_use: Vec<usize>,
    /// Which residual sum the node is, counted through the graph; `None` for other operators.
    pub residual_of: Vec<Option<usize>>,
}

/// What a node's backward reads beside the gradient of its output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BackwardNeeds {
    /// The node's input.
    pub input: bool,
    /// The gradient of the input has to be computed (both inputs of a residual sum are judged by `carries_grad`).
    pub input_grad: bool,
}

impl Plan {
    /// Analyses `graph`, whose weights named in `trainable` are trained.
    ///
    /// # Errors
    /// When the graph is not valid, or a trainable weight is not there or belongs to an operator that cannot train.
    pub fn new(graph: &Graph, trainable: &BTreeSet<String>) -> Result<Self, EngineError> {
        let shapes = graph.validate()?;
        let params = graph.params()?;
        let trained = trained_params(graph, &params, trainable)?;
        let trains: Vec<bool> = trained.iter().map(|params| params.contains(&true)).collect();
        let count = graph.nodes.len();
        let mut carries_grad = trains.clone();
        let mut last_use: Vec<usize> = (0..count).collect();
        let mut saved = vec![false; count];
        let mut needs = vec![BackwardNeeds::default(); count];
        let mut residual_of = vec![None; count];
        let mut residuals = 0;
        for (id, node) in graph.nodes.iter().enumerate() {
            let input_carries = node.inputs.iter().any(|&input| carries_grad[input]);
            carries_grad[id] |= input_carries;
            if input_carries && is_of_merged_tokens(node) {
                return Err(merged_tokens(node, "which have no gradient"));
            }
            if node.op == Op::Add {
                residual_of[id] = Some(residuals);
                residuals += 1;
            }
            needs[id] =
                BackwardNeeds { input: reads_input(&node.op, &trained[id], input_carries), input_grad: input_carries };
            for &input in &node.inputs {
                last_use[input] = id;
                saved[input] |= needs[id].input;
            }
        }
        let (kept, recompute) = (saved.clone(), vec![Vec::new(); count]);
        Ok(Self { shapes, params, trains, trained, carries_grad, needs, saved, kept, recompute, last_use, residual_of })
    }

    /// Keeps only checkpoints of the activations for the backward, which computes the others again: less memory, more work, the
    /// same gradients. `nodes` are those of the plan's graph.
    pub fn checkpoint_activations(&mut self, nodes: &[Node]) {
        let lens: Vec<usize> = (0..nodes.len()).map(|id| self.len(id)).collect();
        Checkpointing { kept: self.kept, recompute: self.recompute } = Checkpointing::new(nodes, &lens, &self.saved);
    }

    /// Number of values of one picture's input.
    pub fn input_len(&self) -> usize {
        self.len(0)
    }

    /// Number of values of one picture's output.
    pub fn output_len(&self) -> usize {
        self.len(self.shapes.len() - 1)
    }

    /// Number of classes: the last dimension of the output.
    pub fn classes(&self) -> usize {
        self.shapes.last().and_then(|shape| shape.last()).copied().unwrap_or(0)
    }

    /// Number of answers to one picture, each of logits `[classes]`: one, or one for each patch.
    pub fn rows(&self) -> usize {
        self.output_len().checked_div(self.classes()).unwrap_or(0)
    }

    /// Number of values of one picture at the output of node `id`.
    pub fn len(&self, id: usize) -> usize {
        self.shapes[id].iter().product()
    }
}

/// Whether a node merges tokens, or reads the sizes of merged ones.
pub(crate) fn is_of_merged_tokens(node: &Node) -> bool {
    match node.op {
        Op::MatchTokens { .. } | Op::MergeSizes { .. } | Op::MergeTokens => true,
        Op::Attention { .. } | Op::AttentionPool { .. } | Op::MeanTokens { .. } => node.inputs.len() > 1,
        _ => false,
    }
}

/// Says that `node`, which is of merged tokens, cannot be where it is, for `reason`.
pub(crate) fn merged_tokens(node: &Node, reason: &'static str) -> EngineError {
    EngineError::MergedTokens { node: node.name.clone(), op: node.op.name(), reason }
}

fn trained_params(
    graph: &Graph,
    params: &[Vec<Param>],
    trainable: &BTreeSet<String>,
) -> Result<Vec<Vec<bool>>, EngineError> {
    let known: BTreeSet<&str> = params.iter().flatten().map(|param| param.name.as_str()).collect();
    if let Some(name) = trainable.iter().find(|name| !known.contains(name.as_str())) {
        return Err(EngineError::UnknownTrainable { name: name.clone() });
    }
    let mut trained = Vec::with_capacity(graph.nodes.len());
    for (node, params) in graph.nodes.iter().zip(params) {
        let chosen: Vec<bool> = params.iter().map(|param| trainable.contains(&param.name)).collect();
        let first = params.iter().zip(&chosen).find(|(_, chosen)| **chosen);
        if let (Some((param, _)), Op::AttentionPool { .. } | Op::WindowAttention { .. } | Op::NormalizeHeads { .. }) =
            (first, &node.op)
        {
            return Err(EngineError::NotTrainable { name: param.name.clone(), op: node.op.name() });
        }
        let frozen = params.iter().zip(&chosen).find(|(_, chosen)| !**chosen);
        if let (Some(_), Some((frozen, _)), Op::RepAdapter { .. }) = (first, frozen, &node.op) {
            let (expected, got) =
                (format!("all weights of `{}` or none", node.name), format!("`{}` frozen", frozen.name));
            return Err(EngineError::Mismatch { what: "trainable weights", expected, got });
        }
        trained.push(chosen);
    }
    Ok(trained)
}

/// Whether the backward of a node reads its input again.
fn reads_input(op: &Op, trained: &[bool], input_carries: bool) -> bool {
    match op {
        // The bias's gradient, the second weight's, is a sum of the output's alone.
        Op::Linear { .. } | Op::PatchEmbed { .. } | Op::DepthwiseConv { .. } => trained.first() == Some(&true),
        Op::RepAdapter { .. } | Op::LayerScale => trained.contains(&true),
        Op::LayerNorm { .. } | Op::GlobalResponseNorm => input_carries || trained.first() == Some(&true),
        Op::Act(_)
        | Op::Attention { .. }
        | Op::CausalAttention { .. }
        | Op::AttentionPool { .. }
        | Op::WindowAttention { .. }
        | Op::NormalizeHeads { .. } => input_carries,
        Op::Input { .. }
        | Op::InsertTokens { .. }
        | Op::DropTokens { .. }
        | Op::PosEmbed
        | Op::Grid { .. }
        | Op::SpaceToDepth { .. }
        | Op::PixelShuffle { .. }
        | Op::WindowPartition(_)
        | Op::WindowReverse(_)
        | Op::Unfold { .. }
        | Op::Concat
        | Op::Add
        | Op::TakeClassToken
        | Op::MeanTokens { .. }
        | Op::MatchTokens { .. }
        | Op::MergeSizes { .. }
        | Op::MergeTokens => false,
    }
}

#[cfg(test)]
mod tests {
    use edge_vit_models::{Activation, Tensor};

    use super::*;

    /// norm -> adapter -> fc1 -> gelu -> fc2 -> residual -> pool -> head
    fn block() -> Graph {
        let mut graph = Graph::default();
        let input = graph.push("tokens", Op::Input { shape: vec![5, 4] }, &[]);
        let norm = graph.push("norm", Op::LayerNorm { eps: 1e-6 }, &[input]);
        let adapter = graph.push("adapter", Op::RepAdapter { hidden: 2, groups: 2, scale: 1.0 }, &[norm]);
        let fc1 = graph.push("fc1", Op::Linear { out_features: 8, bias: true }, &[adapter]);
        let act = graph.push("act", Op::Act(Activation::Gelu), &[fc1]);
        let fc2 = graph.push("fc2", Op::Linear { out_features: 4, bias: true }, &[act]);
        let add = graph.push("add", Op::Add, &[input, fc2]);
        let pool = graph.push("pool", Op::TakeClassToken, &[add]);
        graph.push("head", Op::Linear { out_features: 3, bias: true }, &[pool]);
        for param in graph.params().unwrap().into_iter().flatten() {
            graph.weights.insert(param.name, Tensor::full(param.shape, 1.0).unwrap());
        }
        graph
    }

    fn trainable(graph: &Graph, prefixes: &[&str]) -> BTreeSet<String> {
        let chosen = |name: &&String| prefixes.iter().any(|prefix| name.starts_with(prefix));
        graph.weights.keys().filter(chosen).cloned().collect()
    }

    #[test]
    fn only_what_the_backward_reads_is_kept() {
        let graph = block();
        let plan = Plan::new(&graph, &trainable(&graph, &["adapter.", "head."])).unwrap();
        let saved: Vec<&str> = graph
            .nodes
            .iter()
            .zip(&plan.saved)
            .filter(|(_, saved)| **saved)
            .map(|(node, _)| node.name.as_str())
            .collect();
        assert_eq!(saved, ["norm", "fc1", "pool"], "the wide output of the GELU is not kept");
        let silent: Vec<&str> = graph
            .nodes
            .iter()
            .zip(&plan.carries_grad)
            .filter(|(_, carries)| !**carries)
            .map(|(node, _)| node.name.as_str())
            .collect();
        assert_eq!(silent, ["tokens", "norm"]);
    }

    #[test]
    fn a_head_alone_needs_no_backward_below_it() {
        let graph = block();
        let plan = Plan::new(&graph, &trainable(&graph, &["head."])).unwrap();
        assert_eq!(plan.carries_grad.iter().filter(|carries| **carries).count(), 1);
        assert_eq!(plan.saved.iter().filter(|saved| **saved).count(), 1);
    }

    #[test]
    fn a_bias_alone_needs_no_input() {
        let graph = block();
        let plan = Plan::new(&graph, &BTreeSet::from(["fc1.bias".to_owned(), "norm.bias".to_owned()])).unwrap();
        let fc1 = graph.find("fc1").unwrap();
        assert_eq!(plan.trained[fc1], [false, true]);
        let saved = |name| plan.saved[graph.find(name).unwrap()];
        assert!(!saved("adapter") && !saved("tokens") && saved("fc1"), "only the GELU reads its input again");
    }

    /// Blocks of a norm, an adapter, two layers around a GELU and a residual sum, and a head.
    fn blocks(depth: usize) -> Graph {
        let mut graph = Graph::default();
        let mut trunk = graph.push("tokens", Op::Input { shape: vec![5, 4] }, &[]);
        for i in 0..depth {
            let name = |suffix: &str| format!("{i}.{suffix}");
            let norm = graph.push(name("norm"), Op::LayerNorm { eps: 1e-6 }, &[trunk]);
            let adapter = Op::RepAdapter { hidden: 2, groups: 2, scale: 1.0 };
            let adapted = graph.push(name("adapter"), adapter, &[norm]);
            let fc1 = graph.push(name("fc1"), Op::Linear { out_features: 8, bias: true }, &[adapted]);
            let act = graph.push(name("act"), Op::Act(Activation::Gelu), &[fc1]);
            let fc2 = graph.push(name("fc2"), Op::Linear { out_features: 4, bias: true }, &[act]);
            trunk = graph.push(name("add"), Op::Add, &[trunk, fc2]);
        }
        let pool = graph.push("pool", Op::TakeClassToken, &[trunk]);
        graph.push("head", Op::Linear { out_features: 3, bias: true }, &[pool]);
        for param in graph.params().unwrap().into_iter().flatten() {
            graph.weights.insert(param.name, Tensor::full(param.shape, 1.0).unwrap());
        }
        graph
    }

    #[test]
    fn with_checkpoints_a_block_keeps_its_input_alone_and_computes_the_rest_again() {
        let graph = blocks(5);
        let chosen: BTreeSet<String> =
            graph.weights.keys().filter(|name| name.contains("adapter") || name.starts_with("head")).cloned().collect();
        let mut plan = Plan::new(&graph, &chosen).unwrap();
        let held = |plan: &Plan| (0..plan.kept.len()).filter(|&id| plan.kept[id]).map(|id| plan.len(id)).sum::<usize>();
        let before = held(&plan);
        plan.checkpoint_activations(&graph.nodes);
        let name = |id: usize| graph.nodes[id].name.as_str();
        let names = |kept: &[bool]| (0..kept.len()).filter(|&id| kept[id]).map(name).collect::<Vec<_>>();
        assert_eq!(names(&plan.kept), ["tokens", "0.add", "1.add", "2.add", "3.add", "4.norm", "4.fc1", "pool"]);
        assert!(held(&plan) < before);
        let again: Vec<(&str, Vec<&str>)> = (0..graph.nodes.len())
            .filter(|&id| !plan.recompute[id].is_empty())
            .map(|id| (name(id), plan.recompute[id].iter().map(|again| name(again.node)).collect()))
            .collect();
        assert_eq!(
            again[0],
            ("0.add", vec!["0.norm", "0.adapter", "0.fc1"]),
            "what only the next block reads is left out"
        );
        assert_eq!(again[3], ("3.add", vec!["3.norm", "3.adapter", "3.fc1"]));
        assert_eq!(again.len(), 4, "the backward begins with the last block, which is kept");
        let adapter = graph.find("1.adapter").unwrap();
        let done = plan.recompute[graph.find("1.add").unwrap()].iter().flat_map(|again| again.done.clone());
        assert_eq!(done.collect::<Vec<_>>(), [adapter], "what is not saved goes behind its last reader");
    }

    #[test]
    fn where_checkpoints_save_nothing_there_are_none() {
        let graph = block();
        let mut plan = Plan::new(&graph, &trainable(&graph, &["head."])).unwrap();
        plan.checkpoint_activations(&graph.nodes);
        assert_eq!(plan.kept, plan.saved);
        assert!(plan.recompute.iter().all(Vec::is_empty));
    }

    #[test]
    fn merged_tokens_have_no_gradient() {
        let mut graph = Graph::default();
        let input = graph.push("tokens", Op::Input { shape: vec![6, 4] }, &[]);
        let qkv = graph.push("qkv", Op::Linear { out_features: 12, bias: false }, &[input]);
        let matching = graph.push("match", Op::MatchTokens { merged: 2, protected: 1, num_heads: 2 }, &[qkv]);
        let sizes = graph.push("sizes", Op::MergeSizes { merged: 2 }, &[matching]);
        let merged = graph.push("merge", Op::MergeTokens, &[input, matching, sizes]);
        let pool = graph.push("pool", Op::MeanTokens { skip: 1 }, &[merged, sizes]);
        graph.push("head", Op::Linear { out_features: 3, bias: false }, &[pool]);
        for param in graph.params().unwrap().into_iter().flatten() {
            graph.weights.insert(param.name, Tensor::full(param.shape, 1.0).unwrap());
        }
        Plan::new(&graph, &trainable(&graph, &["head."])).unwrap();
        let error = Plan::new(&graph, &trainable(&graph, &["qkv."])).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`match` (MatchTokens) is of merged tokens, which have no gradient; tokens are merged when adapters are folded, \
             behind the training"
        );
        let of_merged: Vec<bool> = graph.nodes.iter().map(is_of_merged_tokens).collect();
        assert_eq!(of_merged, [false, false, true, true, true, true, false]);
    }

    #[test]
    fn what_cannot_train_is_refused() {
        let graph = block();
        let half = BTreeSet::from(["adapter.adapter_A.bias".to_owned()]);
        assert!(matches!(Plan::new(&graph, &half).unwrap_err(), EngineError::Mismatch { .. }));
        let error = Plan::new(&graph, &BTreeSet::from(["nothing".to_owned()])).unwrap_err();
        assert!(matches!(error, EngineError::UnknownTrainable { .. }));
    }
}
