//! The matrix product, for Linear, the patch embedding, adapters, and the gradients of all of them.

use super::{COMMON, Kernel, word};
use crate::gpu::pool::{Buf, PoolError};
use crate::gpu::recorder::Recorder;

/// Invocations of a workgroup with shared tiles.
pub(crate) const SHARING: u32 = 64;
/// Workgroup memory of the larger shared tiles: sixteen rows of A's and of B's, of sixteen lines of four values and one between.
pub(crate) const SHARED_BYTES: u32 = 2 * 16 * (16 + 1) * 4 * 4;
/// Side of a shared tile for each block of four that an invocation owns across it.
const SIDE: usize = 32;
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
        let c = rec.tensor(chunks * self.m * self.n)?;
        let depth = self.k.div_ceil(chunks).next_multiple_of(16);
        let params = [word(self.m), word(self.n), word(self.k), word(depth)];
        let mut buffers = vec![(1, self.a), (2, self.b), (3, &*c)];
        buffers.extend(self.bias.map(|bias| (4, bias)));
        buffers.extend(self.addend.map(|addend| (5, addend)));
        let (kernel, tile_rows, tile_cols) = self.kernel(rec, chunks);
        let groups = self.m.div_ceil(tile_rows) * self.n.div_ceil(tile_cols) * chunks;
        rec.dispatch(&kernel, &params, &buffers, groups)?;
        Ok(c)
    }

    /// The kernel for these layouts and k in `chunks`, and the rows and columns of C that a workgroup computes.
    fn kernel(&self, rec: &Recorder, chunks: usize) -> (Kernel, usize, usize) {
        let a_minor = if self.a_transposed { self.m } else { self.k };
        let b_minor = if self.b_transposed { self.k } else { self.n };
        let mut constants = vec![
            ("A_TRANSPOSED", u32::from(self.a_transposed)),
            ("B_TRANSPOSED", u32::from(self.b_transposed)),
            ("A_VEC", u32::from(a_minor.is_multiple_of(4))),
            ("B_VEC", u32::from(b_minor.is_multiple_of(4))),
            ("C_VEC", u32::from(self.n.is_multiple_of(4))),
            ("BIAS", u32::from(self.bias.is_some())),
            ("ADDEND", u32::from(self.addend.is_some())),
        ];
        let tuning = rec.gpu.tuning;
        if tuning.shared_tiles {
            let large = 2 * SIDE;
            let large_tiles = self.m.div_ceil(large) * self.n.div_ceil(large) * chunks;
            let quads = if large_tiles >= tuning.enough_tiles as usize { 2 } else { 1 };
            constants.extend([("WORKGROUP", SHARING), ("QUADS", word(quads))]);
            let parts = &[COMMON, include_str!("matmul.wgsl"), include_str!("matmul_workgroup.wgsl")];
            return (Kernel { name: "matmul_workgroup", parts, constants, vector: false }, quads * SIDE, quads * SIDE);
        }
        let lanes = tuning.lanes as usize;
        let across = self.n.div_ceil(4).next_power_of_two().min(1 << lanes.ilog2());
        constants.extend([("WORKGROUP", tuning.lanes), ("QUADS", tuning.tile_quads), ("ACROSS", word(across))]);
        let parts = &[COMMON, include_str!("matmul.wgsl"), include_str!("matmul_registers.wgsl")];
        let rows = 4 * tuning.tile_quads as usize * (lanes / across);
        (Kernel { name: "matmul_registers", parts, constants, vector: false }, rows, 4 * across)
    }
}
