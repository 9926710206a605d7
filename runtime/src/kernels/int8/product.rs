//! Rows times weights: the product of a quantised linear layer, with its scale, bias, activation and residual.

use pulp::Simd;

use super::super::Activation;
use super::super::interleave::interleave;
use super::super::prefetch::Coming;
use super::super::product::{load, store};
use super::{Instructions, Quantization, Vectors as _, Weights};

/// `out = activation(scale ((input - zero) W) + bias)`; `out` is added before the activation where it is to accumulate.
///
/// The scale is the input's times the weights' own. A tile of sums stays in registers while it goes down the weights; a panel
/// of weights stays in a cache while all rows pass by it.
pub(crate) struct Product<'a> {
    /// `[rows, depth]`; `out` tells how many rows.
    pub(crate) input: &'a [u8],
    pub(crate) quantization: Quantization,
    pub(crate) weights: &'a Weights,
    pub(crate) activation: Activation,
    /// Whether the product is added to what `out` holds.
    pub(crate) accumulate: bool,
    /// `[rows, columns]`.
    pub(crate) out: &'a mut [f32],
    pub(crate) scratch: &'a mut Scratch,
}

/// What a product needs beside its operands; grows to what it takes.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// The input in blocks of rows.
    rows: Vec<u32>,
    /// What the sums of each column begin with, and what they are multiplied with.
    corner: Vec<i32>,
    scale: Vec<f32>,
}

/// What is compiled for each [`Path`](super::Path).
pub(super) trait Tiles {
    /// Implementations carry `#[inline(always)]`, so that they are compiled with the instructions of `I`.
    fn run<I: Instructions, const ROWS: usize, const VECTORS: usize>(self, instructions: I);
}

impl Product<'_> {
    pub(crate) fn run(self) {
        self.weights.path.run(self);
    }
}

impl Tiles for Product<'_> {
    #[inline(always)]
    fn run<I: Instructions, const ROWS: usize, const VECTORS: usize>(self, instructions: I) {
        let Self { input, quantization, weights, activation, accumulate, out, scratch } = self;
        let (simd, columns, groups) = (instructions.simd(), weights.columns, weights.groups());
        let width = VECTORS * <I::Simd as Simd>::I32_LANES;
        assert_eq!(weights.path.tile(), [ROWS, width]);
        if columns == 0 || out.is_empty() {
            return;
        }
        let rows = out.len() / columns;
        let words = rows.next_multiple_of(ROWS) * groups;
        if scratch.rows.len() < words {
            scratch.rows.resize(words, 0);
        }
        let packed = &mut scratch.rows[..words];
        pack_rows::<I, ROWS>(input, rows, weights, packed);
        // `(x - zero) w` is `(x - SHIFT) w + (SHIFT - zero) w`.
        let shift = i32::from(I::SHIFT) - i32::from(quantization.zero);
        scratch.corner.clear();
        scratch.corner.extend(weights.sums.iter().map(|sum| shift * sum));
        scratch.scale.clear();
        scratch.scale.extend(weights.scale.iter().map(|scale| quantization.scale * scale));

        let by_column = scratch
            .corner
            .chunks_exact(width)
            .zip(scratch.scale.chunks_exact(width))
            .zip(weights.bias.chunks_exact(width));
        let panels = weights.panels().chunks_exact((groups * width).max(1));
        let following = panels.clone().skip(1).chain([&[][..]]);
        let lefts = (0..columns).step_by(width);
        for (((panel, next), ((corner, scale), bias)), left) in panels.zip(following).zip(by_column).zip(lefts) {
            let mut coming = Coming::new(next, rows.div_ceil(ROWS) * groups);
            let right = columns.min(left + width);
            let panel = <I::Simd as Simd>::as_simd_i32s(panel).0.as_chunks::<VECTORS>().0;
            let corner = <I::Simd as Simd>::as_simd_i32s(corner).0.first_chunk::<VECTORS>();
            let (Some(corner), scale, bias) =
                (corner, floats::<I, VECTORS>(instructions, scale), floats::<I, VECTORS>(instructions, bias))
            else {
                return;
            };
            for (block, top) in packed.chunks_exact((groups * ROWS).max(1)).zip((0..rows).step_by(ROWS)) {
                let sums = instructions.tile::<ROWS, VECTORS>(block.as_chunks().0, panel, *corner, || coming.step());
                for (row, sums) in (top..rows).zip(sums) {
                    let line = &mut out[row * columns + left..row * columns + right];
                    let mut before = [simd.splat_f32s(0.0); VECTORS];
                    if accumulate {
                        load(simd, line, &mut before);
                    }
                    for (((before, sum), scale), bias) in before.iter_mut().zip(sums).zip(scale).zip(bias) {
                        let value = simd.mul_add_f32s(simd.floats(sum), scale, bias);
                        *before = activation.apply(simd, simd.add_f32s(*before, value));
                    }
                    store(simd, before, line);
                }
            }
        }
    }
}

