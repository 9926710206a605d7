//! What a vision backbone *is*: a graph of named operators, the weights that fill it, the adapters that are
//! inserted into it, the exact fold that takes them out again, and the ONNX file that comes of it.
//!
//! No GPU, no camera, no command line. Everything here is a function over [`Graph`].

pub mod adapter;
pub mod backbone;
mod block;
pub mod checkpoint;
pub mod convnext;
pub mod cost;
pub mod file;
pub mod fold;
pub mod graph;
mod init;
pub mod method;
pub mod mobilevit;
pub mod onnx;
pub mod op;
pub mod quant;
pub mod swin;
mod task;
pub mod tensor;
pub mod text;
pub mod tokens;
pub mod vit;

pub use graph::{Graph, GraphError, Node, NodeId};
pub use op::{Activation, Op};
pub use task::Task;
pub use tensor::{Tensor, TensorError};
