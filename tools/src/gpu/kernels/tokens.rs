//! What moves tokens: the class token, pooling, patches.

use super::{COMMON, Kernel, for_each, lines, word};
use crate::gpu::pool::{Buf, PoolError};
use crate::gpu::recorder::Recorder;

/// Tokens `[pictures, tokens, width]`.
pub(crate) struct Tokens<'a> {
    pub(crate) values: &'a wgpu::Buffer,
    pub(crate) pictures: usize,
    pub(crate) tokens: usize,
    pub(crate) width: usize,
}

/// How tokens move: those of the result before `at` are the source's; from there on token `l` is the source's `l + shift`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shift {
    /// Tokens of the result.
    pub(crate) result_tokens: usize,
    /// Tokens that stay.
    pub(crate) at: usize,
    /// What is added to a token's number from `at` on.
    pub(crate) shift: i32,
}

/// `[pictures, result_tokens, width]`. The `-shift` tokens from `at` on that nothing moves to are those of `fill`, or zero; what
/// lies outside of the source is zero.
pub(crate) fn shift(
    rec: &mut Recorder,
    source: &Tokens<'_>,
    how: Shift,
    fill: Option<&wgpu::Buffer>,
) -> Result<Buf, PoolError> {
    let Shift { result_tokens, at, shift } = how;
    let result = rec.tensor(source.pictures * result_tokens * source.width)?;
    let (width, vector) = lines(source.width);
    let count = source.pictures * result_tokens * width;
    let kernel = Kernel {
        name: "tokens",
        parts: &[COMMON, include_str!("tokens.wgsl")],
        constants: vec![("FILL", u32::from(fill.is_some()))],
        vector,
    };
    let params = [word(count), word(width), word(result_tokens), word(source.tokens), word(at), shift.cast_unsigned()];
    let mut buffers = vec![(1, source.values), (2, &*result)];
    buffers.extend(fill.map(|fill| (3, fill)));
    for_each(rec, kernel, &params, &buffers, count)?;
    Ok(result)
}

/// The mean `[pictures, width]` over the tokens of each picture behind the first `skip`.
pub(crate) fn mean(rec: &mut Recorder, source: &Tokens<'_>, skip: usize) -> Result<Buf, PoolError> {
    record_mean(rec, source, skip, false)
}

/// The gradient `[pictures, tokens, width]` of what [`mean`] takes, from that of its result, which `grad` holds beside
/// the shape of the tokens.
pub(crate) fn mean_backward(rec: &mut Recorder, grad: &Tokens<'_>, skip: usize) -> Result<Buf, PoolError> {
    record_mean(rec, grad, skip, true)
}

fn record_mean(rec: &mut Recorder, tokens: &Tokens<'_>, skip: usize, backward: bool) -> Result<Buf, PoolError> {
    let rows = tokens.pictures * if backward { tokens.tokens } else { 1 };
    let result = rec.tensor(rows * tokens.width)?;
    let (width, vector) = lines(tokens.width);
    let kernel = Kernel {
        name: "mean_tokens",
        parts: &[COMMON, include_str!("mean_tokens.wgsl")],
        constants: vec![("BACKWARD", u32::from(backward))],
        vector,
    };
    let params = [word(rows * width), word(width), word(tokens.tokens), word(skip)];
    for_each(rec, kernel, &params, &[(1, tokens.values), (2, &result)], rows * width)?;
    Ok(result)
}
