//! The engine on wgpu: every operator forward and backward as a compute kernel in WGSL.
//!
//! - `device` finds and opens an adapter, with the adapter's own limits.
//! - `autotune` chooses by measurement how products are cut on a device.
//! - `template` and `kernels` hold the WGSL and its wrappers, one file pair a kernel.
//! - `pool` hands out buffers and takes them back; `recorder` turns kernel calls into one submission; `readback` brings values
//!   to the processor, `flight` those of steps that nobody waits for.
//! - `loss_scale` keeps small gradients from vanishing in half precision.
//! - `weights` holds what is trained, and `averages` its moving average.
//! - `engine` walks the [`crate::engine::Plan`]: `forward` and `backward` record a micro-batch.
//!
//! A micro-batch is as large as bindings, budget and memory allow: where recording one runs out of memory, it is halved
//! and the step begins again, so that a batch of any size is taken wherever a single picture fits.

mod autotune;
mod averages;
mod backward;
mod device;
mod engine;
mod fixed;
mod flight;
mod forward;
mod kernels;
mod loss_scale;
mod pool;
mod readback;
mod recorder;
mod template;
#[cfg(test)]
mod tests;
mod throughput;
mod weight_grads;
mod weights;

pub use device::{AdapterInfo, adapters, list};
pub use engine::GpuEngine;
pub use throughput::ProductTimer;
