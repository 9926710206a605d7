//! Multi-head self-attention without a stored score.

use super::{COMMON, Kernel, word};
use crate::gpu::pool::{Buf, PoolError};
use crate::gpu::recorder::Recorder;

/// `qkv` `[pictures tokens, 3 heads head_dim]`.
pub(crate) struct Attention<'a> {
    pub(crate) qkv: &'a wgpu::Buffer,
    pub(crate) pictures: usize,
    pub(crate) tokens: usize,
    pub(crate) heads: usize,
    pub(crate) head_dim: usize,
    pub(crate) scale: f32,
    /// What is added to the scores, `[kinds, heads, tokens, tokens]`, and the number of kinds of pictures, which take turns.
    pub(crate) bias: Option<(&'a wgpu::Buffer, usize)>,
}

const SHARED: &str = include_str!("attention.wgsl");
const BACKWARD: &str = include_str!("attention_backward.wgsl");

impl Attention<'_> {
    /// `softmax(scale q k^T) v`, `[pictures tokens, heads head_dim]`.
    pub(crate) fn forward(&self, rec: &mut Recorder) -> Result<Buf, PoolError> {
        let result = rec.tensor(self.pictures * self.tokens * self.heads * self.head_dim)?;
        let parts = &[COMMON, SHARED, include_str!("attention_forward.wgsl")];
        self.record(rec, "attention", parts, &[(1, self.qkv), (2, &result)])?;
        Ok(result)
    }

    /// The gradient of `qkv` from that of the output.
    pub(crate) fn backward(&self, rec: &mut Recorder, out_grad: &wgpu::Buffer) -> Result<Buf, PoolError> {
        let rows = rec.tensor(3 * self.pictures * self.tokens * self.heads)?;
        let result = rec.tensor(3 * self.pictures * self.tokens * self.heads * self.head_dim)?;
        let buffers = [(1, self.qkv), (2, out_grad), (3, &*result), (4, &*rows)];
        let parts = &[COMMON, SHARED, BACKWARD, include_str!("attention_backward_query.wgsl")];
        self.record(rec, "attention_backward_query", parts, &buffers)?;
        let parts = &[COMMON, SHARED, BACKWARD, include_str!("attention_backward_key.wgsl")];
        self.record(rec, "attention_backward_key", parts, &buffers)?;
        Ok(result)
    }

    fn record(
        &self,
        rec: &mut Recorder,
        name: &'static str,
        parts: &'static [&'static str],
        buffers: &[(u32, &wgpu::Buffer)],
    ) -> Result<(), PoolError> {
        let tuning = rec.gpu.tuning;
        let units = self.pictures * self.heads * self.tokens.div_ceil(tuning.attention_rows as usize);
        let constants = vec![
            ("WORKGROUP", tuning.lanes),
            ("ROWS", tuning.attention_rows),
            ("LINES", word(self.head_dim.div_ceil(4))),
            ("VEC", u32::from(self.head_dim.is_multiple_of(4))),
            ("BIAS", u32::from(self.bias.is_some())),
        ];
        let kernel = Kernel { name, parts, constants, vector: false };
        let kinds = self.bias.map_or(1, |(_, kinds)| kinds);
        let sizes = [units, self.tokens, self.heads, self.head_dim, kinds].map(word);
        let params = [&sizes[..], &[self.scale.to_bits()]].concat();
        let bias = self.bias.map(|(bias, _)| (5, bias));
        let buffers: Vec<(u32, &wgpu::Buffer)> = buffers.iter().copied().chain(bias).collect();
        rec.dispatch(&kernel, &params, &buffers, units.div_ceil(tuning.lanes as usize))
    }
}
