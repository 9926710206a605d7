//! Softmax attention in one operator.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

use tract_core::internal::*;
use tract_core::ops::array::TypedConcat;
use tract_core::ops::binary::TypedBinOp;
use tract_core::ops::einsum::EinSum;
use tract_core::ops::math::{Add, Mul};
use tract_core::ops::nn::{Softmax, SoftmaxKind};

use super::axes::{Axis, axes_at, offsets, row_major};
use super::pattern::{filled, only_reader, other_operand, replace, scalar, values};
use super::spare;
use super::view::{View, turned};
use crate::kernels::{self, Head, Scratch, Strides};

/// `softmax(scale Q K^T + bias) V`; the inputs are what holds Q, K and V, which may be one tensor, and perhaps the bias, of any axes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Attention {
    query: Strides,
    key: Strides,
    value: Strides,
    bias: Option<Strides>,
    out: Strides,
    heads: Arc<[Head]>,
    queries: usize,
    keys: usize,
    dim: usize,
    value_dim: usize,
    scale: f32,
    shape: TVec<usize>,
    apart: Apart,
}

impl Eq for Attention {}

impl Op for Attention {
    fn name(&self) -> StaticName {
        "EdgeVitAttention".into()
    }

    op_as_typed_op!();
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch::default());
}

impl EvalOp for Attention {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let [query, key, value, bias @ ..] = inputs.as_slice() else { bail!("attention has three inputs or four") };
        let (query, key, value) = (values(query)?, values(key)?, values(value)?);
        let bias = bias.first().map(|bias| values(bias)).transpose()?.zip(self.bias);
        let run = |heads: &[Head], first: usize, queries: usize, out: &mut [f32], out_start: usize| {
            SCRATCH.with_borrow_mut(|scratch| {
                kernels::run(kernels::Attention {
                    query: (&query[first * self.query.row..], self.query),
                    key: (key, self.key),
                    value: (value, self.value),
                    bias: bias.map(|(bias, at)| (&bias[first * at.row..], at)),
                    out: (out, self.out),
                    out_start,
                    heads,
                    queries,
                    keys: self.keys,
                    dim: self.dim,
                    value_dim: self.value_dim,
                    scale: self.scale,
                    scratch,
                });
            });
        };
        let outputs = filled(spare::take::<f32>(&self.shape)?, |out| match self.apart {
            Apart::Groups { len, heads } => kernels::over_rows(out, len, 1, |first, out| {
                let some = &self.heads[first * heads..(first + out.len() / len) * heads];
                run(some, 0, self.queries, out, first * len);
            }),
            Apart::Queries => kernels::over_rows(out, self.out.row, kernels::tile()[1], |first, out| {
                run(&self.heads, first, out.len() / self.out.row, out, 0);
            }),
            Apart::Nothing => run(&self.heads, 0, self.queries, out, 0),
        })?;
        inputs.into_iter().for_each(spare::keep);
        Ok(outputs)
    }
}

/// What of the outputs lies apart, so that threads can share it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Apart {
    /// So many heads one after another fill so many values, as the heads of a window do.
    Groups {
        len: usize,
        heads: usize,
    },
    /// What all heads make of a query lies in one row.
    Queries,
    Nothing,
}

impl Apart {
    /// `total` values in which `heads` write `queries` rows of `value_dim` values each.
    fn of(heads: &[Head], at: Strides, queries: usize, value_dim: usize, total: usize) -> Self {
        let (row, rows) = ((value_dim - 1) * at.column, queries.saturating_sub(1) * at.row);
        let len = queries * at.row;
        if len > 0 && total > len && total.is_multiple_of(len) && heads.len().is_multiple_of(total / len) {
            let each = heads.len() / (total / len);
            let within = |(place, head): (usize, &Head)| {
                let start = place / each * len;
                head.out >= start && head.out + row + rows < start + len
            };
            if heads.iter().enumerate().all(within) {
                return Self::Groups { len, heads: each };
            }
        }
        if total == len && heads.iter().all(|head| head.out + row < at.row) { Self::Queries } else { Self::Nothing }
    }
}

