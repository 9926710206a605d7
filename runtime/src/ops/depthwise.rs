//! A convolution of each channel by itself in one operator, as ConvNeXt has it.

use std::cell::RefCell;
use std::sync::Arc;

use tract_core::internal::*;
use tract_core::ops::cnn::Conv;
use tract_core::ops::nn::DataFormat;

use super::convolution;
use super::pattern::{filled, replace, values};
use super::spare;
use crate::kernels::{self, Sliding};

/// From a map `[height, width, channels]` to one of as many channels.
#[derive(Debug, Clone)]
pub(super) struct Depthwise {
    sliding: Sliding,
    /// `[kernel height, kernel width, channels]`.
    weights: Arc<[f32]>,
    /// `[channels]`.
    bias: Arc<[f32]>,
    /// `[height, width, channels]` of what comes out, perhaps behind a batch of one.
    shape: TVec<usize>,
}

impl PartialEq for Depthwise {
    fn eq(&self, other: &Self) -> bool {
        self.sliding == other.sliding
            && Arc::ptr_eq(&self.weights, &other.weights)
            && Arc::ptr_eq(&self.bias, &other.bias)
            && self.shape == other.shape
    }
}

impl Eq for Depthwise {}

impl Op for Depthwise {
    fn name(&self) -> StaticName {
        "EdgeVitDepthwise".into()
    }

    op_as_typed_op!();
}

thread_local! {
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

impl EvalOp for Depthwise {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let input = args_1!(inputs);
        let map = values(&input)?;
        let Self { sliding, weights, bias, shape } = self;
        let outputs = filled(spare::take::<f32>(shape)?, |out| {
            kernels::over_rows(out, sliding.out[1] * sliding.channels, 1, |first, out| {
                SCRATCH.with_borrow_mut(|scratch| {
                    kernels::run(kernels::Depthwise { sliding, input: map, weights, bias, first, out, scratch });
                });
            });
        })?;
        spare::keep(input);
        Ok(outputs)
    }
}

impl TypedOp for Depthwise {
    fn output_facts(&self, _: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(f32::fact(&self.shape)))
    }

    as_op!();
}

/// A convolution of as many groups as channels, over a map whose channels lie side by side.
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
    let (map, &[rows, columns]) = (fact.shape.as_concrete(), pool.kernel_shape.as_slice()) else { return Ok(None) };
    let (height, width, channels) = match (pool.data_format, map) {
        (DataFormat::NHWC, Some(&[1, height, width, channels])) => (height, width, channels),
        (DataFormat::HWC, Some(&[height, width, channels])) => (height, width, channels),
        _ => return Ok(None),
    };
    let of_channels = op.group == channels && pool.input_channels == channels && pool.output_channels == channels;
    let Some((kernel, bias)) = convolution::constants(model, node, op)?.filter(|_| of_channels) else {
        return Ok(None);
    };
    let (kernel, taps) = (values(&kernel)?, rows * columns);
    if kernel.len() != taps * channels {
        return Ok(None);
    }
    let weights = (0..taps * channels).map(|at| kernel[at % channels * taps + at / channels]).collect();
    let (padding, strides) = (pool.computed_padding(&[height, width]), pool.strides());
    let (&[down, along], [vertical, horizontal]) = (&*strides, &*padding) else { return Ok(None) };
    let sliding = Sliding {
        map: [height, width],
        channels,
        kernel: [rows, columns],
        strides: [down, along],
        before: [vertical.pad_before, horizontal.pad_before],
        out: [vertical.convoluted, horizontal.convoluted],
    };
    let Some(shape) = node.outputs[0].fact.shape.as_concrete() else { return Ok(None) };
    replace(model, &[*input], node, name, Depthwise { sliding, weights, bias: bias.into(), shape: shape.into() })
}
