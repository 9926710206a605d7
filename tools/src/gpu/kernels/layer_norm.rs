//! LayerNorm, the gradient of its input, and what its weight's gradient sums up.

use super::{COMMON, Kernel, lines, word};
use crate::gpu::pool::{Buf, PoolError};
use crate::gpu::recorder::Recorder;

/// The input `[rows, width]` with the `weight` and the epsilon.
pub(crate) struct Norm<'a> {
    pub(crate) x: &'a wgpu::Buffer,
    pub(crate) weight: &'a wgpu::Buffer,
    pub(crate) rows: usize,
    pub(crate) width: usize,
    pub(crate) eps: f32,
}

/// What is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Forward,
    InputGrad,
    WeightProducts,
}

impl Norm<'_> {
    /// The normalised input.
    pub(crate) fn forward(&self, rec: &mut Recorder, bias: &wgpu::Buffer) -> Result<Buf, PoolError> {
        self.record(rec, bias, Part::Forward)
    }

    /// The gradient of the input, from that of the output.
    pub(crate) fn backward(&self, rec: &mut Recorder, out_grad: &wgpu::Buffer) -> Result<Buf, PoolError> {
        self.record(rec, out_grad, Part::InputGrad)
    }

    /// The products of the output's gradient and the normalised input, `[rows, width]`: their columns' sums are the
    /// gradient of the weight.
    pub(crate) fn weight_products(&self, rec: &mut Recorder, out_grad: &wgpu::Buffer) -> Result<Buf, PoolError> {
        self.record(rec, out_grad, Part::WeightProducts)
    }

    fn record(&self, rec: &mut Recorder, other: &wgpu::Buffer, part: Part) -> Result<Buf, PoolError> {
        let result = rec.tensor(self.rows * self.width)?;
        let (lines, vector) = lines(self.width);
        let tuning = rec.gpu.tuning;
        let shared = tuning.norm_lanes > 1;
        let workgroup = if shared { tuning.norm_lanes } else { tuning.lanes };
        let kernel = Kernel {
            name: "layer_norm",
            parts: &[COMMON, include_str!("layer_norm.wgsl")],
            constants: vec![
                ("WORKGROUP", workgroup),
                ("LANES", tuning.norm_lanes),
                ("SHARED", u32::from(shared)),
                ("VEC", u32::from(vector)),
                ("FORWARD", u32::from(part == Part::Forward)),
                ("INPUT_GRAD", u32::from(part == Part::InputGrad)),
            ],
            vector,
        };
        let params = [word(self.rows), word(self.width), word(lines), self.eps.to_bits()];
        let groups = if shared { self.rows } else { self.rows.div_ceil(workgroup as usize) };
        let mut buffers = vec![(1, self.x), (3, other), (4, &*result)];
        buffers.extend((part != Part::WeightProducts).then_some((2, self.weight)));
        rec.dispatch(&kernel, &params, &buffers, groups)?;
        Ok(result)
    }
}
