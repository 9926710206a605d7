//! `MatMulInteger` of quantised rows with weights, as it stands in graphs until the rule for linear layers finds it.

use tract_core::internal::*;

/// The product, int32, of values `[.., depth]`, uint8, less their zero point with weights `[depth, columns]`, int8.
///
/// The inputs are the values, the weights and the zero point. A constant for the weights stays one, so that tract can
/// take columns from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::ops) struct IntegerProduct;

pub(super) fn wire(prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<Option<TVec<OutletId>>> {
    let [input, weights, zero, rest @ ..] = inputs else { return Ok(None) };
    let facts = [*input, *weights, *zero].map(|outlet| model.outlet_fact(outlet).cloned());
    let [input_fact, weights_fact, zero_fact] = facts;
    let (input_fact, weights_fact, zero_fact) = (input_fact?, weights_fact?, zero_fact?);
    // The weights' own zero points are zeros wherever weights are quantised alike to both sides.
    let symmetric = match rest {
        [] => true,
        [zeros] => (model.outlet_fact(*zeros)?.konst.as_ref()).is_some_and(|zeros| {
            zeros.try_as_plain_ram().is_ok_and(|zeros| zeros.as_bytes().iter().all(|zero| *zero == 0))
        }),
        _ => false,
    };
    let fits = input_fact.datum_type == u8::datum_type()
        && input_fact.rank() >= 2
        && weights_fact.datum_type == i8::datum_type()
        && weights_fact.rank() == 2
        && weights_fact.konst.is_some()
        && zero_fact.datum_type == u8::datum_type()
        && zero_fact.shape.volume().is_one();
    if !fits || !symmetric {
        return Ok(None);
    }
    model.wire_node(prefix, IntegerProduct, &[*input, *weights, *zero]).map(Some)
}

impl Op for IntegerProduct {
    fn name(&self) -> StaticName {
        "EdgeVitIntegerProduct".into()
    }

    op_as_typed_op!();
}

impl EvalOp for IntegerProduct {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let (input, weights, zero) = args_3!(inputs);
        let [depth, columns] = *weights.shape() else { bail!("the weights are no matrix") };
        let mut shape: TVec<usize> = input.shape().into();
        ensure!(shape.last() == Some(&depth), "the rows of the values are not as long as the weights' columns");
        shape.pop();
        shape.push(columns);
        let mut out = Tensor::zero::<i32>(&shape)?;
        let (input, weights, zero) = (input.try_as_plain_ram()?, weights.try_as_plain_ram()?, zero.try_as_plain_ram()?);
        let zero = zero.as_slice::<u8>()?.first().context("there is no zero point")?;
        let (input, weights) = (input.as_slice::<u8>()?, weights.as_slice::<i8>()?);
        let mut plain = out.try_as_plain_ram_mut()?;
        let rows = input.chunks_exact(depth.max(1)).zip(plain.as_slice_mut::<i32>()?.chunks_exact_mut(columns.max(1)));
        for (values, sums) in rows {
            for (value, weights) in values.iter().zip(weights.chunks_exact(columns.max(1))) {
                let value = i32::from(*value) - i32::from(*zero);
                for (sum, weight) in sums.iter_mut().zip(weights) {
                    *sum = sum.wrapping_add(value * i32::from(*weight));
                }
            }
        }
        Ok(tvec!(out.into_tvalue()))
    }
}

impl TypedOp for IntegerProduct {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let mut shape = inputs[0].shape.to_tvec();
        shape.pop();
        shape.push(inputs[1].shape[1].clone());
        Ok(tvec!(i32::fact(shape)))
    }

    fn axes_mapping(&self, inputs: &[&TypedFact], outputs: &[&TypedFact]) -> TractResult<AxesMapping> {
        let last = inputs[0].rank() - 1;
        let mut mapping = AxesMapping::disconnected(inputs, outputs)?;
        for (axis, name) in (0..last).zip('a'..) {
            mapping = mapping.renaming((InOut::In(0), axis), name)?.linking(name, (InOut::Out(0), axis))?;
        }
        let mapping = mapping.renaming((InOut::In(1), 1), 'N')?.linking('N', (InOut::Out(0), last))?;
        mapping.renaming((InOut::In(0), last), 'K')?.linking('K', (InOut::In(1), 0))
    }

    fn slice(
        &self,
        patch: &mut TypedModelPatch,
        _: &TypedModel,
        _: &TypedNode,
        prefix: &str,
        inputs: &[OutletId],
        _: usize,
        _: &TDim,
        _: &TDim,
    ) -> TractResult<Option<TVec<OutletId>>> {
        // The inputs come cut.
        patch.wire_node(prefix, Self, inputs).map(Some)
    }

    as_op!();
}
