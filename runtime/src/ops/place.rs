//! Places of an axis taken out, as a head takes the class token: nothing needs to be computed of those that nobody reads.
//! Behind the last attention of a vision transformer these are all tokens but one.

use tract_core::internal::*;
use tract_core::ops::array::{Gather, Slice};
use tract_core::ops::nn::Softmax;

use super::pattern::only_reader;

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

/// Moves a slice before the node that it alone reads: before a softmax over other axes, where tract leaves it, and from
/// there on before whatever tract can move it.
pub(super) fn ahead(
    _: &(),
    model: &TypedModel,
    node: &TypedNode,
    name: &str,
    op: &Slice,
) -> TractResult<Option<TypedModelPatch>> {
    let before = model.node(node.inputs[0].node);
    if only_reader(model, before).is_none() {
        return Ok(None);
    }
    let (inputs, outputs) = model.node_facts(before.id)?;
    let mapping = before.op.axes_mapping(&inputs, &outputs)?;
    let axis = mapping.axis((InOut::Out(0), op.axis))?;
    let mut patch = TypedModelPatch::default();
    let mut sliced = tvec!();
    for (slot, (input, fact)) in before.inputs.iter().zip(&inputs).enumerate() {
        let mut wire = patch.tap_model(model, *input)?;
        match axis.inputs[slot].as_slice() {
            [] => {}
            [axis] if fact.shape[*axis].is_one() => {}
            [axis] => {
                let slice = Slice { axis: *axis, ..op.clone() };
                wire = patch.wire_node(format!("{name}.{}.{slot}", before.name), slice, &[wire])?[0];
            }
            _ => return Ok(None),
        }
        sliced.push(wire);
    }
    let out = match before.op_as::<Softmax>() {
        Some(softmax) if softmax.axes.contains(&op.axis) => None,
        Some(softmax) => Some(patch.wire_node(&before.name, softmax.clone(), &sliced)?),
        None => before.op.slice(&mut patch, model, before, &before.name, &sliced, op.axis, &op.start, &op.end)?,
    };
    let Some(out) = out else { return Ok(None) };
    patch.shunt_outside(model, node.id.into(), out[0])?;
    Ok(Some(patch))
}