impl TypedOp for Attention {
    fn output_facts(&self, _: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(f32::fact(&self.shape)))
    }

    fn slice(
        &self,
        patch: &mut TypedModelPatch,
        _: &TypedModel,
        _: &TypedNode,
        prefix: &str,
        inputs: &[OutletId],
        output_axis: usize,
        start: &TDim,
        end: &TDim,
    ) -> TractResult<Option<TVec<OutletId>>> {
        let part = self.some_queries(output_axis, start.to_usize()?..end.to_usize()?);
        part.map(|op| patch.wire_node(prefix, op, inputs)).transpose()
    }

    as_op!();
}

impl Attention {
    /// The same for some of the queries; none where `axis` is not theirs.
    fn some_queries(&self, axis: usize, some: Range<usize>) -> Option<Self> {
        let is_theirs =
            self.queries > 1 && self.shape[axis] == self.queries && row_major(&self.shape)[axis] == self.out.row;
        if !is_theirs {
            return None;
        }
        let mut shape = self.shape.clone();
        shape[axis] = some.len();
        // The axes that lie around the queries' become shorter with it.
        let (around, now_around) = (self.queries * self.out.row, some.len() * self.out.row);
        let bias_row = self.bias.map_or(0, |bias| bias.row);
        let heads: Arc<[Head]> = (self.heads.iter())
            .map(|head| Head {
                query: head.query + some.start * self.query.row,
                bias: head.bias + some.start * bias_row,
                out: head.out / around * now_around + head.out % around,
                ..*head
            })
            .collect();
        let total = shape.iter().product();
        let apart = Apart::of(&heads, self.out, some.len(), self.value_dim, total);
        Some(Self { heads, queries: some.len(), shape, apart, ..self.clone() })
    }
}

/// Scores, perhaps a scale, perhaps a bias, a softmax over the keys, and the product with the values.
pub(super) fn rule(
    _: &(),
    model: &TypedModel,
    node: &TypedNode,
    name: &str,
    op: &Softmax,
) -> TractResult<Option<TypedModelPatch>> {
    let Some(shape) = node.outputs[0].fact.shape.as_concrete() else { return Ok(None) };
    if op.kind != SoftmaxKind::Softmax || op.axes.len() != 1 || op.axes[0] + 1 != shape.len() {
        return Ok(None);
    }
    let Some(Scores { product, mut scale, bias }) = Scores::behind(model, node.inputs[0], shape) else {
        return Ok(None);
    };
    let (Some(scores), Some(mixed)) = (model.node(product).op_as::<EinSum>(), only_reader(model, node)) else {
        return Ok(None);
    };
    let Some(mixing) = mixed.op_as::<EinSum>() else { return Ok(None) };
    let (product, value_slot) = (model.node(product), usize::from(mixed.inputs[0] == node.id.into()));
    let mut factors = product.inputs.clone();
    for factor in &mut factors {
        if let Some((input, by)) = scaled(model, *factor) {
            (*factor, scale) = (input, scale * by);
        }
    }
    let operands = [factors[0], factors[1], mixed.inputs[value_slot]];
    let (Some([first, second, value]), Some((last, out))) = (views(model, operands), turned(model, mixed)) else {
        return Ok(None);
    };
    let scores = axes_at(model, product, scores, [Some(&first.strides), Some(&second.strides), None])?;
    let mut mixing_strides = [None, None, Some(out.as_slice())];
    mixing_strides[value_slot] = Some(&value.strides);
    let (Some(scores), Some(mixing)) = (scores, axes_at(model, mixed, mixing, mixing_strides)?) else {
        return Ok(None);
    };
    let Some(places) = Places::of(&scores, &mixing, value_slot) else { return Ok(None) };
    let (query, key) = if places.query == 0 { (first, second) } else { (second, first) };
    let Some(out_shape) = last.outputs[0].fact.shape.as_concrete().map(TVec::from_slice) else { return Ok(None) };

    let mut inputs = vec![query.source, key.source, value.source];
    let mut bias_strides = None;
    if let Some(bias) = bias {
        let Some(shape) = model.outlet_fact(bias)?.shape.as_concrete() else { return Ok(None) };
        let broadcast = |(stride, side): (usize, &usize)| if *side == 1 { 0 } else { stride };
        bias_strides = Some(row_major(shape).into_iter().zip(shape).map(broadcast).collect());
        inputs.push(bias);
    }
    let starts = [query.offset, key.offset, value.offset];
    replace(model, &inputs, last, name, places.attention(shape, bias_strides, scale, starts, out_shape))
}

