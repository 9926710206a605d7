//! Exact simplifications: weights that only scale or shift what a linear layer gives or takes become part of that layer, so
//! that the model costs less than the backbone did.
//!
//! Each pass computes in float64 and casts last; what it changes is rounding.

use super::input::positions;
use super::{FoldError, doubled, readers, remove, store};
use crate::graph::{Graph, NodeId};
use crate::op::Op;
use crate::tensor::Tensor;

/// A simpler graph, and how often each pass applied.
#[derive(Debug, Clone, PartialEq)]
pub struct Simplified {
    /// The graph, which computes what it did.
    pub graph: Graph,
    /// LayerScales that became part of the Linear before them: `W' = diag(gamma) W`, `c' = gamma c`.
    pub layer_scales: usize,
    /// Attention scales that became part of the queries' rows of qkv.
    pub attention_scales: usize,
    /// LayerNorms whose weight and bias became part of the Linears behind them: `W' = W diag(gamma)`, `c' = c + W beta`.
    pub layer_norms: usize,
    /// Learned tokens (class, distillation) that took their positions into themselves.
    pub positions: usize,
    /// Global response normalisations whose bias became part of the Linears behind them: `c' = c + W beta`.
    pub response_norms: usize,
}

/// Runs every pass wherever it applies.
///
/// # Errors
/// When the graph is not valid, or a merged weight is not finite.
pub fn simplify(graph: &Graph) -> Result<Simplified, FoldError> {
    graph.validate()?;
    let mut graph = graph.clone();
    let attention_scales = attention_scales(&mut graph)?;
    let layer_norms = layer_norms(&mut graph)?;
    let response_norms = response_norms(&mut graph)?;
    let layer_scales = layer_scales(&mut graph)?;
    let positions = positions(&mut graph)?;
    graph.retain_used_weights()?;
    Ok(Simplified { graph, layer_scales, attention_scales, layer_norms, positions, response_norms })
}

/// The Linears that read `id`, through operators that only move tokens, each with how many tokens it reads side by side (times
/// `places`); `None` where anything else reads it.
fn linear_readers(graph: &Graph, id: NodeId, places: usize) -> Option<Vec<(NodeId, usize)>> {
    let mut linears = Vec::new();
    for reader in readers(graph, id) {
        match graph.nodes[reader].op {
            Op::Linear { .. } => linears.push((reader, places)),
            Op::WindowPartition(_) | Op::WindowReverse(_) | Op::Grid { .. } => {
                linears.extend(linear_readers(graph, reader, places)?);
            }
            Op::SpaceToDepth { block } => linears.extend(linear_readers(graph, reader, places * block * block)?),
            _ => return None,
        }
    }
    Some(linears)
}

/// The Linear that gives the first input of the node at `id`, if nobody else reads it.
fn own_linear(graph: &Graph, id: NodeId) -> Option<NodeId> {
    let &source = graph.nodes[id].inputs.first()?;
    let is_linear = matches!(graph.nodes[source].op, Op::Linear { .. });
    (is_linear && readers(graph, source) == [id]).then_some(source)
}

fn layer_scales(graph: &mut Graph) -> Result<usize, FoldError> {
    let mut is_merged = vec![false; graph.nodes.len()];
    for (id, is_merged) in is_merged.iter_mut().enumerate() {
        let is_scale = matches!(graph.nodes[id].op, Op::LayerScale);
        let Some(host) = is_scale.then(|| own_linear(graph, id)).flatten() else { continue };
        let gamma = values(graph, &format!("{}.gamma", graph.nodes[id].name));
        scale_rows(graph, host, &gamma)?;
        *is_merged = true;
    }
    remove(graph, &is_merged);
    Ok(is_merged.into_iter().filter(|&is_merged| is_merged).count())
}

fn attention_scales(graph: &mut Graph) -> Result<usize, FoldError> {
    let mut merged = 0;
    for id in 0..graph.nodes.len() {
        let (Op::Attention { scale, .. } | Op::WindowAttention { scale, .. }) = graph.nodes[id].op else { continue };
        let (Some(host), true) = (own_linear(graph, id), scale != 1.0) else { continue };
        let Op::Linear { out_features, .. } = graph.nodes[host].op else { continue };
        // The queries are the first third.
        let factor = |row: usize| if row < out_features / 3 { f64::from(scale) } else { 1.0 };
        let factors: Vec<f64> = (0..out_features).map(factor).collect();
        scale_rows(graph, host, &factors)?;
        if let Op::Attention { scale, .. } | Op::WindowAttention { scale, .. } = &mut graph.nodes[id].op {
            *scale = 1.0;
        }
        merged += 1;
    }
    Ok(merged)
}

