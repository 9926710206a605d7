//! A head that looks at each patch of a picture, in place of one that looks at the whole.

use crate::graph::{Graph, Node};
use crate::{Op, Tensor};

use super::BackboneError;

/// The last LayerNorm of a transformer, in timm's name.
const NORM: &str = "norm";
/// The node that leaves the tokens before those of the patches behind.
const PATCH_TOKENS: &str = "patch_tokens";

/// Rows and columns of patches that the graph's input `[C, H, W]` is cut into; `None` where no patch embedding reads it, or one that
/// cuts it into tubelets.
pub fn patch_grid(graph: &Graph) -> Option<[usize; 2]> {
    let Some(Op::Input { shape }) = graph.nodes.first().map(|node| &node.op) else { return None };
    let patch_size = graph.nodes.iter().find_map(|node| match node.op {
        Op::PatchEmbed { patch_size, tubelets: 1, .. } if node.inputs == [0] => Some(patch_size),
        _ => None,
    })?;
    match shape.as_slice() {
        [_, height, width] if patch_size > 0 => Some([height / patch_size, width / patch_size]),
        _ => None,
    }
}

/// The graph with a head on every patch in place of its pooling and any head it had: the tokens behind the last LayerNorm
/// without those before the patches (`patch_tokens`, `[P, D]`), and a Linear `head` on each, `[P, C]`. Its weights
/// `head.weight` `[C, D]` and `head.bias` `[C]` are zero.
///
/// # Errors
/// When the graph is not whole, has no such tokens (what pools before it normalises, and what has maps in place of tokens, has
/// none), or the head is too large to address.
pub fn with_patch_head(backbone: &Graph, num_classes: usize) -> Result<Graph, BackboneError> {
    let none = |reason: String| BackboneError::NoPatchTokens { reason };
    let shapes = backbone.shapes()?;
    let Some([rows, columns]) = patch_grid(backbone) else {
        return Err(none("its picture is not cut into patches".to_owned()));
    };
    let is_norm = |node: &Node| node.name == NORM && matches!(node.op, Op::LayerNorm { .. });
    let Some(norm) = backbone.nodes.iter().position(is_norm) else {
        return Err(none("it pools its tokens before the last LayerNorm".to_owned()));
    };
    let patches = rows * columns;
    let (len, width) = match *shapes[norm] {
        [len, width] if len >= patches => (len, width),
        ref other => {
            return Err(none(format!("its last LayerNorm gives {other:?}, not a token for each of {patches} patches")));
        }
    };
    let mut graph = Graph { nodes: backbone.nodes[..=norm].to_vec(), weights: backbone.weights.clone() };
    let mut x = norm;
    if len > patches {
        x = graph.push(PATCH_TOKENS, Op::DropTokens { count: len - patches, at: 0 }, &[x]);
    }
    graph.push("head", Op::Linear { out_features: num_classes, bias: true }, &[x]);
    graph.weights.insert("head.weight".to_owned(), Tensor::full([num_classes, width], 0.0)?);
    graph.weights.insert("head.bias".to_owned(), Tensor::full([num_classes], 0.0)?);
    graph.retain_used_weights()?;
    Ok(graph)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{swin, vit};

    fn tiny() -> vit::Config {
        vit::Config {
            image_size: [8, 12],
            patch_size: 4,
            embed_dim: 16,
            depth: 1,
            num_heads: 2,
            ..vit::Config::default()
        }
    }

    #[test]
    fn every_patch_gets_logits_whatever_stands_before_the_patches() {
        let plain = tiny();
        for (config, dropped) in [
            (plain.clone(), Some(1)),
            (vit::Config { num_classes: Some(9), ..plain.clone() }, Some(1)),
            (vit::Config { dist_token: true, ..plain.clone() }, Some(2)),
            (vit::Config { reg_tokens: 4, no_embed_class: true, pre_norm: true, ..plain.clone() }, Some(5)),
            (vit::Config { class_token: false, global_pool: vit::GlobalPool::Map, ..plain.clone() }, None),
            (vit::Config { class_token: false, global_pool: vit::GlobalPool::Avg, ..plain }, None),
        ] {
            let backbone = vit::graph(&config);
            let graph = with_patch_head(&backbone, 3).unwrap();
            assert_eq!(graph.shapes().unwrap().last().unwrap(), &[6, 3], "{config:?}");
            let drop = graph.find(PATCH_TOKENS).map(|id| graph.nodes[id].op.clone());
            assert_eq!(drop, dropped.map(|count| Op::DropTokens { count, at: 0 }), "{config:?}");
            assert!(graph.find("pool").is_none());
            assert_eq!(patch_grid(&graph), Some([2, 3]));
        }
    }

    #[test]
    fn weights_that_only_the_pooling_read_are_left_out() {
        let mut backbone = vit::graph(&vit::Config { class_token: false, global_pool: vit::GlobalPool::Map, ..tiny() });
        for param in backbone.params().unwrap().into_iter().flatten() {
            backbone.weights.insert(param.name, Tensor::full(param.shape, 0.5).unwrap());
        }
        let graph = with_patch_head(&backbone, 2).unwrap();
        assert!(backbone.weights.contains_key("attn_pool.query") && !graph.weights.contains_key("attn_pool.query"));
        graph.validate().unwrap();
    }

    #[test]
    fn what_has_no_token_for_each_patch_is_refused_with_the_reason() {
        let averaged = vit::graph(&vit::Config { global_pool: vit::GlobalPool::AvgFcNorm, ..tiny() });
        let error = with_patch_head(&averaged, 2).unwrap_err().to_string();
        assert!(error.contains("pools its tokens before"), "{error}");
        let error = with_patch_head(&swin::graph(&swin::Config::default()), 2).unwrap_err();
        assert!(matches!(error, BackboneError::NoPatchTokens { .. }), "{error}");
    }
}
