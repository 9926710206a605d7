//! Which tokens are most alike, in one operator.

use std::cell::RefCell;
use std::sync::Arc;

use tract_core::internal::*;
use tract_core::ops::array::Gather;
use tract_core::ops::einsum::EinSum;
use tract_core::ops::element_wise::ElementWiseOp;
use tract_core::ops::math::{Max, Mul, Recip, Sqrt, Square};
use tract_core::ops::nn::{Reduce, Reducer};

use super::axes::{Axis, has_axes};
use super::pattern::{other_operand, scalar, values};
use super::spare;
use crate::kernels::{self, MostSimilar, SimilarScratch};

/// For keys `[1, tokens, heads, width]`: for each token of `from` how alike the most similar one of `to` is, and which that is,
/// both `[1, from, 1]`. Alike is the product of mean keys of length 1.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SimilarTokens {
    heads: usize,
    width: usize,
    from: Arc<[usize]>,
    to: Arc<[usize]>,
    smallest: f32,
}

impl Eq for SimilarTokens {}

impl Op for SimilarTokens {
    fn name(&self) -> StaticName {
        "EdgeVitSimilarTokens".into()
    }

    op_as_typed_op!();
}

thread_local! {
    static SCRATCH: RefCell<SimilarScratch> = RefCell::new(SimilarScratch::default());
}

impl EvalOp for SimilarTokens {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let keys = args_1!(inputs);
        let shape = [1, self.from.len(), 1];
        let (mut best, mut which) = (Tensor::zero::<f32>(&shape)?, Tensor::zero::<i64>(&shape)?);
        {
            let (mut best, mut which) = (best.try_as_plain_ram_mut()?, which.try_as_plain_ram_mut()?);
            let (best, which) = (best.as_slice_mut()?, which.as_slice_mut()?);
            SCRATCH.with_borrow_mut(|scratch| {
                let Self { heads, width, ref from, ref to, smallest } = *self;
                let keys = values(&keys)?;
                kernels::run(MostSimilar { keys, heads, width, from, to, smallest, best, which, scratch });
                TractResult::Ok(())
            })?;
        }
        spare::keep(keys);
        Ok(tvec!(best.into_tvalue(), which.into_tvalue()))
    }
}

impl TypedOp for SimilarTokens {
    fn output_facts(&self, _: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let shape = [1, self.from.len(), 1];
        Ok(tvec!(f32::fact(shape), i64::fact(shape)))
    }

    as_op!();
}

/// The largest value of each row of a product, which another node reads for its place, of keys' means of length 1.
pub(super) fn rule(
    _: &(),
    model: &TypedModel,
    node: &TypedNode,
    name: &str,
    op: &Reduce,
) -> TractResult<Option<TypedModelPatch>> {
    let product = model.node(node.inputs[0].node);
    let (Reducer::Max, &[2], Some(product_op)) = (op.reducer, op.axes.as_slice(), product.op_as::<EinSum>()) else {
        return Ok(None);
    };
    let Some(which) = place_of_largest(model, product, node) else { return Ok(None) };
    let sides = product.inputs.iter().map(|side| gathered(model, *side)).collect::<Option<Vec<_>>>();
    let Some([(unit, from), (other, to)]) = sides.as_deref() else { return Ok(None) };
    let Some(keys) = (unit == other).then(|| mean_keys(model, *unit)).flatten() else { return Ok(None) };
    let MeanKeys { keys, heads, width, smallest } = keys;
    // `[from, width]` times the transpose of `[to, width]`.
    let expected = [
        Axis { len: from.len(), strides: [Some(width), None, Some(to.len())] },
        Axis { len: to.len(), strides: [None, Some(width), Some(1)] },
        Axis { len: width, strides: [Some(1), Some(1), None] },
    ];
    if !has_axes(model, product, product_op, expected)? {
        return Ok(None);
    }
    let (from, to) = (from.as_slice().into(), to.as_slice().into());
    let mut patch = TypedModelPatch::default();
    let keys = patch.tap_model(model, keys)?;
    let outputs = patch.wire_node(name, SimilarTokens { heads, width, from, to, smallest }, &[keys])?;
    patch.shunt_outside(model, node.id.into(), outputs[0])?;
    patch.shunt_outside(model, which.id.into(), outputs[1])?;
    Ok(Some(patch))
}

