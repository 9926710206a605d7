//! The axes of a product of two tensors, by where they lie in memory.

use tract_core::internal::*;
use tract_core::ops::einsum::EinSum;

/// An axis with more than one place: its length, and how far apart its places lie in the first input, the second and the
/// output, where it runs through them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Axis {
    pub(super) len: usize,
    pub(super) strides: [Option<usize>; 3],
}

/// Whether `node` is a product with just these axes; those of one place may be missing.
pub(super) fn has_axes(model: &TypedModel, node: &TypedNode, op: &EinSum, expected: [Axis; 3]) -> TractResult<bool> {
    let Some(found) = axes(model, node, op)? else { return Ok(false) };
    let expected: Vec<Axis> = expected.into_iter().filter(|axis| axis.len > 1).collect();
    Ok(found.len() == expected.len() && expected.iter().all(|axis| found.contains(axis)))
}

/// The axes of `node`, if it is the product of two float32 tensors of known shapes into a third.
pub(super) fn axes(model: &TypedModel, node: &TypedNode, op: &EinSum) -> TractResult<Option<Vec<Axis>>> {
    axes_at(model, node, op, [None; 3])
}

/// The same where the first input, the second or the output lies in memory by other strides than row-major ones.
pub(super) fn axes_at(
    model: &TypedModel,
    node: &TypedNode,
    op: &EinSum,
    own: [Option<&[usize]>; 3],
) -> TractResult<Option<Vec<Axis>>> {
    let [first, second] = node.inputs.as_slice() else { return Ok(None) };
    let facts = [model.outlet_fact(*first)?, model.outlet_fact(*second)?, &node.outputs[0].fact];
    if op.q_params.is_some() || facts.iter().any(|fact| fact.datum_type != f32::datum_type()) {
        return Ok(None);
    }
    let mut strides = Vec::new();
    for (fact, own) in facts.into_iter().zip(own) {
        let Some(shape) = fact.shape.as_concrete() else { return Ok(None) };
        strides.push(own.map_or_else(|| row_major(shape), <[usize]>::to_vec));
    }
    let mut axes = Vec::new();
    for axis in op.axes.iter_all_axes() {
        let mut found = Axis { len: 1, strides: [None; 3] };
        for (slot, positions) in axis.inputs.iter().chain(&axis.outputs).enumerate() {
            match positions.as_slice() {
                [] => {}
                [position] => {
                    let len = facts[slot].shape[*position].to_usize()?;
                    // An axis of length 1 runs along with a longer one: it is not there.
                    if len > 1 {
                        (found.len, found.strides[slot]) = (len, Some(strides[slot][*position]));
                    }
                }
                _ => return Ok(None),
            }
        }
        if found.len > 1 {
            axes.push(found);
        }
    }
    Ok(Some(axes))
}

/// How far apart the places of each axis lie.
pub(super) fn row_major(shape: &[usize]) -> Vec<usize> {
    (0..shape.len()).map(|axis| shape[axis + 1..].iter().product()).collect()
}

/// Sorts `axes` by their strides in `slot`, the widest first; gives how many places they have together if these lie
/// `step` apart without a gap.
pub(super) fn places(axes: &mut [Axis], slot: usize, step: usize) -> Option<usize> {
    axes.sort_by_key(|axis| std::cmp::Reverse(axis.strides[slot]));
    axes.iter()
        .rev()
        .try_fold(1, |places, axis| (axis.strides[slot] == Some(step * places)).then_some(places * axis.len))
}

/// Where the places of `axes` lie in `slot`, in row-major order.
pub(super) fn offsets(axes: &[Axis], slot: usize) -> Vec<usize> {
    axes.iter().fold(vec![0], |offsets, axis| {
        let stride = axis.strides[slot].unwrap_or(0);
        offsets.into_iter().flat_map(|offset| (0..axis.len).map(move |place| offset + place * stride)).collect()
    })
}
