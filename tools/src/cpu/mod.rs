//! The CPU engine: one implementation of every operator and of its gradient, in float32 to train with and in float64
//! as the reference that other engines are compared with.
//!
//! A batch is cut into chunks of a fixed number of pictures, each walked forward and backward by one thread with its own
//! buffers; gradients are summed in the chunks' order. Results therefore do not depend on the number of threads.

mod activation;
mod adamw;
mod attention;
mod attention_pool;
mod cross_entropy;
mod depthwise;
mod engine;
mod heads;
mod int8;
mod layer_norm;
mod linear;
mod merging;
mod model;
mod noise;
mod pass;
mod patch_embed;
mod pool;
mod product;
mod real;
mod rep_adapter;
mod residual;
mod response_norm;
mod rows;
mod tokens;
mod unfold;
mod vector;

pub(crate) use adamw::Moments;
pub use engine::CpuEngine;
pub use noise::Noise;
pub use real::Real;
