//! AdamW.

use super::{COMMON, Kernel, SCALING, for_each, word};
use crate::engine::Hyper;
use crate::gpu::loss_scale::Scaling;
use crate::gpu::pool::PoolError;
use crate::gpu::recorder::Recorder;

/// A trained weight's value and moments, and its gradient.
pub(crate) struct Trained<'a> {
    pub(crate) value: &'a wgpu::Buffer,
    pub(crate) m: &'a wgpu::Buffer,
    pub(crate) v: &'a wgpu::Buffer,
    pub(crate) grad: &'a wgpu::Buffer,
    pub(crate) count: usize,
}

/// The `step`-th update, counted from 1. With `scaling`, of gradients that are that many times too large; none where one of
/// them was not finite, and steps that were skipped so do not count.
pub(crate) fn update(
    rec: &mut Recorder,
    trained: &Trained<'_>,
    hyper: &Hyper,
    step: u64,
    scaling: Option<&Scaling>,
) -> Result<(), PoolError> {
    let (lr, beta1, beta2) = (f64::from(hyper.lr), f64::from(hyper.beta1), f64::from(hyper.beta2));
    let steps = step as f64;
    let values = [
        1.0 - lr * f64::from(hyper.weight_decay),
        lr / (1.0 - beta1.powf(steps)),
        beta1,
        beta2,
        1.0 / (1.0 - beta2.powf(steps)).sqrt(),
        f64::from(hyper.eps),
        1.0 - beta1,
        1.0 - beta2,
    ];
    let mut params = vec![word(trained.count)];
    params.extend(values.map(|value| (value as f32).to_bits()));
    let mut buffers = vec![(1, trained.grad), (2, trained.value), (3, trained.m), (4, trained.v)];
    if let Some(scaling) = scaling {
        // The device counts in 32 bits, which a run does not reach.
        params.extend([hyper.lr.to_bits(), step as u32, (beta1.ln() as f32).to_bits(), (beta2.ln() as f32).to_bits()]);
        buffers.push((5, scaling.buffer()));
    }
    let kernel = Kernel {
        name: "adamw",
        parts: &[COMMON, SCALING, include_str!("adamw.wgsl")],
        constants: vec![("SCALED", u32::from(scaling.is_some()))],
        vector: false,
    };
    for_each(rec, kernel, &params, &buffers, trained.count)
}
