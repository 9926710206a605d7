//! Rows times weights: the product of a linear layer, with its bias, activation and residual.

use pulp::Simd;

use super::aligned;
use super::interleave::interleave;
use super::prefetch;
use super::{Activation, Kernel, Weights, run};

/// `out = activation(input W + bias)`; `out` is added before the activation where it is to accumulate.
///
/// A tile of sums stays in registers while it goes down the weights; a panel of weights stays in a cache while all rows
/// pass by it. So each weight is read from memory once.
pub(crate) struct Product<'a> {
    /// `[rows, depth]`; `out` tells how many rows.
    pub(crate) input: &'a [f32],
    pub(crate) weights: &'a Weights,
    pub(crate) activation: Activation,
    /// Whether the product is added to what `out` holds.
    pub(crate) accumulate: bool,
    /// `[rows, columns]`.
    pub(crate) out: &'a mut [f32],
    /// Grows to what the packed input takes, and a panel where it is not stored as floats.
    pub(crate) scratch: &'a mut Vec<f32>,
}

impl Product<'_> {
    pub(crate) fn run(self) {
        match self.weights.half {
            Some(half) => half.run(self),
            None => run(InFloats(self)),
        }
    }
}

/// A product in thirty-two bits.
struct InFloats<'a>(Product<'a>);

impl Kernel for InFloats<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, const ROWS: usize, const VECTORS: usize>(self, simd: S) {
        let Product { input, weights, activation, accumulate, out, scratch } = self.0;
        let Weights { ref bias, depth, columns, width, .. } = *weights;
        assert_eq!(width, VECTORS * S::F32_LANES);
        if columns == 0 || out.is_empty() {
            return;
        }
        let rows = out.len() / columns;
        let packed_len = rows.next_multiple_of(ROWS) * depth;
        scratch.resize(packed_len + aligned::space::<f32>(weights.room()), 0.0);
        let (packed, room) = scratch.split_at_mut(packed_len);
        let room = aligned::within(room, weights.room());
        pack_rows::<ROWS>(input, [depth, 1], rows, depth, packed);
        for (index, left) in (0..columns).step_by(width).enumerate() {
            // What a panel is multiplied with passes by several times, and meanwhile memory is idle.
            let mut coming = weights.coming(index + 1, rows.div_ceil(ROWS) * depth);
            let right = columns.min(left + width);
            let panel = S::as_simd_f32s(weights.panel(index, room)).0.as_chunks::<VECTORS>().0;
            let mut corner = [simd.splat_f32s(0.0); VECTORS];
            load(simd, &bias[left..right], &mut corner);
            for (block, top) in packed.chunks_exact((depth * ROWS).max(1)).zip((0..rows).step_by(ROWS)) {
                let sums = tile::<S, ROWS, VECTORS>(simd, block.as_chunks().0, panel, corner, || coming.step());
                for (row, mut sums) in (top..rows).zip(sums) {
                    let line = &mut out[row * columns + left..row * columns + right];
                    if accumulate {
                        let mut before = [simd.splat_f32s(0.0); VECTORS];
                        load(simd, line, &mut before);
                        for (sum, before) in sums.iter_mut().zip(before) {
                            *sum = simd.add_f32s(*sum, before);
                        }
                    }
                    for sum in &mut sums {
                        *sum = activation.apply(simd, *sum);
                    }
                    store(simd, sums, line);
                }
            }
        }
    }
}

/// Puts a matrix of `rows` by `deep` values into blocks of `ROWS` rows, where the values of a block that are multiplied with
/// one weight lie side by side. The last block is filled with copies of the last row.
///
/// Value `(row, p)` is `input[row * strides[0] + p * strides[1]]`.
#[inline(always)]
pub(super) fn pack_rows<const ROWS: usize>(
    input: &[f32],
    strides: [usize; 2],
    rows: usize,
    deep: usize,
    packed: &mut [f32],
) {
    let blocks = packed.chunks_exact_mut((deep * ROWS).max(1)).zip((0..rows).step_by(ROWS));
    match strides {
        [_, 1] => {
            for (block, top) in blocks {
                let line = |lane: usize| &input[(top + lane).min(rows - 1) * strides[0]..][..deep];
                interleave(std::array::from_fn(line), |value| value, block.as_chunks_mut::<ROWS>().0);
            }
        }
        [1, _] if rows.is_multiple_of(ROWS) => {
            for p in 0..deep {
                let line = input[p * strides[1]..][..rows].as_chunks::<ROWS>().0;
                let places = packed.as_chunks_mut::<ROWS>().0.iter_mut().skip(p).step_by(deep);
                line.iter().zip(places).for_each(|(values, to)| *to = *values);
            }
        }
        _ => {
            for (block, top) in blocks {
                for (p, to) in block.as_chunks_mut::<ROWS>().0.iter_mut().enumerate() {
                    *to = std::array::from_fn(|lane| input[(top + lane).min(rows - 1) * strides[0] + p * strides[1]]);
                }
            }
        }
    }
}

