//! Sums over all tokens for weight gradients, in two stages and in a fixed order.

use super::{COMMON, Kernel, for_each, lines, word};
use crate::gpu::pool::{Buf, PoolError};
use crate::gpu::recorder::Recorder;

/// Rows of a chunk of the first stage.
const CHUNK_ROWS: usize = 64;

/// The sums of the columns of `x` `[rows, width]` over chunks of rows: `[chunks, width]`, and the number of chunks.
pub(crate) fn column_sums(
    rec: &mut Recorder,
    x: &wgpu::Buffer,
    rows: usize,
    width: usize,
) -> Result<(Buf, usize), PoolError> {
    let chunks = rows.div_ceil(CHUNK_ROWS);
    let result = rec.tensor(chunks * width)?;
    let (lines, vector) = lines(width);
    let kernel =
        Kernel { name: "column_sum", parts: &[COMMON, include_str!("column_sum.wgsl")], constants: Vec::new(), vector };
    let params = [word(rows), word(lines), word(chunks), word(CHUNK_ROWS)];
    for_each(rec, kernel, &params, &[(1, x), (2, &result)], chunks * lines)?;
    Ok((result, chunks))
}

/// `[chunks, rows, columns groups]` partial sums; of row `r`, the columns of group `r groups / rows` count.
pub(crate) struct Parts<'a> {
    pub(crate) values: &'a wgpu::Buffer,
    pub(crate) chunks: usize,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) groups: usize,
}

/// `gradient` `[rows, columns]` `+= scale` times the sum of the parts.
pub(crate) fn accumulate(
    rec: &mut Recorder,
    parts: &Parts<'_>,
    scale: f32,
    gradient: &wgpu::Buffer,
) -> Result<(), PoolError> {
    let kernel = Kernel {
        name: "accumulate",
        parts: &[COMMON, include_str!("accumulate.wgsl")],
        constants: Vec::new(),
        vector: false,
    };
    let count = parts.rows * parts.columns;
    let stride = parts.columns * parts.groups;
    let params = [
        word(count),
        word(parts.chunks),
        word(parts.rows * stride),
        word(parts.columns),
        word(stride),
        word(parts.rows / parts.groups),
        scale.to_bits(),
    ];
    for_each(rec, kernel, &params, &[(1, parts.values), (2, gradient)], count)
}