/// Queries, keys and values in what holds them. A tensor that holds all three is read as it is. Where they are put together for
/// it, or go elsewhere first, they are better made in parts, as tract makes them where nothing reads the whole.
fn views(model: &TypedModel, operands: [OutletId; 3]) -> Option<[View; 3]> {
    let views = |cut: bool| {
        let [first, second, value] = operands.map(|outlet| View::of(model, outlet, cut));
        Some([first?, second?, value?])
    };
    let of_parts = views(true)?;
    let source = of_parts[0].source;
    let is_one = of_parts.iter().all(|view| view.source == source) && !model.node(source.node).op_is::<TypedConcat>();
    if is_one { Some(of_parts) } else { views(false) }
}

/// What goes into a softmax.
struct Scores {
    /// The node of the product.
    product: usize,
    scale: f32,
    bias: Option<OutletId>,
}

impl Scores {
    /// Follows `outlet` back to a product that nothing else reads. All on the way have `shape`.
    fn behind(model: &TypedModel, outlet: OutletId, shape: &[usize]) -> Option<Self> {
        let node = model.node(outlet.node);
        if node.outputs[0].fact.shape.as_concrete() != Some(shape) || only_reader(model, node).is_none() {
            return None;
        }
        if node.op_is::<EinSum>() {
            return Some(Self { product: node.id, scale: 1.0, bias: None });
        }
        if let Some((input, factor)) = scaled(model, outlet) {
            let scores = Self::behind(model, input, shape)?;
            // Behind a bias, the factor is the bias's too.
            return scores.bias.is_none().then_some(Self { scale: scores.scale * factor, ..scores });
        }
        node.op_as::<TypedBinOp>().filter(|op| op.0.is::<Add>())?;
        node.inputs.iter().find_map(|input| {
            let other = other_operand::<Add>(node, *input)?;
            let scores = Self::behind(model, *input, shape)?;
            let fact = model.outlet_fact(other).ok()?;
            (scores.bias.is_none() && fact.datum_type == f32::datum_type() && fact.shape.rank() == shape.len())
                .then_some(Self { bias: Some(other), ..scores })
        })
    }
}

/// The input and the factor of a node that scales all values alike.
fn scaled(model: &TypedModel, outlet: OutletId) -> Option<(OutletId, f32)> {
    let node = model.node(outlet.node);
    let shape = &node.outputs[0].fact.shape;
    node.inputs.iter().find_map(|input| {
        let factor = scalar(model, other_operand::<Mul>(node, *input)?)?;
        (model.outlet_fact(*input).ok()?.shape == *shape).then_some((*input, factor))
    })
}

/// The axes of attention in its two products.
struct Places {
    /// Which input of the first product holds the queries, and of the second the values.
    query: usize,
    value: usize,
    /// One axis a head, through the scores; in the second product the same ones.
    heads: Vec<(Axis, Axis)>,
    /// The queries' in both products; a single query has none.
    queries: Option<(Axis, Axis)>,
    keys: (Axis, Axis),
    dim: Axis,
    value_dim: Axis,
}

