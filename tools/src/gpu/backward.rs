//! The backward of a micro-batch: gradients flow from the output down to the lowest trained weight and no further.

use edge_vit_models::{NodeId, Op};

use super::forward::{Walk, no_merged_tokens, value_of, width_of};
use super::kernels::elementwise::{Branch, Broadcast, activation, broadcast, residual};
use super::kernels::maps::normalize_heads;
use super::kernels::matmul::Product;
use super::kernels::tokens::{Shift, Tokens, mean_backward, shift};
use super::kernels::unfold::cut_columns;
use super::pool::{Buf, PoolError};

impl Walk<'_> {
    /// Records the backward from the output's gradient on, adding to the gradients of the trained weights. `values` are
    /// what the forward kept; the rest of what the backward reads is computed again. Each goes back to the pool as soon as nothing
    /// reads it any more, and so does each gradient.
    ///
    /// # Errors
    /// When there is no room.
    pub(crate) fn backward(&mut self, mut values: Vec<Option<Buf>>, out_grad: Buf) -> Result<(), PoolError> {
        let model = self.model;
        let mut grads: Vec<Option<Buf>> = vec![None; model.nodes.len()];
        if let Some(last) = grads.last_mut() {
            *last = Some(out_grad);
        }
        for id in (1..model.nodes.len()).rev() {
            // Only nodes behind it read its output, and they are done.
            values[id] = None;
            let grad = grads[id].take().filter(|_| model.plan.carries_grad[id]);
            if let Some(grad) = grad {
                for again in &model.plan.recompute[id] {
                    let output = self.forward_node(again.node, &values)?;
                    values[again.node] = Some(output);
                    again.done.iter().for_each(|&done| values[done] = None);
                }
                self.backward_node(id, &values, grad, &mut grads)?;
            }
        }
        Ok(())
    }

    fn backward_node(
        &mut self,
        id: NodeId,
        values: &[Option<Buf>],
        grad: Buf,
        grads: &mut [Option<Buf>],
    ) -> Result<(), PoolError> {
        let node = &self.model.nodes[id];
        let input = node.inputs[0];
        let needs = self.model.plan.needs[id];
        let shape = &self.model.plan.shapes[input];
        let count = self.pictures * self.model.plan.len(input);
        self.own_gradients(id, values, &grad)?;
        let input_grad = match &node.op {
            Op::RepAdapter { .. } => self.adapter_backward(id, values, &grad)?,
            Op::Add => return self.add_backward(id, grad, grads),
            Op::MatchTokens { .. } | Op::MergeSizes { .. } | Op::MergeTokens => {
                return Err(no_merged_tokens(node).into());
            }
            Op::Concat => return self.concat_backward(id, &grad, grads),
            _ if !needs.input_grad => None,
            Op::Input { .. } | Op::PatchEmbed { .. } => None,
            Op::Linear { out_features, .. } => Some(self.linear_input(id, &grad, *out_features)?),
            Op::InsertTokens { count, at } => {
                let source = self.tokens(&grad, &self.model.plan.shapes[id]);
                let how = Shift { result_tokens: source.tokens - count, at: *at, shift: *count as i32 };
                Some(shift(&mut self.rec, &source, how, None)?)
            }
            Op::DropTokens { count, at } => {
                let source = self.tokens(&grad, &self.model.plan.shapes[id]);
                let how = Shift { result_tokens: source.tokens + count, at: *at, shift: -(*count as i32) };
                Some(shift(&mut self.rec, &source, how, None)?)
            }
            Op::PosEmbed | Op::Grid { .. } => Some(grad),
            Op::SpaceToDepth { .. } | Op::PixelShuffle { .. } | Op::WindowPartition(_) | Op::WindowReverse(_) => {
                Some(self.moved(id, &grad, true)?)
            }
            Op::NormalizeHeads { num_heads } => {
                let x = value_of(values, input, node)?;
                let (sizes, scale) = (self.heads_of(id, *num_heads), self.model.weights.of(&node.name, "scale")?);
                Some(normalize_heads(&mut self.rec, x, scale, Some(&grad), sizes)?)
            }
            Op::Unfold { .. } => Some(self.unfold(id)?.backward(&mut self.rec, &grad)?),
            Op::DepthwiseConv { .. } => {
                let weight = self.model.weights.of(&node.name, "weight")?;
                Some(self.depthwise(id)?.backward(&mut self.rec, &grad, weight)?)
            }
            Op::GlobalResponseNorm => {
                let x = value_of(values, input, node)?;
                Some(self.response_norm(id, x)?.backward(&mut self.rec, &grad)?)
            }
            Op::LayerNorm { eps } => {
                let x = value_of(values, input, node)?;
                Some(self.norm(id, x, *eps)?.backward(&mut self.rec, &grad)?)
            }
            Op::Act(function) => {
                let x = value_of(values, input, node)?;
                Some(activation(&mut self.rec, *function, x, Some(&grad), count)?)
            }
            Op::AttentionPool { num_heads, scale } => {
                let kv = value_of(values, input, node)?;
                Some(self.attention_pool(id, kv, *num_heads, *scale)?.backward(&mut self.rec, &grad)?)
            }
            Op::Attention { num_heads, scale }
            | Op::CausalAttention { num_heads, scale }
            | Op::WindowAttention { num_heads, scale, .. } => {
                let qkv = value_of(values, input, node)?;
                Some(self.attention(id, qkv, *num_heads, *scale).backward(&mut self.rec, &grad)?)
            }
            Op::LayerScale => {
                let gamma = self.model.weights.of(&node.name, "gamma")?;
                Some(broadcast(&mut self.rec, Broadcast::Multiply, &grad, gamma, count, width_of(shape))?)
            }
            Op::TakeClassToken => {
                let source = Tokens { values: &grad, pictures: self.pictures, tokens: 1, width: width_of(shape) };
                let how = Shift { result_tokens: shape[0], at: shape[0], shift: 0 };
                Some(shift(&mut self.rec, &source, how, None)?)
            }
            Op::MeanTokens { skip } => {
                let source = self.tokens(&grad, shape);
                Some(mean_backward(&mut self.rec, &source, *skip)?)
            }
        };
        match input_grad {
            Some(input_grad) => self.add_grad(grads, input, input_grad),
            None => Ok(()),
        }
    }

    /// The trunk takes the gradient as it is, the branch with its factor.
    fn add_backward(&mut self, id: NodeId, grad: Buf, grads: &mut [Option<Buf>]) -> Result<(), PoolError> {
        let &[trunk, branch] = self.model.nodes[id].inputs.as_slice() else { return Ok(()) };
        if self.model.plan.carries_grad[branch] {
            let dropped = self.branch(id, &grad);
            let branch_grad = match dropped.drop {
                Some(_) => residual(&mut self.rec, None, &dropped)?,
                None => grad.clone(),
            };
            self.add_grad(grads, branch, branch_grad)?;
        }
        if self.model.plan.carries_grad[trunk] { self.add_grad(grads, trunk, grad) } else { Ok(()) }
    }

    /// Each input takes its columns of the gradient.
    fn concat_backward(&mut self, id: NodeId, grad: &Buf, grads: &mut [Option<Buf>]) -> Result<(), PoolError> {
        let plan = &self.model.plan;
        let whole = width_of(&plan.shapes[id]);
        let rows = self.pictures * plan.len(id) / whole;
        let mut start = 0;
        for &input in &self.model.nodes[id].inputs {
            let width = width_of(&plan.shapes[input]);
            if plan.carries_grad[input] {
                let part = cut_columns(&mut self.rec, grad, whole, start, [rows, width])?;
                self.add_grad(grads, input, part)?;
            }
            start += width;
        }
        Ok(())
    }

    /// Adds a reader's contribution to the gradient of the output of `id`.
    fn add_grad(&mut self, grads: &mut [Option<Buf>], id: NodeId, grad: Buf) -> Result<(), PoolError> {
        grads[id] = Some(match grads[id].take() {
            None => grad,
            Some(earlier) => {
                let picture_len = self.model.plan.len(id);
                let branch =
                    Branch { values: &grad, pictures: self.pictures, picture_len, first_picture: 0, drop: None };
                residual(&mut self.rec, Some(&earlier), &branch)?
            }
        });
        Ok(())
    }

    fn linear_input(&mut self, id: NodeId, grad: &Buf, out_features: usize) -> Result<Buf, PoolError> {
        let node = &self.model.nodes[id];
        let in_features = width_of(&self.model.plan.shapes[node.inputs[0]]);
        let (weight, half) = self.model.weights.matrix(&node.name)?;
        Product {
            a: grad,
            a_transposed: false,
            b: weight,
            b_transposed: false,
            m: self.pictures * self.model.plan.len(id) / out_features,
            n: in_features,
            k: out_features,
            bias: None,
            addend: None,
            half,
        }
        .record(&mut self.rec)
    }
}
