//! Puts fresh adapters into a backbone.

use std::collections::BTreeMap;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::block;
use crate::graph::{Graph, NodeId};
use crate::init::xavier_uniform;
use crate::op::{Op, Param};
use crate::tensor::{Tensor, TensorError};

use super::{AdapterError, Placement, Spec, is_adapter, params_where};

/// The backbone with adapters before the linear layers that `spec` names, so initialised that it still computes what it
/// did: `A` Xavier uniform (bound `sqrt(6 / (dim + hidden))`), everything else 0, as the authors' code has it.
///
/// The same `seed` gives the same adapters on every machine.
///
/// # Errors
/// When the graph has no such layers or has adapters already, the range of blocks is not within its depth, `hidden` and
/// the width do not divide into `groups`, or `scale` is not finite.
pub fn insert(graph: &Graph, spec: &Spec, seed: u64) -> Result<Graph, AdapterError> {
    let mut adapted = place(graph, spec)?;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    for param in params_where(&adapted, is_adapter)? {
        let tensor = initial(&param, &mut rng)?;
        adapted.weights.insert(param.name, tensor);
    }
    Ok(adapted)
}

/// Fresh weights of what a method in the graph trains: all 0 but the first of two projections and learned tokens, which are
/// Xavier uniform.
pub(super) fn fill(graph: &mut Graph, params: &[Param], seed: u64) -> Result<(), AdapterError> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    for param in params {
        // Of rank 3 are learned tokens alone.
        let is_random = param.name.ends_with(".down.weight") || param.shape.len() == 3;
        let tensor = match is_random {
            true => xavier_uniform(&param.shape, &mut rng)?,
            false => Tensor::full(param.shape.as_slice(), 0.0)?,
        };
        graph.weights.insert(param.name.clone(), tensor);
    }
    Ok(())
}

/// [`insert`] without the adapters' weights.
pub(super) fn place(graph: &Graph, spec: &Spec) -> Result<Graph, AdapterError> {
    let shapes = graph.shapes()?;
    if let Some(adapter) = graph.nodes.iter().find(|node| is_adapter(node)) {
        return Err(AdapterError::AlreadyAdapted { adapter: adapter.name.clone() });
    }
    if !spec.scale.is_finite() {
        return Err(AdapterError::Scale { scale: spec.scale });
    }
    let sites = sites(graph, spec)?;
    let Spec { hidden, groups, scale, .. } = *spec;
    let mut adapted = Graph { nodes: Vec::new(), weights: graph.weights.clone() };
    let mut moved: Vec<NodeId> = Vec::with_capacity(graph.nodes.len());
    for (id, node) in graph.nodes.iter().enumerate() {
        let mut inputs: Vec<NodeId> = node.inputs.iter().map(|&input| moved[input]).collect();
        if let Some(name) = sites.get(&id) {
            let dim = node.inputs.first().and_then(|&input| shapes[input].last()).copied().unwrap_or(0);
            if hidden == 0 || groups == 0 || hidden % groups != 0 || dim % groups != 0 {
                return Err(AdapterError::Grouping { hidden, groups, dim });
            }
            inputs = vec![adapted.push(name, Op::RepAdapter { hidden, groups, scale }, &inputs)];
        }
        moved.push(adapted.push(node.name.clone(), node.op.clone(), &inputs));
    }
    // A foreign node that bears an adapter's name is found here.
    adapted.shapes()?;
    Ok(adapted)
}

/// The linear layers that get an adapter before them, and the adapters' names. A block whose tokens are mixed by a depthwise
/// convolution has the MLP's alone: an adapter before the convolution could not be folded.
fn sites(graph: &Graph, spec: &Spec) -> Result<BTreeMap<NodeId, String>, AdapterError> {
    let host = |name: &str| graph.find(name).filter(|&id| matches!(graph.nodes[id].op, Op::Linear { .. }));
    let blocks = block::all(graph);
    let depth = blocks.len();
    let chosen = match &spec.blocks {
        // With no block at all the search below names the first layer that is not there.
        _ if depth == 0 => &["blocks.0"][..],
        None => &blocks,
        Some(range) if range.is_empty() || range.end > depth => {
            return Err(AdapterError::BlockRange { start: range.start, end: range.end, depth });
        }
        Some(range) => &blocks[range.clone()],
    };
    let mut sites = BTreeMap::new();
    for block in chosen {
        let is_convolution = graph.find(&format!("{block}.conv_dw"));
        for (host_suffix, adapter_suffix) in spec.placement.sites() {
            let name = format!("{block}.{host_suffix}");
            match (host(&name), is_convolution) {
                (Some(id), _) => {
                    sites.insert(id, format!("{block}.{adapter_suffix}"));
                }
                (None, Some(_)) if spec.placement == Placement::RepBlock && *host_suffix == "attn.qkv" => {}
                (None, Some(convolution)) if *host_suffix == "attn.qkv" => {
                    let host = graph.nodes[convolution].name.clone();
                    return Err(AdapterError::BeforeDepthwise { placement: spec.placement, host });
                }
                (None, _) => return Err(AdapterError::NoHost { placement: spec.placement, host: name }),
            }
        }
    }
    Ok(sites)
}

