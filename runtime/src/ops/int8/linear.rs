//! A quantised linear layer in one operator, with what follows it.

use std::cell::RefCell;
use std::sync::Arc;

use tract_core::internal::*;
use tract_core::ops::binary::TypedBinOp;
use tract_core::ops::cast::Cast;
use tract_core::ops::change_axes::AxisOp;
use tract_core::ops::math::Mul;

use super::product::IntegerProduct;
use crate::HalfProducts;
use crate::kernels::int8::{Product, Quantization, Scratch, Weights};
use crate::kernels::{self, Activation};
use crate::ops::following::Following;
use crate::ops::pattern::{constant, filled, is_in_parts, only_reader, other_operand, replace, values};
use crate::ops::rows::{RowByRow, as_row_by_row};
use crate::ops::spare;

/// `activation(s t (x - z) W + b)`, or `r + s t (x - z) W + b` where it has a fourth input `r`.
///
/// The inputs are the quantised values `x`, uint8, their scale `s`, float32, and their zero point `z`, uint8; `t` are the
/// scales of the weights' columns.
#[derive(Debug, Clone)]
pub(in crate::ops) struct QuantizedLinear {
    weights: Arc<Weights>,
    activation: Activation,
    shape: TVec<usize>,
}

impl QuantizedLinear {
    /// The name of its kernel.
    pub(in crate::ops) fn kernel(&self) -> &'static str {
        self.weights.name()
    }
}

impl PartialEq for QuantizedLinear {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.weights, &other.weights) && self.activation == other.activation && self.shape == other.shape
    }
}

impl Eq for QuantizedLinear {}

impl Op for QuantizedLinear {
    fn name(&self) -> StaticName {
        "EdgeVitQuantizedLinear".into()
    }

    op_as_typed_op!();
}

thread_local! {
    /// The packed input, which no two layers of a thread need at once.
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch::default());
}

impl EvalOp for QuantizedLinear {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext, mut inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let residual = (inputs.len() > 3).then(|| inputs.pop()).flatten();
        let accumulate = residual.is_some();
        let (input, scale, zero) = args_3!(inputs);
        let out = match residual {
            Some(residual) => residual.into_tensor(),
            None => spare::take::<f32>(&self.shape)?,
        };
        let (plain, zero) = (input.try_as_plain_ram()?, zero.try_as_plain_ram()?);
        let (rows, zero) = (plain.as_slice::<u8>()?, zero.as_slice::<u8>()?);
        let ([scale], [zero]) = (values(&scale)?, zero) else { bail!("there is one scale and one zero point") };
        let quantization = Quantization { scale: *scale, zero: *zero };
        let (depth, columns) = (self.weights.depth(), self.weights.columns());
        ensure!(out.len() / columns * depth == rows.len());
        let outputs = filled(out, |out| {
            kernels::over_rows(out, columns, self.weights.rows(), |first, out| {
                SCRATCH.with_borrow_mut(|scratch| {
                    let product = Product {
                        input: &rows[first * depth..],
                        quantization,
                        weights: &self.weights,
                        activation: self.activation,
                        accumulate,
                        out,
                        scratch,
                    };
                    product.run();
                });
            });
        })?;
        spare::keep(input);
        Ok(outputs)
    }
}

impl TypedOp for QuantizedLinear {
    fn output_facts(&self, _: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(f32::fact(&self.shape)))
    }

    as_row_by_row!();

    as_op!();
}

impl RowByRow for QuantizedLinear {
    const OPERANDS: &'static [usize] = &[0, 3];

    fn columns(&self) -> usize {
        self.weights.columns()
    }

    fn with_len(&self, axis: usize, len: usize) -> Self {
        let mut part = self.clone();
        part.shape[axis] = len;
        part
    }
}

/// A product with weights, converted to float32 and scaled; then what follows a linear layer.
pub(in crate::ops) fn rule(
    _: &HalfProducts,
    model: &TypedModel,
    node: &TypedNode,
    name: &str,
    _: &IntegerProduct,
) -> TractResult<Option<TypedModelPatch>> {
    let [input, weights, zero] = *node.inputs.as_slice() else { return Ok(None) };
    let Some(shape) = node.outputs[0].fact.shape.as_concrete() else { return Ok(None) };
    let Some(weights) = &model.outlet_fact(weights)?.konst else { return Ok(None) };
    let [depth, columns] = *weights.shape() else { return Ok(None) };
    if depth == 0 || columns == 0 {
        return Ok(None);
    }
    let Some((scaled, scale, scales)) = scaled(model, node, columns) else { return Ok(None) };
    let following = Following::of(model, scaled, 1, columns)?;
    if is_in_parts(model, following.last, 1) {
        return Ok(None);
    }

    let weights = weights.try_as_plain_ram()?;
    let weights = weights.as_slice::<i8>()?;
    let Some(weights) = Weights::pack(weights, columns) else { return Ok(None) };
    let scales: Vec<f32> = scales.iter().zip(&following.scale).map(|(scale, factor)| scale * factor).collect();
    let weights = Arc::new(weights.scaled(&scales, &following.bias));
    let inputs: Vec<_> = [input, scale, zero].into_iter().chain(following.residual).collect();
    let op = QuantizedLinear { weights, activation: following.activation, shape: shape.into() };
    replace(model, &inputs, following.last, name, op)
}

/// The node that gives the product of `node` in float32 and scaled, the scale of the values, and those of the columns.
fn scaled<'m>(model: &'m TypedModel, node: &TypedNode, columns: usize) -> Option<(&'m TypedNode, OutletId, Vec<f32>)> {
    let cast = only_reader(model, node)?;
    cast.op_as::<Cast>().filter(|cast| cast.to == f32::datum_type())?;
    let last = only_reader(model, cast)?;
    let factors = other_operand::<Mul>(last, cast.id.into())?;
    let shape = model.outlet_fact(factors).ok()?.shape.as_concrete()?;
    let (width, rest) = shape.split_last()?;
    if last.outputs[0].fact.shape != node.outputs[0].fact.shape || rest.iter().any(|side| *side != 1) {
        return None;
    }
    let product = model.node(without_axes(model, factors).node);
    product.op_as::<TypedBinOp>().filter(|op| op.0.is::<Mul>())?;
    let [first, second] = *product.inputs.as_slice() else { return None };
    [(first, second), (second, first)].into_iter().find_map(|(scale, scales)| {
        let scale = without_axes(model, scale);
        let fact = model.outlet_fact(scale).ok()?;
        let scales = constant(model, scales)?;
        let scales = match values(&scales).ok()? {
            [one] => vec![*one; columns],
            scales if scales.len() == columns && *width == columns => scales.to_vec(),
            _ => return None,
        };
        (fact.datum_type == f32::datum_type() && fact.shape.volume().is_one()).then_some((last, scale, scales))
    })
}

/// Where a tensor comes from before it was given other axes.
fn without_axes(model: &TypedModel, mut outlet: OutletId) -> OutletId {
    while model.node(outlet.node).op_is::<AxisOp>() {
        outlet = model.node(outlet.node).inputs[0];
    }
    outlet
}
