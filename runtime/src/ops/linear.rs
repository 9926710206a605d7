//! A linear layer in one operator, with what follows it.

use std::cell::RefCell;
use std::sync::Arc;

use tract_core::internal::*;
use tract_core::ops::einsum::EinSum;

use super::axes::{Axis, axes, offsets, places};
use super::following::Following;
use super::pattern::{filled, is_in_parts, replace, stored, values};
use super::rows::{RowByRow, as_row_by_row};
use super::spare;
use crate::HalfProducts;
use crate::kernels::{self, Activation, Weights, each};

/// `activation(x W + b)`, or `r + x W + b` where it has a second input `r`.
#[derive(Debug, Clone)]
pub(super) struct Linear {
    weights: Arc<Weights>,
    activation: Activation,
    shape: TVec<usize>,
}

impl Linear {
    /// The name of its kernel, if this machine has one of ours.
    pub(super) fn kernel(&self) -> Option<&'static str> {
        self.weights.name()
    }

    /// A layer whose outputs have `shape`, the last axes of which are the columns of `weights`.
    pub(super) fn new(weights: Weights, activation: Activation, shape: &[usize]) -> Self {
        Self { weights: Arc::new(weights), activation, shape: shape.into() }
    }
}

impl PartialEq for Linear {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.weights, &other.weights) && self.activation == other.activation && self.shape == other.shape
    }
}

impl Eq for Linear {}

impl Op for Linear {
    fn name(&self) -> StaticName {
        "EdgeVitLinear".into()
    }

    op_as_typed_op!();
}

thread_local! {
    /// The packed input, which no two layers of a thread need at once.
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

impl EvalOp for Linear {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext, mut inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let residual = (inputs.len() > 1).then(|| inputs.pop()).flatten();
        let accumulate = residual.is_some();
        let input = args_1!(inputs);
        let out = match residual {
            Some(residual) => residual.into_tensor(),
            None => spare::take::<f32>(&self.shape)?,
        };
        let (depth, columns) = (self.weights.depth(), self.weights.columns());
        ensure!(out.len() / columns * depth == input.len());
        let rows = values(&input)?;
        let outputs = filled(out, |out| {
            kernels::over_rows(out, columns, self.weights.rows(), |first, out| {
                SCRATCH.with_borrow_mut(|scratch| {
                    let product = kernels::Product {
                        input: &rows[first * depth..],
                        weights: &self.weights,
                        activation: self.activation,
                        accumulate,
                        out,
                        scratch,
                    };
                    product.run();
                });
            });
        })?;
        spare::keep(input);
        Ok(outputs)
    }
}

impl TypedOp for Linear {
    fn output_facts(&self, _: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(f32::fact(&self.shape)))
    }

    as_row_by_row!();

    as_op!();
}

impl RowByRow for Linear {
    const OPERANDS: &'static [usize] = &[0, 1];

    fn columns(&self) -> usize {
        self.weights.columns()
    }

    fn with_len(&self, axis: usize, len: usize) -> Self {
        let mut part = self.clone();
        part.shape[axis] = len;
        part
    }
}

/// A product with constant weights; then perhaps a weight for each output, a bias, and an activation or a residual.
pub(super) fn rule(
    halves: &HalfProducts,
    model: &TypedModel,
    node: &TypedNode,
    name: &str,
    op: &EinSum,
) -> TractResult<Option<TypedModelPatch>> {
    let Some(axes) = axes(model, node, op)? else { return Ok(None) };
    let Some((input, matrix)) = (0..2).find_map(|slot| Some((1 - slot, stored(model, node.inputs[slot])?))) else {
        return Ok(None);
    };
    let Some(layout) = Layout::of(axes, input) else { return Ok(None) };

    let following = Following::of(model, node, layout.column_axes, layout.columns)?;
    if is_in_parts(model, following.last, layout.column_axes) {
        return Ok(None);
    }
    let Following { last, scale, bias, activation, residual } = following;
    let inputs: Vec<_> = [node.inputs[input]].into_iter().chain(residual).collect();
    let Some(shape) = node.outputs[0].fact.shape.as_concrete() else { return Ok(None) };
    let weights = packed(&matrix, &layout, &scale, bias, *halves)?;
    replace(model, &inputs, last, name, Linear::new(weights, activation, shape))
}

