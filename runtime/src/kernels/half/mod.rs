//! Products in floats of sixteen bits (IEEE 754 binary16), for weights that a file holds in those.
//!
//! A row is multiplied by a power of two, so that its products with the weights use the range of sixteen bits and pass
//! neither end of it. [`DEPTH`] products at a time are summed up in sixteen bits; these sums are added in thirty-two.

#[cfg(target_arch = "aarch64")]
mod aarch64;
mod path;
mod rounded;

pub(crate) use path::Path;

use pulp::{Simd, bytemuck};

use super::interleave::interleave;
use super::product::{load, store};
use super::{Product, Weights, aligned, halves};

/// How many products are summed up in sixteen bits before their sum becomes wider: so few that what their roundings lose is
/// of the size of one rounding, and so many that widening costs little.
const DEPTH: usize = 64;

/// The power of two that sums of products of a row with weights stay below: half of what sixteen bits hold, so that what sums are
/// rounded up by has room.
const LIMIT_EXPONENT: i32 = 15;

/// Instructions that multiply floats of sixteen bits.
trait Instructions: Copy {
    /// The vectors that everything but these products is computed with.
    type Simd: Simd;

    /// What a float of sixteen bits is held in.
    type Value: bytemuck::Pod;

    fn simd(self) -> Self::Simd;

    /// How many floats [`panel`](Self::panel) needs room for.
    fn room(self, weights: &Weights) -> usize;

    /// Panel `index` of `weights`, in `room` where it is not taken as it is stored.
    fn panel<'a>(self, weights: &'a Weights, index: usize, room: &'a mut [f32]) -> &'a [Self::Value];

    /// Rounds the values of a row, times a factor, to sixteen bits; `to` is as long.
    fn narrow(self, row: &[f32], factor: f32, to: &mut [Self::Value]);

    /// The sums of products of `ROWS` packed rows with a panel: the innermost loop. Does `meanwhile` once for each row of the
    /// panel.
    ///
    /// Implementations carry `#[inline(always)]`, so that they are compiled with the instructions of `Self::Simd`.
    fn tile<const ROWS: usize, const VECTORS: usize>(
        self,
        rows: &[[Self::Value; ROWS]],
        panel: &[Self::Value],
        meanwhile: impl FnMut(),
    ) -> [[Floats<Self>; VECTORS]; ROWS];
}

/// The vectors of 32-bit sums that belong to `I`.
type Floats<I> = <<I as Instructions>::Simd as Simd>::f32s;

/// Weights as these products need to know them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Half {
    pub(super) path: Path,
    /// The largest sum of [`DEPTH`] weights of a column that follow each other, each without its sign.
    reach: f32,
}

impl Half {
    /// `panels` are `depth` rows of `width` finite values each.
    pub(super) fn of(path: Path, panels: &[u16], depth: usize, width: usize) -> Self {
        let (mut row, mut sums, mut reach) = (vec![0.0; width], vec![0.0; width], 0_f32);
        for panel in panels.chunks((depth * width).max(1)) {
            for rows in panel.chunks(DEPTH * width) {
                sums.fill(0.0);
                for halves in rows.chunks_exact(width) {
                    halves::widen(halves, &mut row);
                    sums.iter_mut().zip(&row).for_each(|(sum, value)| *sum += value.abs());
                }
                reach = sums.iter().fold(reach, |reach, sum| reach.max(*sum));
            }
        }
        Self { path, reach }
    }

    /// The power of two that brings a row whose values are at most `largest` into the range.
    fn factor(self, largest: f32) -> f32 {
        let bound = largest * self.reach.max(1.0);
        if !(bound > 0.0 && bound.is_finite()) {
            return 1.0;
        }
        // `bound` is less than `2^(exponent + 1)`.
        let exponent = (bound.to_bits() >> 23) as i32 - 127;
        // The factor and what takes it back are both normal numbers.
        let power = (LIMIT_EXPONENT - 1 - exponent).clamp(-126, 126);
        f32::from_bits(((power + 127) as u32) << 23)
    }
}

