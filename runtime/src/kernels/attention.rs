//! Softmax attention without its matrix of weights in memory.

use pulp::Simd;

use super::Kernel;
use super::elementary::exp;
use super::product::{pack_rows, tile};

/// Where the values of a matrix lie: value `(row, column)` is `row * row_stride + column * column_stride` behind the
/// first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Strides {
    pub(crate) row: usize,
    pub(crate) column: usize,
}

/// Where the matrices of one head start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Head {
    pub(crate) query: usize,
    pub(crate) key: usize,
    pub(crate) value: usize,
    pub(crate) bias: usize,
    pub(crate) out: usize,
}

/// `softmax(scale Q K^T + bias) V` for each head, as in arXiv 1706.03762.
///
/// Scores are computed for as many queries at a time as a tile is wide, a query a lane, so that maximum, exponential and
/// sum run over all of them at once; they stay in the first-level cache.
pub(crate) struct Attention<'a> {
    /// `[queries, dim]` a head.
    pub(crate) query: (&'a [f32], Strides),
    /// `[keys, dim]` a head.
    pub(crate) key: (&'a [f32], Strides),
    /// `[keys, value_dim]` a head.
    pub(crate) value: (&'a [f32], Strides),
    /// `[queries, keys]` a head, added to the scores.
    pub(crate) bias: Option<(&'a [f32], Strides)>,
    /// `[queries, value_dim]` a head.
    pub(crate) out: (&'a mut [f32], Strides),
    /// What the heads' starts count from in `out`.
    pub(crate) out_start: usize,
    pub(crate) heads: &'a [Head],
    pub(crate) queries: usize,
    pub(crate) keys: usize,
    pub(crate) dim: usize,
    pub(crate) value_dim: usize,
    pub(crate) scale: f32,
    pub(crate) scratch: &'a mut Scratch,
}

/// What attention keeps of a head while it runs.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// Keys and values in blocks of a tile's rows.
    key_blocks: Vec<f32>,
    value_blocks: Vec<f32>,
    /// Queries of a tile, `[dim, width]`.
    panel: Vec<f32>,
    /// Their scores, `[keys, width]`.
    scores: Vec<f32>,
    /// Their outputs, `[value_dim, width]`.
    mixed: Vec<f32>,
}

impl Kernel for Attention<'_> {
    type Output = ();

    /// Heads are as wide as a power of two.
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    const EVEN: bool = true;

    #[inline(always)]
    fn run<S: Simd, const ROWS: usize, const VECTORS: usize>(self, simd: S) {
        let Self { queries, keys, dim, value_dim, scale, .. } = self;
        if queries == 0 || keys == 0 {
            return;
        }
        let width = VECTORS * S::F32_LANES;
        let Scratch { key_blocks, value_blocks, panel, scores, mixed } = self.scratch;
        key_blocks.resize(keys.next_multiple_of(ROWS) * dim, 0.0);
        value_blocks.resize(value_dim.next_multiple_of(ROWS) * keys, 0.0);
        panel.resize(dim * width, 0.0);
        scores.resize(keys.next_multiple_of(ROWS) * width, 0.0);
        mixed.resize(value_dim.next_multiple_of(ROWS) * width, 0.0);
        let (out, out_at) = self.out;
        for head in self.heads {
            let (key, at) = self.key;
            pack_rows::<ROWS>(&key[head.key..], [at.row, at.column], keys, dim, key_blocks);
            let (value, at) = self.value;
            pack_rows::<ROWS>(&value[head.value..], [at.column, at.row], value_dim, keys, value_blocks);
            let (query, query_at) = self.query;
            let mut first = 0;
            while first < queries {
                let some = Queries {
                    query: (&query[head.query + first * query_at.row..], query_at),
                    key_blocks,
                    value_blocks,
                    bias: self.bias.map(|(bias, at)| (&bias[head.bias + first * at.row..], at)),
                    out: (&mut out[head.out - self.out_start + first * out_at.row..], out_at),
                    keys,
                    dim,
                    value_dim,
                    scale,
                };
                // What is left for a last tile rarely fills it.
                let count = if queries - first >= width { width } else { S::F32_LANES.min(queries - first) };
                match count == width {
                    true => some.mix::<S, ROWS, VECTORS>(simd, count, panel, scores, mixed),
                    false => some.mix::<S, ROWS, 1>(simd, count, panel, scores, mixed),
                }
                first += count;
            }
        }
    }
}

/// Queries of a head, a lane each.
struct Queries<'a> {
    /// `[queries, dim]`.
    query: (&'a [f32], Strides),
    /// Keys and values of the whole head.
    key_blocks: &'a [f32],
    value_blocks: &'a [f32],
    /// `[queries, keys]`.
    bias: Option<(&'a [f32], Strides)>,
    /// `[queries, value_dim]`.
    out: (&'a mut [f32], Strides),
    keys: usize,
    dim: usize,
    value_dim: usize,
    scale: f32,
}

impl Queries<'_> {
    /// What `count` queries, at most as many as there are lanes in `VECTORS` vectors, make of the values.
    #[inline(always)]
    fn mix<S: Simd, const ROWS: usize, const VECTORS: usize>(
        self,
        simd: S,
        count: usize,
        panel: &mut [f32],
        scores: &mut [f32],
        mixed: &mut [f32],
    ) {
        let Self { key_blocks, value_blocks, keys, dim, value_dim, .. } = self;
        let width = VECTORS * S::F32_LANES;
        let (panel, scores) = (&mut panel[..dim * width], &mut scores[..keys.next_multiple_of(ROWS) * width]);
        let mixed = &mut mixed[..value_dim.next_multiple_of(ROWS) * width];
        let (query, at) = self.query;
        let by_column = Strides { row: 1, column: width };
        let scale = self.scale;
        turn((query, at), [count, dim], (panel, by_column), |to, value| *to = scale * value);
        multiply::<S, ROWS, VECTORS>(simd, key_blocks, dim, panel, scores);
        let scores = &mut scores[..keys * width];
        if let Some((bias, at)) = self.bias {
            turn((bias, at), [count, keys], (scores, by_column), |score, bias| *score += bias);
        }
        let sums = exponentials::<S, VECTORS>(simd, scores);
        multiply::<S, ROWS, VECTORS>(simd, value_blocks, keys, scores, mixed);
        let mixed = &mut mixed[..value_dim * width];
        for line in S::as_mut_simd_f32s(mixed).0.as_chunks_mut::<VECTORS>().0 {
            for (value, sum) in line.iter_mut().zip(sums) {
                *value = simd.div_f32s(*value, sum);
            }
        }
        turn((mixed, by_column), [count, value_dim], self.out, |to, value| *to = value);
    }
}

/// Does `put` for each value of a matrix `[rows, columns]` and what has its place in another, of other strides.
#[inline(always)]
fn turn(
    (from, at): (&[f32], Strides),
    [rows, columns]: [usize; 2],
    (to, to_at): (&mut [f32], Strides),
    put: impl Fn(&mut f32, f32),
) {
    /// Side of the squares that are read by lines and written by lines where those lie crosswise.
    const SIDE: usize = 4;
    let transposed = |Strides { row, column }| Strides { row: column, column: row };
    let (at, to_at, rows, columns) = match (at.row, to_at.column) {
        (1, 1) => (transposed(at), transposed(to_at), columns, rows),
        _ => (at, to_at, rows, columns),
    };
    let crosswise = at.column == 1 && to_at.row == 1;
    let [in_squares, wide] = if crosswise { [rows, columns].map(|len| len / SIDE * SIDE) } else { [0; 2] };
    for row in (0..in_squares).step_by(SIDE) {
        let lines: [&[[f32; SIDE]]; SIDE] =
            std::array::from_fn(|next| from[(row + next) * at.row..][..wide].as_chunks().0);
        for square in 0..wide / SIDE {
            let values = lines.map(|line| line[square]);
            for next in 0..SIDE {
                let line = &mut to[(square * SIDE + next) * to_at.column + row..][..SIDE];
                line.iter_mut().zip(values).for_each(|(to, values)| put(to, values[next]));
            }
        }
    }
    for row in 0..rows {
        for column in if row < in_squares { wide } else { 0 }..columns {
            put(&mut to[row * to_at.row + column * to_at.column], from[row * at.row + column * at.column]);
        }
    }
}

/// Rows in blocks, `[rows, deep]`, times a panel, `[deep, width]`: `[rows, width]`, the rows up to a whole block.
#[inline(always)]
fn multiply<S: Simd, const ROWS: usize, const VECTORS: usize>(
    simd: S,
    blocks: &[f32],
    deep: usize,
    panel: &[f32],
    out: &mut [f32],
) {
    let panel = S::as_simd_f32s(panel).0.as_chunks::<VECTORS>().0;
    let out = S::as_mut_simd_f32s(out).0.as_chunks_mut::<VECTORS>().0.as_chunks_mut::<ROWS>().0;
    for (block, out) in blocks.chunks_exact((deep * ROWS).max(1)).zip(out) {
        *out = tile::<S, ROWS, VECTORS>(simd, block.as_chunks().0, panel, [simd.splat_f32s(0.0); VECTORS], || ());
    }
}

/// Replaces the scores of each lane by their exponentials, the largest being 1; gives the sum of each lane's.
#[inline(always)]
fn exponentials<S: Simd, const VECTORS: usize>(simd: S, scores: &mut [f32]) -> [S::f32s; VECTORS] {
    let scores = S::as_mut_simd_f32s(scores).0.as_chunks_mut::<VECTORS>().0;
    let mut most = [simd.splat_f32s(f32::NEG_INFINITY); VECTORS];
    for line in &*scores {
        for (most, score) in most.iter_mut().zip(line) {
            *most = simd.max_f32s(*most, *score);
        }
    }
    let mut sums = [simd.splat_f32s(0.0); VECTORS];
    for line in scores {
        for ((score, most), sum) in line.iter_mut().zip(most).zip(&mut sums) {
            *score = exp(simd, simd.sub_f32s(*score, most));
            *sum = simd.add_f32s(*sum, *score);
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{noise, run};
    use super::*;

    /// What attention is, in float64: rows `[queries, value_dim]` of one head.
    fn expected(attention: &Attention<'_>, head: Head) -> Vec<f64> {
        let at = |(values, at): (&[f32], Strides), start: usize, row: usize, column: usize| {
            f64::from(values[start + row * at.row + column * at.column])
        };
        let Attention { query, key, value, bias, queries, keys, dim, value_dim, scale, .. } = *attention;
        let mut out = Vec::new();
        for row in 0..queries {
            let score = |place| {
                let product: f64 = (0..dim).map(|p| at(query, head.query, row, p) * at(key, head.key, place, p)).sum();
                f64::from(scale) * product + bias.map_or(0.0, |bias| at(bias, head.bias, row, place))
            };
            let scores: Vec<f64> = (0..keys).map(score).collect();
            let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let weights: Vec<f64> = scores.iter().map(|score| (score - most).exp()).collect();
            let sum: f64 = weights.iter().sum();
            out.extend((0..value_dim).map(|column| {
                weights
                    .iter()
                    .enumerate()
                    .map(|(place, weight)| weight * at(value, head.value, place, column))
                    .sum::<f64>()
                    / sum
            }));
        }
        out
    }

    proptest! {
        /// Two heads side by side in each row, the keys' rows being columns.
        #[test]
        fn attention_is_that_of_its_matrices(
            (queries, keys, dim, value_dim) in (1_usize..40, 1_usize..30, 1_usize..20, 1_usize..20),
            scale in 0.1_f32..30.0,
            // Of all queries alike, and of each.
            bias_at in prop_oneof![Just(None), Just(Some(0)), Just(Some(1))],
            seed: u32,
        ) {
            let mut values = noise(seed);
            let (query, key) = (values(queries * 2 * dim), values(2 * dim * keys));
            let (value, bias) = (values(keys * 2 * value_dim), values(queries * keys));
            let mut out = vec![0.0; queries * 2 * value_dim];
            let head = |head: usize| Head {
                query: head * dim,
                key: head * dim * keys,
                value: head * value_dim,
                bias: 0,
                out: head * value_dim,
            };
            let heads = [head(0), head(1)];
            let out_at = Strides { row: 2 * value_dim, column: 1 };
            let mut scratch = Scratch::default();
            let attention = Attention {
                query: (&query, Strides { row: 2 * dim, column: 1 }),
                key: (&key, Strides { row: 1, column: keys }),
                value: (&value, Strides { row: 2 * value_dim, column: 1 }),
                bias: bias_at.map(|row| (&*bias, Strides { row: row * keys, column: 1 })),
                out: (&mut out, out_at),
                out_start: 0,
                heads: &heads,
                queries,
                keys,
                dim,
                value_dim,
                scale,
                scratch: &mut scratch,
            };
            let expected = heads.map(|head| expected(&attention, head));
            run(attention);
            for (head, expected) in heads.iter().zip(expected) {
                for (place, expected) in expected.into_iter().enumerate() {
                    let (row, column) = (place / value_dim, place % value_dim);
                    let value = out[head.out + row * out_at.row + column];
                    prop_assert!((f64::from(value) - expected).abs() < 1e-4, "{value} instead of {expected}");
                }
            }
        }
    }
}
