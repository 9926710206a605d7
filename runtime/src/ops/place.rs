//! Places of an axis taken out, as a head takes the class token: nothing needs to be computed of those that nobody reads.
//! Behind the last attention of a vision transformer these are all tokens but one.

use tract_core::internal::*;
use tract_core::ops::array::{Gather, Slice};

/// A gather of one place, written as a slice, which tract moves towards the input, past what works on each place by itself.
pub(super) fn slice(
    _: &(),
    model: &TypedModel,
    node: &TypedNode,
    name: &str,
    op: &Gather,
) -> TractResult<Option<TypedModelPatch>> {
    let [input, indices] = node.inputs.as_slice() else { return Ok(None) };
    let (fact, indices) = (model.outlet_fact(*input)?, model.outlet_fact(*indices)?);
    let (Some(shape), Some(index)) = (fact.shape.as_concrete(), &indices.konst) else { return Ok(None) };
    if index.rank() != 0 || fact.konst.is_some() || op.output_type.is_some() {
        return Ok(None);
    }
    let (axis, index) = (op.axis, index.cast_to_scalar::<i64>()?);
    let start = if index < 0 { index + shape[axis] as i64 } else { index };
    if !(0..shape[axis] as i64).contains(&start) {
        return Ok(None);
    }
    let mut patch = TypedModelPatch::default();
    let input = patch.tap_model(model, *input)?;
    let slice = patch.wire_node(format!("{name}.slice"), Slice::new(axis, start, start + 1), &[input])?;
    let place = patch.wire_node(name, AxisOp::Rm(axis), &slice)?;
    patch.shunt_outside(model, node.id.into(), place[0])?;
    Ok(Some(patch))
}
