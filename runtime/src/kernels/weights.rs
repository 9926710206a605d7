//! The weights of a linear layer, laid out in the order in which a product reads them.

use super::aligned::Aligned;
use super::tile;

/// A matrix `[depth, columns]` and a bias `[columns]`, float32.
///
/// The matrix is cut into panels as wide as a product's tile. Each panel is stored row after row, the last one filled with
/// zeros up to its width.
#[derive(Debug)]
pub(crate) struct Weights {
    /// The panels.
    values: Aligned<f32>,
    pub(super) bias: Vec<f32>,
    pub(super) depth: usize,
    pub(super) columns: usize,
    /// Columns in a panel.
    pub(super) width: usize,
}

impl Weights {
    /// Packs the matrix `[depth, bias.len()]` whose value at row `p` and column `j` is `at(p, j)`.
    pub(crate) fn pack(depth: usize, bias: Vec<f32>, at: impl Fn(usize, usize) -> f32) -> Self {
        /// Rows that go into all panels before the next: they are read from one end to the other, whichever way they lie.
        const BAND: usize = 8;
        let (columns, [_, width]) = (bias.len(), tile());
        let mut values = Aligned::new(depth * columns.next_multiple_of(width));
        for top in (0..depth).step_by(BAND) {
            let panels = values.chunks_exact_mut(depth * width);
            for (panel, left) in panels.zip((0..columns).step_by(width)) {
                for row in top..depth.min(top + BAND) {
                    let line = &mut panel[row * width..][..width];
                    line.iter_mut().zip(left..columns).for_each(|(value, column)| *value = at(row, column));
                }
            }
        }
        Self { values, bias, depth, columns, width }
    }

    /// The panels, one after another, `depth * width` values each.
    pub(super) fn panels(&self) -> &[f32] {
        &self.values
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
