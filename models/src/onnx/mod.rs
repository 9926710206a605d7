//! ONNX: the messages of the format, and the writer that turns a graph into one file.

pub mod proto;
