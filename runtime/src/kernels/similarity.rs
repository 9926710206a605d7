//! For each of some rows the most similar one of others.

use pulp::{Simd, bytemuck};

use super::Kernel;
use super::product::{pack_rows, store, tile};

/// With the mean of each token's keys over the heads, brought to length 1: for every token of `from` the largest product with a
/// token of `to`, and the place in `to` of that token, the first of equal ones.
pub(crate) struct MostSimilar<'a> {
    /// `[tokens, heads, width]`.
    pub(crate) keys: &'a [f32],
    pub(crate) heads: usize,
    pub(crate) width: usize,
    /// Places of tokens, those of `to` at least one.
    pub(crate) from: &'a [usize],
    pub(crate) to: &'a [usize],
    /// Below it a length counts as this.
    pub(crate) smallest: f32,
    /// `[from]` each.
    pub(crate) best: &'a mut [f32],
    pub(crate) which: &'a mut [i64],
    pub(crate) scratch: &'a mut SimilarScratch,
}

/// What the comparison keeps while it runs.
#[derive(Debug, Default)]
pub(crate) struct SimilarScratch {
    /// Mean keys of length 1, `[to, width]` and one of `from`'s.
    units: Vec<f32>,
    /// Those of `to` in blocks of a tile's rows.
    blocks: Vec<f32>,
    /// Those of a tile's `from`, `[width, lanes]`.
    panel: Vec<f32>,
}

impl Kernel for MostSimilar<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, const ROWS: usize, const VECTORS: usize>(self, simd: S) {
        let Self { keys, heads, width, from, to, smallest, best, which, scratch } = self;
        if width == 0 || to.is_empty() {
            return;
        }
        let lanes = VECTORS * S::F32_LANES;
        let SimilarScratch { units, blocks, panel } = scratch;
        units.resize((to.len() + 1) * width, 0.0);
        blocks.resize(to.len().next_multiple_of(ROWS) * width, 0.0);
        panel.resize(width * lanes, 0.0);
        let token = |place: usize| &keys[place * heads * width..][..heads * width];
        let (rows, one) = units.split_at_mut(to.len() * width);
        for (&place, row) in to.iter().zip(rows.chunks_exact_mut(width)) {
            unit(simd, token(place), smallest, row);
        }
        pack_rows::<ROWS>(rows, [width, 1], to.len(), width, blocks);
        for ((from, best), which) in from.chunks(lanes).zip(best.chunks_mut(lanes)).zip(which.chunks_mut(lanes)) {
            for (lane, &place) in from.iter().enumerate() {
                unit(simd, token(place), smallest, one);
                panel.chunks_exact_mut(lanes).zip(&*one).for_each(|(line, value)| line[lane] = *value);
            }
            let columns = S::as_simd_f32s(panel).0.as_chunks::<VECTORS>().0;
            let mut most = [simd.splat_f32s(f32::NEG_INFINITY); VECTORS];
            let mut places = [simd.splat_u32s(0); VECTORS];
            for (block, top) in blocks.chunks_exact(width * ROWS).zip((0..to.len()).step_by(ROWS)) {
                let sums = tile::<S, ROWS, VECTORS>(
                    simd,
                    block.as_chunks().0,
                    columns,
                    [simd.splat_f32s(0.0); VECTORS],
                    || (),
                );
                for (row, sums) in (top..to.len()).zip(sums) {
                    let row = simd.splat_u32s(row as u32);
                    for ((sum, most), place) in sums.into_iter().zip(&mut most).zip(&mut places) {
                        let is_more = simd.less_than_f32s(*most, sum);
                        *most = simd.select_f32s(is_more, sum, *most);
                        *place = simd.select_u32s(is_more, row, *place);
                    }
                }
            }
            store(simd, most, best);
            let places: &[u32] = bytemuck::cast_slice(&places);
            which.iter_mut().zip(places).for_each(|(which, place)| *which = i64::from(*place));
        }
    }
}

/// The mean of a token's keys over the heads, by its length.
#[inline(always)]
fn unit<S: Simd>(simd: S, token: &[f32], smallest: f32, out: &mut [f32]) {
    out.fill(0.0);
    for key in token.chunks_exact(out.len()) {
        out.iter_mut().zip(key).for_each(|(sum, value)| *sum += value);
    }
    let share = out.len() as f32 / token.len() as f32;
    out.iter_mut().for_each(|value| *value *= share);
    let (vectors, end) = S::as_simd_f32s(out);
    let squares = |sum, value| simd.mul_add_f32s(value, value, sum);
    let whole = vectors.iter().fold(simd.splat_f32s(0.0), |sum, value| squares(sum, *value));
    let length = simd.reduce_sum_f32s(squares(whole, simd.partial_load_f32s(end))).sqrt();
    let factor = 1.0 / length.max(smallest);
    out.iter_mut().for_each(|value| *value *= factor);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{noise, run};
    use super::*;

    proptest! {
        #[test]
        fn the_most_similar_has_the_largest_cosine(
            (tokens, heads, width) in (2_usize..60, 1_usize..4, 1_usize..20),
            split in 1_usize..60,
            seed: u32,
        ) {
            let keys = noise(seed)(tokens * heads * width);
            let (from, to): (Vec<usize>, Vec<usize>) = (0..tokens).partition(|place| *place < split.min(tokens - 1));
            let (mut best, mut which) = (vec![0.0; from.len()], vec![0; from.len()]);
            let mut scratch = SimilarScratch::default();
            run(MostSimilar {
                keys: &keys,
                heads,
                width,
                from: &from,
                to: &to,
                smallest: 1e-12,
                best: &mut best,
                which: &mut which,
                scratch: &mut scratch,
            });
            let mean = |place: usize| -> Vec<f64> {
                let key = |head: usize, at: usize| f64::from(keys[(place * heads + head) * width + at]);
                (0..width).map(|at| (0..heads).map(|head| key(head, at)).sum()).collect()
            };
            let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
            let cosine = |a: usize, b: usize| {
                let (a, b) = (mean(a), mean(b));
                dot(&a, &b) / (dot(&a, &a) * dot(&b, &b)).sqrt()
            };
            for ((&place, best), which) in from.iter().zip(best).zip(which) {
                let largest = to.iter().map(|&other| cosine(place, other)).fold(f64::NEG_INFINITY, f64::max);
                let chosen = cosine(place, to[which as usize]);
                prop_assert!((f64::from(best) - largest).abs() < 1e-4, "{best} instead of {largest}");
                prop_assert!((chosen - largest).abs() < 1e-4, "{chosen} instead of {largest}");
            }
        }
    }

    #[test]
    fn of_equal_ones_the_first_is_taken_and_nothing_is_like_nothing() {
        let keys = [1.0, 0.0, 0.0, 1.0, 3.0, 0.0, 2.0, 0.0, 0.0, 0.0];
        let (mut best, mut which) = ([0.0; 2], [9; 2]);
        run(MostSimilar {
            keys: &keys,
            heads: 1,
            width: 2,
            from: &[0, 4],
            to: &[1, 2, 3],
            smallest: 1e-12,
            best: &mut best,
            which: &mut which,
            scratch: &mut SimilarScratch::default(),
        });
        assert_eq!((best, which), ([1.0, 0.0], [1, 0]));
    }
}
