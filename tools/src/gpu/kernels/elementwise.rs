//! What works on each value by itself: nonlinearities, LayerScale, position embedding, residual sums, dropout.

use edge_vit_models::Activation;

use super::{COMMON, Drop, Kernel, NOISE, for_each, lines, word};
use crate::gpu::pool::{Buf, PoolError};
use crate::gpu::recorder::Recorder;

/// A nonlinearity of `count` values, or with `out_grad` the gradient of its input `x`.
pub(crate) fn activation(
    rec: &mut Recorder,
    activation: Activation,
    x: &wgpu::Buffer,
    out_grad: Option<&wgpu::Buffer>,
    count: usize,
) -> Result<Buf, PoolError> {
    let result = rec.tensor(count)?;
    let kernel = Kernel {
        name: "activation",
        parts: &[COMMON, include_str!("activation.wgsl")],
        constants: vec![
            ("BACKWARD", u32::from(out_grad.is_some())),
            ("GELU", u32::from(activation == Activation::Gelu)),
            ("GELU_TANH", u32::from(activation == Activation::GeluTanh)),
            ("QUICK_GELU", u32::from(activation == Activation::QuickGelu)),
            ("SILU", u32::from(activation == Activation::Silu)),
            ("RELU", u32::from(activation == Activation::Relu)),
        ],
        vector: true,
    };
    let lines = count.div_ceil(4);
    match out_grad {
        Some(out_grad) => for_each(rec, kernel, &[word(lines)], &[(1, x), (2, out_grad), (3, &result)], lines)?,
        None => for_each(rec, kernel, &[word(lines)], &[(1, x), (2, &result)], lines)?,
    }
    Ok(result)
}

/// What [`broadcast`] does with the repeated operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broadcast {
    Multiply,
    Add,
}

/// `x` `[.., period]` times or plus `p` `[period]`, `count` values in all.
pub(crate) fn broadcast(
    rec: &mut Recorder,
    how: Broadcast,
    x: &wgpu::Buffer,
    p: &wgpu::Buffer,
    count: usize,
    period: usize,
) -> Result<Buf, PoolError> {
    let result = rec.tensor(count)?;
    let (period_lines, vector) = lines(period);
    let lines = count / period * period_lines;
    let kernel = Kernel {
        name: "broadcast",
        parts: &[COMMON, include_str!("broadcast.wgsl")],
        constants: vec![("ADD", u32::from(how == Broadcast::Add))],
        vector,
    };
    for_each(rec, kernel, &[word(lines), word(period_lines)], &[(1, x), (2, p), (3, &result)], lines)?;
    Ok(result)
}

/// A branch over `pictures` pictures of `picture_len` values, the first being the batch's `first_picture`-th.
pub(crate) struct Branch<'a> {
    pub(crate) values: &'a wgpu::Buffer,
    pub(crate) pictures: usize,
    pub(crate) picture_len: usize,
    pub(crate) first_picture: usize,
    /// Stochastic depth.
    pub(crate) drop: Option<Drop>,
}

/// The branch with stochastic depth, added to `trunk` where there is one.
pub(crate) fn residual(
    rec: &mut Recorder,
    trunk: Option<&wgpu::Buffer>,
    branch: &Branch<'_>,
) -> Result<Buf, PoolError> {
    let result = rec.tensor(branch.pictures * branch.picture_len)?;
    let (picture_lines, vector) = lines(branch.picture_len);
    let lines = branch.pictures * picture_lines;
    let kernel = Kernel {
        name: "residual",
        parts: &[COMMON, NOISE, include_str!("residual.wgsl")],
        constants: vec![("TRUNK", u32::from(trunk.is_some())), ("DROP", u32::from(branch.drop.is_some()))],
        vector,
    };
    let drop = branch.drop.map_or([0; 4], Drop::words);
    let params = [&[word(lines), word(picture_lines), word(branch.first_picture)], drop.as_slice()].concat();
    let mut buffers = vec![(1, branch.values), (2, &*result)];
    buffers.extend(trunk.map(|trunk| (3, trunk)));
    for_each(rec, kernel, &params, &buffers, lines)?;
    Ok(result)
}

/// `count` values with dropout; the first one's index in the whole batch is `first_index` (which wraps, as the noise's
/// own index does).
pub(crate) fn dropout(
    rec: &mut Recorder,
    x: &wgpu::Buffer,
    count: usize,
    first_index: u32,
    drop: Drop,
) -> Result<Buf, PoolError> {
    let result = rec.tensor(count)?;
    let kernel = Kernel {
        name: "dropout",
        parts: &[COMMON, NOISE, include_str!("dropout.wgsl")],
        constants: Vec::new(),
        vector: false,
    };
    let params = [&[word(count), first_index], drop.words().as_slice()].concat();
    for_each(rec, kernel, &params, &[(1, x), (2, &result)], count)?;
    Ok(result)
}
