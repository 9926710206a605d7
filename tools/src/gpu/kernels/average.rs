//! The moving average of a trained weight.

use super::{COMMON, Kernel, for_each, word};
use crate::gpu::pool::PoolError;
use crate::gpu::recorder::Recorder;

/// Moves `average` by `share` of the way to `value`, both of `count` values.
pub(crate) fn update(
    rec: &mut Recorder,
    value: &wgpu::Buffer,
    average: &wgpu::Buffer,
    count: usize,
    share: f32,
) -> Result<(), PoolError> {
    let kernel = Kernel {
        name: "average",
        parts: &[COMMON, include_str!("average.wgsl")],
        constants: Vec::new(),
        vector: false,
    };
    for_each(rec, kernel, &[word(count), share.to_bits()], &[(1, value), (2, average)], count)
}