/// The weights times a factor for each output. What is stored in sixteen bits stays so where that changes no value.
fn packed(
    matrix: &Tensor,
    layout: &Layout,
    scale: &[f32],
    bias: Vec<f32>,
    products: HalfProducts,
) -> TractResult<Weights> {
    if matrix.datum_type() == DatumType::F16 && scale.iter().all(|&factor| factor == 1.0) {
        let halves: &[f16] = matrix.try_as_plain_ram()?.as_slice()?;
        let path = kernels::half::Path::of(products);
        let packed = match layout.rows_in_one() {
            Some(row_at) => Weights::pack_halves(layout.depth, &bias, path, |row, columns, to: &mut [u16]| {
                let from = &halves[row_at(row)..][columns];
                to.iter_mut().zip(from).for_each(|(to, half)| *to = half.to_bits());
            }),
            None => Weights::pack_halves(layout.depth, &bias, path, each(|p, j| halves[layout.place(p, j)].to_bits())),
        };
        if let Some(weights) = packed {
            return Ok(weights);
        }
    }
    let floats = matrix.cast_to::<f32>()?;
    let floats = values(&floats)?;
    Ok(match layout.rows_in_one() {
        Some(row_at) => Weights::pack(layout.depth, bias, |row, columns, to: &mut [f32]| {
            let from = floats[row_at(row)..][columns.clone()].iter().zip(&scale[columns]);
            to.iter_mut().zip(from).for_each(|(to, (value, factor))| *to = value * factor);
        }),
        None => Weights::pack(layout.depth, bias, each(|p, j| floats[layout.place(p, j)] * scale[j])),
    })
}

/// A product read as one of two matrices: rows of `depth` values times weights `[depth, columns]`.
struct Layout {
    depth: usize,
    columns: usize,
    /// How many of the output's last axes make a row.
    column_axes: usize,
    /// Where the rows and columns of the weights lie.
    rows_at: Vec<usize>,
    columns_at: Vec<usize>,
}

impl Layout {
    /// None where the rows do not lie one after another in both the input, which is in slot `input`, and the output.
    fn of(axes: Vec<Axis>, input: usize) -> Option<Self> {
        let weights = 1 - input;
        let (mut rows, mut deep, mut columns) = (Vec::new(), Vec::new(), Vec::new());
        for axis in axes {
            match (axis.strides[input].is_some(), axis.strides[weights].is_some(), axis.strides[2].is_some()) {
                (true, false, true) => rows.push(axis),
                (true, true, false) => deep.push(axis),
                (false, true, true) => columns.push(axis),
                _ => return None,
            }
        }
        let depth = places(&mut deep, input, 1)?;
        let width = places(&mut columns, 2, 1)?;
        places(&mut rows, input, depth)?;
        places(&mut rows, 2, width)?;
        let (rows_at, columns_at) = (offsets(&deep, weights), offsets(&columns, weights));
        Some(Self { depth, columns: width, column_axes: columns.len(), rows_at, columns_at })
    }
    /// Where row `p` and column `j` of the weights lie.
    fn place(&self, p: usize, j: usize) -> usize {
        self.rows_at[p] + self.columns_at[j]
    }

    /// Where each row begins, if its columns lie one after another.
    fn rows_in_one(&self) -> Option<impl Fn(usize) -> usize> {
        let first = *self.columns_at.first()?;
        let in_one = self.columns_at.iter().zip(first..).all(|(at, expected)| *at == expected);
        in_one.then_some(move |row: usize| self.rows_at[row] + first)
    }
}
