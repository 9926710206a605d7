//! The loss scale on the device: gradients are looked at and the factor is changed there, so that no step waits for it.

use super::device::Gpu;
use super::kernels::{COMMON, Kernel, SCALING, for_each, word};
use super::pool::{PoolError, create_buffer};
use super::recorder::Recorder;
use crate::engine::{EngineError, LossScale};

/// Factor, its reciprocal, good steps, skipped steps, and whether a gradient was not finite; see `loss_scale.wgsl`.
const WORDS: usize = 5;

/// A [`LossScale`] on the device.
pub(crate) struct Scaling {
    buffer: wgpu::Buffer,
}

impl Scaling {
    /// One that begins as `state` says.
    ///
    /// # Errors
    /// When the device has no memory left.
    pub(crate) fn new(gpu: &Gpu, state: LossScale) -> Result<Self, EngineError> {
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
        let buffer = create_buffer(gpu, "loss scale", 4 * WORDS as u64, usage).ok_or_else(|| {
            EngineError::Device(format!("`{}` has no memory left; end other programs that use it", gpu.info.name))
        })?;
        let scaling = Self { buffer };
        scaling.restore(gpu, state);
        Ok(scaling)
    }

    /// What kernels read.
    pub(crate) fn buffer(&self) -> &wgpu::Buffer {
        &self.buffer
    }

    /// The buffer to read, and how many values.
    pub(crate) fn to_read(&self) -> (&wgpu::Buffer, usize) {
        (&self.buffer, WORDS)
    }

    /// The state out of the values that were read.
    pub(crate) fn read(values: &[f32]) -> LossScale {
        let value = |at: usize| values.get(at).copied().unwrap_or_default();
        LossScale { scale: value(0), good: value(2).to_bits(), skipped: value(3).to_bits() }
    }

    /// Goes on as `state` says.
    pub(crate) fn restore(&self, gpu: &Gpu, state: LossScale) {
        let LossScale { scale, good, skipped } = state;
        let words = [scale.to_bits(), scale.recip().to_bits(), good, skipped, 0];
        gpu.queue.write_buffer(&self.buffer, 0, bytemuck::cast_slice(&words));
    }

    /// Records a look at the `count` values of a gradient.
    ///
    /// # Errors
    /// When the kernel cannot be compiled.
    pub(crate) fn look_at(&self, rec: &mut Recorder, gradient: &wgpu::Buffer, count: usize) -> Result<(), PoolError> {
        let kernel = Kernel {
            name: "not_finite",
            parts: &[COMMON, include_str!("kernels/not_finite.wgsl")],
            constants: Vec::new(),
            vector: false,
        };
        for_each(rec, kernel, &[word(count)], &[(1, gradient), (2, &self.buffer)], count)
    }

    /// Records the end of a step: the factor is halved where a gradient was not finite, and doubled after enough steps.
    ///
    /// # Errors
    /// As [`Scaling::look_at`].
    pub(crate) fn settle(&self, rec: &mut Recorder) -> Result<(), PoolError> {
        let kernel = Kernel {
            name: "loss_scale",
            parts: &[COMMON, SCALING, include_str!("kernels/loss_scale.wgsl")],
            constants: vec![("PATIENCE", LossScale::PATIENCE)],
            vector: false,
        };
        for_each(rec, kernel, &[LossScale::MOST.to_bits()], &[(1, &self.buffer)], 1)
    }
}