fn layer_norms(graph: &mut Graph) -> Result<usize, FoldError> {
    let mut merged = 0;
    for id in 0..graph.nodes.len() {
        if !matches!(graph.nodes[id].op, Op::LayerNorm { .. }) {
            continue;
        }
        let Some(hosts) = linear_readers(graph, id, 1).filter(|hosts| !hosts.is_empty()) else { continue };
        let name = graph.nodes[id].name.clone();
        let gamma = values(graph, &format!("{name}.weight"));
        let beta = values(graph, &format!("{name}.bias"));
        if gamma.iter().all(|&value| value == 1.0) && beta.iter().all(|&value| value == 0.0) {
            continue;
        }
        for (host, places) in hosts {
            take_affine(graph, host, &gamma.repeat(places), &beta.repeat(places))?;
        }
        graph.weights.insert(format!("{name}.weight"), Tensor::full([gamma.len()], 1.0)?);
        graph.weights.insert(format!("{name}.bias"), Tensor::full([beta.len()], 0.0)?);
        merged += 1;
    }
    Ok(merged)
}

/// The weight stays: it is not linear in the input. The bias is.
fn response_norms(graph: &mut Graph) -> Result<usize, FoldError> {
    let mut merged = 0;
    for id in 0..graph.nodes.len() {
        if graph.nodes[id].op != Op::GlobalResponseNorm {
            continue;
        }
        let name = format!("{}.bias", graph.nodes[id].name);
        let beta = values(graph, &name);
        let Some(hosts) = linear_readers(graph, id, 1).filter(|hosts| !hosts.is_empty()) else { continue };
        if beta.iter().all(|&value| value == 0.0) {
            continue;
        }
        let ones = vec![1.0; beta.len()];
        for (host, places) in hosts {
            take_affine(graph, host, &ones.repeat(places), &beta.repeat(places))?;
        }
        graph.weights.insert(name, Tensor::full([beta.len()], 0.0)?);
        merged += 1;
    }
    Ok(merged)
}

/// `W' = diag(factors) W`, `c' = factors c`.
fn scale_rows(graph: &mut Graph, host: NodeId, factors: &[f64]) -> Result<(), FoldError> {
    let name = graph.nodes[host].name.clone();
    for suffix in ["weight", "bias"] {
        let key = format!("{name}.{suffix}");
        let Some(tensor) = graph.weights.get(&key) else { continue };
        let shape = tensor.shape().to_vec();
        let mut scaled = doubled(tensor);
        let len = (scaled.len() / factors.len().max(1)).max(1);
        for (row, factor) in scaled.chunks_exact_mut(len).zip(factors) {
            row.iter_mut().for_each(|value| *value *= factor);
        }
        store(graph, &name, suffix, shape, &scaled)?;
    }
    Ok(())
}

/// `W' = W diag(gamma)`, `c' = c + W beta`; a host without bias gets one where the shift is not zero.
fn take_affine(graph: &mut Graph, host: NodeId, gamma: &[f64], beta: &[f64]) -> Result<(), FoldError> {
    let name = graph.nodes[host].name.clone();
    let (weight_key, bias_key) = (format!("{name}.weight"), format!("{name}.bias"));
    let Some(tensor) = graph.weights.get(&weight_key) else { return Ok(()) };
    let shape = tensor.shape().to_vec();
    let mut weight = doubled(tensor);
    let shift = weight.chunks_exact(gamma.len()).map(|row| row.iter().zip(beta).map(|(w, b)| w * b).sum::<f64>());
    let mut bias: Vec<f64> = shift.collect();
    for row in weight.chunks_exact_mut(gamma.len()) {
        row.iter_mut().zip(gamma).for_each(|(value, gamma)| *value *= gamma);
    }
    store(graph, &name, "weight", shape, &weight)?;
    let old = graph.weights.get(&bias_key).map(doubled);
    if old.is_none() && bias.iter().all(|&value| value == 0.0) {
        return Ok(());
    }
    bias.iter_mut().zip(old.unwrap_or_default()).for_each(|(bias, old)| *bias += old);
    let len = bias.len();
    store(graph, &name, "bias", vec![len], &bias)?;
    if let Op::Linear { bias, .. } = &mut graph.nodes[host].op {
        *bias = true;
    }
    Ok(())
}

