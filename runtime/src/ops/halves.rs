//! Weights of sixteen bits that stay so in the graph until the layer that reads them takes them over.

use std::collections::BTreeMap;
use std::sync::Arc;

use tract_core::internal::*;
use tract_core::ops::array::Slice;
use tract_core::ops::konst::Const;

use super::pattern::replace;

/// A float16 constant that is read as float32. tract does not see that it is a constant, and so does not make floats of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Halves(Arc<Tensor>);

impl Halves {
    fn floats(&self) -> TractResult<Tensor> {
        Ok(self.0.cast_to::<f32>()?.into_owned())
    }
}

impl Op for Halves {
    fn name(&self) -> StaticName {
        "EdgeVitHalves".into()
    }

    op_as_typed_op!();
}

impl EvalOp for Halves {
    not_out_of_plan!();

    fn eval(&self, _: &EvalContext, _: TVec<TValue>) -> TractResult<TVec<TValue>> {
        Ok(tvec!(self.floats()?.into_tvalue()))
    }
}

impl TypedOp for Halves {
    fn output_facts(&self, _: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(f32::fact(self.0.shape())))
    }

    as_op!();
}

/// Puts `halves`, by the names of inputs that stand for them, into the places of these.
pub(crate) fn put_halves(model: &mut TypedModel, mut halves: BTreeMap<String, Tensor>) {
    let mut inputs = Vec::new();
    for outlet in model.inputs.drain(..) {
        let node = &mut model.nodes[outlet.node];
        match halves.remove(&node.name) {
            Some(tensor) => node.op = Box::new(Halves(Arc::new(tensor))),
            None => inputs.push(outlet),
        }
    }
    model.inputs = inputs;
}

/// The constant of sixteen bits that `outlet` gives as floats: the whole or a part of it, with axes moved or not.
pub(super) fn stored(model: &TypedModel, outlet: OutletId) -> Option<Arc<Tensor>> {
    let node = model.nodes().get(outlet.node)?;
    if let Some(Halves(tensor)) = node.op_as() {
        return Some(Arc::clone(tensor));
    }
    let ([input], true) = (node.inputs.as_slice(), node.op_is::<AxisOp>() || node.op_is::<Slice>()) else {
        return None;
    };
    let moved = node.op.eval_out_of_plan(tvec!(stored(model, *input)?.into_tvalue())).ok()??;
    moved.into_iter().next().map(TValue::into_arc_tensor)
}

/// A constant of sixteen bits that no layer of ours took: tract's operators want floats.
pub(super) fn rule(
    _: &(),
    model: &TypedModel,
    node: &TypedNode,
    name: &str,
    op: &Halves,
) -> TractResult<Option<TypedModelPatch>> {
    let constant = Const::new(Arc::new(op.floats()?))?;
    replace(model, &[], node, name, constant)
}