fn initial(param: &Param, rng: &mut ChaCha8Rng) -> Result<Tensor, TensorError> {
    match param.name.ends_with(".adapter_A.weight") {
        true => xavier_uniform(&param.shape, rng),
        false => Tensor::full(param.shape.as_slice(), 0.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::{parameter_count, trainable};
    use crate::convnext;

    /// The layers of a ViT that adapters look at, and a head; no weights.
    fn blocks(depth: usize, dim: usize) -> Graph {
        let mut graph = Graph::default();
        let mut x = graph.push("tokens", Op::Input { shape: vec![5, dim] }, &[]);
        for block in 0..depth {
            let name = |suffix: &str| format!("blocks.{block}.{suffix}");
            let norm1 = graph.push(name("norm1"), Op::LayerNorm { eps: 1e-6 }, &[x]);
            let qkv = graph.push(name("attn.qkv"), Op::Linear { out_features: 3 * dim, bias: true }, &[norm1]);
            let attn = graph.push(name("attn"), Op::Attention { num_heads: 2, scale: 1.0 }, &[qkv]);
            let add1 = graph.push(name("add1"), Op::Add, &[x, attn]);
            let fc1 = graph.push(name("mlp.fc1"), Op::Linear { out_features: 4 * dim, bias: true }, &[add1]);
            let fc2 = graph.push(name("mlp.fc2"), Op::Linear { out_features: dim, bias: true }, &[fc1]);
            x = graph.push(name("add2"), Op::Add, &[add1, fc2]);
        }
        graph.push("head", Op::Linear { out_features: 3, bias: true }, &[x]);
        graph
    }

    #[test]
    fn vit_b_has_exactly_the_parameters_of_the_paper() {
        let graph = blocks(12, 768);
        for (placement, expected) in [(Placement::RepBlock, 239_808), (Placement::RepAttn, 119_904)] {
            let adapted = insert(&graph, &Spec { placement, ..Spec::default() }, 0).unwrap();
            assert_eq!(parameter_count(&adapted).unwrap(), expected, "{placement}");
        }
    }

    #[test]
    fn adapters_stand_right_before_their_hosts() {
        let graph = blocks(2, 8);
        let adapted = insert(&graph, &Spec { blocks: Some(1..2), ..Spec::default() }, 0).unwrap();
        for (adapter, host, before) in
            [("attn.adapter", "attn.qkv", "norm1"), ("mlp.adapter", "mlp.fc1", "add1")].map(|names| {
                let id = |name| adapted.find(&format!("blocks.1.{name}")).unwrap();
                (id(names.0), id(names.1), id(names.2))
            })
        {
            assert_eq!(adapted.nodes[host].inputs, [adapter]);
            assert_eq!(adapted.nodes[adapter].inputs, [before]);
        }
        let names: Vec<&str> = adapted.nodes.iter().filter(|node| is_adapter(node)).map(|n| n.name.as_str()).collect();
        assert_eq!(names, ["blocks.1.attn.adapter", "blocks.1.mlp.adapter"]);
    }

    #[test]
    fn only_a_is_random_and_within_the_xavier_bound() {
        let (dim, hidden) = (64, 8);
        let adapted = insert(&blocks(1, dim), &Spec::default(), 3).unwrap();
        let bound = (6.0 / (dim + hidden) as f32).sqrt();
        for (name, tensor) in &adapted.weights {
            let largest = tensor.values().iter().fold(0.0f32, |max, value| max.max(value.abs()));
            if name.ends_with("adapter_A.weight") {
                assert!(largest <= bound && largest > 0.95 * bound, "{name}: {largest} against {bound}");
                let mean = tensor.values().iter().sum::<f32>() / tensor.len() as f32;
                assert!(mean.abs() < 0.1 * bound, "{name}: mean {mean}");
            } else {
                assert_eq!(largest, 0.0, "{name}");
            }
        }
    }

    #[test]
    fn the_seed_decides_the_adapters() {
        let graph = blocks(1, 8);
        let with_seed = |seed| insert(&graph, &Spec::default(), seed).unwrap();
        assert_eq!(with_seed(1), with_seed(1));
        assert_ne!(with_seed(1), with_seed(2));
        let weights = with_seed(1).weights;
        assert_ne!(weights["blocks.0.attn.adapter.adapter_A.weight"], weights["blocks.0.mlp.adapter.adapter_A.weight"]);
    }

    #[test]
    fn adapters_and_head_are_trained_and_nothing_else() {
        let mut adapted = insert(&blocks(1, 8), &Spec { placement: Placement::RepAttn, ..Spec::default() }, 0).unwrap();
        for param in adapted.params().unwrap().into_iter().flatten() {
            adapted.weights.entry(param.name).or_insert_with(|| Tensor::full(param.shape, 0.5).unwrap());
        }
        let names: Vec<String> = trainable(&adapted).into_iter().collect();
        let adapter = "blocks.0.attn.adapter.adapter_";
        let expected = ["A.bias", "A.weight", "B.bias", "B.weight"].map(|part| format!("{adapter}{part}"));
        assert_eq!(names[..4], expected);
        assert_eq!(names[4..], ["head.bias", "head.weight"]);
    }

    #[test]
    fn a_convnext_is_adapted_before_its_mlps_alone() {
        let graph = convnext::graph(&convnext::Config::default());
        let adapted = insert(&graph, &Spec::default(), 0).unwrap();
        let names: Vec<&str> = adapted.nodes.iter().filter(|node| is_adapter(node)).map(|n| n.name.as_str()).collect();
        assert_eq!((names.len(), names[0]), (18, "stages.0.blocks.0.mlp.adapter"));
        let error = insert(&graph, &Spec { placement: Placement::RepAttn, ..Spec::default() }, 0).unwrap_err();
        assert!(matches!(&error, AdapterError::BeforeDepthwise { host, .. } if host == "stages.0.blocks.0.conv_dw"));
        assert!(error.to_string().contains("--placement before-mlp"), "{error}");
    }

    #[test]
    fn what_cannot_be_adapted_is_refused_with_its_reason() {
        let graph = blocks(2, 8);
        let refused = |graph: &Graph, spec: Spec| insert(graph, &spec, 0).unwrap_err();

        let error = refused(&blocks(0, 8), Spec::default());
        assert!(matches!(error, AdapterError::NoHost { ref host, .. } if host == "blocks.0.attn.qkv"), "{error}");
        let mut no_mlp = graph.clone();
        let fc1 = no_mlp.find("blocks.1.mlp.fc1").unwrap();
        no_mlp.nodes[fc1].name = "blocks.1.mlp.up".into();
        let error = refused(&no_mlp, Spec::default());
        assert!(matches!(error, AdapterError::NoHost { ref host, .. } if host == "blocks.1.mlp.fc1"), "{error}");
        for (start, end) in [(1, 3), (1, 1), (2, 1)] {
            let error = refused(&graph, Spec { blocks: Some(start..end), ..Spec::default() });
            assert!(matches!(error, AdapterError::BlockRange { depth: 2, .. }), "{start}..{end}: {error}");
        }
        for (hidden, groups) in [(8, 3), (6, 3), (0, 1), (8, 0)] {
            let error = refused(&graph, Spec { hidden, groups, ..Spec::default() });
            assert!(matches!(error, AdapterError::Grouping { dim: 8, .. }), "{hidden} {groups}: {error}");
        }
        let error = refused(&graph, Spec { scale: f32::NAN, ..Spec::default() });
        assert!(matches!(error, AdapterError::Scale { .. }), "{error}");
        let error = refused(&insert(&graph, &Spec::default(), 0).unwrap(), Spec::default());
        assert!(matches!(error, AdapterError::AlreadyAdapted { .. }), "{error}");
    }
}
