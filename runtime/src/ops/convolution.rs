//! What convolutions of every kind are read by.

use std::sync::Arc;

use tract_core::internal::*;
use tract_core::ops::cnn::{Conv, KernelFormat};

use super::pattern::{constant, values};

/// The kernel `[outputs, channels of a group, height, width]` and the bias `[outputs]` of a float32 convolution whose taps lie
/// side by side; none where they are no constants or it is of another kind.
pub(super) fn constants(
    model: &TypedModel,
    node: &TypedNode,
    op: &Conv,
) -> TractResult<Option<(Arc<Tensor>, Vec<f32>)>> {
    let [input, kernel, bias] = node.inputs.as_slice() else { return Ok(None) };
    let (pool, is_float) = (&op.pool_spec, model.outlet_fact(*input)?.datum_type == f32::datum_type());
    let dense = pool.dilations.as_ref().is_none_or(|dilations| dilations.iter().all(|step| *step == 1));
    if !(is_float && dense && op.q_params.is_none() && op.kernel_fmt == KernelFormat::OIHW) {
        return Ok(None);
    }
    let (Some(kernel), Some(bias)) = (constant(model, *kernel), constant(model, *bias)) else { return Ok(None) };
    let bias = match values(&bias)? {
        [value] => vec![*value; pool.output_channels],
        bias => bias.to_vec(),
    };
    Ok((bias.len() == pool.output_channels).then_some((kernel, bias)))
}
