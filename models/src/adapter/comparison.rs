//! Methods to compare with that cannot be folded: they leave nonlinear branches or tokens in the graph.

use serde::{Deserialize, Serialize};

use super::AdapterError;
use crate::block;
use crate::graph::{Graph, NodeId};
use crate::op::{Activation, Op};
use crate::tensor::Tensor;

/// A method that stays in the graph.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "kebab-case")]
pub enum Comparison {
    /// Adapter, arXiv 1902.00751: `h + up(gelu(down(h)))` behind attention and behind the MLP, before the residual sum.
    Adapter {
        /// Width of the bottleneck.
        hidden: usize,
    },
    /// The parallel Adapter, arXiv 2110.04366: `s up(relu(down(norm2(x))))` beside the MLP.
    ParallelAdapter {
        /// Width of the bottleneck.
        hidden: usize,
        /// Fixed factor on the branch.
        scale: f32,
    },
    /// AdaptFormer, arXiv 2205.13535: `s up(relu(down(x)))` beside the MLP, `x` not normalised.
    Adaptformer {
        /// Width of the bottleneck.
        hidden: usize,
        /// Fixed factor on the branch.
        scale: f32,
    },
    /// Shallow VPT, arXiv 2203.12119: learned tokens behind the class token, before the first block.
    Vpt {
        /// Number of learned tokens.
        tokens: usize,
    },
    /// Deep VPT, arXiv 2203.12119: tokens of its own before every block, in place of those that the block before left.
    VptDeep {
        /// Number of learned tokens before each block.
        tokens: usize,
    },
}

/// The names of what a method puts in end so, behind the block's: `blocks.3.adaptformer.down`.
const PARTS: [&str; 2] = ["down", "up"];
/// The learned tokens of VPT.
const PROMPTS: &str = "prompt_embeddings";
/// Those before the second block and later ones.
const DEEP_PROMPTS: &str = "deep_prompt_embeddings.";

impl Comparison {
    /// The names of all.
    pub const NAMES: [&str; 5] = ["adapter", "parallel-adapter", "adaptformer", "vpt", "vpt-deep"];

