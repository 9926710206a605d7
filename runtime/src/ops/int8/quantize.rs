//! `DynamicQuantizeLinear`: all values of a tensor as unsigned 8-bit integers of one scale.

use tract_core::internal::*;

use crate::kernels::{self, int8};
use crate::ops::pattern::values;
use crate::ops::spare;

/// The quantised values, their scale, float32, and their zero point.
#[derive(Debug, Clone, PartialEq, Eq)]
struct DynamicQuantize;

/// Into how many parts values are shared out to threads at most.
const PARTS: usize = 16;
/// How many values a thread takes at least.
const LEAST: usize = 4096;

pub(super) fn wire(prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<Option<TVec<OutletId>>> {
    match *inputs {
        [input] if model.outlet_fact(input)?.datum_type == f32::datum_type() => {
            model.wire_node(prefix, DynamicQuantize, inputs).map(Some)
        }
        _ => Ok(None),
    }
}

impl Op for DynamicQuantize {
    fn name(&self) -> StaticName {
        "EdgeVitDynamicQuantize".into()
    }

    op_as_typed_op!();
}

impl EvalOp for DynamicQuantize {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let input = args_1!(inputs);
        let mut out = spare::take::<u8>(input.shape())?;
        let values = values(&input)?;
        let part = values.len().div_ceil(PARTS).max(LEAST);
        let mut ranges = [0.0; 2 * PARTS];
        kernels::over_rows(&mut ranges, 2, 1, |first, ranges| {
            let parts = values.chunks(part).skip(first);
            for (range, part) in ranges.as_chunks_mut::<2>().0.iter_mut().zip(parts) {
                *range = int8::range(part);
            }
        });
        let quantization = int8::Quantization::of(ranges.as_chunks().0);
        kernels::over_rows(out.try_as_plain_ram_mut()?.as_slice_mut()?, 1, LEAST, |first, out| {
            int8::quantize(&values[first..], quantization, out);
        });
        spare::keep(input);
        let (scale, zero) = (tensor0(quantization.scale), tensor0(quantization.zero));
        Ok(tvec!(out.into_tvalue(), scale.into_tvalue(), zero.into_tvalue()))
    }
}

impl TypedOp for DynamicQuantize {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let scalar: [usize; 0] = [];
        Ok(tvec!(u8::fact(inputs[0].shape.clone()), f32::fact(scalar), u8::fact(scalar)))
    }

    as_op!();
}
