//! A convolution of each channel by itself, the channels of a place lying side by side.

use pulp::Simd;

use super::Kernel;

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
    /// Grows to the part of the map that is read, some channels of it.
    pub(crate) scratch: &'a mut Vec<f32>,
}

impl Kernel for Depthwise<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, const ROWS: usize, const VECTORS: usize>(self, simd: S) {
        let Self { sliding, input, weights, bias, first, out, scratch } = self;
        let Sliding { map: [height, width], channels, kernel, strides, before, out: [_, out_width] } = *sliding;
        if channels == 0 || out_width == 0 || out.is_empty() {
            return;
        }
        // A row of the map with the zeros around it.
        let columns = (out_width - 1) * strides[1] + kernel[1];
        let rows = out.len() / (out_width * channels);
        let bottom = (first + rows - 1) * strides[0] + kernel[0];
        let read = (first * strides[0]).saturating_sub(before[0])..height.min(bottom.saturating_sub(before[0]));
        scratch.resize(read.len() * columns * S::F32_LANES, 0.0);
        for left in (0..channels).step_by(S::F32_LANES) {
            let lanes = S::F32_LANES.min(channels - left);
            let load = |line: &[f32]| simd.partial_load_f32s(&line[left..left + lanes]);
            let map = S::as_mut_simd_f32s(scratch).0;
            for (line, row) in map.chunks_exact_mut(columns).zip(read.clone()) {
                line.fill(simd.splat_f32s(0.0));
                let places = input[row * width * channels..][..width * channels].chunks_exact(channels);
                line.iter_mut().skip(before[1]).zip(places).for_each(|(to, place)| *to = load(place));
            }
            for (row, line) in out.chunks_exact_mut(out_width * channels).enumerate() {
                let top = (first + row) * strides[0];
                let taps = before[0].saturating_sub(top)..kernel[0].min((height + before[0]).saturating_sub(top));
                // A window may lie outside of the map.
                let (lines, weights) = match taps.is_empty() {
                    true => (&[][..], &[][..]),
                    false => {
                        let row = top + taps.start - before[0] - read.start;
                        (&map[row * columns..][..taps.len() * columns], &weights[taps.start * kernel[1] * channels..])
                    }
                };
                let windows = Windows::<S> {
                    lines,
                    columns,
                    side: kernel[1],
                    weights,
                    bias: load(bias),
                    stride: strides[1],
                    channels: (channels, left, lanes),
                };
                let mut column = 0;
                while column < out_width {
                    // The last ones are computed together with some before them again, rather than by themselves.
                    column = match out_width {
                        8.. => windows.sum::<8>(simd, column.min(out_width - 8), line),
                        4.. => windows.sum::<4>(simd, column.min(out_width - 4), line),
                        _ => windows.sum::<1>(simd, column, line),
                    };
                }
            }
        }
    }
}

/// What the outputs of a row are made from: channels that fill a vector, or what is left of them.
struct Windows<'a, S: Simd> {
    /// The lines under the kernel, so many vectors each.
    lines: &'a [S::f32s],
    columns: usize,
    /// The kernel's width.
    side: usize,
    /// Those of the kernel's lines over them, and what lies behind.
    weights: &'a [f32],
    bias: S::f32s,
    stride: usize,
    /// How many channels there are, the first of these and their number.
    channels: (usize, usize, usize),
}

impl<S: Simd> Windows<'_, S> {
    /// Writes the outputs of `COUNT` columns from `first` on into their row; gives the column behind them.
    #[inline(always)]
    fn sum<const COUNT: usize>(&self, simd: S, first: usize, out: &mut [f32]) -> usize {
        let Self { lines, columns, side, weights, bias, stride, channels: (channels, left, lanes) } = *self;
        let start = first * stride;
        let mut sums = [bias; COUNT];
        for (line, weights) in lines.chunks_exact(columns).zip(weights.chunks_exact(side * channels)) {
            for (column, weight) in weights.chunks_exact(channels).enumerate() {
                let weight = simd.partial_load_f32s(&weight[left..left + lanes]);
                let from = &line[start + column..];
                let values: [S::f32s; COUNT] = match (stride, from.first_chunk()) {
                    (1, Some(values)) => *values,
                    _ => std::array::from_fn(|place| from[place * stride]),
                };
                for (sum, value) in sums.iter_mut().zip(values) {
                    *sum = simd.mul_add_f32s(value, weight, *sum);
                }
            }
        }
        for (place, sum) in out[first * channels..].chunks_exact_mut(channels).zip(sums) {
            simd.partial_store_f32s(&mut place[left..left + lanes], sum);
        }
        first + COUNT
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
                scratch: &mut vec![f32::NAN; 7],
            });
            for (at, value) in got.iter().enumerate() {
                let (place, c) = (at / channels, at % channels);
                let expected = expected(&sliding, &input, &weights, &bias, [first + place / out[1], place % out[1], c]);
                prop_assert!((f64::from(*value) - expected).abs() < 1e-5, "{value} instead of {expected}");
            }
        }
    }
}