    /// Its name, as `--method` takes it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Adapter { .. } => "adapter",
            Self::ParallelAdapter { .. } => "parallel-adapter",
            Self::Adaptformer { .. } => "adaptformer",
            Self::Vpt { .. } => "vpt",
            Self::VptDeep { .. } => "vpt-deep",
        }
    }

    /// Why it cannot be folded.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Adapter { .. } => {
                "the GELU between its two projections is not linear, so that no weight stands for it"
            }
            Self::ParallelAdapter { .. } | Self::Adaptformer { .. } => {
                "the ReLU between its two projections is not linear, so that no weight stands for it"
            }
            Self::Vpt { .. } | Self::VptDeep { .. } => {
                "its tokens take part in every attention, so that no weight stands for them"
            }
        }
    }

    /// Whether a node of this name was put in by the method and has weights that are trained.
    pub(super) fn is_own(&self, node: &str) -> bool {
        match self {
            Self::Vpt { .. } => node == PROMPTS,
            Self::VptDeep { .. } => node == PROMPTS || node.starts_with(DEEP_PROMPTS),
            _ => PARTS.iter().any(|part| node.ends_with(&format!(".{}.{part}", self.name()))),
        }
    }

    /// `graph` with the method's operators in it, and with the weights of those that are not trained.
    ///
    /// # Errors
    /// When the graph has no blocks with two residual sums (a ConvNeXt has one), or for VPT no sequence of tokens that all blocks
    /// share (a Swin has none), or a size is 0.
    pub(super) fn place(&self, graph: &Graph) -> Result<Graph, AdapterError> {
        let shapes = graph.shapes()?;
        let has_sums = graph.nodes.iter().any(|node| block::of(&node.name).is_some() && node.name.ends_with(".add2"));
        let first = match (self, graph.find("blocks.0.norm1")) {
            (Self::Vpt { .. } | Self::VptDeep { .. }, Some(first)) => first,
            (Self::Vpt { .. } | Self::VptDeep { .. }, None) => {
                return Err(AdapterError::NoBlocks { method: self.name() });
            }
            _ if has_sums => 0,
            _ => return Err(AdapterError::NoBlocks { method: self.name() }),
        };
        let prefix = ["cls_token", "dist_token"].iter().filter(|name| graph.find(name).is_some()).count();
        let size = match *self {
            Self::Adapter { hidden } | Self::ParallelAdapter { hidden, .. } | Self::Adaptformer { hidden, .. } => {
                hidden
            }
            Self::Vpt { tokens } | Self::VptDeep { tokens } => tokens,
        };
        if size == 0 {
            return Err(AdapterError::NoSize { method: self.name() });
        }
        let mut placed = Graph { nodes: Vec::new(), weights: graph.weights.clone() };
        let mut moved: Vec<NodeId> = Vec::with_capacity(graph.nodes.len());
        for (id, node) in graph.nodes.iter().enumerate() {
            let mut inputs: Vec<NodeId> = node.inputs.iter().map(|&input| moved[input]).collect();
            let width = shapes[id].last().copied().unwrap_or(0);
            let mut op = node.op.clone();
            match (self, node.name.rsplit_once('.'), inputs.as_slice()) {
                (Self::Adapter { hidden }, Some((block, sum @ ("add1" | "add2"))), &[_, branch]) => {
                    let name = format!("{block}.{sum}.{}", self.name());
                    let up = bottleneck(&mut placed, &name, branch, [*hidden, width], Activation::Gelu);
                    inputs[1] = placed.push(format!("{name}.sum"), Op::Add, &[branch, up]);
                }
                (
                    Self::ParallelAdapter { hidden, scale } | Self::Adaptformer { hidden, scale },
                    Some((block, "add2")),
                    &[trunk, branch],
                ) => {
                    let name = format!("{block}.{}", self.name());
                    let normed = placed.find(&format!("{block}.norm2")).unwrap_or(trunk);
                    let source = if matches!(self, Self::Adaptformer { .. }) { trunk } else { normed };
                    let up = bottleneck(&mut placed, &name, source, [*hidden, width], Activation::Relu);
                    let scaled = placed.push(format!("{name}.scale"), Op::LayerScale, &[up]);
                    placed.weights.insert(format!("{name}.scale.gamma"), Tensor::full([width], *scale)?);
                    inputs[1] = placed.push(format!("{name}.sum"), Op::Add, &[branch, scaled]);
                }
                (Self::Vpt { tokens } | Self::VptDeep { tokens }, ..) if id == first => {
                    let at = prefix;
                    let prompts = Op::InsertTokens { count: *tokens, at };
                    let source = inputs.first().copied().unwrap_or(0);
                    let prompted = placed.push(PROMPTS, prompts, &[source]);
                    // The first block's residual sum reads them too.
                    if let Some(place) = node.inputs.first() {
                        moved[*place] = prompted;
                    }
                    inputs = vec![prompted];
                }
                (Self::VptDeep { tokens }, Some((block, "norm1")), &[source]) => {
                    let (count, at) = (*tokens, prefix);
                    let number = block.trim_start_matches("blocks.");
                    let dropped = placed.push(format!("{block}.prompts"), Op::DropTokens { count, at }, &[source]);
                    let prompts = Op::InsertTokens { count, at };
                    let prompted = placed.push(format!("{DEEP_PROMPTS}{number}"), prompts, &[dropped]);
                    if let Some(place) = node.inputs.first() {
                        moved[*place] = prompted;
                    }
                    inputs = vec![prompted];
                }
                (Self::Vpt { tokens } | Self::VptDeep { tokens }, ..) => {
                    match &mut op {
                        // A distilled DeiT's pooling, which has dropped all tokens but two.
                        Op::MeanTokens { .. } if graph.find("pool.tokens").is_some() => {}
                        Op::MeanTokens { skip } => *skip += tokens,
                        Op::DropTokens { count, .. } if node.name == "pool.tokens" => *count += tokens,
                        _ => {}
                    }
                }
                _ => {}
            }
            moved.push(placed.push(node.name.clone(), op, &inputs));
        }
        placed.shapes()?;
        Ok(placed)
    }
}