impl Places {
    /// None where the products are not those of attention, whose second has its values in slot `value`.
    fn of(scores: &[Axis], mixing: &[Axis], value: usize) -> Option<Self> {
        let weights = 1 - value;
        let keys = *scores.iter().find(|axis| axis.strides[2] == Some(1))?;
        let query = match keys.strides {
            [None, Some(_), _] => 0,
            [Some(_), None, _] => 1,
            _ => return None,
        };
        let (mut heads, mut queries, mut dim) = (Vec::new(), None, None);
        for axis in scores.iter().filter(|axis| **axis != keys) {
            // The second product sees the scores' axes where the first has left them.
            let again =
                mixing.iter().find(|other| axis.strides[2].is_some() && other.strides[weights] == axis.strides[2]);
            match (axis.strides[query].is_some(), axis.strides[1 - query].is_some(), axis.strides[2].is_some()) {
                (true, true, true) => heads.push((*axis, *again?)),
                (true, false, true) if queries.is_none() => queries = Some((*axis, *again?)),
                (true, true, false) if dim.is_none() => dim = Some(*axis),
                _ => return None,
            }
        }
        let keys = (keys, *mixing.iter().find(|axis| axis.strides[weights] == Some(1))?);
        let others = |axis: &&Axis| axis.strides[weights].is_none();
        let (mut own, shared) = (mixing.iter().filter(others), mixing.iter().filter(|axis| !others(axis)).count());
        let value_dim = *own.next()?;
        let through = |axis: &Axis, slot: usize| axis.strides[slot].is_some();
        let sound = own.next().is_none()
            && through(&value_dim, value)
            && through(&value_dim, 2)
            && shared == heads.len() + usize::from(queries.is_some()) + 1
            && through(&keys.1, value)
            && !through(&keys.1, 2)
            && heads.iter().all(|(_, axis)| through(axis, value) && through(axis, 2))
            && queries.is_none_or(|(_, axis)| !through(&axis, value) && through(&axis, 2));
        sound.then_some(Self { query, value, heads, queries, keys, dim: dim?, value_dim })
    }