/// The vectors of a line that holds that many.
#[inline(always)]
fn floats<I: Instructions, const VECTORS: usize>(instructions: I, line: &[f32]) -> [<I::Simd as Simd>::f32s; VECTORS] {
    let mut vectors = [instructions.simd().splat_f32s(0.0); VECTORS];
    load(instructions.simd(), line, &mut vectors);
    vectors
}

/// Puts rows of `depth` values into blocks of `ROWS` rows, where the words of a block that are multiplied with one word of
/// weights lie side by side. The last block is filled with copies of the last row; behind the depth, where weights are 0,
/// words stay what they are.
#[inline(always)]
fn pack_rows<I: Instructions, const ROWS: usize>(input: &[u8], rows: usize, weights: &Weights, packed: &mut [u32]) {
    let (depth, groups) = (weights.depth, weights.groups());
    let flip = u32::from_le_bytes([I::SHIFT; 4]);
    for (block, top) in packed.chunks_exact_mut((groups * ROWS).max(1)).zip((0..rows).step_by(ROWS)) {
        let block = block.as_chunks_mut::<ROWS>().0;
        let lines: [(&[[u8; 4]], &[u8]); ROWS] =
            std::array::from_fn(|lane| input[(top + lane).min(rows - 1) * depth..][..depth].as_chunks());
        let word = |bytes| u32::from_le_bytes(bytes) ^ flip;
        let (whole, last) = block.split_at_mut(depth / 4);
        interleave(lines.map(|(words, _)| words), word, whole);
        if let Some(to) = last.first_mut().filter(|_| !depth.is_multiple_of(4)) {
            *to = lines.map(|(_, end)| {
                let mut bytes = [0; 4];
                bytes[..end.len()].copy_from_slice(end);
                word(bytes)
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::super::noise;
    use super::super::Path;
    use super::*;

    /// Values and weights of a product, and what its integers are.
    #[derive(Debug)]
    struct Case {
        depth: usize,
        columns: usize,
        zero: u8,
        input: Vec<u8>,
        matrix: Vec<i8>,
    }

    impl Case {
        /// `extreme` takes only the least and the greatest of what there can be, for which sums are largest.
        fn new([rows, depth, columns]: [usize; 3], zero: u8, weights: i8, extreme: bool, seed: u32) -> Self {
            let mut values = noise(seed);
            let most = f32::from(weights);
            let input = values(rows * depth).into_iter().map(|value| match extreme {
                true => u8::from(value > 0.0) * 255,
                false => ((value + 1.0) * 127.5).round() as u8,
            });
            let input = input.collect();
            let matrix = values(depth * columns).into_iter().map(|value| match extreme {
                true => (most * value.signum()) as i8,
                false => (most * value).round() as i8,
            });
            Self { depth, columns, zero, input, matrix: matrix.collect() }
        }

        fn sums(&self) -> Vec<i64> {
            let row = |row: &[u8], column: usize| -> i64 {
                let weights = self.matrix[column..].iter().step_by(self.columns);
                row.iter().zip(weights).map(|(x, w)| (i64::from(*x) - i64::from(self.zero)) * i64::from(*w)).sum()
            };
            let rows = self.input.chunks(self.depth);
            rows.flat_map(|values| (0..self.columns).map(move |column| row(values, column))).collect()
        }

        /// The paths of this processor that are exact, each with its weights.
        fn packed(&self) -> Vec<Weights> {
            let (least, most) = self.matrix.iter().fold((0, 0), |(least, most), w| (*w.min(&least), *w.max(&most)));
            let paths = Path::all().into_iter().filter(|path| path.is_exact(self.depth, [least, most]));
            paths.map(|path| Weights::pack_for(path, &self.matrix, self.columns)).collect()
        }

        /// The product; `out` is what it is added to, if it is to accumulate.
        fn run(&self, weights: &Weights, scale: f32, activation: Activation, before: Option<&[f32]>) -> Vec<f32> {
            let rows = self.input.len() / self.depth;
            let mut out = before.map_or_else(|| vec![0.0; rows * self.columns], <[f32]>::to_vec);
            let (accumulate, scratch) = (before.is_some(), &mut Scratch::default());
            let quantization = Quantization { scale, zero: self.zero };
            let (input, out_rows) = (self.input.as_slice(), out.as_mut_slice());
            Product { input, quantization, weights, activation, accumulate, out: out_rows, scratch }.run();
            out
        }
    }

    proptest! {
        #[test]
        fn integers_are_the_same_on_every_path(
            (rows, depth, columns) in (1_usize..30, 1_usize..70, 1_usize..70),
            zero: u8,
            weights in prop_oneof![Just(64_i8), Just(127), Just(-128)],
            extreme: bool,
            seed: u32,
        ) {
            let case = Case::new([rows, depth, columns], zero, weights, extreme, seed);
            let expected: Vec<f32> = case.sums().into_iter().map(|sum| sum as f32).collect();
            for weights in case.packed() {
                let out = case.run(&weights, 1.0, Activation::Identity, None);
                prop_assert_eq!(&out, &expected, "{}", weights.name());
            }
        }

        #[test]
        fn sums_have_their_scale_bias_residual_and_activation(
            (rows, depth, columns) in (1_usize..10, 1_usize..40, 1_usize..40),
            zero: u8,
            accumulate: bool,
            gelu: bool,
            seed: u32,
        ) {
            let case = Case::new([rows, depth, columns], zero, 127, false, seed);
            let mut values = noise(!seed);
            let (scale, bias, before) = (values(columns), values(columns), values(rows * columns));
            let activation = if gelu { Activation::Gelu } else { Activation::Identity };
            let before = accumulate.then_some(before.as_slice());
            for weights in case.packed() {
                let weights = weights.scaled(&scale, &bias);
                let out = case.run(&weights, 1e-4, activation, before);
                for (place, (value, sum)) in out.iter().zip(case.sums()).enumerate() {
                    let column = place % columns;
                    let product = sum as f64 * 1e-4 * f64::from(scale[column]) + f64::from(bias[column]);
                    let x = product + before.map_or(0.0, |before| f64::from(before[place]));
                    let expected = if gelu { x / 2.0 * libm::erfc(-x / std::f64::consts::SQRT_2) } else { x };
                    let close = (f64::from(*value) - expected).abs() < 1e-6 * (1.0 + x.abs() + product.abs());
                    prop_assert!(close, "{}: {value} instead of {expected}", weights.name());
                }
            }
        }
    }

    #[test]
    fn the_deepest_sums_do_not_overflow() {
        for weights in [64, 127, -128] {
            let case = Case::new([5, 6144, 17], 255, weights, true, 7);
            let case = Case { input: vec![0; 5 * 6144], matrix: vec![weights; 6144 * 17], ..case };
            let expected = vec![-255.0 * 6144.0 * f32::from(weights); 5 * 17];
            for weights in case.packed() {
                assert_eq!(case.run(&weights, 1.0, Activation::Identity, None), expected, "{}", weights.name());
            }
        }
    }

    #[test]
    fn weights_that_a_path_cannot_multiply_exactly_go_to_another() {
        for (value, depth) in [(64, 8), (65, 8), (127, 8), (-128, 8), (1, 70_000)] {
            let weights = Weights::pack(&vec![value; depth], 1);
            assert_eq!(weights.is_some(), depth == 8);
            assert!(weights.is_none_or(|weights| weights.path.is_exact(depth, [value.min(0), value.max(0)])));
        }
    }
}
