//! A convolution of each channel by itself, the channels of a place lying side by side.

use std::ops::Range;

use pulp::Simd;

use super::Kernel;

/// How many outputs of a row are summed at once: a weight is read once for all of them.
const PIXELS: usize = 8;

/// What a kernel passes over, and how. Heights stand before widths.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Sliding {
    /// The map's height and width.
    pub(crate) map: [usize; 2],
    pub(crate) channels: usize,
    pub(crate) kernel: [usize; 2],
    pub(crate) strides: [usize; 2],
    /// Zeros before the first row and the first column.
    pub(crate) before: [usize; 2],
    /// Height and width of what comes out.
    pub(crate) out: [usize; 2],
}

/// `out[y, x, c] = bias[c] + sum of weights[i, j, c] * input[y * stride + i - before, x * stride + j - before, c]`, zeros lying around
/// the map.
pub(crate) struct Depthwise<'a> {
    pub(crate) sliding: &'a Sliding,
    /// `[height, width, channels]`.
    pub(crate) input: &'a [f32],
    /// `[kernel height, kernel width, channels]`.
    pub(crate) weights: &'a [f32],
    /// `[channels]`.
    pub(crate) bias: &'a [f32],
    /// The first row that is computed.
    pub(crate) first: usize,
    /// Whole rows, `[width, channels]` each.
    pub(crate) out: &'a mut [f32],
}

impl Kernel for Depthwise<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, const ROWS: usize, const VECTORS: usize>(self, simd: S) {
        let Sliding { channels, strides, before, out: [_, width], .. } = *self.sliding;
        let Self { sliding, input, weights, bias, first, out } = self;
        for left in (0..channels).step_by(S::F32_LANES) {
            let lanes = S::F32_LANES.min(channels - left);
            let some = Channels { sliding, input, weights, bias, left, lanes };
            for (row, line) in out.chunks_exact_mut((width * channels).max(1)).enumerate() {
                let top = (first + row) * strides[0];
                let mut column = 0;
                while column < width {
                    let start = column * strides[1];
                    let end = start + (PIXELS - 1) * strides[1] + sliding.kernel[1];
                    let whole = column + PIXELS <= width
                        && start >= before[1]
                        && end <= sliding.map[1] + before[1]
                        && lanes == S::F32_LANES;
                    column += match whole {
                        true => some.sum::<S, PIXELS, true>(simd, [top, start], &mut line[column * channels..]),
                        false => some.sum::<S, 1, false>(simd, [top, start], &mut line[column * channels..]),
                    };
                }
            }
        }
    }
}

/// Channels that fill a vector, or what is left of them.
#[derive(Clone, Copy)]
struct Channels<'a> {
    sliding: &'a Sliding,
    input: &'a [f32],
    weights: &'a [f32],
    bias: &'a [f32],
    left: usize,
    lanes: usize,
}

impl Channels<'_> {
    /// Writes `COUNT` outputs, whose windows begin at this row and column of the map with its zeros, side by side; says how many. Where
    /// they are `WHOLE`, the windows lie within the map's columns, and the channels fill a vector.
    #[inline(always)]
    fn sum<S: Simd, const COUNT: usize, const WHOLE: bool>(
        self,
        simd: S,
        [top, start]: [usize; 2],
        out: &mut [f32],
    ) -> usize {
        let Self { sliding, input, weights, bias, left, lanes } = self;
        let Sliding { map, channels, kernel, strides, before, .. } = *sliding;
        let load = |line: &[f32]| match WHOLE {
            true => S::as_simd_f32s(&line[..S::F32_LANES]).0[0],
            false => simd.partial_load_f32s(&line[..lanes]),
        };
        let within = |axis: usize, at: usize| -> Range<usize> {
            before[axis].saturating_sub(at)..kernel[axis].min((map[axis] + before[axis]).saturating_sub(at))
        };
        let columns = if WHOLE { 0..kernel[1] } else { within(1, start) };
        let mut sums = [load(&bias[left..]); COUNT];
        for tap in within(0, top) {
            let row = &input[(top + tap - before[0]) * map[1] * channels..][..map[1] * channels];
            let weights = &weights[tap * kernel[1] * channels..][..kernel[1] * channels];
            for column in columns.clone() {
                let weight = load(&weights[column * channels + left..]);
                for (place, sum) in sums.iter_mut().enumerate() {
                    let from = start + place * strides[1] + column - before[1];
                    *sum = simd.mul_add_f32s(load(&row[from * channels + left..]), weight, *sum);
                }
            }
        }
        for (place, sum) in sums.into_iter().enumerate() {
            let to = &mut out[place * channels + left..];
            match WHOLE {
                true => S::as_mut_simd_f32s(&mut to[..S::F32_LANES]).0[0] = sum,
                false => simd.partial_store_f32s(&mut to[..lanes], sum),
            }
        }
        COUNT
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{noise, run};
    use super::*;

    /// One output, in float64.
    fn expected(sliding: &Sliding, input: &[f32], weights: &[f32], bias: &[f32], [y, x, c]: [usize; 3]) -> f64 {
        let Sliding { map, channels, kernel, strides, before, .. } = *sliding;
        let mut sum = f64::from(bias[c]);
        for (i, j) in (0..kernel[0]).flat_map(|i| (0..kernel[1]).map(move |j| (i, j))) {
            let row = (y * strides[0] + i).checked_sub(before[0]).filter(|row| *row < map[0]);
            let column = (x * strides[1] + j).checked_sub(before[1]).filter(|column| *column < map[1]);
            if let (Some(row), Some(column)) = (row, column) {
                let weight = weights[(i * kernel[1] + j) * channels + c];
                sum += f64::from(weight) * f64::from(input[(row * map[1] + column) * channels + c]);
            }
        }
        sum
    }

    proptest! {
        #[test]
        fn each_output_is_the_sum_of_its_window(
            map in [1_usize..9, 1_usize..30],
            channels in 1_usize..40,
            kernel in [1_usize..6, 1_usize..6],
            strides in [1_usize..3, 1_usize..3],
            before in [0_usize..4, 0_usize..4],
            after in [0_usize..4, 0_usize..4],
            first in 0_usize..3,
            seed: u32,
        ) {
            let out = [0, 1].map(|axis| {
                let room = (map[axis] + before[axis] + after[axis]).checked_sub(kernel[axis]);
                room.map_or(0, |room| room / strides[axis] + 1)
            });
            prop_assume!(first < out[0] && out[1] > 0);
            let sliding = Sliding { map, channels, kernel, strides, before, out };
            let mut values = noise(seed);
            let (input, bias) = (values(map[0] * map[1] * channels), values(channels));
            let weights = values(kernel[0] * kernel[1] * channels);
            let mut got = vec![f32::NAN; (out[0] - first) * out[1] * channels];
            run(Depthwise {
                sliding: &sliding,
                input: &input,
                weights: &weights,
                bias: &bias,
                first,
                out: &mut got,
            });
            for (at, value) in got.iter().enumerate() {
                let (place, c) = (at / channels, at % channels);
                let expected = expected(&sliding, &input, &weights, &bias, [first + place / out[1], place % out[1], c]);
                prop_assert!((f64::from(*value) - expected).abs() < 1e-5, "{value} instead of {expected}");
            }
        }
    }
}
