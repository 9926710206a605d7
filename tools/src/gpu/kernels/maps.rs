//! What works on maps: rows moved, depthwise convolutions, and queries and keys by their lengths.

use super::{COMMON, Kernel, for_each, lines, word};
use crate::gpu::pool::{Buf, PoolError};
use crate::gpu::recorder::Recorder;

/// `x` `[pictures, rows, width]` with each picture's rows in the order that `order` `[rows]` holds.
pub(crate) fn gather_rows(
    rec: &mut Recorder,
    x: &wgpu::Buffer,
    order: &wgpu::Buffer,
    [pictures, rows, width]: [usize; 3],
) -> Result<Buf, PoolError> {
    let result = rec.tensor(pictures * rows * width)?;
    let (width, vector) = lines(width);
    let count = pictures * rows * width;
    let kernel = Kernel { name: "rows", parts: &[COMMON, include_str!("rows.wgsl")], constants: Vec::new(), vector };
    let params = [word(count), word(width), word(rows)];
    for_each(rec, kernel, &params, &[(1, x), (2, order), (3, &result)], count)?;
    Ok(result)
}

/// Queries and keys of `x` `[rows, 3 heads head_dim]` of length 1 a head, queries times `scale` `[heads]`; with `out_grad`, the
/// gradient of `x`.
pub(crate) fn normalize_heads(
    rec: &mut Recorder,
    x: &wgpu::Buffer,
    scale: &wgpu::Buffer,
    out_grad: Option<&wgpu::Buffer>,
    [rows, heads, head_dim]: [usize; 3],
) -> Result<Buf, PoolError> {
    let result = rec.tensor(rows * 3 * heads * head_dim)?;
    let kernel = Kernel {
        name: "heads",
        parts: &[COMMON, include_str!("heads.wgsl")],
        constants: vec![("BACKWARD", u32::from(out_grad.is_some()))],
        vector: false,
    };
    let count = rows * 3 * heads;
    let mut buffers = vec![(1, x), (2, scale), (3, &*result)];
    buffers.extend(out_grad.map(|grad| (4, grad)));
    for_each(rec, kernel, &[word(count), word(heads), word(head_dim)], &buffers, count)?;
    Ok(result)
}

/// Rows of maps that one invocation of the weight's gradient sums over.
const PART_ROWS: usize = 64;

/// A depthwise convolution over maps `[pictures, height, width, dim]`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Depthwise {
    pub(crate) pictures: usize,
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) dim: usize,
    pub(crate) kernel: usize,
    pub(crate) stride: usize,
}

impl Depthwise {
    /// Height and width of the output.
    fn output(self) -> [usize; 2] {
        [self.height, self.width].map(|side| side.div_ceil(self.stride))
    }

    /// The output, from `x`, `weight` `[dim, 1, k, k]` and `bias` `[dim]`.
    pub(crate) fn forward(
        self,
        rec: &mut Recorder,
        x: &wgpu::Buffer,
        weight: &wgpu::Buffer,
        bias: &wgpu::Buffer,
    ) -> Result<Buf, PoolError> {
        let [down, across] = self.output();
        let count = self.pictures * down * across * self.dim;
        let result = rec.tensor(count)?;
        let buffers = [(1, x), (2, weight), (3, &*result), (4, bias)];
        self.record(rec, ["FORWARD", "INPUT", "WEIGHT"], &buffers, count, 1)?;
        Ok(result)
    }

    /// The gradient of the input, from that of the output.
    pub(crate) fn backward(
        self,
        rec: &mut Recorder,
        out_grad: &wgpu::Buffer,
        weight: &wgpu::Buffer,
    ) -> Result<Buf, PoolError> {
        let count = self.pictures * self.height * self.width * self.dim;
        let result = rec.tensor(count)?;
        let buffers = [(1, out_grad), (2, weight), (3, &*result)];
        self.record(rec, ["INPUT", "FORWARD", "WEIGHT"], &buffers, count, 1)?;
        Ok(result)
    }

    /// The gradient of the weight in parts to be summed up, `[parts, dim, k, k]`, and their number.
    pub(crate) fn weight_parts(
        self,
        rec: &mut Recorder,
        x: &wgpu::Buffer,
        out_grad: &wgpu::Buffer,
    ) -> Result<(Buf, usize), PoolError> {
        let parts = (self.pictures * self.output()[0]).div_ceil(PART_ROWS);
        let count = parts * self.dim * self.kernel * self.kernel;
        let result = rec.tensor(count)?;
        let buffers = [(1, x), (2, out_grad), (3, &*result)];
        self.record(rec, ["WEIGHT", "FORWARD", "INPUT"], &buffers, count, PART_ROWS)?;
        Ok((result, parts))
    }

    /// The first of `which` is what is computed.
    fn record(
        self,
        rec: &mut Recorder,
        which: [&'static str; 3],
        buffers: &[(u32, &wgpu::Buffer)],
        count: usize,
        part: usize,
    ) -> Result<(), PoolError> {
        let [chosen, other, third] = which;
        let kernel = Kernel {
            name: "depthwise",
            parts: &[COMMON, include_str!("depthwise.wgsl")],
            constants: vec![(chosen, 1), (other, 0), (third, 0)],
            vector: false,
        };
        let [down, across] = self.output();
        let Self { height, width, dim, kernel: side, stride, .. } = self;
        let params = [count, height, width, dim, side, self.pictures * down, part, stride, down, across].map(word);
        for_each(rec, kernel, &params, buffers, count)
    }
}
