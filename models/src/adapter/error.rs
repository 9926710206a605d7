//! Why adapters could not be inserted, read, written or applied.

use thiserror::Error;

use crate::backbone::BackboneError;
use crate::checkpoint::CheckpointError;
use crate::fold::FoldError;
use crate::graph::GraphError;
use crate::method::MethodError;
use crate::tensor::TensorError;

use super::Placement;

/// Why adapters could not be inserted, read, written or applied.
#[derive(Debug, Error)]
pub enum AdapterError {
    /// The graph itself is not valid.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// An adapter of this size cannot be held.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// The graph lacks a linear layer that the placement puts an adapter before.
    #[error("placement {placement} needs a Linear named `{host}`, which the graph does not have; is it a backbone?")]
    NoHost {
        /// Where adapters were asked for.
        placement: Placement,
        /// The linear layer that is not there.
        host: String,
    },
    /// The layer that mixes tokens is a depthwise convolution.
    #[error(
        "placement {placement} puts an adapter before `{host}`, a depthwise convolution: folded in, it would make the \
         convolution dense, and its bias would not reach the zeros around the map; use --placement before-mlp"
    )]
    BeforeDepthwise {
        /// Where adapters were asked for.
        placement: Placement,
        /// The convolution.
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
    /// A file could not be read as safetensors, or could not be written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The graph has no transformer blocks.
    #[error(
        "{method} goes into the blocks of a transformer of its kind, and the graph has none; take another --method"
    )]
    NoBlocks {
        /// The method.
        method: &'static str,
    },
    /// A method of width or length 0.
    #[error("the size of {method} must be at least 1")]
    NoSize {
        /// The method.
        method: &'static str,
    },
    /// The method stays in the graph.
    #[error(
        "{method} cannot be folded: {reason}; it is there to compare with, train with another --method for a device"
    )]
    NotMergeable {
        /// The method.
        method: &'static str,
        /// Why.
        reason: &'static str,
    },
    /// A method could not be put on the graph, or not be merged.
    #[error(transparent)]
    OtherMethod(#[from] MethodError),
    /// The adapters could not be folded.
    #[error(transparent)]
    Fold(#[from] FoldError),
    /// The head could not be put on the graph.
    #[error(transparent)]
    Head(#[from] BackboneError),
    /// A safetensors file without this project's metadata.
    #[error("not an adapter file: the metadata has no `{key}`; was a backbone given in place of the adapters?")]
    NotAnAdapterFile {
        /// The metadata key looked for.
        key: &'static str,
    },
    /// The metadata of an adapter file cannot be understood.
    #[error("the adapter file's metadata is damaged: {reason}")]
    Metadata {
        /// What is wrong with it.
        reason: String,
    },
    /// The file was written by a later version.
    #[error("the adapter file has format version {got}, this program reads up to {supported}; update the program")]
    NewerFormat {
        /// The version of the file.
        got: u64,
        /// The latest version understood.
        supported: u32,
    },
    /// The file holds adapters of another method.
    #[error("the adapter file's method is `{got}`, this program applies {expected}")]
    Method {
        /// The methods understood.
        expected: String,
        /// The method of the file.
        got: String,
    },
    /// The adapters were trained on another backbone.
    #[error(
        "the adapters were trained on backbone `{name}` (SHA-256 {expected}), the one given has SHA-256 {got}; \
         adapters fit only the weights they were trained on"
    )]
    OtherBackbone {
        /// The name of the backbone that the adapters belong to.
        name: String,
        /// Its hash.
        expected: String,
        /// The hash of the backbone given.
        got: String,
    },
    /// The graph takes pictures of another size than the adapters were trained on.
    #[error("the adapters were trained on pictures of {expected:?} (height, width), the graph takes {got:?}")]
    ImageSize {
        /// Height and width in training.
        expected: [usize; 2],
        /// The shape that the graph takes.
        got: Vec<usize>,
    },
    /// The number of labels is not the number of the head's outputs.
    #[error("the adapter file names {labels} labels, its head has {rows} outputs; they must be as many")]
    LabelCount {
        /// Number of labels in the metadata.
        labels: usize,
        /// Number of rows of `head.weight`.
        rows: usize,
    },
    /// A tensor that the adapters or the head need is not in the file.
    #[error("tensor `{name}` {shape:?} is missing from the adapter file")]
    MissingTensor {
        /// Its name.
        name: String,
        /// The shape that it must have; empty where that depends on the file itself.
        shape: Vec<usize>,
    },
    /// A tensor of the file has another shape than the graph needs.
    #[error("tensor `{name}` of the adapter file has shape {got:?}, the graph needs {expected:?}")]
    TensorShape {
        /// Its name.
        name: String,
        /// The shape needed.
        expected: Vec<usize>,
        /// The shape found.
        got: Vec<usize>,
    },
    /// A tensor of the file belongs to no adapter and not to the head.
    #[error("tensor `{name}` of the adapter file belongs to no adapter of its own description, nor to the head")]
    UnexpectedTensor {
        /// Its name.
        name: String,
    },
}
