//! Loops over rows of numbers, compiled for the vector instructions that the processor has.

use super::Real;

/// Independent partial sums, so that a reduction is vectorised without its order depending on the processor.
const LANES: usize = 16;

/// Runs `loops` compiled for the widest vector instructions found at run time. Everything inside must be inlined:
/// closures handed in are marked `#[inline(always)]`.
#[inline(always)]
pub(super) fn vectorized<R>(loops: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(loops)
}

/// The sum of `term` over two rows of one length.
#[inline(always)]
pub(super) fn sum_of<T: Real>(a: &[T], b: &[T], term: impl Fn(T, T) -> T) -> T {
    let mut lanes = [T::ZERO; LANES];
    let (a_blocks, b_blocks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let mut sum = T::ZERO;
    for (&a, &b) in a_blocks.remainder().iter().zip(b_blocks.remainder()) {
        sum += term(a, b);
    }
    for (a, b) in a_blocks.zip(b_blocks) {
        for ((lane, &a), &b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += term(a, b);
        }
    }
    for lane in lanes {
        sum += lane;
    }
    sum
}

/// The sum of a row.
#[inline(always)]
pub(super) fn sum<T: Real>(row: &[T]) -> T {
    sum_of(row, row, |value, _| value)
}

/// The largest number of a row; not a number where the row begins with one.
#[inline(always)]
pub(super) fn max<T: Real>(row: &[T]) -> T {
    let Some(&first) = row.first() else { return T::ZERO };
    let mut lanes = [first; LANES];
    let larger = |a: T, b: T| if b > a { b } else { a };
    let blocks = row.chunks_exact(LANES);
    for (lane, &value) in lanes.iter_mut().zip(blocks.remainder()) {
        *lane = larger(*lane, value);
    }
    for block in blocks {
        for (lane, &value) in lanes.iter_mut().zip(block) {
            *lane = larger(*lane, value);
        }
    }
    lanes.into_iter().fold(first, larger)
}

/// `sum += values`.
pub(super) fn add_assign<T: Real>(sum: &mut [T], values: &[T]) {
    vectorized(
        #[inline(always)]
        || {
            for (sum, &value) in sum.iter_mut().zip(values) {
                *sum += value;
            }
        },
    );
}

/// Each row of `rows` becomes `row`.
pub(super) fn repeat_row<T: Real>(rows: &mut [T], row: &[T]) {
    for target in rows.chunks_exact_mut(row.len()) {
        target.copy_from_slice(row);
    }
}

/// `sum[j] = factor * (rows[0][j] + rows[1][j] + ...)`.
pub(super) fn sum_rows<T: Real>(rows: &[T], factor: T, sum: &mut [T]) {
    sum.fill(T::ZERO);
    vectorized(
        #[inline(always)]
        || {
            for row in rows.chunks_exact(sum.len()) {
                for (sum, &value) in sum.iter_mut().zip(row) {
                    *sum += value;
                }
            }
            for sum in sum.iter_mut() {
                *sum *= factor;
            }
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reductions_take_in_every_value() {
        for len in 1..70usize {
            let row: Vec<f32> = (0..len).map(|i| ((i * 37) % 101) as f32 - 50.0).collect();
            assert_eq!(sum(&row), row.iter().sum::<f32>(), "length {len}");
            assert_eq!(max(&row), row.iter().copied().fold(f32::MIN, f32::max), "length {len}");
        }
    }

    #[test]
    fn rows_are_summed_down_the_columns() {
        let mut columns = [9.0; 2];
        sum_rows(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 2.0, &mut columns);
        assert_eq!(columns, [18.0, 24.0]);
    }
}
