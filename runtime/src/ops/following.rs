//! What follows the product of a linear layer and goes into its operator.

use tract_core::internal::*;
use tract_core::ops::element_wise::ElementWiseOp;
use tract_core::ops::math::{Add, Mul};
use tract_core::ops::nn::{GeluApproximate, GeluExact, Sigmoid, Silu};

use super::pattern::{by_row, only_reader, other_operand, scalar};
use crate::kernels::Activation;

/// Perhaps a factor for each output, a bias, and an activation or a residual.
pub(super) struct Following<'m> {
    /// The node that gives all of it.
    pub(super) last: &'m TypedNode,
    /// `[columns]` each: what the product is multiplied with, and what is added then.
    pub(super) scale: Vec<f32>,
    pub(super) bias: Vec<f32>,
    pub(super) activation: Activation,
    /// What is added to it, of the product's shape.
    pub(super) residual: Option<OutletId>,
}

impl<'m> Following<'m> {
    /// What follows `node`, whose last `column_axes` axes are the product's `columns`.
    pub(super) fn of(
        model: &'m TypedModel,
        node: &'m TypedNode,
        column_axes: usize,
        columns: usize,
    ) -> TractResult<Self> {
        let (mut last, mut scale, mut bias) = (node, vec![1.0; columns], vec![0.0; columns]);
        loop {
            if let Some((next, factors)) = by_row::<Mul>(model, last, column_axes, columns) {
                let factors = factors.iter().cycle();
                scale.iter_mut().chain(&mut bias).zip(factors).for_each(|(value, factor)| *value *= factor);
                last = next;
            } else if let Some((next, terms)) = by_row::<Add>(model, last, column_axes, columns) {
                bias.iter_mut().zip(terms).for_each(|(value, term)| *value += term);
                last = next;
            } else {
                break;
            }
        }
        let (mut activation, mut residual) = (Activation::Identity, None);
        if let Some((next, found)) = activated(model, last) {
            (last, activation) = (next, found);
        } else if let Some(next) = only_reader(model, last)
            && let Some(other) = other_operand::<Add>(next, last.id.into())
        {
            let (shape, fact) = (&node.outputs[0].fact.shape, model.outlet_fact(other)?);
            if next.outputs[0].fact.shape == *shape && fact.shape == *shape && fact.konst.is_none() {
                (last, residual) = (next, Some(other));
            }
        }
        Ok(Self { last, scale, bias, activation, residual })
    }
}

/// The activation that all of `node`'s outputs go through, and the node that gives them then.
fn activated<'m>(model: &'m TypedModel, node: &TypedNode) -> Option<(&'m TypedNode, Activation)> {
    let Some(next) = only_reader(model, node) else { return gated(model, node) };
    let op = &next.op_as::<ElementWiseOp>()?.0;
    let activation = if op.is::<GeluExact>() {
        Activation::Gelu
    } else if op.is::<GeluApproximate>() {
        Activation::GeluTanh
    } else if op.is::<Silu>() {
        Activation::Swish { gate: 1.0 }
    } else {
        return None;
    };
    Some((next, activation))
}

/// `x sigmoid(gate x)` of what `node` gives, which two nodes read.
fn gated<'m>(model: &'m TypedModel, node: &TypedNode) -> Option<(&'m TypedNode, Activation)> {
    let outlet = OutletId::from(node.id);
    let [output] = node.outputs.as_slice() else { return None };
    if output.successors.len() != 2 || model.outputs.contains(&outlet) {
        return None;
    }
    output.successors.iter().find_map(|reader| {
        let scaled = model.node(reader.node);
        let gate = scalar(model, other_operand::<Mul>(scaled, outlet)?)?;
        let sigmoid = only_reader(model, scaled)?;
        sigmoid.op_as::<ElementWiseOp>()?.0.is::<Sigmoid>().then_some(())?;
        let last = only_reader(model, sigmoid)?;
        (other_operand::<Mul>(last, outlet)? == sigmoid.id.into()).then_some((last, Activation::Swish { gate }))
    })
}
