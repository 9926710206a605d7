//! Adapters: where they are put, how they begin, and the file that holds them.
//!
//! RepAdapter (Luo et al. 2023, "Towards Efficient Visual Adaption via Structural Re-parameterization", arXiv
//! 2302.08106) is `f(x) = x + s (B(dropout(A x + a)) + b)`: linear in inference, so that [`crate::fold::fold`] can put
//! it into the linear layer behind it.

mod adaptation;
mod comparison;
mod error;
mod file;
mod import;
mod insert;

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::graph::{Graph, GraphError, Node};
use crate::op::{Op, Param};

pub use adaptation::{Adaptation, Adapted, Attached};
pub use comparison::Comparison;
pub use error::AdapterError;
pub use file::{FORMAT_VERSION, File, METADATA_KEY, METHOD, Merged, Meta};
pub use import::{ImportError, Imported, import};
pub use insert::insert;

/// Before which linear layers of a block adapters stand. The names are those of the authors' code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Placement {
    /// Before attention and before the MLP: two adapters a block. A ConvNeXt's block, which has no attention, has the one
    /// before the MLP.
    RepBlock,
    /// Before attention alone: one adapter a block.
    RepAttn,
}

impl Placement {
    /// Host and adapter names within a block, in graph order.
    fn sites(self) -> &'static [(&'static str, &'static str)] {
        const ATTN: (&str, &str) = ("attn.qkv", "attn.adapter");
        const MLP: (&str, &str) = ("mlp.fc1", "mlp.adapter");
        match self {
            Self::RepBlock => &[ATTN, MLP],
            Self::RepAttn => &[ATTN],
        }
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RepBlock => "repblock",
            Self::RepAttn => "repattn",
        })
    }
}

/// Which adapters a backbone gets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Spec {
    /// Before which linear layers.
    pub placement: Placement,
    /// Width of the bottleneck.
    pub hidden: usize,
    /// Number of groups of the second projection.
    pub groups: usize,
    /// Fixed factor on the adapter's branch.
    pub scale: f32,
    /// The blocks that get adapters, counted from 0; `None` for all.
    pub blocks: Option<Range<usize>>,
}

impl Default for Spec {
    /// The paper's choice: both places of every block, hidden 8, groups 2; scale 1.
    fn default() -> Self {
        Self { placement: Placement::RepBlock, hidden: 8, groups: 2, scale: 1.0, blocks: None }
    }
}

/// The names of the weights that training changes: those of all adapters, and those of the head.
pub fn trainable(graph: &Graph) -> BTreeSet<String> {
    let trains = |node: &&Node| is_adapter(node) || is_head(node);
    let prefixes: Vec<String> = graph.nodes.iter().filter(trains).map(|node| format!("{}.", node.name)).collect();
    let of_these = |name: &&String| prefixes.iter().any(|prefix| name.starts_with(prefix));
    graph.weights.keys().filter(of_these).cloned().collect()
}

/// The number of parameters of all adapters of the graph, without the head.
///
/// # Errors
/// When the graph is not valid; weights are not looked at.
pub fn parameter_count(graph: &Graph) -> Result<usize, GraphError> {
    Ok(params_where(graph, is_adapter)?.iter().map(|param| param.shape.iter().product::<usize>()).sum())
}

fn is_adapter(node: &Node) -> bool {
    matches!(node.op, Op::RepAdapter { .. })
}

fn is_head(node: &Node) -> bool {
    node.name == "head" && matches!(node.op, Op::Linear { .. })
}

/// The weights of the nodes that `wanted` picks, in node order.
fn params_where(graph: &Graph, wanted: impl Fn(&Node) -> bool) -> Result<Vec<Param>, GraphError> {
    let params = graph.params()?;
    Ok(graph.nodes.iter().zip(params).filter(|(node, _)| wanted(node)).flat_map(|(_, params)| params).collect())
}
