//! Why adapters could not be inserted.

use thiserror::Error;

use crate::graph::GraphError;
use crate::tensor::TensorError;

use super::Placement;

/// Why adapters could not be inserted.
#[derive(Debug, Error)]
pub enum AdapterError {
    /// The graph itself is not valid.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// An adapter of this size cannot be held.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// The graph lacks a linear layer that the placement puts an adapter before.
    #[error("placement {placement} needs a Linear named `{host}`, which the graph does not have; is it a ViT?")]
    NoHost {
        /// Where adapters were asked for.
        placement: Placement,
        /// The linear layer that is not there.
        host: String,
    },
    /// The blocks asked for are none, or not all there.
    #[error("blocks {start}..{end} were asked for; give a range that is not empty within 0..{depth}")]
    BlockRange {
        /// The first block asked for.
        start: usize,
        /// The one after the last block asked for.
        end: usize,
        /// The number of blocks that there are.
        depth: usize,
    },
    /// An adapter is there already.
    #[error("the graph holds the adapter `{adapter}` already; insert into the plain backbone")]
    AlreadyAdapted {
        /// An adapter that was found.
        adapter: String,
    },
    /// Bottleneck, groups and width do not divide.
    #[error("hidden {hidden} and the width {dim} must be positive multiples of groups {groups}")]
    Grouping {
        /// Width of the bottleneck.
        hidden: usize,
        /// Number of groups.
        groups: usize,
        /// Width of the tokens.
        dim: usize,
    },
    /// The factor on the adapter's branch is not a finite number.
    #[error("the adapter's scale must be a finite number, got {scale}")]
    Scale {
        /// The factor asked for.
        scale: f32,
    },
}
