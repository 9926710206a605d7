//! RepAdapter as matrix products: `y = x + D (dropout(A x + a)) + s b` with `D` the dense, scaled form of the grouped B.

use super::elementwise::dropout;
use super::matmul::Product;
use super::reduce::{Parts, accumulate, column_sums};
use super::{COMMON, Drop, Kernel, for_each, word};
use crate::gpu::pool::{Buf, PoolError};
use crate::gpu::recorder::Recorder;

/// An adapter over `rows` tokens of `width` values.
pub(crate) struct Adapter<'a> {
    /// `[hidden, width]`.
    pub(crate) a_weight: &'a wgpu::Buffer,
    /// `[hidden]`.
    pub(crate) a_bias: &'a wgpu::Buffer,
    /// `[width, hidden / groups]`.
    pub(crate) b_weight: &'a wgpu::Buffer,
    /// `[width]`.
    pub(crate) b_bias: &'a wgpu::Buffer,
    pub(crate) rows: usize,
    pub(crate) width: usize,
    pub(crate) hidden: usize,
    pub(crate) groups: usize,
    pub(crate) scale: f32,
    /// Dropout of the hidden units, and the index in the whole batch of the first of them.
    pub(crate) drop: Option<(Drop, u32)>,
}

/// Where the gradients of an adapter's weights are summed up.
pub(crate) struct AdapterGrads<'a> {
    pub(crate) a_weight: &'a wgpu::Buffer,
    pub(crate) a_bias: &'a wgpu::Buffer,
    pub(crate) b_weight: &'a wgpu::Buffer,
    pub(crate) b_bias: &'a wgpu::Buffer,
}

impl Adapter<'_> {
    /// The output for `x`.
    pub(crate) fn forward(&self, rec: &mut Recorder, x: &wgpu::Buffer) -> Result<Buf, PoolError> {
        let hidden = self.hidden_units(rec, x)?;
        let (dense, scaled_bias) = self.dense(rec)?;
        Product {
            a: &hidden,
            a_transposed: false,
            b: &dense,
            b_transposed: true,
            m: self.rows,
            n: self.width,
            k: self.hidden,
            bias: Some(&scaled_bias),
            addend: Some(x),
            half: false,
        }
        .record(rec)
    }

    /// From the input and the gradient of the output: adds to the weights' gradients where they are wanted, and gives
    /// the gradient of the input where that is wanted.
    pub(crate) fn backward(
        &self,
        rec: &mut Recorder,
        x: Option<&wgpu::Buffer>,
        out_grad: &wgpu::Buffer,
        grads: Option<&AdapterGrads<'_>>,
        wants_input: bool,
    ) -> Result<Option<Buf>, PoolError> {
        let (dense, _) = self.dense(rec)?;
        let product = Product {
            a: out_grad,
            a_transposed: false,
            b: &dense,
            b_transposed: false,
            m: self.rows,
            n: self.hidden,
            k: self.width,
            bias: None,
            addend: None,
            half: false,
        };
        let kept_grad = product.record(rec)?;
        let hidden_grad = self.dropped(rec, kept_grad)?;
        if let (Some(x), Some(grads)) = (x, grads) {
            self.weight_grads(rec, x, &hidden_grad, out_grad, grads)?;
        }
        if !wants_input {
            return Ok(None);
        }
        let product = Product {
            a: &hidden_grad,
            a_transposed: false,
            b: self.a_weight,
            b_transposed: false,
            m: self.rows,
            n: self.width,
            k: self.hidden,
            bias: None,
            addend: Some(out_grad),
            half: false,
        };
        product.record(rec).map(Some)
    }

    fn weight_grads(
        &self,
        rec: &mut Recorder,
        x: &wgpu::Buffer,
        hidden_grad: &wgpu::Buffer,
        out_grad: &wgpu::Buffer,
        grads: &AdapterGrads<'_>,
    ) -> Result<(), PoolError> {
        let over_rows = |a, m, b, n| Product {
            a,
            a_transposed: true,
            b,
            b_transposed: false,
            m,
            n,
            k: self.rows,
            bias: None,
            addend: None,
            half: false,
        };
        let (values, chunks) = over_rows(hidden_grad, self.hidden, x, self.width).record_split(rec)?;
        let parts = Parts { values: &values, chunks, rows: self.hidden, columns: self.width, groups: 1 };
        accumulate(rec, &parts, 1.0, grads.a_weight)?;
        let (values, chunks) = column_sums(rec, hidden_grad, self.rows, self.hidden)?;
        let parts = Parts { values: &values, chunks, rows: 1, columns: self.hidden, groups: 1 };
        accumulate(rec, &parts, 1.0, grads.a_bias)?;

        let hidden = self.hidden_units(rec, x)?;
        let (values, chunks) = over_rows(out_grad, self.width, &hidden, self.hidden).record_split(rec)?;
        let columns = self.hidden / self.groups;
        let parts = Parts { values: &values, chunks, rows: self.width, columns, groups: self.groups };
        accumulate(rec, &parts, self.scale, grads.b_weight)?;
        let (values, chunks) = column_sums(rec, out_grad, self.rows, self.width)?;
        let parts = Parts { values: &values, chunks, rows: 1, columns: self.width, groups: 1 };
        accumulate(rec, &parts, self.scale, grads.b_bias)
    }

    /// `dropout(A x + a)`, `[rows, hidden]`.
    fn hidden_units(&self, rec: &mut Recorder, x: &wgpu::Buffer) -> Result<Buf, PoolError> {
        let product = Product {
            a: x,
            a_transposed: false,
            b: self.a_weight,
            b_transposed: true,
            m: self.rows,
            n: self.hidden,
            k: self.width,
            bias: Some(self.a_bias),
            addend: None,
            half: false,
        };
        let hidden = product.record(rec)?;
        self.dropped(rec, hidden)
    }

    fn dropped(&self, rec: &mut Recorder, hidden: Buf) -> Result<Buf, PoolError> {
        match self.drop {
            Some((drop, first_index)) => dropout(rec, &hidden, self.rows * self.hidden, first_index, drop),
            None => Ok(hidden),
        }
    }

    /// `D` `[width, hidden]` and `s b` `[width]`.
    fn dense(&self, rec: &mut Recorder) -> Result<(Buf, Buf), PoolError> {
        let dense = rec.tensor(self.width * self.hidden)?;
        let scaled_bias = rec.tensor(self.width)?;
        let kernel = Kernel {
            name: "expand",
            parts: &[COMMON, include_str!("expand.wgsl")],
            constants: Vec::new(),
            vector: false,
        };
        let params = [word(self.width), word(self.hidden), word(self.groups), self.scale.to_bits()];
        let buffers = [(1, self.b_weight), (2, self.b_bias), (3, &*dense), (4, &*scaled_bias)];
        for_each(rec, kernel, &params, &buffers, self.width * self.hidden)?;
        Ok((dense, scaled_bias))
    }
}
