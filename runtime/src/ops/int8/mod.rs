//! Linear layers whose values and weights are 8-bit integers.
//!
//! ONNX writes one in five operators: `DynamicQuantizeLinear`, `MatMulInteger`, `Cast`, a `Mul` with the scales, and an `Add`.
//! tract would take the first two apart before a rule could see them, so that they come into its graphs as operators of
//! ours, and the rule joins all but the first, whose output several layers may read.

mod linear;
mod product;
mod quantize;

pub(super) use linear::{QuantizedLinear, rule};

use std::sync::LazyLock;

use tract_onnx::Onnx;
use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use crate::kernels;

/// Has `onnx` read the operators for which there are some of ours on this machine.
pub(crate) fn register(onnx: &mut Onnx) {
    if kernels::name().is_some() {
        onnx.op_register.insert("DynamicQuantizeLinear", |context, node| read(context, node, quantize::wire));
        onnx.op_register.insert("MatMulInteger", |context, node| read(context, node, product::wire));
    }
}

/// Puts an operator of ours into a graph; none where there is none for these inputs.
type Wire = fn(&str, &mut TypedModel, &[OutletId]) -> TractResult<Option<TVec<OutletId>>>;

fn read(context: &ParsingContext, node: &NodeProto, ours: Wire) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    static TRACT: LazyLock<Onnx> = LazyLock::new(tract_onnx::onnx);
    let theirs = TRACT.op_register.0.get(&node.op_type).context("tract knows the operator")?;
    let (op, closures) = theirs(context, node)?;
    Ok(match op.as_op().downcast_ref::<Box<dyn Expansion>>() {
        Some(theirs) => (expand(Either { theirs: theirs.clone(), ours }), closures),
        None => (op, closures),
    })
}

/// An operator that goes into graphs as ours where it can, and as tract's elsewhere.
#[derive(Debug, Clone)]
struct Either {
    theirs: Box<dyn Expansion>,
    ours: Wire,
}

impl Expansion for Either {
    fn name(&self) -> StaticName {
        self.theirs.as_ref().name()
    }

    fn nboutputs(&self) -> TractResult<usize> {
        self.theirs.as_ref().nboutputs()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        self.theirs.as_ref().rules(solver, inputs, outputs)
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        match (self.ours)(prefix, model, inputs)? {
            Some(outputs) => Ok(outputs),
            None => self.theirs.as_ref().wire(prefix, model, inputs),
        }
    }
}