    /// The operator. `bias` are the bias's strides, if there is one, along the axes of the scores, whose shape is `scores`; `begin` says
    /// where queries, keys and values begin in what holds them.
    fn attention(
        &self,
        scores: &[usize],
        bias: Option<Vec<usize>>,
        scale: f32,
        begin: [usize; 3],
        shape: TVec<usize>,
    ) -> Attention {
        let Self { query, value, ref heads, queries, keys, dim, value_dim } = *self;
        let key = 1 - query;
        let stride = |axis: &Axis, slot: usize| axis.strides[slot].unwrap_or(0);
        // The bias has the axes of the scores: it is found by where those lie.
        let bias_stride = |axis: &Axis| {
            let place = row_major(scores)
                .iter()
                .zip(scores)
                .position(|(stride, side)| *side > 1 && Some(*stride) == axis.strides[2]);
            place.zip(bias.as_ref()).map_or(0, |(place, bias)| bias[place])
        };
        let with_bias: Vec<Axis> = (heads.iter())
            .map(|(axis, _)| Axis { len: axis.len, strides: [Some(bias_stride(axis)), None, None] })
            .collect();
        let (first, second): (Vec<Axis>, Vec<Axis>) = heads.iter().copied().unzip();
        let starts = [
            offsets(&first, query),
            offsets(&first, key),
            offsets(&second, value),
            offsets(&with_bias, 0),
            offsets(&second, 2),
        ];
        let heads: Arc<[Head]> = (0..starts[0].len())
            .map(|head| {
                let [query, key, value, bias, out] = starts.each_ref().map(|starts| starts[head]);
                Head { query: begin[0] + query, key: begin[1] + key, value: begin[2] + value, bias, out }
            })
            .collect();
        let (row, row_out, row_bias) = match queries {
            Some((axis, again)) => (stride(&axis, query), stride(&again, 2), bias_stride(&axis)),
            None => (0, 0, 0),
        };
        let out = Strides { row: row_out, column: stride(&value_dim, 2) };
        let (queries, total) = (queries.map_or(1, |(axis, _)| axis.len), shape.iter().product());
        Attention {
            apart: Apart::of(&heads, out, queries, value_dim.len, total),
            query: Strides { row, column: stride(&dim, query) },
            key: Strides { row: stride(&keys.0, key), column: stride(&dim, key) },
            value: Strides { row: stride(&keys.1, value), column: stride(&value_dim, value) },
            bias: bias.is_some().then(|| Strides { row: row_bias, column: bias_stride(&keys.0) }),
            out,
            heads,
            queries,
            keys: keys.0.len,
            dim: dim.len,
            value_dim: value_dim.len,
            scale,
            shape,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Attention of `[windows, tokens, heads, dim]` with a bias `[heads, tokens, tokens]`; what it gives has the tokens before the heads or
    /// behind them.
    fn attention([windows, tokens, heads, dim]: [usize; 4], tokens_first: bool) -> Attention {
        let width = heads * dim;
        let at = Strides { row: width, column: 1 };
        let out = Strides { row: if tokens_first { width } else { dim }, column: 1 };
        let each: Arc<[Head]> = (0..windows * heads)
            .map(|head| {
                let (window, head) = (head / heads, head % heads);
                let start = window * tokens * width + head * dim;
                let turned = (window * heads + head) * tokens * dim;
                let out = if tokens_first { start } else { turned };
                Head { query: start, key: start, value: start, bias: head * tokens * tokens, out }
            })
            .collect();
        let shape = if tokens_first { [windows, tokens, heads, dim] } else { [windows, heads, tokens, dim] };
        Attention {
            query: at,
            key: at,
            value: at,
            bias: Some(Strides { row: tokens, column: 1 }),
            out,
            apart: Apart::of(&each, out, tokens, dim, windows * tokens * width),
            heads: each,
            queries: tokens,
            keys: tokens,
            dim,
            value_dim: dim,
            scale: 0.5,
            shape: shape.into(),
        }
    }

    fn run(op: Attention, inputs: &[Tensor]) -> Tensor {
        let mut model = TypedModel::default();
        let sources: Vec<OutletId> = (0..)
            .zip(inputs)
            .map(|(slot, input)| model.add_source(format!("{slot}"), f32::fact(input.shape())).unwrap())
            .collect();
        let out = model.wire_node("attention", op, &sources).unwrap();
        model.select_output_outlets(&out).unwrap();
        let inputs = inputs.iter().map(|input| input.clone().into_tvalue()).collect();
        model.into_runnable().unwrap().run(inputs).unwrap().remove(0).into_tensor()
    }

    proptest! {
        #[test]
        fn some_queries_give_their_part(
            (windows, heads, dim) in (1_usize..4, 1_usize..4, 1_usize..5),
            (tokens, start, len) in (2_usize..7).prop_flat_map(|tokens| (Just(tokens), 0..tokens, 0..tokens)),
            tokens_first: bool,
        ) {
            let shape = [windows, tokens, heads, dim];
            let values = |step: usize, shape: &[usize]| {
                let count: usize = shape.iter().product();
                let values: Vec<f32> = (0..count).map(|at| ((at * step) % 17) as f32 / 8.0 - 1.0).collect();
                Tensor::from_shape(shape, &values).unwrap()
            };
            let inputs = [values(5, &shape), values(7, &shape), values(11, &shape), values(3, &[heads, tokens, tokens])];
            let (all, axis) = (attention(shape, tokens_first), if tokens_first { 1 } else { 2 });
            let some = start..tokens.min(start + len);
            let part = all.some_queries(axis, some.clone()).unwrap();
            for other in (0..4).filter(|other| *other != axis) {
                prop_assert!(all.shape[other] == 1 || all.some_queries(other, 0..1).is_none());
            }
            let (all, part) = (run(all, &inputs), run(part, &inputs));
            // tract's tensors have no slices of nothing.
            if some.is_empty() {
                prop_assert_eq!(part.len(), 0);
            } else {
                prop_assert_eq!(part, all.slice(axis, some.start, some.end).unwrap());
            }
        }
    }
}
