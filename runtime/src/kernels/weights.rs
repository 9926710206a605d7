//! The weights of a linear layer, laid out in the order in which a product reads them.

use super::tile;

/// A matrix `[depth, columns]` and a bias `[columns]`, float32.
///
/// The matrix is cut into panels as wide as a product's tile. Each panel is stored row after row, the last one filled with
/// zeros up to its width.
#[derive(Debug)]
pub(crate) struct Weights {
    /// The panels from `start` on, where a cache line begins.
    values: Vec<f32>,
    start: usize,
    pub(super) bias: Vec<f32>,
    pub(super) depth: usize,
    pub(super) columns: usize,
    /// Columns in a panel.
    pub(super) width: usize,
}

impl Weights {
    /// Packs the matrix `[depth, bias.len()]` whose value at row `p` and column `j` is `at(p, j)`.
    pub(crate) fn pack(depth: usize, bias: Vec<f32>, at: impl Fn(usize, usize) -> f32) -> Self {
        const CACHE_LINE: usize = 64;
        let (columns, [_, width]) = (bias.len(), tile());
        let room = depth * columns.next_multiple_of(width) + CACHE_LINE / size_of::<f32>();
        let mut values = Vec::<f32>::with_capacity(room);
        // The vector never grows beyond its capacity, so that its values stay where they are.
        let start = values.as_ptr().align_offset(CACHE_LINE).min(CACHE_LINE / size_of::<f32>());
        values.resize(start, 0.0);
        for left in (0..columns).step_by(width) {
            for row in 0..depth {
                values.extend((left..left + width).map(|column| if column < columns { at(row, column) } else { 0.0 }));
            }
        }
        Self { values, start, bias, depth, columns, width }
    }

    /// The panels, one after another, `depth * width` values each.
    pub(super) fn panels(&self) -> &[f32] {
        &self.values[self.start..]
    }

    /// The length of a row that is multiplied with them.
    pub(crate) fn depth(&self) -> usize {
        self.depth
    }

    /// The length of a row of the product.
    pub(crate) fn columns(&self) -> usize {
        self.columns
    }
}
