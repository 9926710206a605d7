//! What stands before the first block: a picture's normalisation and the positions of tokens.

use super::{FoldError, doubled, put, readers, store};
use crate::graph::{Graph, NodeId};
use crate::op::Op;

/// The graph that takes pictures scaled to 0..1 in place of `(x - mean) / std`, a value a channel of a picture, and the same for
/// every frame of a clip: both become part of the patch embedding, `W' = W / std` and `c' = c - W (mean / std)`. `None` where anything but a
/// patch embedding reads the picture. A patch embedding pads nothing, so that this is exact.
///
/// # Errors
/// When the graph is not valid, it takes no whole pictures of so many channels, or a merged weight is not finite.
pub fn normalization(graph: &Graph, mean: &[f32], std: &[f32]) -> Result<Option<Graph>, FoldError> {
    graph.validate()?;
    let Some(Op::Input { shape }) = graph.nodes.first().map(|node| &node.op) else { return Ok(None) };
    let &[host] = readers(graph, 0).as_slice() else { return Ok(None) };
    let Op::PatchEmbed { patch_size, tubelets, .. } = graph.nodes[host].op else { return Ok(None) };
    let channels = shape.first().copied().unwrap_or(0) / tubelets;
    if mean.is_empty() || mean.len() != std.len() || !channels.is_multiple_of(mean.len()) {
        return Err(FoldError::Channels { expected: channels, got: [mean.len(), std.len()] });
    }
    let name = graph.nodes[host].name.clone();
    let (weight_key, bias_key) = (format!("{name}.weight"), format!("{name}.bias"));
    let (Some(weight), Some(bias)) = (graph.weights.get(&weight_key), graph.weights.get(&bias_key)) else {
        return Ok(None);
    };
    let shape = weight.shape().to_vec();
    let (mut weight, mut bias) = (doubled(weight), doubled(bias));
    let plane = patch_size * patch_size;
    for (row, bias) in weight.chunks_exact_mut(channels * plane).zip(&mut bias) {
        for (values, (&mean, &std)) in row.chunks_exact_mut(plane).zip(mean.iter().zip(std).cycle()) {
            values.iter_mut().for_each(|value| *value /= f64::from(std));
            *bias -= f64::from(mean) * values.iter().sum::<f64>();
        }
    }
    let mut folded = graph.clone();
    store(&mut folded, &name, "weight", shape, &weight)?;
    store(&mut folded, &name, "bias", vec![bias.len()], &bias)?;
    Ok(Some(folded))
}

/// Learned tokens that get a position right behind their place take it into themselves: positions are then added to patches
/// alone, before the tokens join them. Returns for how many nodes of tokens that was done.
pub(super) fn positions(graph: &mut Graph) -> Result<usize, FoldError> {
    let mut merged = 0;
    while let Some((tokens, at)) = joined_before_positions(graph) {
        take_positions(graph, tokens, at)?;
        merged += 1;
    }
    Ok(merged)
}

/// A node of learned tokens and the positions that alone read it.
fn joined_before_positions(graph: &Graph) -> Option<(NodeId, NodeId)> {
    (0..graph.nodes.len()).find_map(|positions| {
        let &[tokens] = graph.nodes[positions].inputs.as_slice() else { return None };
        let is_pair = matches!(graph.nodes[positions].op, Op::PosEmbed)
            && matches!(graph.nodes[tokens].op, Op::InsertTokens { .. });
        (is_pair && readers(graph, tokens) == [positions]).then_some((tokens, positions))
    })
}

