//! The desktop half of edge-vit: adapts a frozen backbone to a person's pictures on the GPU, folds the adapters into
//! its weights, writes one ONNX file and checks it with the very code that the device runs.

pub mod commands;
pub mod cpu;
pub mod data;
pub mod engine;
pub mod evaluate;
pub mod fetch;
pub mod gpu;
pub mod inspect;
pub mod measure;
pub mod merge;
mod preprocessing;
pub mod protocols;
pub mod quantize;
pub mod report;
pub mod segmentation;
pub mod sign;
pub mod train;
pub mod zero_shot;