/// The node beside `largest` that gives the place of each row's largest value of `product`, the first of equal ones, if nothing
/// else reads that.
fn place_of_largest<'m>(model: &'m TypedModel, product: &TypedNode, largest: &TypedNode) -> Option<&'m TypedNode> {
    let [output] = product.outputs.as_slice() else { return None };
    let [one, other] = output.successors.as_slice() else { return None };
    let which = model.node(if one.node == largest.id { other.node } else { one.node });
    let op = which.op_as::<Reduce>()?;
    (op.reducer == Reducer::ArgMax(false) && op.axes.as_slice() == [2] && !model.outputs.contains(&product.id.into()))
        .then_some(which)
}

/// What `outlet` gathers by constant places of axis 1 of `[1, tokens, width]`, and the places.
fn gathered(model: &TypedModel, outlet: OutletId) -> Option<(OutletId, Vec<usize>)> {
    let node = model.node(outlet.node);
    node.op_as::<Gather>().filter(|op| op.axis == 1 && op.output_type.is_none())?;
    let &[1, tokens, _] = model.outlet_fact(node.inputs[0]).ok()?.shape.as_concrete()? else { return None };
    let places = model.outlet_fact(node.inputs[1]).ok()?.konst.clone()?;
    let places = places.cast_to::<i64>().ok()?;
    let places = places.try_as_plain_ram().ok()?.as_slice::<i64>().ok()?.to_vec();
    let place = |place: i64| usize::try_from(place).ok().filter(|place| *place < tokens);
    let places: Vec<usize> = places.into_iter().map(place).collect::<Option<_>>()?;
    (!places.is_empty()).then_some((node.inputs[0], places))
}

/// Keys, of whose means over the heads something is made of length 1.
struct MeanKeys {
    keys: OutletId,
    heads: usize,
    width: usize,
    smallest: f32,
}

/// What `unit` is the means of, by their lengths.
fn mean_keys(model: &TypedModel, unit: OutletId) -> Option<MeanKeys> {
    let node = model.node(unit.node);
    let (mean, smallest) = node.inputs.iter().find_map(|input| {
        let factor = other_operand::<Mul>(node, *input)?;
        Some((*input, smallest_length(model, factor, *input)?))
    })?;
    let narrow = model.node(mean.node);
    let (AxisOp::Rm(2), &[scaled]) = (narrow.op_as::<AxisOp>()?, narrow.inputs.as_slice()) else { return None };
    let scaled = model.node(scaled.node);
    let (sum, share) =
        scaled.inputs.iter().find_map(|input| Some((*input, scalar(model, other_operand::<Mul>(scaled, *input)?)?)))?;
    let keys = reduced(model, sum, Reducer::Sum)?;
    let &[1, _, heads, width] = model.outlet_fact(keys).ok()?.shape.as_concrete()? else { return None };
    ((share * heads as f32 - 1.0).abs() < 1e-5).then_some(MeanKeys { keys, heads, width, smallest })
}

/// What is the least that counts as a length, if `factor` is one over the lengths of `rows`.
fn smallest_length(model: &TypedModel, factor: OutletId, rows: OutletId) -> Option<f32> {
    let length = model.node(input_of::<Recip>(model, factor)?.node);
    let (root, smallest) =
        length.inputs.iter().find_map(|input| Some((*input, scalar(model, other_operand::<Max>(length, *input)?)?)))?;
    let squares = reduced(model, input_of::<Sqrt>(model, root)?, Reducer::Sum)?;
    (input_of::<Square>(model, squares)? == rows).then_some(smallest)
}

/// What `outlet` is the reduction of, over axis 2.
fn reduced(model: &TypedModel, outlet: OutletId, reducer: Reducer) -> Option<OutletId> {
    let node = model.node(outlet.node);
    let op = node.op_as::<Reduce>()?;
    (op.reducer == reducer && op.axes.as_slice() == [2]).then(|| node.inputs[0])
}

/// What `outlet` is the operation `Op` of, value by value.
fn input_of<Op: tract_core::ops::element_wise::ElementWiseMiniOp>(
    model: &TypedModel,
    outlet: OutletId,
) -> Option<OutletId> {
    let node = model.node(outlet.node);
    node.op_as::<ElementWiseOp>()?.0.is::<Op>().then(|| node.inputs[0])
}
