//! Methods by name, as files and command lines say them.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::arc::Arc;
use super::consolidator::Consolidator;
use super::dora::Dora;
use super::fact::Fact;
use super::lora::{Lora, LoraTarget};
use super::oft::Oft;
use super::rep_adapter::{RepAdapter, Site};
use super::rlrr::Rlrr;
use super::ssf::Ssf;
use super::{Method, MethodError};
use crate::block;
use crate::graph::Graph;
use crate::op::Op;

/// A method and its sizes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "lowercase")]
pub enum MethodSpec {
    /// RepAdapter at one place, without dropout.
    RepAdapter {
        /// Width of the bottleneck.
        hidden: usize,
        /// Groups of the second projection.
        groups: usize,
        /// Fixed factor on the branch.
        scale: f64,
        /// Where.
        site: Site,
    },
    /// LoRA.
    Lora {
        /// Width of the bottleneck.
        rank: usize,
        /// Factor on the branch, times the rank.
        alpha: f64,
        /// What it stands beside; queries and values in files that do not say it.
        #[serde(default = "LoraTarget::queries_and_values")]
        targets: BTreeSet<LoraTarget>,
    },
    /// Scaling and shifting of features.
    Ssf,
    /// FacT-TT.
    Fact {
        /// Width of the shared factors.
        rank: usize,
        /// Fixed factor on the change.
        scale: f64,
    },
    /// ARC.
    Arc {
        /// Width of the shared projections.
        rank: usize,
    },
    /// Residual re-scaling.
    Rlrr,
    /// DoRA on q, k and v.
    Dora {
        /// Width of the bottleneck.
        rank: usize,
        /// Factor on the branch, times the rank.
        alpha: f64,
    },
    /// Orthogonal finetuning.
    Oft {
        /// Side of a rotation.
        block_size: usize,
    },
    /// A parallel grouped branch.
    Consolidator {
        /// Number of groups.
        groups: usize,
    },
    /// The backbone's own biases (arXiv 2106.10199).
    BitFit,
    /// The backbone's own LayerNorms.
    LayerNorm,
    /// The last blocks, and what stands behind them.
    LastBlocks {
        /// How many.
        count: usize,
    },
    /// All of the backbone.
    Full,
    /// Nothing but the head.
    Linear,
}

impl MethodSpec {
    /// The names of all.
    pub const NAMES: [&str; 14] = [
        "repadapter",
        "lora",
        "ssf",
        "fact",
        "arc",
        "rlrr",
        "dora",
        "oft",
        "consolidator",
        "bitfit",
        "layernorm",
        "lastblocks",
        "full",
        "linear",
    ];

    /// Its name, as `--method` takes it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::BitFit => "bitfit",
            Self::LayerNorm => "layernorm",
            Self::LastBlocks { .. } => "lastblocks",
            Self::Full => "full",
            Self::Linear => "linear",
            Self::RepAdapter { .. } => "repadapter",
            Self::Lora { .. } => "lora",
            Self::Ssf => "ssf",
            Self::Fact { .. } => "fact",
            Self::Arc { .. } => "arc",
            Self::Rlrr => "rlrr",
            Self::Dora { .. } => "dora",
            Self::Oft { .. } => "oft",
            Self::Consolidator { .. } => "consolidator",
        }
    }

    /// The method; `None` for those that train weights of the backbone as they are.
    pub fn method(&self) -> Option<Box<dyn Method>> {
        Some(match *self {
            Self::RepAdapter { hidden, groups, scale, site } => Box::new(RepAdapter { hidden, groups, scale, site }),
            Self::Lora { rank, alpha, ref targets } => Box::new(Lora::new(rank, alpha, targets)),
            Self::Ssf => Box::new(Ssf),
            Self::Fact { rank, scale } => Box::new(Fact { rank, scale }),
            Self::Arc { rank } => Box::new(Arc { rank }),
            Self::Rlrr => Box::new(Rlrr),
            Self::Dora { rank, alpha } => Box::new(Dora { rank, alpha }),
            Self::Oft { block_size } => Box::new(Oft { block_size }),
            Self::Consolidator { groups } => Box::new(Consolidator { groups }),
            Self::BitFit | Self::LayerNorm | Self::LastBlocks { .. } | Self::Full | Self::Linear => return None,
        })
    }

    /// The weights of the backbone that are trained as they are; none where [`MethodSpec::method`] is one. The head is not
    /// among them.
    ///
    /// # Errors
    /// When the graph is not valid, or has fewer blocks than are to be trained.
    pub fn tuned(&self, graph: &Graph) -> Result<BTreeSet<String>, MethodError> {
        let params = graph.params()?;
        let blocks = block::all(graph);
        let depth = blocks.len();
        let first = match *self {
            Self::LastBlocks { count } if count == 0 || count > depth => {
                return Err(MethodError::LastBlocks { got: count, depth });
            }
            Self::LastBlocks { count } => depth - count,
            _ => 0,
        };
        let first = blocks.get(first).copied();
        let first_node = graph.nodes.iter().position(|node| block::of(&node.name) == first).unwrap_or(0);
        let mut names = BTreeSet::new();
        for (id, (node, params)) in graph.nodes.iter().zip(params).enumerate() {
            // What was computed from other weights is none of its own, and a bias by distance is read through a table.
            let is_fixed =
                matches!(node.op, Op::AttentionPool { .. } | Op::WindowAttention { .. } | Op::NormalizeHeads { .. });
            if node.name == "head" || is_fixed {
                continue;
            }
            let chosen = |name: &str| match self {
                Self::BitFit => name.ends_with(".bias"),
                Self::LayerNorm => matches!(node.op, Op::LayerNorm { .. }),
                Self::LastBlocks { .. } => id >= first_node,
                Self::Full => true,
                _ => false,
            };
            names.extend(params.into_iter().map(|param| param.name).filter(|name| chosen(name)));
        }
        Ok(names)
    }
}
