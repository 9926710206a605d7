//! Windows of a map, and what attention within them adds to its scores (Swin, arXiv 2103.14030).

use crate::tensor::Tensor;

/// What is added to the score of two places that a roll has brought together: their weight is then below float32's
/// resolution.
const APART: f32 = -100.0;

/// How a map is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Windows {
    /// Height and width of the map, multiples of the window's.
    pub grid: [usize; 2],
    /// Height and width of a window.
    pub window: [usize; 2],
    /// By how much the map is rolled up and left before it is cut, less than the window; 0 where windows are dilated.
    pub shift: [usize; 2],
    /// Whether the places of a window lie as far apart as windows fit into the map, and not side by side: MobileViT's
    /// patches, of each of which a window has the same pixel.
    pub is_dilated: bool,
}

impl Windows {
    /// Number of windows.
    pub fn count(self) -> usize {
        (self.grid[0] / self.window[0].max(1)) * (self.grid[1] / self.window[1].max(1))
    }

    /// Number of places in a window, `n`.
    pub fn len(self) -> usize {
        self.window[0] * self.window[1]
    }

    /// Whether a window has no place.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Number of ways in which two places of a window can be apart: `(2h - 1)(2w - 1)`.
    pub fn distances(self) -> usize {
        self.window.map(|side| (2 * side).saturating_sub(1)).iter().product()
    }

    /// Whether anything is rolled.
    pub fn is_shifted(self) -> bool {
        self.shift != [0, 0]
    }

    /// Checks that they are windows of a map of `size`.
    pub(super) fn check(self, size: [usize; 2]) -> Result<(), String> {
        let whole = (0..2).all(|axis| self.window[axis] > 0 && self.grid[axis].is_multiple_of(self.window[axis]));
        let within = (0..2).all(|axis| self.shift[axis] < self.window[axis].max(1));
        if self.grid == size && whole && within && !(self.is_dilated && self.is_shifted()) {
            return Ok(());
        }
        Err(format!(
            "needs a map of {:?}, whole windows of {:?} and a shift {:?} within one; got a map of {size:?}",
            self.grid, self.window, self.shift
        ))
    }

    /// Number of windows and width of `input` `[windows, n, D]`.
    pub(super) fn of(self, input: &[usize]) -> Result<(usize, usize), String> {
        self.check(self.grid)?;
        match *input {
            [count, len, dim] if count == self.count() && len == self.len() => Ok((count, dim)),
            _ => Err(format!("needs windows [{}, {}, D], got {input:?}", self.count(), self.len())),
        }
    }

    /// The place of the map, counted row by row, that place `at` of window `index` was before the roll.
    pub(super) fn place(self, index: usize, at: usize) -> usize {
        let [y, x] = self.rolled(index, at);
        let [height, width] = self.grid;
        (y + self.shift[0]) % height * width + (x + self.shift[1]) % width
    }

    /// Row and column in the rolled map of place `at` of window `index`.
    fn rolled(self, index: usize, at: usize) -> [usize; 2] {
        let across = self.grid[1] / self.window[1];
        let [h, w] = self.window;
        if self.is_dilated {
            return [at / w * (self.grid[0] / h) + index / across, at % w * across + index % across];
        }
        [index / across * h + at / w, index % across * w + at % w]
    }

    /// Which of the nine parts of the rolled map a place lies in: places of different parts were no neighbours.
    fn part(self, [y, x]: [usize; 2]) -> usize {
        let band = |axis: usize, at: usize| {
            let (size, window, shift) = (self.grid[axis], self.window[axis], self.shift[axis]);
            if at < size - window { 0 } else { 1 + usize::from(shift > 0 && at >= size - shift) }
        };
        3 * band(0, y) + band(1, x)
    }
}

/// What is added to the scores, `[1 or windows, num_heads, n, n]` (queries, then keys): as many as there are windows where the
/// map is rolled, one for all otherwise. Row `(y_q - y_k + h - 1)(2w - 1) + x_q - x_k + w - 1` of `table` `[distances,
/// num_heads]` holds what is added for a query and a key.
pub(super) fn relative_bias(table: &Tensor, windows: Windows) -> Vec<f32> {
    let n = windows.len();
    let heads = table.len() / windows.distances().max(1);
    let [h, w] = windows.window;
    let kinds = if windows.is_shifted() { windows.count() } else { 1 };
    let mut bias = Vec::with_capacity(kinds * heads * n * n);
    for index in 0..kinds {
        for head in 0..heads {
            for query in 0..n {
                for key in 0..n {
                    let (dy, dx) = (query / w + h - 1 - key / w, query % w + w - 1 - key % w);
                    let value = table.values()[(dy * (2 * w - 1) + dx) * heads + head];
                    let parts = [query, key].map(|at| windows.part(windows.rolled(index, at)));
                    let apart = windows.is_shifted() && parts[0] != parts[1];
                    bias.push(if apart { value + APART } else { value });
                }
            }
        }
    }
    bias
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bias_depends_on_the_distance_alone() {
        let windows = Windows { grid: [2, 2], window: [2, 2], shift: [0, 0], is_dilated: false };
        let table = Tensor::new([9, 1], (0..9).map(|i| i as f32).collect()).unwrap();
        let bias = relative_bias(&table, windows);
        // Place 0 is the upper left, 3 the lower right: the key is 1 down and 1 right.
        assert_eq!(bias[3], 0.0);
        assert_eq!([bias[0], bias[5], bias[10], bias[15]], [4.0; 4]);
        assert_eq!(bias[12], 8.0);
    }

    #[test]
    fn places_that_a_roll_brings_together_are_apart() {
        let windows = Windows { grid: [4, 4], window: [2, 2], shift: [1, 1], is_dilated: false };
        let bias = relative_bias(&Tensor::full([9, 1], 0.0).unwrap(), windows);
        assert_eq!(bias.len(), 4 * 16);
        assert!(bias[..16].iter().all(|&value| value == 0.0), "the first window was one before");
        let last: Vec<f32> = bias[48..52].to_vec();
        assert_eq!(last, [0.0, APART, APART, APART], "the last holds the four corners");
        assert_eq!((windows.place(0, 0), windows.place(3, 3)), (5, 0));
    }
}