fn take_positions(graph: &mut Graph, tokens: NodeId, positions: NodeId) -> Result<(), FoldError> {
    let Op::InsertTokens { count, at } = graph.nodes[tokens].op else { return Ok(()) };
    let names = [tokens, positions].map(|id| graph.nodes[id].name.clone());
    let [Some(own), Some(all)] = names.each_ref().map(|name| graph.weights.get(name)) else { return Ok(()) };
    let &[_, len, dim] = all.shape() else { return Ok(()) };
    let (mut own, mut all) = (doubled(own), doubled(all));
    let taken = all.drain(at * dim..(at + count) * dim);
    own.iter_mut().zip(taken).for_each(|(own, position)| *own += position);
    put(graph, &names[0], names[0].clone(), vec![1, count, dim], &own)?;
    put(graph, &names[1], names[1].clone(), vec![1, len - count, dim], &all)?;
    // The nodes change places: what read the positions reads the tokens now, which stand where the positions did.
    let nodes = &mut graph.nodes;
    let (before, behind) = nodes.split_at_mut(positions);
    let (first, second) = (&mut before[tokens], &mut behind[0]);
    std::mem::swap(&mut first.name, &mut second.name);
    std::mem::swap(&mut first.op, &mut second.op);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Tensor;
    use crate::{swin, vit};

    fn filled(mut graph: Graph) -> Graph {
        for (i, param) in graph.params().unwrap().into_iter().flatten().enumerate() {
            let len = param.shape.iter().product::<usize>();
            let values = (0..len).map(|j| (i as f32 + 0.37 * j as f32).sin()).collect();
            graph.weights.insert(param.name, Tensor::new(param.shape, values).unwrap());
        }
        graph
    }

    fn small() -> vit::Config {
        let base = vit::Config::default();
        vit::Config { image_size: [4, 4], patch_size: 2, embed_dim: 4, depth: 1, num_heads: 1, ..base }
    }

    #[test]
    fn a_patch_of_raw_pixels_gives_what_the_normalised_one_did() {
        let graph = filled(vit::graph(&small()));
        let (mean, std) = ([0.5, 0.25, 0.125], [0.25, 0.5, 2.0]);
        let folded = normalization(&graph, &mean, &std).unwrap().unwrap();
        let raw: Vec<f64> = (0..12).map(|i| (1.7 * f64::from(i)).sin().abs()).collect();
        let normalised: Vec<f64> = (0..12).map(|i| (raw[i] - f64::from(mean[i / 4])) / f64::from(std[i / 4])).collect();
        let first = |graph: &Graph, patch: &[f64]| {
            let weight = doubled(&graph.weights["patch_embed.proj.weight"]);
            let bias = doubled(&graph.weights["patch_embed.proj.bias"])[1];
            weight[12..24].iter().zip(patch).map(|(w, x)| w * x).sum::<f64>() + bias
        };
        assert!((first(&folded, &raw) - first(&graph, &normalised)).abs() < 1e-6);
        assert_eq!(folded.to_text().unwrap(), graph.to_text().unwrap());
        let error = normalization(&graph, &[0.5], &std).unwrap_err();
        assert_eq!(error, FoldError::Channels { expected: 3, got: [1, 3] });
        assert!(normalization(&graph, &mean, &[0.5, 0.5, 0.0]).is_err());
    }

    #[test]
    fn class_and_distillation_token_take_their_positions() {
        let config = vit::Config { dist_token: true, ..small() };
        let graph = filled(vit::graph(&config));
        let mut simple = graph.clone();
        assert_eq!(positions(&mut simple).unwrap(), 2);
        simple.validate().unwrap();
        assert_eq!(simple.weights["pos_embed"].shape(), [1, 4, 4]);
        let of = |graph: &Graph, name: &str| doubled(&graph.weights[name]);
        let pos = of(&graph, "pos_embed");
        for (token, place) in [("cls_token", 0), ("dist_token", 1)] {
            let expected: Vec<f64> = of(&graph, token).iter().zip(&pos[place * 4..]).map(|(a, b)| a + b).collect();
            assert!(of(&simple, token).iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-6), "{token}");
        }
        assert_eq!(of(&simple, "pos_embed"), pos[8..]);
        assert_eq!(positions(&mut simple).unwrap(), 0);
    }

    #[test]
    fn without_tokens_before_the_positions_nothing_changes() {
        for graph in
            [vit::graph(&vit::Config { no_embed_class: true, ..small() }), swin::graph(&swin::Config::default())]
        {
            let graph = filled(graph);
            let mut same = graph.clone();
            assert_eq!(positions(&mut same).unwrap(), 0);
            assert_eq!(same, graph);
        }
    }
}
