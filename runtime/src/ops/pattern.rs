//! What the rules look for around a node.

use std::sync::Arc;

use tract_core::internal::*;
use tract_core::ops::binary::{BinMiniOp, TypedBinOp};

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

/// The values of a float32 constant.
pub(super) fn constant(model: &TypedModel, outlet: OutletId) -> Option<(Arc<Tensor>, Vec<f32>)> {
    let tensor = model.outlet_fact(outlet).ok()?.konst.clone()?;
    let values = tensor.try_as_plain_ram().ok()?.as_slice::<f32>().ok()?.to_vec();
    Some((tensor, values))
}

/// The value of a float32 constant that has only one.
pub(super) fn scalar(model: &TypedModel, outlet: OutletId) -> Option<f32> {
    match constant(model, outlet)?.1.as_slice() {
        [value] => Some(*value),
        _ => None,
    }
}

/// The values of a constant that is broadcast over rows of `len` values, in a tensor whose last `axes` axes make a row.
pub(super) fn row(model: &TypedModel, outlet: OutletId, axes: usize, len: usize) -> Option<Vec<f32>> {
    let (tensor, values) = constant(model, outlet)?;
    let shape = tensor.shape();
    match values.as_slice() {
        [value] => Some(vec![*value; len]),
        _ if values.len() == len && shape[..shape.len().saturating_sub(axes)].iter().all(|side| *side == 1) => {
            Some(values)
        }
        _ => None,
    }
}

/// The float32 values of an operand.
pub(super) fn values(tensor: &Tensor) -> TractResult<&[f32]> {
    tensor.try_as_plain_ram()?.as_slice()
}
