//! Operators that work on each row by itself: slices of rows can go ahead of them.

use tract_core::internal::*;

/// Which axes of the operands in `slots` are the output's, for an operator whose rows have `columns` values: those before a row's, as
/// far as an operand has the same.
pub(super) fn mapping(
    inputs: &[&TypedFact],
    outputs: &[&TypedFact],
    slots: &[usize],
    columns: usize,
) -> TractResult<AxesMapping> {
    let mut mapping = AxesMapping::disconnected(inputs, outputs)?;
    let Some(shape) = outputs[0].shape.as_concrete() else { return Ok(mapping) };
    for &slot in slots {
        let Some(operand) = inputs.get(slot).and_then(|fact| fact.shape.as_concrete()) else { continue };
        let same = shape.iter().zip(operand).take_while(|(side, other)| side == other).count();
        for axis in 0..same.min(before_row(shape, columns)) {
            mapping = mapping.linking((InOut::Out(0), axis), (InOut::In(slot), axis))?;
        }
    }
    Ok(mapping)
}

/// How many axes of `shape` come before those that make a row of `columns` values.
fn before_row(shape: &[usize], columns: usize) -> usize {
    let mut values = 1;
    let within = |side: &&usize| {
        let more = values < columns;
        values *= **side;
        more
    };
    shape.len() - shape.iter().rev().take_while(within).count()
}

/// Whether slices along `axis` of what `node` gives can go ahead of it, by the [`mapping`] of its axes.
pub(super) fn are_apart(model: &TypedModel, node: &TypedNode, axis: usize) -> TractResult<bool> {
    let (inputs, outputs) = model.node_facts(node.id)?;
    let mapping = node.op.axes_mapping(&inputs, &outputs)?;
    Ok(!mapping.axis((InOut::Out(0), axis))?.inputs[0].is_empty())
}
