//! The matrix product, for Linear, the patch embedding, adapters, and the gradients of all of them.

use super::tile::Tile;
use super::word;
use crate::gpu::pool::{Buf, PoolError};
use crate::gpu::recorder::Recorder;

/// Fewest steps of k worth a chunk of their own, and the most chunks.
const CHUNK_DEPTH: usize = 128;
const MOST_CHUNKS: usize = 64;

/// `C = op(A) op(B) + bias + addend`, `[m, n]` over `k`.
pub(crate) struct Product<'a> {
    /// `[m, k]`, or `[k, m]` where transposed.
    pub(crate) a: &'a wgpu::Buffer,
    pub(crate) a_transposed: bool,
    /// `[k, n]`, or `[n, k]` where transposed.
    pub(crate) b: &'a wgpu::Buffer,
    pub(crate) b_transposed: bool,
    pub(crate) m: usize,
    pub(crate) n: usize,
    pub(crate) k: usize,
    /// `[n]`.
    pub(crate) bias: Option<&'a wgpu::Buffer>,
    /// `[m, n]`.
    pub(crate) addend: Option<&'a wgpu::Buffer>,
    /// Whether B lies in float16; A is then rounded to it as it is read. Sums are of float32.
    pub(crate) half: bool,
}

/// What a product is, whatever its values: all that its kernel depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kind {
    pub(crate) m: usize,
    pub(crate) n: usize,
    pub(crate) k: usize,
    /// Chunks of k that are summed up by themselves.
    pub(crate) chunks: usize,
    pub(crate) a_transposed: bool,
    pub(crate) b_transposed: bool,
    pub(crate) bias: bool,
    pub(crate) addend: bool,
    pub(crate) half: bool,
}

impl Kind {
    /// Steps of k in a chunk.
    fn depth(&self) -> usize {
        self.k.div_ceil(self.chunks).next_multiple_of(16)
    }
}

impl Product<'_> {
    /// Records the product.
    ///
    /// # Errors
    /// When there is no room for C.
    pub(crate) fn record(&self, rec: &mut Recorder) -> Result<Buf, PoolError> {
        self.record_chunks(rec, 1)
    }

    /// Records the product with k cut into chunks that are summed up by themselves, for products that are long in k and
    /// small in m and n: `[chunks, m, n]`, and the number of chunks. For products without bias and addend.
    ///
    /// # Errors
    /// When there is no room for the result.
    pub(crate) fn record_split(&self, rec: &mut Recorder) -> Result<(Buf, usize), PoolError> {
        let depth = self.k.div_ceil(self.k.div_ceil(CHUNK_DEPTH).clamp(1, MOST_CHUNKS)).next_multiple_of(16);
        let chunks = self.k.div_ceil(depth);
        Ok((self.record_chunks(rec, chunks)?, chunks))
    }

    fn record_chunks(&self, rec: &mut Recorder, chunks: usize) -> Result<Buf, PoolError> {
        let kind = self.kind(chunks);
        let gpu = std::sync::Arc::clone(&rec.gpu);
        self.record_in(rec, chunks, gpu.autotune.tile(&gpu, &kind))
    }

    /// Records the product with k in `chunks` and C cut into tiles of this kind.
    ///
    /// # Errors
    /// When there is no room for C, or the driver refuses the kernel.
    pub(crate) fn record_in(&self, rec: &mut Recorder, chunks: usize, tile: Tile) -> Result<Buf, PoolError> {
        let kind = self.kind(chunks);
        let c = rec.tensor(chunks * self.m * self.n)?;
        let params = [word(self.m), word(self.n), word(self.k), word(kind.depth())];
        let mut buffers = vec![(1, self.a), (2, self.b), (3, &*c)];
        buffers.extend(self.bias.map(|bias| (4, bias)));
        buffers.extend(self.addend.map(|addend| (5, addend)));
        rec.dispatch(&tile.kernel(&kind), &params, &buffers, tile.groups(&kind))?;
        Ok(c)
    }

    fn kind(&self, chunks: usize) -> Kind {
        let Self { m, n, k, a_transposed, b_transposed, bias, addend, half, .. } = *self;
        Kind { m, n, k, chunks, a_transposed, b_transposed, bias: bias.is_some(), addend: addend.is_some(), half }
    }
}
