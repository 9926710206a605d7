//! The two passes over rows of bytes.
//!
//! Down the columns, neighbours in a row are lanes. Along a row every output reads inputs of its own, so that neighbours are
//! none: eight rows are turned into columns there, and the rows are the lanes.

use std::ops::Range;

use super::lanes::{LANES, Lanes};
use super::taps::{HALF, PRECISION_BITS, Taps};

/// Rows that are resampled along at a time.
pub(super) const ROWS: usize = LANES;
/// Words of eight columns that are turned at a time.
const WORDS: usize = 4;
/// Columns that are turned or summed at a time: rows are filled up to multiples of it.
pub(super) const BLOCK: usize = WORDS * size_of::<u64>();

/// What stands in one place of [`ROWS`] rows.
pub(super) type Column = [u8; ROWS];

/// Turns rows, of one length, into columns: byte `x` of row `y` becomes value `y` of `to[x * STEP + first]`, where `first` is
/// below `STEP`. There are whole blocks of columns, `BLOCK * STEP` each; those beyond the rows are zeros.
#[inline(always)]
pub(super) fn to_columns<const STEP: usize>(rows: [&[u8]; ROWS], first: usize, to: &mut [Column]) {
    for (block, to) in to.chunks_exact_mut(BLOCK * STEP).enumerate() {
        let mut squares = [[0; WORDS]; ROWS];
        for (square, row) in squares.iter_mut().zip(rows) {
            let rest = row.get(block * BLOCK..).unwrap_or_default();
            *square = match rest.first_chunk() {
                Some(line) => words(line),
                None => words(&filled(rest)),
            };
        }
        let squares = turn(squares);
        for word in 0..WORDS {
            for place in 0..ROWS {
                to[(word * ROWS + place) * STEP + first] = squares[place][word].to_le_bytes();
            }
        }
    }
}

/// Turns columns, whole blocks of them, back into rows that lie one after another in `to`.
#[inline(always)]
pub(super) fn to_rows(columns: &[Column], to: &mut [u8]) {
    for (block, from) in columns.as_chunks::<BLOCK>().0.iter().enumerate() {
        let mut squares = [[0; WORDS]; ROWS];
        for word in 0..WORDS {
            for place in 0..ROWS {
                squares[place][word] = u64::from_le_bytes(from[word * ROWS + place]);
            }
        }
        for (line, words) in to.chunks_exact_mut(columns.len()).zip(turn(squares)) {
            let line = line[block * BLOCK..][..BLOCK].as_chunks_mut().0;
            line.iter_mut().zip(words).for_each(|(to, word)| *to = word.to_le_bytes());
        }
    }
}

#[inline(always)]
fn words(line: &[u8; BLOCK]) -> [u64; WORDS] {
    let mut words = [0; WORDS];
    for (word, bytes) in words.iter_mut().zip(line.as_chunks().0) {
        *word = u64::from_le_bytes(*bytes);
    }
    words
}

/// A block that begins with `bytes`.
fn filled(bytes: &[u8]) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    block.iter_mut().zip(bytes).for_each(|(to, byte)| *to = *byte);
    block
}

/// Turns squares of eight by eight bytes, side by side: byte `x` of word `y` becomes byte `y` of word `x`.
#[inline(always)]
fn turn(squares: [[u64; WORDS]; ROWS]) -> [[u64; WORDS]; ROWS] {
    exchange::<1>(exchange::<2>(exchange::<4>(squares, 0xffff_ffff), 0xffff_0000_ffff), 0x00ff_00ff_00ff_00ff)
}

/// Exchanges the corners, upper right and lower left, of each square of twice `HALF` bytes; `mask` has the left bytes of those.
#[inline(always)]
fn exchange<const HALF: usize>(mut words: [[u64; WORDS]; ROWS], mask: u64) -> [[u64; WORDS]; ROWS] {
    for upper in (0..ROWS).filter(|row| row & HALF == 0) {
        let (above, below) = words.split_at_mut(upper + HALF);
        for (above, below) in above[upper].iter_mut().zip(&mut below[0]) {
            let differing = ((*above >> (8 * HALF)) ^ *below) & mask;
            *above ^= differing << (8 * HALF);
            *below ^= differing;
        }
    }
    words
}

