//! ConvNeXt V2's global response normalisation and its gradients.

use super::{COMMON, Kernel, for_each, word};
use crate::gpu::pool::{Buf, PoolError};
use crate::gpu::recorder::Recorder;

/// The input `[pictures, places, dim]` with the weight `[dim]`.
pub(crate) struct ResponseNorm<'a> {
    pub(crate) x: &'a wgpu::Buffer,
    pub(crate) weight: &'a wgpu::Buffer,
    pub(crate) pictures: usize,
    pub(crate) places: usize,
    pub(crate) dim: usize,
}

impl ResponseNorm<'_> {
    fn len(&self) -> usize {
        self.pictures * self.places * self.dim
    }

    /// `x (1 + weight g / m) + bias`.
    pub(crate) fn forward(&self, rec: &mut Recorder, bias: &wgpu::Buffer) -> Result<Buf, PoolError> {
        let lengths = self.lengths(rec)?;
        let shares = self.shares(rec, &lengths)?;
        self.stage(rec, "APPLY", &[(1, self.x), (2, &shares), (4, self.weight), (5, bias)], self.len(), self.len())
    }

    /// The gradient of the input, from that of the output.
    pub(crate) fn backward(&self, rec: &mut Recorder, out_grad: &wgpu::Buffer) -> Result<Buf, PoolError> {
        let rows = self.pictures * self.dim;
        let lengths = self.lengths(rec)?;
        let shares = self.shares(rec, &lengths)?;
        let slopes = self.stage(rec, "SLOPES", &[(1, self.x), (2, out_grad), (4, self.weight)], rows, rows)?;
        let pulls = self.stage(rec, "PULLS", &[(1, &lengths), (2, &slopes)], rows, self.pictures)?;
        let buffers = [(1, self.x), (2, &*shares), (4, self.weight), (5, out_grad), (6, &*pulls)];
        self.stage(rec, "INPUT_GRAD", &buffers, self.len(), self.len())
    }

    /// `dy x g / m`, as large as the input: its columns' sums are the gradient of the weight.
    pub(crate) fn weight_products(&self, rec: &mut Recorder, out_grad: &wgpu::Buffer) -> Result<Buf, PoolError> {
        let lengths = self.lengths(rec)?;
        let shares = self.shares(rec, &lengths)?;
        let buffers = [(1, self.x), (2, &*shares), (5, out_grad)];
        self.stage(rec, "WEIGHT_PRODUCTS", &buffers, self.len(), self.len())
    }

    /// `g`, `[pictures, dim]`.
    fn lengths(&self, rec: &mut Recorder) -> Result<Buf, PoolError> {
        let rows = self.pictures * self.dim;
        self.stage(rec, "LENGTHS", &[(1, self.x)], rows, rows)
    }

    /// `g / m`, `[pictures, dim]`.
    fn shares(&self, rec: &mut Recorder, lengths: &wgpu::Buffer) -> Result<Buf, PoolError> {
        self.stage(rec, "SHARES", &[(1, lengths)], self.pictures * self.dim, self.pictures)
    }

    /// The `len` values that a stage of `count` invocations writes.
    fn stage(
        &self,
        rec: &mut Recorder,
        stage: &'static str,
        buffers: &[(u32, &wgpu::Buffer)],
        len: usize,
        count: usize,
    ) -> Result<Buf, PoolError> {
        const STAGES: [&str; 7] = ["LENGTHS", "SHARES", "APPLY", "SLOPES", "PULLS", "INPUT_GRAD", "WEIGHT_PRODUCTS"];
        let result = rec.tensor(len)?;
        let constants = STAGES.iter().map(|&name| (name, u32::from(name == stage))).collect();
        let parts = &[COMMON, include_str!("response_norm.wgsl")];
        let kernel = Kernel { name: "response_norm", parts, constants, vector: false };
        let buffers: Vec<(u32, &wgpu::Buffer)> = buffers.iter().copied().chain([(3, &*result)]).collect();
        for_each(rec, kernel, &[word(count), word(self.places), word(self.dim)], &buffers, count)?;
        Ok(result)
    }
}
