//! ONNX files: the messages of the format, the writer that turns a [`crate::Graph`] into one file, and the text that
//! snapshots compare.

mod lower;
mod precision;
pub mod proto;
mod text;
mod write;

use std::path::PathBuf;

use thiserror::Error;

use crate::graph::GraphError;
use crate::quant::QuantError;

pub use precision::{Precision, Precisions, all_f16, int8_layers};
pub use text::to_text;
pub use write::{to_bytes, to_bytes_at, write};

/// Name of the input: normalised pixels `[N, C, H, W]`, float32.
pub const INPUT: &str = "pixels";
/// Name of the output of a graph with a head: `[N, num_classes]`, or `[N, squares, num_classes]` where it segments, float32.
pub const LOGITS: &str = "logits";
/// Name of the output of a graph without a head.
pub const FEATURES: &str = "features";

/// How many pictures the file takes at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Batch {
    /// One, and every shape of the file is static.
    One,
    /// Any number; the dimension is named `batch`.
    Free,
}

/// Why an ONNX file could not be written or read.
#[derive(Debug, Error)]
pub enum OnnxError {
    /// The graph is not valid, or lacks a weight.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The graph asks for a weight in a form that it does not have.
    #[error("weight `{name}` has shape {shape:?}, which the ONNX form of its operator cannot be made of")]
    Weight {
        /// Its name.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// A node is to be held in a precision that it cannot have.
    #[error("`{node}` cannot be held in {precision:?}: the graph has no such node, or it is no product of matrices")]
    Precision {
        /// Its name.
        node: String,
        /// The precision asked for.
        precision: Precision,
    },
    /// A weight has no form in the precision asked for.
    #[error(transparent)]
    Quant(#[from] QuantError),
    /// The model does not fit one file of the format.
    #[error("the model takes {bytes} bytes, an ONNX file holds at most {limit}; use a smaller backbone")]
    TooLarge {
        /// The size of the file.
        bytes: usize,
        /// The format's limit.
        limit: usize,
    },
    /// The file could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The bytes are not an ONNX model.
    #[error("not an ONNX model: {0}")]
    Decode(#[from] prost::DecodeError),
}
