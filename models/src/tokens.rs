//! Token Merging (ToMe, arXiv 2210.09461) as a pass over a graph: in every block the tokens that are most alike become one, so
//! that the blocks behind have fewer to compute.
//!
//! As the authors' code has it (`tome/merge.py`, `tome/patch/timm.py`): between a block's attention and its MLP a fixed number of
//! tokens is merged, compared by their mean keys; class and distillation tokens stay by themselves; attention behind a merge is
//! proportional to how many tokens each one stands for, and so is a mean over tokens (`tome/patch/mae.py`). Registers and prompts,
//! which the authors do not treat, stay by themselves as the class token does. Pooling by attention is proportional as attention is.

use thiserror::Error;

use crate::block;
use crate::graph::{Graph, GraphError, Node, NodeId};
use crate::op::{Op, most_merged};

/// A graph that merges tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct Merged {
    /// The graph.
    pub graph: Graph,
    /// How many tokens a block merges away.
    pub per_block: usize,
    /// How many blocks merge.
    pub blocks: usize,
    /// How many tokens there are before the first merge, and behind the last one.
    pub tokens: [usize; 2],
}

/// Why the tokens of a graph cannot be merged.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TokenError {
    /// The graph is not valid.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The number is not one that every block can merge.
    #[error(
        "{got} tokens cannot be merged in each of {blocks} blocks: of {tokens} tokens, {protected} of them kept by themselves, a \
         block can merge half of what is left at most. Merge between 1 and {most}"
    )]
    Count {
        /// What was asked for.
        got: usize,
        /// How many blocks would merge.
        blocks: usize,
        /// Tokens before the first merge.
        tokens: usize,
        /// How many of them are never merged.
        protected: usize,
        /// The largest number that every block can merge; 0 where there is none.
        most: usize,
    },
    /// Something needs each token at its place.
    #[error(
        "tokens cannot be merged: `{node}` ({op}) needs every token at its place in the picture. Only transformers whose blocks \
         see tokens and no map can do without some: ViT, DeiT, DINOv2, CLIP, SigLIP"
    )]
    Place {
        /// The node.
        node: String,
        /// Its operator.
        op: &'static str,
    },
    /// There is nothing whose keys tell which tokens are alike.
    #[error("tokens cannot be merged: the graph has no block with attention, a residual sum and something behind it")]
    NoBlock,
    /// An attention is not followed as one of a transformer's block is.
    #[error(
        "tokens cannot be merged behind `{attention}`: a Linear and a residual sum are needed there, read by nothing else"
    )]
    Block {
        /// The attention.
        attention: String,
    },
    /// Tokens come or go elsewhere than in front of the blocks.
    #[error(
        "tokens cannot be merged: `{node}` ({op}) puts tokens in or takes some out elsewhere than at the first places, or between \
         the blocks"
    )]
    Moves {
        /// The node.
        node: String,
        /// Its operator.
        op: &'static str,
    },
    /// The output has a row for each token.
    #[error("tokens cannot be merged: `{node}`, the graph's output, has a row for each token")]
    Output {
        /// The last node.
        node: String,
    },
    /// Tokens are merged already.
    #[error("the tokens of this graph are merged already, in `{node}`")]
    Again {
        /// The first that merges.
        node: String,
    },
}

/// `graph`, each of whose blocks merges `per_block` tokens: all blocks but the last where a class token is pooled, for nothing is
/// read of the other tokens behind that one's attention; all blocks where all tokens are pooled.
///
/// Exact but for the merging: the nodes keep their names and weights, those that merge are called `blocks.{i}.merge*`. Tokens that
/// are put in at the first places (class, distillation, registers, prompts) are protected and stay first.
///
/// # Errors
/// When the graph is not valid, is no transformer over tokens, or a block cannot merge so many.
pub fn merge(graph: &Graph, per_block: usize) -> Result<Merged, TokenError> {
    let Places { blocks, tokens, protected } = places(graph)?;
    let most = most_in_each(blocks.len(), tokens, protected);
    if !(1..=most).contains(&per_block) {
        return Err(TokenError::Count { got: per_block, blocks: blocks.len(), tokens, protected, most });
    }
    let merged = Graph { weights: graph.weights.clone(), ..insert(graph, &blocks, protected, per_block)? };
    merged.shapes()?;
    let left = tokens - blocks.len() * per_block;
    Ok(Merged { graph: merged, per_block, blocks: blocks.len(), tokens: [tokens, left] })
}