fn values(graph: &Graph, name: &str) -> Vec<f64> {
    graph.weights.get(name).map(doubled).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{convnext, vit};

    fn filled(config: &vit::Config) -> Graph {
        filled_graph(vit::graph(config))
    }

    fn filled_graph(mut graph: Graph) -> Graph {
        for (i, param) in graph.params().unwrap().into_iter().flatten().enumerate() {
            let len = param.shape.iter().product::<usize>();
            let values = (0..len).map(|j| (i as f32 + 0.37 * j as f32).sin()).collect();
            graph.weights.insert(param.name, Tensor::new(param.shape, values).unwrap());
        }
        graph
    }

    fn small() -> vit::Config {
        vit::Config {
            image_size: [8, 8],
            patch_size: 4,
            embed_dim: 8,
            depth: 2,
            num_heads: 2,
            layer_scale: true,
            num_classes: Some(3),
            ..vit::Config::default()
        }
    }

    #[test]
    fn every_pass_applies_wherever_a_linear_stands() {
        let graph = filled(&small());
        let simplified = simplify(&graph).unwrap();
        // The last LayerNorm is read by the pooling.
        let counts = |of: &Simplified| (of.layer_scales, of.attention_scales, of.layer_norms, of.positions);
        assert_eq!(counts(&simplified), (4, 2, 4, 1));
        assert_eq!(simplified.graph.nodes.len(), graph.nodes.len() - 4);
        simplified.graph.validate().unwrap();
        let text = simplified.graph.to_text().unwrap();
        assert!(!text.contains("LayerScale") && text.contains("add1 = Add(cls_token, blocks.0.attn.proj)"), "{text}");
        let again = simplify(&simplified.graph).unwrap();
        assert_eq!(counts(&again), (0, 0, 0, 0));
        assert_eq!(again.graph, simplified.graph);
    }

    #[test]
    fn weights_follow_their_laws() {
        let graph = filled(&small());
        let simple = simplify(&graph).unwrap().graph;
        let of = |graph: &Graph, name: &str| doubled(&graph.weights[name]);
        let (before, after) = (of(&graph, "blocks.0.attn.proj.weight"), of(&simple, "blocks.0.attn.proj.weight"));
        let gamma = of(&graph, "blocks.0.ls1.gamma");
        assert!((after[3 * 8 + 2] - gamma[3] * before[3 * 8 + 2]).abs() < 1e-7);
        let (qkv, merged) = (of(&graph, "blocks.0.attn.qkv.weight"), of(&simple, "blocks.0.attn.qkv.weight"));
        let (norm, beta) = (of(&graph, "blocks.0.norm1.weight"), of(&graph, "blocks.0.norm1.bias"));
        assert!((merged[8 + 5] - 0.5 * norm[5] * qkv[8 + 5]).abs() < 1e-7, "a query, head_dim 4");
        assert!((merged[9 * 8 + 5] - norm[5] * qkv[9 * 8 + 5]).abs() < 1e-7, "a key");
        let shift: f64 = (0..8).map(|j| qkv[9 * 8 + j] * beta[j]).sum();
        let bias = of(&graph, "blocks.0.attn.qkv.bias")[9] + shift;
        assert!((of(&simple, "blocks.0.attn.qkv.bias")[9] - bias).abs() < 1e-6);
    }

    #[test]
    fn what_something_else_reads_too_is_left_alone() {
        let mut graph = Graph::default();
        let input = graph.push("tokens", Op::Input { shape: vec![3, 4] }, &[]);
        let norm = graph.push("norm", Op::LayerNorm { eps: 1e-6 }, &[input]);
        let fc = graph.push("fc", Op::Linear { out_features: 4, bias: true }, &[norm]);
        let scale = graph.push("ls", Op::LayerScale, &[fc]);
        let add = graph.push("add", Op::Add, &[norm, scale]);
        graph.push("again", Op::Add, &[add, fc]);
        for param in graph.params().unwrap().into_iter().flatten() {
            graph.weights.insert(param.name, Tensor::full(param.shape, 0.5).unwrap());
        }
        let simplified = simplify(&graph).unwrap();
        assert_eq!(simplified.graph, graph);
    }

    #[test]
    fn a_convnexts_norms_reach_their_linears_through_the_squares() {
        let config = convnext::Config {
            image_size: [16, 16],
            depths: vec![1, 1],
            dims: vec![4, 8],
            layer_scale: false,
            use_grn: true,
            num_classes: Some(3),
            ..convnext::Config::default()
        };
        let simplified = simplify(&filled_graph(convnext::graph(&config))).unwrap();
        // Of two blocks, of the downsampling, and before the head; the stem's is read by a convolution.
        assert_eq!((simplified.layer_norms, simplified.response_norms), (4, 2));
        let graph = simplified.graph;
        assert!(graph.weights["stages.1.blocks.0.mlp.grn.bias"].values().iter().all(|&value| value == 0.0));
        assert!(graph.weights["stages.1.blocks.0.mlp.grn.weight"].values().iter().any(|&value| value != 0.0));
    }

    #[test]
    fn a_linear_without_bias_takes_a_shift_in_one() {
        let mut graph = Graph::default();
        let input = graph.push("tokens", Op::Input { shape: vec![3, 2] }, &[]);
        let norm = graph.push("norm", Op::LayerNorm { eps: 1e-6 }, &[input]);
        graph.push("fc", Op::Linear { out_features: 1, bias: false }, &[norm]);
        for (name, values) in [("norm.weight", [2.0, 3.0]), ("norm.bias", [0.5, 0.25])] {
            graph.weights.insert(name.into(), Tensor::new([2], values.to_vec()).unwrap());
        }
        graph.weights.insert("fc.weight".into(), Tensor::new([1, 2], vec![4.0, 8.0]).unwrap());
        let simple = simplify(&graph).unwrap().graph;
        assert_eq!(simple.weights["fc.weight"].values(), [8.0, 24.0]);
        assert_eq!(simple.weights["fc.bias"].values(), [4.0]);
        assert_eq!(simple.nodes[2].op, Op::Linear { out_features: 1, bias: true });
    }
}