/// `product`, whose weights are known to be `half`, by instructions that have tiles of `ROWS` by `VECTORS`.
#[inline(always)]
fn multiply<I: Instructions, const ROWS: usize, const VECTORS: usize>(by: I, half: Half, product: Product<'_>) {
    let simd = by.simd();
    let Product { input, weights, activation, accumulate, out, scratch } = product;
    let Weights { ref bias, depth, columns, width, .. } = *weights;
    assert_eq!(width, VECTORS * <I::Simd as Simd>::F32_LANES);
    if columns == 0 || out.is_empty() {
        return;
    }
    let rows = out.len() / columns;
    let blocks = rows.div_ceil(ROWS);
    let floats = |values: usize| (values * size_of::<I::Value>()).div_ceil(size_of::<f32>());
    let (narrow_len, packed_len) = (floats(ROWS * depth), floats(blocks * ROWS * depth));
    let room_len = by.room(weights);
    scratch.resize(blocks * ROWS + narrow_len + packed_len + aligned::space::<f32>(room_len), 0.0);
    let (factors, rest) = scratch.split_at_mut(blocks * ROWS);
    let (narrow, rest) = rest.split_at_mut(narrow_len);
    let (packed, room) = rest.split_at_mut(packed_len);
    let room = aligned::within(room, room_len);
    let narrow = &mut bytemuck::cast_slice_mut::<f32, I::Value>(narrow)[..ROWS * depth];
    let packed = &mut bytemuck::cast_slice_mut::<f32, I::Value>(packed)[..blocks * ROWS * depth];

    let block_len = (ROWS * depth).max(1);
    for ((block, factors), top) in
        packed.chunks_exact_mut(block_len).zip(factors.as_chunks_mut::<ROWS>().0).zip((0..rows).step_by(ROWS))
    {
        for (lane, (line, factor)) in narrow.chunks_exact_mut(depth.max(1)).zip(&mut *factors).enumerate() {
            let row = &input[(top + lane).min(rows - 1) * depth..][..depth];
            *factor = half.factor(largest(simd, row));
            by.narrow(row, *factor, line);
        }
        let lines = std::array::from_fn(|lane| &narrow[lane * depth..][..depth]);
        interleave(lines, |value| value, block.as_chunks_mut::<ROWS>().0);
    }

    for (index, left) in (0..columns).step_by(width).enumerate() {
        // What a panel is multiplied with passes by several times, and meanwhile memory is idle.
        let mut coming = weights.coming(index + 1, blocks * depth);
        let right = columns.min(left + width);
        let panel = by.panel(weights, index, room);
        let mut corner = [simd.splat_f32s(0.0); VECTORS];
        load(simd, &bias[left..right], &mut corner);
        for ((block, factors), top) in
            packed.chunks_exact(block_len).zip(factors.as_chunks::<ROWS>().0).zip((0..rows).step_by(ROWS))
        {
            let sums = by.tile::<ROWS, VECTORS>(block.as_chunks().0, panel, || coming.step());
            for ((row, sums), factor) in (top..rows).zip(sums).zip(factors) {
                let line = &mut out[row * columns + left..row * columns + right];
                let mut values = [simd.splat_f32s(0.0); VECTORS];
                if accumulate {
                    load(simd, line, &mut values);
                }
                let back = simd.splat_f32s(1.0 / factor);
                for ((value, sum), bias) in values.iter_mut().zip(sums).zip(corner) {
                    let product = simd.mul_add_f32s(sum, back, bias);
                    *value = activation.apply(simd, simd.add_f32s(*value, product));
                }
                store(simd, values, line);
            }
        }
    }
}

/// The largest of `row` without its sign.
#[inline(always)]
fn largest<S: Simd>(simd: S, row: &[f32]) -> f32 {
    let (vectors, end) = S::as_simd_f32s(row);
    let most = |most, value| simd.max_f32s(most, simd.abs_f32s(value));
    let all = vectors.iter().fold(simd.splat_f32s(0.0), |so_far, value| most(so_far, *value));
    simd.reduce_max_f32s(most(all, simd.partial_load_f32s(end)))
}

#[cfg(test)]
mod tests;
