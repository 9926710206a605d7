//! Tokens merged in one operator.

use tract_core::internal::*;
use tract_core::ops::array::GatherNd;
use tract_core::ops::einsum::EinSum;
use tract_core::ops::math::{Add, Mul};

use super::axes::{Axis, has_axes};
use super::pattern::{only_reader, other_operand, replace, values};
use super::spare;

/// `share * x[stay] + shares x[going]`: some rows of `x` `[len, width]`, each scaled, and to each of them others added, most of
/// them 0 times. Inputs: `x`, `stay` `[left]`, `share` `[left]`, `going` `[merged]`, `shares` `[left, merged]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct MergeTokens {
    len: usize,
    width: usize,
    shape: TVec<usize>,
}

impl Op for MergeTokens {
    fn name(&self) -> StaticName {
        "EdgeVitMergeTokens".into()
    }

    op_as_typed_op!();
}

impl EvalOp for MergeTokens {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let [x, stay, share, going, shares] = inputs.as_slice() else { bail!("merging has five inputs") };
        let (rows, share, shares) = (values(x)?, values(share)?, values(shares)?);
        let (stay, going) = (stay.cast_to::<i64>()?, going.cast_to::<i64>()?);
        let (stay, going) = (stay.try_as_plain_ram()?.as_slice::<i64>()?, going.try_as_plain_ram()?.as_slice::<i64>()?);
        let row = |place: i64| {
            let at = usize::try_from(place).ok().filter(|at| *at < self.len);
            let at = at.with_context(|| format!("there is no token {place} among {}", self.len))?;
            TractResult::Ok(&rows[at * self.width..][..self.width])
        };
        let mut out = spare::take::<f32>(&self.shape)?;
        {
            let mut plain = out.try_as_plain_ram_mut()?;
            let tokens = plain.as_slice_mut::<f32>()?.chunks_exact_mut(self.width);
            let tokens = tokens.zip(stay).zip(share).zip(shares.chunks_exact(going.len()));
            for (((out, stay), share), shares) in tokens {
                out.iter_mut().zip(row(*stay)?).for_each(|(out, x)| *out = share * x);
                for (share, going) in shares.iter().zip(going).filter(|(share, _)| **share != 0.0) {
                    out.iter_mut().zip(row(*going)?).for_each(|(out, x)| *out += share * x);
                }
            }
        }
        inputs.into_iter().for_each(spare::keep);
        Ok(tvec!(out.into_tvalue()))
    }
}

impl TypedOp for MergeTokens {
    fn output_facts(&self, _: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(f32::fact(&self.shape)))
    }

    as_op!();
}

/// Rows gathered and scaled, plus the product of a matrix with other rows of the same.
pub(super) fn rule(
    _: &(),
    model: &TypedModel,
    node: &TypedNode,
    name: &str,
    op: &GatherNd,
) -> TractResult<Option<TypedModelPatch>> {
    let Some((scaled, share)) = read_by::<Mul>(model, node) else { return Ok(None) };
    let Some((last, product)) = read_by::<Add>(model, scaled) else { return Ok(None) };
    let product = model.node(product.node);
    let Some(mixing) = product.op_as::<EinSum>().filter(|_| is_read_by(model, product, last)) else { return Ok(None) };
    let gathers = |slot: &usize| {
        let source = model.node(product.inputs[*slot].node);
        let same = source.op_as::<GatherNd>() == Some(op) && source.inputs[0] == node.inputs[0];
        same && is_read_by(model, source, product)
    };
    let Some(slot) = (0..product.inputs.len().min(2)).find(gathers) else { return Ok(None) };
    let (shares, going) = (product.inputs[1 - slot], model.node(product.inputs[slot].node).inputs[1]);

    let shape = |outlet: OutletId| -> TractResult<Option<TVec<usize>>> {
        Ok(model.outlet_fact(outlet)?.shape.as_concrete().map(TVec::from_slice))
    };
    let (Some(x), Some(out)) = (shape(node.inputs[0])?, shape(last.id.into())?) else { return Ok(None) };
    let (&[1, len, width], &[1, left, out_width]) = (x.as_slice(), out.as_slice()) else { return Ok(None) };
    let Some(merged) =
        shape(going)?.as_deref().and_then(|rows| if let &[1, merged, 1] = rows { Some(merged) } else { None })
    else {
        return Ok(None);
    };
    let is = |outlet, expected: &[usize]| TractResult::Ok(shape(outlet)?.as_deref() == Some(expected));
    let fits = is(node.inputs[1], &[1, left, 1])? && is(share, &[1, left, 1])? && is(shares, &[1, left, merged])?;
    if op.batch_dims != 1 || out_width != width || !fits || merged == 0 || width == 0 {
        return Ok(None);
    }
    // `[left, merged]` times `[merged, width]`.
    let axis = |len, shares: Option<usize>, rows: Option<usize>, out: Option<usize>| {
        let strides = if slot == 1 { [shares, rows, out] } else { [rows, shares, out] };
        Axis { len, strides }
    };
    let expected = [
        axis(left, Some(merged), None, Some(width)),
        axis(merged, Some(1), Some(width), None),
        axis(width, None, Some(1), Some(1)),
    ];
    if !has_axes(model, product, mixing, expected)? {
        return Ok(None);
    }
    let inputs = [node.inputs[0], node.inputs[1], share, going, shares];
    replace(model, &inputs, last, name, MergeTokens { len, width, shape: out })
}

/// The one node that reads `node`, and its other operand, if it is the operation `Op`.
fn read_by<'m, Op: tract_core::ops::binary::BinMiniOp>(
    model: &'m TypedModel,
    node: &TypedNode,
) -> Option<(&'m TypedNode, OutletId)> {
    let reader = only_reader(model, node)?;
    Some((reader, other_operand::<Op>(reader, node.id.into())?))
}

fn is_read_by(model: &TypedModel, node: &TypedNode, reader: &TypedNode) -> bool {
    only_reader(model, node).is_some_and(|only| only.id == reader.id)
}
