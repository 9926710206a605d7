//! The gradients of weights, added to what earlier micro-batches left.

use edge_vit_models::{NodeId, Op};

use super::forward::{Walk, value_of, width_of};
use super::kernels::adapter::AdapterGrads;
use super::kernels::elementwise::{Broadcast, broadcast};
use super::kernels::matmul::Product;
use super::kernels::reduce::{Parts, accumulate, column_sums};
use super::kernels::tokens::{Shift, shift};
use super::kernels::unfold::Unfold;
use super::pool::{Buf, PoolError};
use crate::engine::EngineError;

impl Walk<'_> {
    /// Records the gradients of the trained weights of the node at `id`, a RepAdapter's left out, from that of its output.
    ///
    /// # Errors
    /// When there is no room.
    pub(crate) fn own_gradients(&mut self, id: NodeId, values: &[Option<Buf>], grad: &Buf) -> Result<(), PoolError> {
        let model = self.model;
        let node = &model.nodes[id];
        if !model.plan.trains[id] || matches!(node.op, Op::RepAdapter { .. }) {
            return Ok(());
        }
        let input = node.inputs[0];
        let wants = |param: usize| model.plan.trained[id].get(param) == Some(&true);
        let shape = &model.plan.shapes[input];
        let width = width_of(&model.plan.shapes[id]);
        let count = self.pictures * model.plan.len(id);
        match &node.op {
            Op::Linear { .. } => {
                if wants(0) {
                    let x = value_of(values, input, node)?;
                    self.matrix_gradient(id, x, grad, width_of(shape))?;
                }
                if wants(1) {
                    self.sum_into(&format!("{}.bias", node.name), grad, count / width, width)?;
                }
            }
            Op::PatchEmbed { patch_size, tubelets, .. } => {
                if let (true, &[channels, height, across]) = (wants(0), shape.as_slice()) {
                    let x = value_of(values, input, node)?;
                    let (pictures, channels) = (self.pictures * tubelets, channels / tubelets);
                    let patches = Unfold::patches(pictures, [channels, height, across], *patch_size);
                    let rows = patches.forward(&mut self.rec, x)?;
                    self.matrix_gradient(id, &rows, grad, channels * patch_size * patch_size)?;
                }
                if wants(1) {
                    self.sum_into(&format!("{}.bias", node.name), grad, count / width, width)?;
                }
            }
            Op::LayerNorm { eps } => {
                if wants(0) {
                    let x = value_of(values, input, node)?;
                    let products = self.norm(id, x, *eps)?.weight_products(&mut self.rec, grad)?;
                    self.sum_into(&format!("{}.weight", node.name), &products, count / width, width)?;
                }
                if wants(1) {
                    self.sum_into(&format!("{}.bias", node.name), grad, count / width, width)?;
                }
            }
            Op::DepthwiseConv { kernel_size, .. } => {
                if wants(0) {
                    let x = value_of(values, input, node)?;
                    let (parts, chunks) = self.depthwise(id)?.weight_parts(&mut self.rec, x, grad)?;
                    let columns = width * kernel_size * kernel_size;
                    let parts = Parts { values: &parts, chunks, rows: 1, columns, groups: 1 };
                    accumulate(&mut self.rec, &parts, 1.0, model.weights.grad(&node.name, "weight")?)?;
                }
                if wants(1) {
                    self.sum_into(&format!("{}.bias", node.name), grad, count / width, width)?;
                }
            }
            Op::GlobalResponseNorm => {
                if wants(0) {
                    let x = value_of(values, input, node)?;
                    let products = self.response_norm(id, x)?.weight_products(&mut self.rec, grad)?;
                    self.sum_into(&format!("{}.weight", node.name), &products, count / width, width)?;
                }
                if wants(1) {
                    self.sum_into(&format!("{}.bias", node.name), grad, count / width, width)?;
                }
            }
            Op::LayerScale => {
                let x = value_of(values, input, node)?;
                let products = broadcast(&mut self.rec, Broadcast::Multiply, x, grad, count, count)?;
                self.sum_into(&format!("{}.gamma", node.name), &products, count / width, width)?;
            }
            Op::PosEmbed => self.sum_into(&node.name, grad, self.pictures, model.plan.len(id))?,
            Op::InsertTokens { count, at } => {
                let source = self.tokens(grad, &model.plan.shapes[id]);
                let how = Shift { result_tokens: *count, at: 0, shift: *at as i32 };
                let inserted = shift(&mut self.rec, &source, how, None)?;
                self.sum_into(&node.name, &inserted, self.pictures, count * width)?;
            }
            op => {
                let name = node.name.clone();
                return Err(EngineError::NotTrainable { name, op: op.name() }.into());
            }
        }
        Ok(())
    }

    /// `grad^T x` into the gradient of the weight of the node at `id`; `x` `[rows, in_features]`.
    fn matrix_gradient(&mut self, id: NodeId, x: &Buf, grad: &Buf, in_features: usize) -> Result<(), PoolError> {
        let node = &self.model.nodes[id];
        let out_features = width_of(&self.model.plan.shapes[id]);
        let product = Product {
            a: grad,
            a_transposed: true,
            b: x,
            b_transposed: false,
            m: out_features,
            n: in_features,
            k: self.pictures * self.model.plan.len(id) / out_features,
            bias: None,
            addend: None,
            half: false,
        };
        let (values, chunks) = product.record_split(&mut self.rec)?;
        let parts = Parts { values: &values, chunks, rows: out_features, columns: in_features, groups: 1 };
        accumulate(&mut self.rec, &parts, 1.0, self.model.weights.grad(&node.name, "weight")?)
    }

    /// The sums of the columns of `values` `[rows, columns]` into the gradient of the weight `name`.
    fn sum_into(&mut self, name: &str, values: &Buf, rows: usize, columns: usize) -> Result<(), PoolError> {
        let (values, chunks) = column_sums(&mut self.rec, values, rows, columns)?;
        let parts = Parts { values: &values, chunks, rows: 1, columns, groups: 1 };
        accumulate(&mut self.rec, &parts, 1.0, self.model.weights.grad_named(name)?)
    }

    /// Records the backward of the adapter at `id`: the gradients of its weights, and that of its input where it is needed.
    ///
    /// # Errors
    /// When there is no room.
    pub(crate) fn adapter_backward(
        &mut self,
        id: NodeId,
        values: &[Option<Buf>],
        grad: &Buf,
    ) -> Result<Option<Buf>, PoolError> {
        let model = self.model;
        let node = &model.nodes[id];
        let weights = &model.weights;
        let wants_input = model.plan.needs[id].input_grad;
        let adapter = self.adapter(id)?;
        if !model.plan.trains[id] {
            return adapter.backward(&mut self.rec, None, grad, None, wants_input);
        }
        let grads = AdapterGrads {
            a_weight: weights.grad(&node.name, "adapter_A.weight")?,
            a_bias: weights.grad(&node.name, "adapter_A.bias")?,
            b_weight: weights.grad(&node.name, "adapter_B.weight")?,
            b_bias: weights.grad(&node.name, "adapter_B.bias")?,
        };
        let x = value_of(values, node.inputs[0], node)?;
        adapter.backward(&mut self.rec, Some(x), grad, Some(&grads), wants_input)
    }
}