/// The sums, each from `corner` on, of products of `ROWS` packed rows with a panel: the innermost loop of everything. Does
/// `meanwhile` once for each row of the panel.
#[inline(always)]
pub(super) fn tile<S: Simd, const ROWS: usize, const VECTORS: usize>(
    simd: S,
    rows: &[[f32; ROWS]],
    panel: &[[S::f32s; VECTORS]],
    corner: [S::f32s; VECTORS],
    mut meanwhile: impl FnMut(),
) -> [[S::f32s; VECTORS]; ROWS] {
    let mut sums = [corner; ROWS];
    for (values, weights) in rows.iter().zip(panel) {
        meanwhile();
        prefetch::ahead(weights, values);
        for (sums, value) in sums.iter_mut().zip(values) {
            let value = simd.splat_f32s(*value);
            for (sum, weight) in sums.iter_mut().zip(weights) {
                *sum = simd.mul_add_f32s(value, *weight, *sum);
            }
        }
    }
    sums
}

/// Reads at most `VECTORS` vectors; what `line` does not fill stays.
#[inline(always)]
pub(super) fn load<S: Simd, const VECTORS: usize>(simd: S, line: &[f32], vectors: &mut [S::f32s; VECTORS]) {
    if let Some(whole) = S::as_simd_f32s(line).0.first_chunk() {
        *vectors = *whole;
        return;
    }
    for (vector, part) in vectors.iter_mut().zip(line.chunks(S::F32_LANES)) {
        *vector = simd.partial_load_f32s(part);
    }
}

/// Writes so many of the values as `line` has room for.
#[inline(always)]
pub(super) fn store<S: Simd, const VECTORS: usize>(simd: S, vectors: [S::f32s; VECTORS], line: &mut [f32]) {
    if let Some(whole) = S::as_mut_simd_f32s(line).0.first_chunk_mut() {
        *whole = vectors;
        return;
    }
    for (vector, part) in vectors.into_iter().zip(line.chunks_mut(S::F32_LANES)) {
        simd.partial_store_f32s(part, vector);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tract_core::prelude::f16;

    use super::super::{Activation, each, noise};
    use super::*;

    /// What a product is, in float64.
    fn expected(input: &[f32], matrix: &[f32], bias: &[f32], depth: usize, before: &[f32]) -> Vec<f64> {
        let columns = bias.len();
        (before.iter().enumerate())
            .map(|(place, before)| {
                let (row, column) = (place / columns, place % columns);
                let products =
                    (0..depth).map(|p| f64::from(input[row * depth + p]) * f64::from(matrix[p * columns + column]));
                f64::from(*before) + f64::from(bias[column]) + products.sum::<f64>()
            })
            .collect()
    }

    #[test]
    fn weights_in_sixteen_bits_give_what_their_floats_give() {
        for (rows, depth, columns) in [(1, 1, 1), (3, 7, 5), (40, 33, 100), (9, 48, 48)] {
            let mut values = noise(5);
            let (input, bias) = (values(rows * depth), values(columns));
            let halves: Vec<f16> = values(depth * columns).into_iter().map(f16::from_f32).collect();
            let at = |p: usize, j: usize| halves[p * columns + j];
            let product = |weights: Weights| {
                let (mut out, mut scratch) = (vec![0.0; rows * columns], Vec::new());
                let (activation, accumulate) = (Activation::Identity, false);
                let (out_at, scratch) = (&mut out, &mut scratch);
                Product { input: &input, weights: &weights, activation, accumulate, out: out_at, scratch }.run();
                out
            };
            let stored = Weights::pack_halves(depth, &bias, None, each(|p, j| at(p, j).to_bits())).unwrap();
            assert_eq!(product(stored), product(Weights::pack(depth, bias.clone(), each(|p, j| at(p, j).to_f32()))));
        }
        let infinite = |p: usize, _: usize| if p == 1 { f16::INFINITY.to_bits() } else { 0 };
        assert!(Weights::pack_halves(2, &[0.0; 3], None, each(infinite)).is_none());
    }

    proptest! {
        #[test]
        fn a_product_is_that_of_its_matrices(
            (rows, depth, columns) in (1_usize..40, 1_usize..40, 1_usize..80),
            accumulate: bool,
            seed: u32,
        ) {
            let mut values = noise(seed);
            let (input, matrix, bias) = (values(rows * depth), values(depth * columns), values(columns));
            let mut out = if accumulate { values(rows * columns) } else { vec![0.0; rows * columns] };
            let expected = expected(&input, &matrix, &bias, depth, &out);
            let weights = Weights::pack(depth, bias, each(|p, j| matrix[p * columns + j]));
            let (activation, mut scratch) = (Activation::Identity, Vec::new());
            Product { input: &input, weights: &weights, activation, accumulate, out: &mut out, scratch: &mut scratch }.run();
            for (value, expected) in out.iter().zip(expected) {
                prop_assert!((f64::from(*value) - expected).abs() < 1e-5 * (1.0 + depth as f64), "{value} {expected}");
            }
        }
    }
}
