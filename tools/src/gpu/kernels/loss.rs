//! Softmax cross-entropy.

use super::{COMMON, Kernel, for_each, word};
use crate::gpu::pool::{Buf, PoolError};
use crate::gpu::recorder::Recorder;

/// Logits and targets `[rows, classes]` of a part of a batch.
pub(crate) struct Loss<'a> {
    pub(crate) logits: &'a wgpu::Buffer,
    pub(crate) targets: &'a wgpu::Buffer,
    pub(crate) rows: usize,
    pub(crate) classes: usize,
    /// What all rows of the whole batch count together.
    pub(crate) weight: f64,
    /// The gradient is multiplied by the scale that this begins with.
    pub(crate) scaling: Option<&'a wgpu::Buffer>,
}

impl Loss<'_> {
    /// The loss of each row, and the gradient of the whole batch's mean loss with respect to these logits.
    pub(crate) fn record(&self, rec: &mut Recorder) -> Result<(Buf, Buf), PoolError> {
        let losses = rec.tensor(self.rows)?;
        let gradient = rec.tensor(self.rows * self.classes)?;
        let kernel = Kernel {
            name: "loss",
            parts: &[COMMON, include_str!("loss.wgsl")],
            constants: vec![("SCALED", u32::from(self.scaling.is_some()))],
            vector: false,
        };
        let scale = (1.0 / self.weight) as f32;
        let params = [word(self.rows), word(self.classes), scale.to_bits()];
        let mut buffers = vec![(1, self.logits), (2, self.targets), (3, &*losses), (4, &*gradient)];
        buffers.extend(self.scaling.map(|scaling| (5, scaling)));
        for_each(rec, kernel, &params, &buffers, self.rows)?;
        Ok((losses, gradient))
    }
}