/// The largest number of tokens that every block of `graph` can merge; 0 where there are too few tokens for any.
///
/// # Errors
/// When the graph is not valid, or is no transformer over tokens.
pub fn most(graph: &Graph) -> Result<usize, TokenError> {
    let Places { blocks, tokens, protected } = places(graph)?;
    Ok(most_in_each(blocks.len(), tokens, protected))
}

/// Where tokens can be merged.
#[derive(Debug)]
struct Places {
    /// At least one.
    blocks: Vec<Block>,
    /// How many tokens there are before the first block.
    tokens: usize,
    /// How many of them, the first ones, stay by themselves.
    protected: usize,
}

fn places(graph: &Graph) -> Result<Places, TokenError> {
    let shapes = graph.shapes()?;
    graph.nodes.iter().try_for_each(can_do_without)?;
    match (graph.nodes.last(), shapes.last()) {
        (Some(last), Some(shape)) if shape.len() != 1 => return Err(TokenError::Output { node: last.name.clone() }),
        _ => {}
    }
    let mut blocks = blocks(graph)?;
    let Some(first) = blocks.first() else { return Err(TokenError::NoBlock) };
    let (tokens, protected) = (shapes[first.qkv][0], protected(graph, first.qkv)?);
    if pools_protected(graph, &shapes, protected) {
        blocks.pop();
    }
    if blocks.is_empty() {
        return Err(TokenError::NoBlock);
    }
    Ok(Places { blocks, tokens, protected })
}

/// A place where tokens can be merged.
#[derive(Debug, Clone, Copy)]
struct Block {
    /// What the attention reads.
    qkv: NodeId,
    num_heads: usize,
    /// The residual sum behind the attention.
    sum: NodeId,
}

/// The largest number of tokens that each of so many blocks, one behind the other, can merge.
fn most_in_each(blocks: usize, tokens: usize, protected: usize) -> usize {
    let fits = |&per_block: &usize| {
        tokens.checked_sub((blocks - 1) * per_block).is_some_and(|left| per_block <= most_merged(left, protected))
    };
    (1..=most_merged(tokens, protected)).take_while(fits).last().unwrap_or(0)
}

/// Whether a node sees tokens one by one or as a set.
fn can_do_without(node: &Node) -> Result<(), TokenError> {
    match node.op {
        Op::CausalAttention { .. }
        | Op::Grid { .. }
        | Op::SpaceToDepth { .. }
        | Op::PixelShuffle { .. }
        | Op::WindowPartition(_)
        | Op::WindowReverse(_)
        | Op::WindowAttention { .. }
        | Op::NormalizeHeads { .. }
        | Op::Unfold { .. }
        | Op::DepthwiseConv { .. }
        | Op::GlobalResponseNorm => Err(TokenError::Place { node: node.name.clone(), op: node.op.name() }),
        Op::MatchTokens { .. } | Op::MergeSizes { .. } | Op::MergeTokens => {
            Err(TokenError::Again { node: node.name.clone() })
        }
        _ => Ok(()),
    }
}

/// The blocks in the graph's order: each attention, and the sum that its output goes into by Linears and scales alone.
fn blocks(graph: &Graph) -> Result<Vec<Block>, TokenError> {
    let mut blocks = Vec::new();
    for (id, node) in graph.nodes.iter().enumerate() {
        let (Op::Attention { num_heads, .. }, Some(&qkv)) = (&node.op, node.inputs.first()) else { continue };
        let malformed = || TokenError::Block { attention: node.name.clone() };
        let mut at = id;
        let sum = loop {
            let mut readers = (0..graph.nodes.len()).filter(|&reader| graph.nodes[reader].inputs.contains(&at));
            let (Some(reader), None) = (readers.next(), readers.next()) else { return Err(malformed()) };
            match graph.nodes[reader].op {
                Op::Linear { .. } | Op::LayerScale => at = reader,
                Op::Add => break reader,
                _ => return Err(malformed()),
            }
        };
        blocks.push(Block { qkv, num_heads: *num_heads, sum });
    }
    Ok(blocks)
}

