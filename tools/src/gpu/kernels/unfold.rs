//! Convolutions as matrix products: what a kernel covers as rows; and rows side by side.

use super::{COMMON, Kernel, for_each, word};
use crate::gpu::pool::{Buf, PoolError};
use crate::gpu::recorder::Recorder;

/// The places that a kernel covers, of `pictures` maps `[height, width, channels]` or pixels `[channels, height, width]`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unfold {
    pub(crate) pictures: usize,
    pub(crate) channels: usize,
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) from_pixels: bool,
    /// Side of the kernel.
    pub(crate) kernel: usize,
    pub(crate) stride: usize,
    /// Zeros on each side of the input.
    pub(crate) around: usize,
}

impl Unfold {
    /// Patches that do not overlap.
    pub(crate) fn patches(pictures: usize, [channels, height, width]: [usize; 3], patch: usize) -> Self {
        Self { pictures, channels, height, width, from_pixels: true, kernel: patch, stride: patch, around: 0 }
    }

    /// Height and width of the output.
    fn output(self) -> [usize; 2] {
        [self.height, self.width].map(|side| (side + 2 * self.around - self.kernel) / self.stride + 1)
    }

    /// Rows `[pictures down across, channels k k]`.
    pub(crate) fn forward(self, rec: &mut Recorder, x: &wgpu::Buffer) -> Result<Buf, PoolError> {
        let [down, across] = self.output();
        let count = self.pictures * down * across * self.channels * self.kernel * self.kernel;
        self.record(rec, x, count, false)
    }

    /// The gradient of the input from that of the rows.
    pub(crate) fn backward(self, rec: &mut Recorder, out_grad: &wgpu::Buffer) -> Result<Buf, PoolError> {
        self.record(rec, out_grad, self.pictures * self.channels * self.height * self.width, true)
    }

    fn record(self, rec: &mut Recorder, source: &wgpu::Buffer, count: usize, backward: bool) -> Result<Buf, PoolError> {
        let result = rec.tensor(count)?;
        let kernel = Kernel {
            name: "unfold",
            parts: &[COMMON, include_str!("unfold.wgsl")],
            constants: vec![("BACKWARD", u32::from(backward))],
            vector: false,
        };
        let ([down, across], Self { channels, height, width, .. }) = (self.output(), self);
        let [by_channel, by_place] = if self.from_pixels { [height * width, 1] } else { [1, channels] };
        let sizes = [count, channels, height, width, self.kernel, self.stride, self.around];
        let params = sizes.into_iter().chain([down, across, by_channel, by_place]).map(word);
        for_each(rec, kernel, &params.collect::<Vec<_>>(), &[(1, source), (2, &result)], count)?;
        Ok(result)
    }
}

/// `a` and `b`, `rows` of each, side by side; the second of each pair is a row's width.
pub(crate) fn concat(
    rec: &mut Recorder,
    (a, a_width): (&wgpu::Buffer, usize),
    (b, b_width): (&wgpu::Buffer, usize),
    rows: usize,
) -> Result<Buf, PoolError> {
    let whole = a_width + b_width;
    let result = rec.tensor(rows * whole)?;
    columns(rec, (a, a_width, 0), (&result, whole, 0), rows, a_width)?;
    columns(rec, (b, b_width, 0), (&result, whole, a_width), rows, b_width)?;
    Ok(result)
}

/// `width` columns of `rows` of `whole` values each, from column `start` on.
pub(crate) fn cut_columns(
    rec: &mut Recorder,
    source: &wgpu::Buffer,
    whole: usize,
    start: usize,
    [rows, width]: [usize; 2],
) -> Result<Buf, PoolError> {
    let result = rec.tensor(rows * width)?;
    columns(rec, (source, whole, start), (&result, width, 0), rows, width)?;
    Ok(result)
}

/// Copies `width` columns; each side is a buffer, a row's width and the first column.
fn columns(
    rec: &mut Recorder,
    (from, from_width, from_start): (&wgpu::Buffer, usize, usize),
    (to, to_width, to_start): (&wgpu::Buffer, usize, usize),
    rows: usize,
    width: usize,
) -> Result<(), PoolError> {
    let kernel = Kernel {
        name: "columns",
        parts: &[COMMON, include_str!("columns.wgsl")],
        constants: Vec::new(),
        vector: false,
    };
    let params = [rows * width, width, from_width, from_start, to_width, to_start].map(word);
    for_each(rec, kernel, &params, &[(1, from), (2, to)], rows * width)
}