/// Resamples rows of pixels of `CHANNELS` values, turned into columns, to one value a position of `taps` and channel: that of
/// channel `c` at `c * plane` and on.
#[inline(always)]
pub(super) fn across<const CHANNELS: usize>(
    lanes: impl Lanes,
    columns: &[Column],
    taps: &Taps,
    plane: usize,
    to: &mut [Column],
) {
    let pixels = columns.as_chunks::<CHANNELS>().0;
    for (index, (inputs, coefficients)) in taps.iter().enumerate() {
        let mut sums = [lanes.splat(HALF); CHANNELS];
        for (pixel, &coefficient) in pixels[inputs].iter().zip(coefficients) {
            for (sums, &values) in sums.iter_mut().zip(pixel) {
                *sums = lanes.add(*sums, values, coefficient);
            }
        }
        for (channel, sums) in sums.into_iter().enumerate() {
            to[channel * plane + index] = lanes.clip::<PRECISION_BITS>(sums);
        }
    }
}

/// One row of the rows that a position reads down the columns. Row `y` is the one at `y % slots` of those in `rows`,
/// each as long as `resampled`, whole blocks.
#[inline(always)]
pub(super) fn down(
    lanes: impl Lanes,
    rows: &[u8],
    slots: usize,
    inputs: Range<usize>,
    coefficients: &[i32],
    resampled: &mut [u8],
) {
    let stride = resampled.len();
    for (block, to) in resampled.as_chunks_mut::<BLOCK>().0.iter_mut().enumerate() {
        let mut sums = [lanes.splat(HALF); BLOCK / LANES];
        let mut slot = inputs.start % slots;
        for &coefficient in coefficients {
            let from = slot * stride + block * BLOCK;
            let Some(values) = rows[from..].first_chunk::<BLOCK>() else { break };
            for (sums, &values) in sums.iter_mut().zip(values.as_chunks::<LANES>().0) {
                *sums = lanes.add(*sums, values, coefficient);
            }
            slot = if slot + 1 == slots { 0 } else { slot + 1 };
        }
        for (to, sums) in to.as_chunks_mut::<LANES>().0.iter_mut().zip(sums) {
            *to = lanes.clip::<PRECISION_BITS>(sums);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::array::from_fn;

    use super::*;

    #[test]
    fn columns_are_turned_rows_and_the_other_way_round() {
        for (width, step) in [(1, 1), (8, 1), (31, 3), (32, 1), (33, 3), (100, 1)] {
            let row = |y: usize| (0..width).map(move |x| (x * 37 + y * 101 + x * y) as u8).collect::<Vec<u8>>();
            let rows: [Vec<u8>; ROWS] = from_fn(row);
            let padded = width.next_multiple_of(BLOCK);
            let mut columns = vec![[7; ROWS]; padded * step];
            let lines = || from_fn(|y: usize| rows[y].as_slice());
            match step {
                1 => to_columns::<1>(lines(), 0, &mut columns),
                _ => to_columns::<3>(lines(), 2, &mut columns),
            }
            let alone: Vec<Column> = columns.iter().skip(step - 1).step_by(step).copied().collect();
            for (x, column) in alone.iter().enumerate() {
                assert_eq!(*column, from_fn(|y| rows[y].get(x).copied().unwrap_or(0)), "{x} of {width}");
            }
            let mut back = vec![7; padded * ROWS];
            to_rows(&alone, &mut back);
            for (line, row) in back.chunks(padded).zip(&rows) {
                assert_eq!(line[..width], **row, "{width}");
                assert!(line[width..].iter().all(|&byte| byte == 0));
            }
        }
    }
}
