//! Convolutions whose windows do not overlap: the patch embedding of a vision transformer, and what makes maps smaller.

use tract_core::internal::*;
use tract_core::ops::cnn::{Conv, PaddingSpec};
use tract_core::ops::nn::DataFormat;

use super::convolution;
use super::linear::Linear;
use super::pattern::{filled, only_reader, values};
use crate::kernels::{Activation, Weights, each};

/// From pictures, or tubelets of a clip, `[pictures, channels, height, width]` to their patches `[pictures, rows, columns, channels *
/// kernel]`, the values of each in the order of a convolution's weights. What does not fill a patch is left out.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Patches {
    pictures: usize,
    picture: [usize; 3],
    kernel: [usize; 2],
}

impl Patches {
    fn shape(&self) -> [usize; 4] {
        let ([channels, height, width], [rows, columns]) = (self.picture, self.kernel);
        [self.pictures, height / rows, width / columns, channels * rows * columns]
    }
}

impl Op for Patches {
    fn name(&self) -> StaticName {
        "EdgeVitPatches".into()
    }

    op_as_typed_op!();
}

impl EvalOp for Patches {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let input = args_1!(inputs);
        let input = values(&input)?;
        let ([channels, height, width], [kernel_height, kernel_width]) = (self.picture, self.kernel);
        let [pictures, rows, columns, depth] = self.shape();
        filled(Tensor::zero::<f32>(&self.shape())?, |out| {
            let places = (0..pictures * rows).flat_map(|row| (0..columns).map(move |column| [row, column]));
            for (patch, [row, column]) in out.chunks_exact_mut(depth).zip(places) {
                let first = row / rows * channels * height * width;
                let corner = first + row % rows * kernel_height * width + column * kernel_width;
                for (line, to) in patch.chunks_exact_mut(kernel_width).enumerate() {
                    let (channel, line) = (line / kernel_height, line % kernel_height);
                    let from = corner + (channel * height + line) * width;
                    to.copy_from_slice(&input[from..from + kernel_width]);
                }
            }
        })
    }
}

impl TypedOp for Patches {
    fn output_facts(&self, _: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(f32::fact(self.shape())))
    }

    as_op!();
}

/// A convolution as wide as it strides, over pictures whose channels come first: the patches, and a linear layer.
///
/// It goes in before the graph is decluttered: a map with its channels first would spread from here into the layers.
pub(super) fn rule(
    _: &(),
    model: &TypedModel,
    node: &TypedNode,
    name: &str,
    op: &Conv,
) -> TractResult<Option<TypedModelPatch>> {
    let pool = &op.pool_spec;
    let Some(input) = node.inputs.first() else { return Ok(None) };
    let fact = model.outlet_fact(*input)?;
    let (Some(&[pictures, channels, height, width]), &[rows, columns]) =
        (fact.shape.as_concrete(), pool.kernel_shape.as_slice())
    else {
        return Ok(None);
    };
    let unpadded = match &pool.padding {
        PaddingSpec::Valid => true,
        PaddingSpec::Explicit(before, after) => before.iter().chain(after).all(|padding| *padding == 0),
        _ => false,
    };
    let apart = pool.strides.as_ref().is_some_and(|strides| strides == &pool.kernel_shape);
    if !(unpadded && apart && op.group == 1 && pool.data_format == DataFormat::NCHW) {
        return Ok(None);
    }
    let Some((kernel, bias)) = convolution::constants(model, node, op)? else { return Ok(None) };
    let (depth, outputs, kernel) = (channels * rows * columns, bias.len(), values(&kernel)?);
    let patches = Patches { pictures, picture: [channels, height, width], kernel: [rows, columns] };
    let [_, rows, columns, _] = patches.shape();
    if kernel.len() != depth * outputs || pictures * rows * columns == 0 {
        return Ok(None);
    }
    let weights = Weights::pack(depth, bias, each(|p, j| kernel[j * depth + p]));
    let (last, shape) = channels_last(model, node, [pictures, rows, columns], outputs);
    let linear = Linear::new(weights, Activation::Identity, &shape);
    let mut patch = TypedModelPatch::default();
    let input = patch.tap_model(model, *input)?;
    let cut = patch.wire_node(format!("{name}.patches"), patches, &[input])?;
    let mut map = patch.wire_node(format!("{name}.linear"), linear, &cut)?;
    if last.id == node.id {
        map = patch.wire_node(name, AxisOp::Move(3, 1), &map)?;
    }
    patch.shunt_outside(model, last.id.into(), map[0])?;
    Ok(Some(patch))
}

/// The node behind `node` that moves its channels last, and the shape there: that of maps, or of tokens. Where there is
/// no such node, `node` itself and the shape of a map.
fn channels_last<'m>(
    model: &'m TypedModel,
    node: &'m TypedNode,
    [pictures, rows, columns]: [usize; 3],
    outputs: usize,
) -> (&'m TypedNode, TVec<usize>) {
    let map = tvec![pictures, rows, columns, outputs];
    let Some(next) = only_reader(model, node) else { return (node, map) };
    match next.op_as::<AxisOp>() {
        Some(AxisOp::Move(1, 3)) => (next, map),
        Some(AxisOp::Reshape(2, _, flat)) if flat.len() == 1 => match only_reader(model, next) {
            Some(last) if last.op_as::<AxisOp>() == Some(&AxisOp::Move(1, 2)) => {
                (last, tvec![pictures, rows * columns, outputs])
            }
            _ => (node, map),
        },
        _ => (node, map),
    }
}