/// `up(act(down(x)))`.
fn bottleneck(graph: &mut Graph, name: &str, x: NodeId, [hidden, width]: [usize; 2], activation: Activation) -> NodeId {
    let linear = |out_features| Op::Linear { out_features, bias: true };
    let down = graph.push(format!("{name}.down"), linear(hidden), &[x]);
    let act = graph.push(format!("{name}.act"), Op::Act(activation), &[down]);
    graph.push(format!("{name}.up"), linear(width), &[act])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::Cost;
    use crate::vit;

    fn vit_b() -> Graph {
        vit::graph(&vit::Config::default())
    }

    fn all(hidden: usize) -> [Comparison; 5] {
        [
            Comparison::Adapter { hidden },
            Comparison::ParallelAdapter { hidden, scale: 0.1 },
            Comparison::Adaptformer { hidden, scale: 0.1 },
            Comparison::Vpt { tokens: hidden },
            Comparison::VptDeep { tokens: hidden },
        ]
    }

    #[test]
    fn vit_b_has_the_parameters_of_the_definitions() {
        let plain = Cost::of(&vit_b()).unwrap().parameters;
        let pair = 2 * 64 * 768 + 64 + 768;
        // The scale is a weight that is not trained.
        for (method, expected) in
            all(64).iter().zip([24 * pair, 12 * (pair + 768), 12 * (pair + 768), 64 * 768, 12 * 64 * 768])
        {
            let placed = method.place(&vit_b()).unwrap();
            assert_eq!(Cost::of(&placed).unwrap().parameters - plain, expected, "{method:?}");
            let own = placed.nodes.iter().filter(|node| method.is_own(&node.name)).count();
            let expected = match method {
                Comparison::Adapter { .. } => 48,
                Comparison::Vpt { .. } => 1,
                Comparison::VptDeep { .. } => 12,
                _ => 24,
            };
            assert_eq!(own, expected, "{method:?}");
        }
    }

    #[test]
    fn operators_stand_where_the_papers_put_them() {
        let text = |method: &Comparison| method.place(&vit_b()).unwrap().to_text().unwrap();
        let adapter = text(&all(8)[0]);
        assert!(
            adapter.contains("blocks.3.add1.adapter.down = Linear { out_features: 8, bias: true }(blocks.3.attn.proj)")
        );
        assert!(adapter.contains("blocks.3.add1 = Add(blocks.2.add2, blocks.3.add1.adapter.sum)"), "{adapter}");
        assert!(
            text(&all(8)[1]).contains("parallel-adapter.down = Linear { out_features: 8, bias: true }(blocks.0.norm2)")
        );
        assert!(text(&all(8)[2]).contains("adaptformer.down = Linear { out_features: 8, bias: true }(blocks.0.add1)"));
        let vpt = text(&all(8)[3]);
        assert!(vpt.contains("prompt_embeddings = InsertTokens { count: 8, at: 1 }(pos_embed) -> [205, 768]"), "{vpt}");
        assert!(vpt.contains("blocks.0.add1 = Add(prompt_embeddings, blocks.0.attn.proj)"), "{vpt}");
        let deep = text(&all(8)[4]);
        assert!(
            deep.contains("blocks.1.prompts = DropTokens { count: 8, at: 1 }(blocks.0.add2) -> [197, 768]"),
            "{deep}"
        );
        assert!(deep.contains("blocks.1.add1 = Add(deep_prompt_embeddings.1, blocks.1.attn.proj)"), "{deep}");
    }

    #[test]
    fn a_mean_leaves_the_prompts_out() {
        let config = vit::Config { class_token: false, global_pool: vit::GlobalPool::Avg, ..vit::Config::default() };
        let placed = Comparison::Vpt { tokens: 5 }.place(&vit::graph(&config)).unwrap();
        let pool = placed.find("pool").unwrap();
        assert_eq!(placed.nodes[pool].op, Op::MeanTokens { skip: 5 });
        let distilled = vit::Config { dist_token: true, ..vit::Config::default() };
        for method in [Comparison::Vpt { tokens: 5 }, Comparison::VptDeep { tokens: 5 }] {
            let placed = method.place(&vit::graph(&distilled)).unwrap();
            let kept = placed.find("pool.tokens").unwrap();
            assert_eq!(placed.nodes[kept].op, Op::DropTokens { count: 196 + 5, at: 2 });
            assert_eq!(placed.shapes().unwrap()[kept], [2, 768]);
        }
    }

    #[test]
    fn what_has_no_blocks_is_refused() {
        for method in all(0) {
            assert!(matches!(method.place(&vit_b()), Err(AdapterError::NoSize { .. })));
        }
        let mut empty = Graph::default();
        empty.push("pixels", Op::Input { shape: vec![4] }, &[]);
        assert!(matches!(all(8)[0].place(&empty), Err(AdapterError::NoBlocks { method: "adapter" })));
    }
}
