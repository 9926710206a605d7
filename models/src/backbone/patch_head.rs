//! A head that looks at each patch of a picture, in place of one that looks at the whole.

use crate::graph::{Graph, Node};
use crate::{Op, Tensor};

use super::BackboneError;

/// The last LayerNorm of a transformer, in timm's name.
const NORM: &str = "norm";
/// The node that leaves the tokens before those of the patches behind.
const PATCH_TOKENS: &str = "patch_tokens";
/// The node that lays the logits of a patch's squares out.
const FINER: &str = "finer";

/// Rows and columns of what a graph with a head on patches gives logits for; `None` where no patch embedding reads its input, or one that
/// cuts it into tubelets.
pub fn mask_grid(graph: &Graph) -> Option<[usize; 2]> {
    let grid = patch_grid(graph)?;
    let scale = graph.nodes.last().and_then(|node| match node.op {
        Op::PixelShuffle { factor, .. } => Some(factor),
        _ => None,
    });
    Some(grid.map(|side| side * scale.unwrap_or(1)))
}

/// Rows and columns of patches that the graph's input `[C, H, W]` is cut into.
fn patch_grid(graph: &Graph) -> Option<[usize; 2]> {
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
/// With a `mask_scale` `s` above 1 it is a transposed convolution whose stride is its kernel `s`: the Linear gives `[P, s^2 C]`, the logits of
/// `s` by `s` squares of each patch, and `finer` lays them out as `[s^2 P, C]`, row by row of a grid that is `s` times finer.
///
/// # Errors
/// When the graph is not whole, has no such tokens (what pools before it normalises, and what has maps in place of tokens, has
/// none), or the head is empty or too large to address.
pub fn with_patch_head(backbone: &Graph, num_classes: usize, mask_scale: usize) -> Result<Graph, BackboneError> {
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
    let out_features = mask_scale.saturating_mul(mask_scale).saturating_mul(num_classes);
    x = graph.push("head", Op::Linear { out_features, bias: true }, &[x]);
    if mask_scale != 1 {
        graph.push(FINER, Op::PixelShuffle { grid: [rows, columns], factor: mask_scale }, &[x]);
    }
    // Refuses a scale of 0, and one that cannot be addressed.
    graph.shapes()?;
    graph.weights.insert("head.weight".to_owned(), Tensor::full([out_features, width], 0.0)?);
    graph.weights.insert("head.bias".to_owned(), Tensor::full([out_features], 0.0)?);
    graph.retain_used_weights()?;
    Ok(graph)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{swin, vit};

    #[test]
    fn masks_may_be_finer_than_patches() {
        let backbone = vit::graph(&tiny());
        let graph = with_patch_head(&backbone, 3, 4).unwrap();
        assert_eq!(graph.shapes().unwrap().last().unwrap(), &[6 * 16, 3]);
        assert_eq!(mask_grid(&graph), Some([8, 12]));
        assert_eq!(graph.weights["head.weight"].shape(), [16 * 3, 16]);
        for mask_scale in [0, usize::MAX] {
            assert!(with_patch_head(&backbone, 3, mask_scale).is_err(), "{mask_scale}");
        }
    }

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
            let graph = with_patch_head(&backbone, 3, 1).unwrap();
            assert_eq!(graph.shapes().unwrap().last().unwrap(), &[6, 3], "{config:?}");
            let drop = graph.find(PATCH_TOKENS).map(|id| graph.nodes[id].op.clone());
            assert_eq!(drop, dropped.map(|count| Op::DropTokens { count, at: 0 }), "{config:?}");
            assert!(graph.find("pool").is_none());
            assert_eq!(mask_grid(&graph), Some([2, 3]));
        }
    }

    #[test]
    fn weights_that_only_the_pooling_read_are_left_out() {
        let mut backbone = vit::graph(&vit::Config { class_token: false, global_pool: vit::GlobalPool::Map, ..tiny() });
        for param in backbone.params().unwrap().into_iter().flatten() {
            backbone.weights.insert(param.name, Tensor::full(param.shape, 0.5).unwrap());
        }
        let graph = with_patch_head(&backbone, 3, 1).unwrap();
        assert!(backbone.weights.contains_key("attn_pool.query") && !graph.weights.contains_key("attn_pool.query"));
        graph.validate().unwrap();
    }

    #[test]
    fn what_has_no_token_for_each_patch_is_refused_with_the_reason() {
        let averaged = vit::graph(&vit::Config { global_pool: vit::GlobalPool::AvgFcNorm, ..tiny() });
        let error = with_patch_head(&averaged, 3, 1).unwrap_err().to_string();
        assert!(error.contains("pools its tokens before"), "{error}");
        let error = with_patch_head(&swin::graph(&swin::Config::default()), 3, 1).unwrap_err();
        assert!(matches!(error, BackboneError::NoPatchTokens { .. }), "{error}");
    }
}
