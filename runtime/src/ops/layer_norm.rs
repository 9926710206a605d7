//! Layer normalisation in one operator.

use std::sync::Arc;

use tract_core::internal::*;
use tract_core::ops::math::{Add, Mul, Sub};
use tract_core::ops::nn::{Reduce, Reducer, RmsNorm};

use super::pattern::{by_row, filled, other_operand, replace, scalar, values};
use super::rows::{RowByRow, as_row_by_row};
use super::spare;
use crate::kernels;

/// Normalises the last axis, then scales and shifts it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct LayerNorm {
    eps: f32,
    weight: Arc<[f32]>,
    bias: Arc<[f32]>,
}

impl Eq for LayerNorm {}

impl Op for LayerNorm {
    fn name(&self) -> StaticName {
        "EdgeVitLayerNorm".into()
    }

    op_as_typed_op!();
}

impl EvalOp for LayerNorm {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let input = args_1!(inputs);
        let (out, rows, dim) = (spare::take::<f32>(input.shape())?, values(&input)?, self.weight.len());
        let outputs = filled(out, |out| {
            kernels::over_rows(out, dim, 1, |first, out| {
                kernels::run(kernels::LayerNorm {
                    input: &rows[first * dim..],
                    weight: &self.weight,
                    bias: &self.bias,
                    eps: self.eps,
                    out,
                });
            });
        })?;
        spare::keep(input);
        Ok(outputs)
    }
}

impl TypedOp for LayerNorm {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(inputs[0].without_value()))
    }

    as_row_by_row!();

    as_op!();
}

impl RowByRow for LayerNorm {
    const OPERANDS: &'static [usize] = &[0];

    fn columns(&self) -> usize {
        self.weight.len()
    }

    fn with_len(&self, _: usize, _: usize) -> Self {
        self.clone()
    }
}

/// `x - mean(x)`, its root mean square made 1, then perhaps a weight and a bias.
pub(super) fn rule(
    _: &(),
    model: &TypedModel,
    node: &TypedNode,
    name: &str,
    op: &RmsNorm,
) -> TractResult<Option<TypedModelPatch>> {
    let fact = &node.outputs[0].fact;
    let (Some(shape), true) = (fact.shape.as_concrete(), fact.datum_type == f32::datum_type()) else { return Ok(None) };
    let dim = shape[op.axis];
    if op.axis + 1 != shape.len() {
        return Ok(None);
    }
    let Some(input) = centred(model, node.inputs[0], op.axis, dim) else { return Ok(None) };
    let (mut last, mut weight, mut bias) = (node, vec![1.0; dim], vec![0.0; dim]);
    if let Some((next, values)) = by_row::<Mul>(model, last, 1, dim) {
        (last, weight) = (next, values);
    }
    if let Some((next, values)) = by_row::<Add>(model, last, 1, dim) {
        (last, bias) = (next, values);
    }
    let norm = LayerNorm { eps: op.eps.cast_to_scalar::<f32>()?, weight: weight.into(), bias: bias.into() };
    replace(model, &[input], last, name, norm)
}

/// What `outlet` is the departure of from its mean over `axis`, `dim` values long.
fn centred(model: &TypedModel, outlet: OutletId, axis: usize, dim: usize) -> Option<OutletId> {
    let difference = model.node(outlet.node);
    let input = *difference.inputs.first()?;
    let mean = model.node(other_operand::<Sub>(difference, input)?.node);
    if difference.inputs[0] != input {
        return None;
    }
    let sum = mean.inputs.iter().find_map(|input| {
        let share = scalar(model, other_operand::<Mul>(mean, *input)?)?;
        ((share * dim as f32 - 1.0).abs() < 1e-5).then(|| model.node(input.node))
    })?;
    let reduce = sum.op_as::<Reduce>()?;
    (reduce.reducer == Reducer::Sum && reduce.axes.as_slice() == [axis] && sum.inputs.as_slice() == [input])
        .then_some(input)
}
