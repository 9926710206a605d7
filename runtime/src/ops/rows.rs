//! Operators that work on each row by itself: slices of rows can go ahead of them.

use tract_core::internal::*;

/// An operator of which each row follows from the same rows of its operands.
pub(super) trait RowByRow: TypedOp + Clone {
    /// The inputs that have rows.
    const OPERANDS: &'static [usize];

    /// How many values a row of the output has.
    fn columns(&self) -> usize;

    /// The same for `len` places of the output's `axis`.
    fn with_len(&self, axis: usize, len: usize) -> Self;

    /// Which axes of the operands are the output's: those before a row's, as far as an operand has the same.
    fn mapping(&self, inputs: &[&TypedFact], outputs: &[&TypedFact]) -> TractResult<AxesMapping> {
        let mut mapping = AxesMapping::disconnected(inputs, outputs)?;
        let Some(shape) = outputs[0].shape.as_concrete() else { return Ok(mapping) };
        for &slot in Self::OPERANDS {
            let Some(operand) = inputs.get(slot).and_then(|fact| fact.shape.as_concrete()) else { continue };
            let same = shape.iter().zip(operand).take_while(|(side, other)| side == other).count();
            for axis in 0..same.min(before_row(shape, self.columns())) {
                mapping = mapping.linking((InOut::Out(0), axis), (InOut::In(slot), axis))?;
            }
        }
        Ok(mapping)
    }

    /// The same for a part of what `node`, which is this operator, gives along `axis`; none where that part needs more than
    /// the same part of the operands.
    fn part(
        &self,
        model: &TypedModel,
        node: &TypedNode,
        axis: usize,
        start: &TDim,
        end: &TDim,
    ) -> TractResult<Option<Self>> {
        let (inputs, outputs) = model.node_facts(node.id)?;
        let mapping = self.mapping(&inputs, &outputs)?;
        let is_apart = !mapping.axis((InOut::Out(0), axis))?.inputs[0].is_empty();
        let len = end.to_usize()? - start.to_usize()?;
        Ok(is_apart.then(|| self.with_len(axis, len)))
    }
}

/// The methods of a [`TypedOp`] that let slices of rows go ahead of a [`RowByRow`].
macro_rules! as_row_by_row {
    () => {
        fn axes_mapping(&self, inputs: &[&TypedFact], outputs: &[&TypedFact]) -> TractResult<AxesMapping> {
            self.mapping(inputs, outputs)
        }

        fn slice(
            &self,
            patch: &mut TypedModelPatch,
            model: &TypedModel,
            node: &TypedNode,
            prefix: &str,
            inputs: &[OutletId],
            output_axis: usize,
            start: &TDim,
            end: &TDim,
        ) -> TractResult<Option<TVec<OutletId>>> {
            let part = self.part(model, node, output_axis, start, end)?;
            part.map(|op| patch.wire_node(prefix, op, inputs)).transpose()
        }
    };
}

pub(super) use as_row_by_row;

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
