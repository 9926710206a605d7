//! Where the values of a tensor lie in the one that it was cut and turned from.

use tract_core::internal::*;
use tract_core::ops::array::Slice;

use super::axes::row_major;
use super::pattern::only_reader;

/// A tensor as a part of another, of which nothing needs to be copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct View {
    /// What holds the values, row-major.
    pub(super) source: OutletId,
    /// Where the first of them lies.
    pub(super) offset: usize,
    /// How far apart the places of each axis lie.
    pub(super) strides: Vec<usize>,
}

impl View {
    /// Follows `outlet` back through changes of axes, and through slices if `cut`, as far as no value is moved. None where a shape is not
    /// known.
    pub(super) fn of(model: &TypedModel, outlet: OutletId, cut: bool) -> Option<Self> {
        let (mut source, mut turns) = (outlet, Vec::new());
        loop {
            let node = model.node(source.node);
            if !(node.op_is::<AxisOp>() || cut && node.op_is::<Slice>()) {
                break;
            }
            turns.push(node);
            source = node.inputs[0];
        }
        let shape = |outlet: OutletId| model.outlet_fact(outlet).ok()?.shape.as_concrete();
        let whole = |source: OutletId| Some(Self { source, offset: 0, strides: row_major(shape(source)?) });
        turns.into_iter().rev().try_fold(whole(source)?, |view, node| {
            let before = shape(node.inputs[0])?;
            view.through(node, before).map_or_else(|| whole(node.id.into()), Some)
        })
    }

    /// The view of what `node` gives of this one, whose shape is `shape`; none where values would have to be moved.
    fn through(&self, node: &TypedNode, shape: &[usize]) -> Option<Self> {
        if let Some(Slice { axis, start, .. }) = node.op_as::<Slice>() {
            return Some(Self { offset: self.offset + start.to_usize().ok()? * self.strides[*axis], ..self.clone() });
        }
        Some(Self { strides: turned_strides(&self.strides, shape, node.op_as::<AxisOp>()?)?, ..self.clone() })
    }
}

/// The strides of the axes that `op` makes of those of `shape`; none where values would have to be moved.
fn turned_strides(strides: &[usize], shape: &[usize], op: &AxisOp) -> Option<Vec<usize>> {
    let mut strides = strides.to_vec();
    match op {
        AxisOp::Add(axis) => strides.insert(*axis, 0),
        AxisOp::Rm(axis) => {
            strides.remove(*axis);
        }
        AxisOp::Move(from, to) => {
            let stride = strides.remove(*from);
            strides.insert(*to, stride);
        }
        AxisOp::Reshape(at, from, to) => {
            let axes = *at..at + from.len();
            let to: Vec<usize> = to.iter().map(|side| side.to_usize().ok()).collect::<Option<_>>()?;
            let step = step(&strides[axes.clone()], &shape[axes.clone()])?;
            strides.splice(axes, row_major(&to).into_iter().map(|stride| stride * step));
        }
    }
    Some(strides)
}

/// How far apart the places of axes lie that are one axis together; none where they lie in more than one row.
fn step(strides: &[usize], shape: &[usize]) -> Option<usize> {
    let mut long = strides.iter().zip(shape).filter(|(_, len)| **len > 1).rev();
    let Some((&step, &len)) = long.next() else { return Some(1) };
    let row = long.try_fold(step * len, |row, (&stride, &len)| (stride == row).then_some(row * len));
    row.map(|_| step)
}

/// The last node of those that only turn what `node` gives, one after another, and the strides of the axes of `node` in what it gives.
pub(super) fn turned<'m>(model: &'m TypedModel, node: &'m TypedNode) -> Option<(&'m TypedNode, Vec<usize>)> {
    let rank = node.outputs[0].fact.rank();
    let (mut last, mut axes): (_, Vec<Option<usize>>) = (node, (0..rank).map(Some).collect());
    while let Some(next) = only_reader(model, last) {
        match next.op_as::<AxisOp>() {
            Some(AxisOp::Add(axis)) => axes.insert(*axis, None),
            Some(AxisOp::Rm(axis)) => {
                axes.remove(*axis);
            }
            Some(AxisOp::Move(from, to)) => {
                let axis = axes.remove(*from);
                axes.insert(*to, axis);
            }
            _ => break,
        }
        last = next;
    }
    let shape = last.outputs[0].fact.shape.as_concrete()?;
    let mut strides = vec![0; rank];
    for (axis, stride) in axes.into_iter().zip(row_major(shape)) {
        if let Some(axis) = axis {
            strides[axis] = stride;
        }
    }
    Some((last, strides))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tract_core::ndarray::Dimension as _;

    use super::*;

    /// A slice or a change of axes of a tensor of `shape`, chosen by `seed`.
    fn op(shape: &[usize], seed: usize) -> Box<dyn TypedOp> {
        let (rank, at) = (shape.len(), seed / 8 % shape.len());
        let side = |side: &usize| side.to_dim();
        match seed % 8 {
            0 => Box::new(AxisOp::Add(at)),
            1 | 2 => Box::new(AxisOp::Move(at, seed / 64 % rank)),
            3 if shape[at] == 1 && rank > 1 => Box::new(AxisOp::Rm(at)),
            4 if rank > 1 && at + 1 < rank => {
                let pair = &shape[at..at + 2];
                Box::new(AxisOp::Reshape(at, pair.iter().map(side).collect(), tvec![(pair[0] * pair[1]).to_dim()]))
            }
            5 if shape[at].is_multiple_of(2) => {
                Box::new(AxisOp::Reshape(at, tvec![shape[at].to_dim()], tvec![(shape[at] / 2).to_dim(), 2.to_dim()]))
            }
            _ => {
                let start = seed / 64 % shape[at];
                Box::new(Slice::new(at, start, start + 1 + seed / 512 % (shape[at] - start)))
            }
        }
    }

    proptest! {
        #[test]
        fn a_view_finds_the_values_of_what_is_cut_and_turned(
            shape in proptest::collection::vec(1_usize..7, 1..5),
            seeds in proptest::collection::vec(0_usize..4096, 0..7),
        ) {
            let mut model = TypedModel::default();
            let mut wire = model.add_source("input", i64::fact(&shape)).unwrap();
            for (at, seed) in seeds.into_iter().enumerate() {
                let shape: Vec<usize> = model.outlet_fact(wire).unwrap().shape.as_concrete().unwrap().to_vec();
                wire = model.wire_node(format!("{at}"), op(&shape, seed), &[wire]).unwrap()[0];
            }
            model.select_output_outlets(&[wire]).unwrap();
            let view = View::of(&model, wire, true).unwrap();

            // The values of each tensor are their places in the input, so that those of the source tell what the view should find.
            let places: Vec<i64> = (0..shape.iter().product::<usize>() as i64).collect();
            let input = Tensor::from_shape(&shape, &places).unwrap();
            model.select_output_outlets(&[wire, view.source]).unwrap();
            let outputs = model.into_runnable().unwrap().run(tvec!(input.into_tvalue())).unwrap();
            let [turned, source] = [0, 1].map(|slot| outputs[slot].to_plain_array_view::<i64>().unwrap().into_owned());
            let source: Vec<i64> = source.iter().copied().collect();
            for (place, value) in turned.indexed_iter() {
                let at: usize = (0..place.ndim()).map(|axis| place[axis]).zip(&view.strides).map(|(place, stride)| place * stride).sum();
                prop_assert_eq!(source[view.offset + at], *value);
            }
        }
    }
}