/// How many tokens stand first that are no patches, before the node at `end`.
fn protected(graph: &Graph, end: NodeId) -> Result<usize, TokenError> {
    let mut protected = 0;
    for node in &graph.nodes[..end] {
        match node.op {
            Op::InsertTokens { count, at } if at <= protected => protected += count,
            Op::DropTokens { count, at } if count + at <= protected => protected -= count,
            Op::InsertTokens { .. } | Op::DropTokens { .. } => return Err(moves(node)),
            _ => {}
        }
    }
    Ok(protected)
}

/// Whether nothing but some of the first `protected` tokens is read behind the blocks.
fn pools_protected(graph: &Graph, shapes: &[Vec<usize>], protected: usize) -> bool {
    graph.nodes.iter().any(|node| match node.op {
        Op::TakeClassToken => protected > 0,
        Op::DropTokens { count, at } => at <= protected && shapes[node.inputs[0]][0] == count + at,
        _ => false,
    })
}

fn moves(node: &Node) -> TokenError {
    TokenError::Moves { node: node.name.clone(), op: node.op.name() }
}

/// The nodes of `graph`, with those that merge behind each of `blocks`' sums.
fn insert(graph: &Graph, blocks: &[Block], protected: usize, per_block: usize) -> Result<Graph, TokenError> {
    let shapes = graph.shapes()?;
    let mut merged = Graph::default();
    // By the old node: the new one, and the sizes of its tokens where some are merged.
    let mut moved: Vec<(NodeId, Option<NodeId>)> = Vec::with_capacity(graph.nodes.len());
    let mut gone = 0;
    for (id, node) in graph.nodes.iter().enumerate() {
        let mut inputs: Vec<NodeId> = node.inputs.iter().map(|&input| moved[input].0).collect();
        let mut sizes = node.inputs.first().and_then(|&input| moved[input].1);
        let mut op = node.op.clone();
        match &mut op {
            Op::Attention { .. } => inputs.extend(sizes),
            Op::AttentionPool { .. } | Op::MeanTokens { .. } => inputs.extend(sizes.take()),
            Op::TakeClassToken => sizes = None,
            Op::DropTokens { count, at } if gone > 0 => {
                // What stays are protected tokens.
                if *at > protected || shapes[node.inputs[0]][0] != *count + *at {
                    return Err(moves(node));
                }
                *count -= gone;
                sizes = None;
            }
            Op::InsertTokens { .. } if gone > 0 => return Err(moves(node)),
            _ => {}
        }
        let mut new = merged.push(node.name.clone(), op, &inputs);
        if let Some(block) = blocks.iter().find(|block| block.sum == id) {
            let prefix = block::of(&node.name).unwrap_or(&node.name);
            let name = |part: &str| format!("{prefix}.merge{part}");
            let matching = Op::MatchTokens { merged: per_block, protected, num_heads: block.num_heads };
            let matching = merged.push(name(".match"), matching, &[moved[block.qkv].0]);
            let before = sizes;
            let total = Op::MergeSizes { merged: per_block };
            let inputs: Vec<NodeId> = [matching].into_iter().chain(before).collect();
            let total = merged.push(name(".sizes"), total, &inputs);
            let inputs: Vec<NodeId> = [new, matching, total].into_iter().chain(before).collect();
            new = merged.push(name(""), Op::MergeTokens, &inputs);
            sizes = Some(total);
            gone += per_block;
        }
        moved.push((new, sizes));
    }
    Ok(merged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backbone::Architecture;
    use crate::vit::{self, Config, GlobalPool};

    /// Eight patches and a class token, three blocks.
    fn tiny() -> Config {
        Config {
            image_size: [8, 16],
            patch_size: 4,
            embed_dim: 16,
            depth: 3,
            num_heads: 2,
            num_classes: Some(5),
            ..Config::default()
        }
    }

    fn text(config: &Config, per_block: usize) -> String {
        merge(&vit::graph(config), per_block).unwrap().graph.to_text().unwrap()
    }

    /// The lines of the nodes whose names end so.
    fn lines<'a>(text: &'a str, end: &str) -> Vec<&'a str> {
        text.lines().filter(|line| line.split(" = ").next().is_some_and(|name| name.ends_with(end))).collect()
    }

    #[test]
    fn every_block_but_the_last_merges_before_a_class_token_is_pooled() {
        let merged = merge(&vit::graph(&tiny()), 2).unwrap();
        assert_eq!((merged.per_block, merged.blocks, merged.tokens), (2, 2, [9, 5]));
        let text = merged.graph.to_text().unwrap();
        assert_eq!(lines(&text, ".match").len(), 2, "{text}");
        let matching =
            "blocks.0.merge.match = MatchTokens { merged: 2, protected: 1, num_heads: 2 }(blocks.0.attn.qkv) -> [11]";
        for line in [
            matching,
            "blocks.0.merge.sizes = MergeSizes { merged: 2 }(blocks.0.merge.match) -> [7]",
            "blocks.0.merge = MergeTokens(blocks.0.add1, blocks.0.merge.match, blocks.0.merge.sizes) -> [7, 16]",
            "blocks.0.norm2 = LayerNorm { eps: 1e-6 }(blocks.0.merge) -> [7, 16]",
            "blocks.0.add2 = Add(blocks.0.merge, blocks.0.mlp.fc2) -> [7, 16]",
            "blocks.1.attn = Attention { num_heads: 2, scale: 0.35355338 }(blocks.1.attn.qkv, blocks.0.merge.sizes) -> [7, 16]",
            "blocks.1.merge.sizes = MergeSizes { merged: 2 }(blocks.1.merge.match, blocks.0.merge.sizes) -> [5]",
            "blocks.1.merge = MergeTokens(blocks.1.add1, blocks.1.merge.match, blocks.1.merge.sizes, blocks.0.merge.sizes) -> [5, 16]",
            "blocks.2.add1 = Add(blocks.1.add2, blocks.2.attn.proj) -> [5, 16]",
            "pool = TakeClassToken(norm) -> [16]",
        ] {
            assert!(text.lines().any(|other| other == line), "{line}\nis not in\n{text}");
        }
    }

    #[test]
    fn where_all_tokens_are_pooled_the_last_block_merges_too_and_the_pool_weighs() {
        let avg = Config { global_pool: GlobalPool::AvgFcNorm, ..tiny() };
        let text_avg = text(&avg, 2);
        assert_eq!(lines(&text_avg, ".match").len(), 3, "{text_avg}");
        assert_eq!(
            lines(&text_avg, "pool"),
            ["pool = MeanTokens { skip: 1 }(blocks.2.add2, blocks.2.merge.sizes) -> [16]"]
        );
        let map = text(&Config { class_token: false, global_pool: GlobalPool::Map, ..tiny() }, 2);
        assert!(lines(&map, "attn_pool")[0].contains("(attn_pool.kv, blocks.2.merge.sizes) -> [16]"), "{map}");
        assert!(map.contains("protected: 0"), "{map}");
    }

    #[test]
    fn class_distillation_and_register_tokens_are_protected() {
        let distilled = text(&Config { dist_token: true, ..tiny() }, 2);
        assert_eq!(lines(&distilled, ".match").len(), 2);
        assert!(distilled.contains("protected: 2") && distilled.contains("(norm) -> [2, 16]"), "{distilled}");
        assert!(distilled.contains("pool = MeanTokens { skip: 0 }(pool.tokens) -> [16]"), "{distilled}");
        let registers = text(&Config { reg_tokens: 4, no_embed_class: true, ..tiny() }, 2);
        assert!(registers.contains("protected: 5"), "{registers}");
    }

    #[test]
    fn the_weights_stay_and_the_cost_falls() {
        let graph = vit::graph(&tiny());
        let merged = merge(&graph, 2).unwrap().graph;
        assert_eq!(merged.params().unwrap().concat(), graph.params().unwrap().concat());
        let cost = |graph: &Graph| crate::cost::Cost::of(graph).unwrap().multiply_adds;
        // In a block of width 16, per token 12 width^2 and attention's 2 tokens width.
        let (width, tokens) = (16, [9, 7, 5]);
        let block = |before: u64, behind: u64| {
            4 * width * width * before + 2 * width * before * before + 8 * width * width * behind
        };
        let merging = |before: u64, a: u64, b: u64| a * b * width / 2 + (before - 2) * width * 3;
        let around = 8 * 3 * 16 * width + 5 * width;
        let expected = block(tokens[0], tokens[1]) + block(tokens[1], tokens[2]) + block(tokens[2], tokens[2]);
        assert_eq!(cost(&merged), expected + merging(9, 4, 4) + merging(7, 3, 3) + around);
        assert_eq!(cost(&graph), 3 * block(9, 9) + around);
    }

    #[test]
    fn no_more_are_merged_than_every_block_can() {
        // Nine tokens, then five, of which four may pair up: 2 of them go. With 3, six are left, of which 2 could go.
        let error = merge(&vit::graph(&tiny()), 3).unwrap_err();
        assert_eq!(error, TokenError::Count { got: 3, blocks: 2, tokens: 9, protected: 1, most: 2 });
        assert!(error.to_string().ends_with("Merge between 1 and 2"), "{error}");
        assert_eq!(most(&vit::graph(&tiny())), Ok(2));
        assert!(matches!(merge(&vit::graph(&tiny()), 0), Err(TokenError::Count { got: 0, most: 2, .. })));
        for (blocks, tokens, protected) in [(1, 9, 1), (11, 197, 1), (12, 196, 0), (11, 261, 5), (3, 4, 2), (2, 2, 2)] {
            let most = most_in_each(blocks, tokens, protected);
            let all = |per_block: usize| {
                (0..blocks).all(|block| {
                    tokens.checked_sub(block * per_block).is_some_and(|left| per_block <= most_merged(left, protected))
                })
            };
            assert!(all(most) && !all(most + 1), "{blocks} {tokens} {protected}: {most}");
        }
    }

    #[test]
    fn what_needs_its_places_is_refused() {
        for (name, side) in [("swin_tiny_patch4_window7_224", 224), ("convnext_atto", 64), ("mobilevit_xxs", 128)] {
            let graph = Architecture::named(name).unwrap().config([side, side]).graph();
            assert!(matches!(merge(&graph, 2), Err(TokenError::Place { .. })), "{name}");
        }
        let merged = merge(&vit::graph(&tiny()), 2).unwrap().graph;
        assert_eq!(merge(&merged, 2), Err(TokenError::Again { node: "blocks.0.merge.match".into() }));
        let mut tokens = vit::graph(&tiny());
        tokens.nodes.truncate(tokens.find("norm").unwrap() + 1);
        assert_eq!(merge(&tokens, 2), Err(TokenError::Output { node: "norm".into() }));
        assert_eq!(merge(&vit::graph(&Config { depth: 0, ..tiny() }), 1), Err(TokenError::NoBlock));
        assert_eq!(merge(&vit::graph(&Config { depth: 1, ..tiny() }), 1), Err(TokenError::NoBlock));
        let mut late = vit::graph(&tiny());
        let pool = late.find("pool").unwrap();
        late.nodes[pool].op = Op::DropTokens { count: 7, at: 1 };
        late.push("mean", Op::MeanTokens { skip: 0 }, &[pool]);
        late.nodes.remove(pool + 1);
        late.nodes[pool + 1].inputs = vec![pool];
        assert_eq!(merge(&late, 2), Err(TokenError::Moves { node: "pool".into(), op: "DropTokens" }));
        let mut stray = vit::graph(&tiny());
        let proj = stray.find("blocks.1.attn.proj").unwrap();
        stray.nodes[proj].op = Op::Act(crate::Activation::Gelu);
        assert_eq!(merge(&stray, 2), Err(TokenError::Block { attention: "blocks.1.attn".into() }));
    }
}
