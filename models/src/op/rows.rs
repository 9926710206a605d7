//! Operators that only move rows of the last dimension.

use super::Op;

/// For an operator that only moves rows, which row of the input `[.., D]` each row of the output `[.., E]` is, as rows of the smaller of
/// both widths; `None` for every other operator, and where nothing moves. `input` is the shape of the input, which the operator must
/// take.
pub fn rows(op: &Op, input: &[usize]) -> Option<Vec<u32>> {
    // A picture has fewer places than 2^32.
    let row = |place: usize| place as u32;
    match (op, input) {
        (&Op::SpaceToDepth { block }, &[height, width, _]) => {
            let mut rows = Vec::with_capacity(height * width);
            for y in (0..height).step_by(block) {
                for x in (0..width).step_by(block) {
                    for column in 0..block {
                        rows.extend((0..block).map(|line| row((y + line) * width + x + column)));
                    }
                }
            }
            Some(rows)
        }
        (&Op::PixelShuffle { grid: [height, width], factor }, _) => {
            let mut rows = Vec::with_capacity(height * width * factor * factor);
            for (y, line) in (0..height).flat_map(|y| (0..factor).map(move |line| (y, line))) {
                for x in 0..width {
                    let first = ((y * width + x) * factor + line) * factor;
                    rows.extend((0..factor).map(|column| row(first + column)));
                }
            }
            Some(rows)
        }
        (Op::WindowPartition(windows), _) => {
            let places = |index| (0..windows.len()).map(move |at| row(windows.place(index, at)));
            Some((0..windows.count()).flat_map(places).collect())
        }
        (&Op::WindowReverse(windows), _) => rows(&Op::WindowPartition(windows), input).map(|rows| inverse(&rows)),
        _ => None,
    }
}

/// The permutation that undoes `rows`.
pub fn inverse(rows: &[u32]) -> Vec<u32> {
    let mut inverse = vec![0; rows.len()];
    for (at, &row) in (0u32..).zip(rows) {
        if let Some(place) = inverse.get_mut(row as usize) {
            *place = at;
        }
    }
    inverse
}

#[cfg(test)]
mod tests {
    use super::super::Windows;
    use super::*;

    #[test]
    fn squares_go_column_by_column() {
        let table = rows(&Op::SpaceToDepth { block: 2 }, &[2, 4, 3]).unwrap();
        assert_eq!(table, [0, 4, 1, 5, 2, 6, 3, 7]);
    }

    #[test]
    fn tokens_become_squares_row_by_row() {
        let table = rows(&Op::PixelShuffle { grid: [2, 2], factor: 2 }, &[4, 8]).unwrap();
        assert_eq!(table[..8], [0, 1, 4, 5, 2, 3, 6, 7]);
        assert_eq!(table[8..], [8, 9, 12, 13, 10, 11, 14, 15]);
    }

    #[test]
    fn dilated_windows_have_the_same_pixel_of_every_patch() {
        let windows = Windows { grid: [4, 6], window: [2, 3], shift: [0, 0], is_dilated: true };
        let cut = rows(&Op::WindowPartition(windows), &[4, 6, 1]).unwrap();
        assert_eq!(cut[..6], [0, 2, 4, 12, 14, 16]);
        assert_eq!(cut[6..12], [1, 3, 5, 13, 15, 17]);
        assert_eq!(cut[18..], [7, 9, 11, 19, 21, 23]);
    }

    #[test]
    fn reversing_undoes_cutting() {
        let windows = Windows { grid: [4, 6], window: [2, 3], shift: [1, 2], is_dilated: false };
        let cut = rows(&Op::WindowPartition(windows), &[4, 6, 1]).unwrap();
        let back = rows(&Op::WindowReverse(windows), &[4, 6, 1]).unwrap();
        assert_eq!(cut[0], 8);
        for (at, &row) in cut.iter().enumerate() {
            assert_eq!(back[row as usize] as usize, at);
        }
    }
}
