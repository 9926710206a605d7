//! Attention of one learned query a head over a picture's tokens.

use super::{COMMON, Kernel, for_each, word};
use crate::gpu::pool::{Buf, PoolError};
use crate::gpu::recorder::Recorder;

/// `kv` `[pictures tokens, 2 heads head_dim]` and the query `[heads head_dim]`.
pub(crate) struct AttentionPool<'a> {
    pub(crate) kv: &'a wgpu::Buffer,
    pub(crate) query: &'a wgpu::Buffer,
    pub(crate) pictures: usize,
    pub(crate) tokens: usize,
    pub(crate) heads: usize,
    pub(crate) head_dim: usize,
    pub(crate) scale: f32,
}

impl AttentionPool<'_> {
    /// `softmax(scale q k^T) v`, `[pictures, heads head_dim]`.
    pub(crate) fn forward(&self, rec: &mut Recorder) -> Result<Buf, PoolError> {
        let probabilities = self.probabilities(rec)?;
        let count = self.pictures * self.heads * self.head_dim;
        let result = rec.tensor(count)?;
        self.record(rec, "MIX", &[(1, self.kv), (3, &probabilities), (4, &result)], count)?;
        Ok(result)
    }

    /// The gradient of `kv` from that of the output.
    pub(crate) fn backward(&self, rec: &mut Recorder, out_grad: &wgpu::Buffer) -> Result<Buf, PoolError> {
        let probabilities = self.probabilities(rec)?;
        let rows = self.pictures * self.heads;
        let slopes = rec.tensor(rows * self.tokens)?;
        self.record(rec, "SLOPES", &[(1, self.kv), (3, out_grad), (4, &slopes)], rows * self.tokens)?;
        let grads = rec.tensor(rows * self.tokens)?;
        self.record(rec, "SCORE_GRADS", &[(1, &probabilities), (3, &slopes), (4, &grads)], rows)?;
        let count = 2 * rows * self.tokens * self.head_dim;
        let result = rec.tensor(count)?;
        let buffers = [(1, &*probabilities), (2, self.query), (3, out_grad), (4, &*result), (5, &*grads)];
        self.record(rec, "GRADS", &buffers, count)?;
        Ok(result)
    }

    /// `[pictures, heads, tokens]`.
    fn probabilities(&self, rec: &mut Recorder) -> Result<Buf, PoolError> {
        let rows = self.pictures * self.heads;
        let scores = rec.tensor(rows * self.tokens)?;
        self.record(rec, "SCORES", &[(1, self.kv), (2, self.query), (4, &scores)], rows * self.tokens)?;
        let result = rec.tensor(rows * self.tokens)?;
        self.record(rec, "SOFTMAX", &[(1, &scores), (4, &result)], rows)?;
        Ok(result)
    }

    fn record(
        &self,
        rec: &mut Recorder,
        stage: &'static str,
        buffers: &[(u32, &wgpu::Buffer)],
        count: usize,
    ) -> Result<(), PoolError> {
        const STAGES: [&str; 6] = ["SCORES", "SOFTMAX", "MIX", "SLOPES", "SCORE_GRADS", "GRADS"];
        let constants = STAGES.iter().map(|&name| (name, u32::from(name == stage))).collect();
        let parts = &[COMMON, include_str!("attention_pool.wgsl")];
        let kernel = Kernel { name: "attention_pool", parts, constants, vector: false };
        let params = [word(count), word(self.tokens), word(self.heads), word(self.head_dim), self.scale.to_bits()];
        for_each(rec, kernel, &params, buffers, count)
    }
}
