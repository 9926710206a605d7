//! What the rules look for around a node, and how operators read and write tensors.

use std::sync::Arc;

use tract_core::internal::*;
use tract_core::ops::array::Slice;
use tract_core::ops::binary::{BinMiniOp, TypedBinOp};

use super::halves;

/// The one node that reads `node`, if nothing else needs what `node` gives.
pub(super) fn only_reader<'m>(model: &'m TypedModel, node: &TypedNode) -> Option<&'m TypedNode> {
    let [output] = node.outputs.as_slice() else { return None };
    let [reader] = output.successors.as_slice() else { return None };
    (!model.outputs.contains(&node.id.into())).then(|| &model.nodes()[reader.node])
}

/// The other operand of `node`, if it is the operation `Op` on `outlet` and something else.
pub(super) fn other_operand<Op: BinMiniOp>(node: &TypedNode, outlet: OutletId) -> Option<OutletId> {
    let op = node.op_as::<TypedBinOp>()?;
    let [first, second] = node.inputs.as_slice() else { return None };
    match (op.0.is::<Op>(), *first == outlet, *second == outlet) {
        (true, true, false) => Some(*second),
        (true, false, true) => Some(*first),
        _ => None,
    }
}

/// A float32 constant.
pub(super) fn constant(model: &TypedModel, outlet: OutletId) -> Option<Arc<Tensor>> {
    model.outlet_fact(outlet).ok()?.konst.clone().filter(|tensor| values(tensor).is_ok())
}

/// A constant that is float32 in the graph, as it is stored: in float32 or float16.
pub(super) fn stored(model: &TypedModel, outlet: OutletId) -> Option<Arc<Tensor>> {
    constant(model, outlet).or_else(|| halves::stored(model, outlet))
}

/// The value of a float32 constant that has only one.
pub(super) fn scalar(model: &TypedModel, outlet: OutletId) -> Option<f32> {
    match values(&*constant(model, outlet)?).ok()? {
        [value] => Some(*value),
        _ => None,
    }
}

/// The one node that reads `node`, and its other operand, if it is the operation `Op` with a constant that is broadcast over
/// rows: `len` values, the last `axes` axes of a tensor.
pub(super) fn by_row<'m, Op: BinMiniOp>(
    model: &'m TypedModel,
    node: &TypedNode,
    axes: usize,
    len: usize,
) -> Option<(&'m TypedNode, Vec<f32>)> {
    let next = only_reader(model, node)?;
    let tensor = constant(model, other_operand::<Op>(next, node.id.into())?)?;
    let shape = tensor.shape();
    let row = match values(&tensor).ok()? {
        [value] => vec![*value; len],
        row if row.len() == len && shape[..shape.len().saturating_sub(axes)].iter().all(|side| *side == 1) => {
            row.to_vec()
        }
        _ => return None,
    };
    (next.outputs[0].fact.shape == node.outputs[0].fact.shape).then_some((next, row))
}

/// Whether nothing but parts of the last `axes` axes of what `node` gives is read. tract makes layers of their own of these.
pub(super) fn is_in_parts(model: &TypedModel, node: &TypedNode, axes: usize) -> bool {
    let [output] = node.outputs.as_slice() else { return false };
    let cuts = |reader: &InletId| {
        let slice = model.node(reader.node).op_as::<Slice>();
        slice.is_some_and(|slice| slice.axis + axes >= output.fact.rank())
    };
    !output.successors.is_empty() && output.successors.iter().all(cuts) && !model.outputs.contains(&node.id.into())
}

/// What puts `op` on `inputs` in the place of all nodes from these to `last`.
pub(super) fn replace(
    model: &TypedModel,
    inputs: &[OutletId],
    last: &TypedNode,
    name: &str,
    op: impl Into<Box<dyn TypedOp>>,
) -> TractResult<Option<TypedModelPatch>> {
    let mut patch = TypedModelPatch::default();
    let inputs = patch.taps(model, inputs)?;
    let out = patch.wire_node(name, op, &inputs)?;
    patch.shunt_outside(model, last.id.into(), out[0])?;
    Ok(Some(patch))
}

/// The float32 values of an operand.
pub(super) fn values(tensor: &Tensor) -> TractResult<&[f32]> {
    tensor.try_as_plain_ram()?.as_slice()
}

/// `out` with the values that `fill` gives it, as the one output of an operator.
pub(super) fn filled(mut out: Tensor, fill: impl FnOnce(&mut [f32])) -> TractResult<TVec<TValue>> {
    fill(out.try_as_plain_ram_mut()?.as_slice_mut()?);
    Ok(tvec!(out.into_tvalue()))
}
