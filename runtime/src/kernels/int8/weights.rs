//! The weights of a quantised linear layer, laid out in the order in which a product reads them.

use super::Path;
use crate::kernels::aligned::Aligned;

/// The depth is filled up with zeros to a multiple of this.
const STEP: usize = 8;

/// A matrix `[depth, columns]`, int8, with a scale and a bias `[columns]`, float32.
///
/// The matrix is cut into panels as wide as a product's tile. A panel is stored in words of four values of one column, all
/// columns of a panel side by side; what lies outside of the matrix is 0.
#[derive(Debug)]
pub(crate) struct Weights {
    pub(super) path: Path,
    /// The panels.
    words: Aligned<i32>,
    /// The sum of each column, up to the last panel's width, as are scales and biases.
    pub(super) sums: Vec<i32>,
    pub(super) scale: Vec<f32>,
    pub(super) bias: Vec<f32>,
    pub(super) depth: usize,
    pub(super) columns: usize,
}

impl Weights {
    /// Packs the matrix `[depth, columns]` whose value at row `p` and column `j` is `at(p, j)`, for this processor.
    ///
    /// None where it has no instructions that multiply these values exactly.
    pub(crate) fn pack(depth: usize, columns: usize, at: impl Fn(usize, usize) -> i8) -> Option<Self> {
        let (mut least, mut most) = (0, 0);
        for value in (0..depth).flat_map(|row| (0..columns).map(move |column| (row, column))).map(|(p, j)| at(p, j)) {
            (least, most) = (value.min(least), value.max(most));
        }
        Path::all()
            .into_iter()
            .find(|path| path.is_exact(depth, [least, most]))
            .map(|path| Self::pack_for(path, depth, columns, at))
    }

    /// Packs for `path`.
    pub(super) fn pack_for(path: Path, depth: usize, columns: usize, at: impl Fn(usize, usize) -> i8) -> Self {
        let [_, width] = path.tile();
        let (wide, deep) = (columns.next_multiple_of(width), depth.next_multiple_of(STEP));
        let at = |row: usize, column: usize| if row < depth && column < columns { at(row, column) } else { 0 };
        let word = |row: usize, column: usize| {
            i32::from_le_bytes([0, 1, 2, 3].map(|next| at(row + next, column).cast_unsigned()))
        };
        let mut words = Aligned::new(deep / 4 * wide);
        for (panel, left) in words.chunks_exact_mut((deep / 4 * width).max(1)).zip((0..columns).step_by(width)) {
            for (line, row) in panel.chunks_exact_mut(width).zip((0..deep).step_by(4)) {
                line.iter_mut().zip(left..).for_each(|(to, column)| *to = word(row, column));
            }
        }
        let sums = (0..wide).map(|column| (0..depth).map(|row| i32::from(at(row, column))).sum()).collect();
        Self { path, words, sums, scale: vec![1.0; wide], bias: vec![0.0; wide], depth, columns }
    }

    /// The same with a scale and a bias for each column, `[columns]` each.
    pub(crate) fn scaled(mut self, scale: &[f32], bias: &[f32]) -> Self {
        for (to, from) in [(&mut self.scale, scale), (&mut self.bias, bias)] {
            to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
        }
        self
    }

    /// The panels, one after another, [`groups`](Self::groups) times a panel's width words each.
    pub(super) fn panels(&self) -> &[i32] {
        &self.words
    }

    /// How many words a column has.
    pub(super) fn groups(&self) -> usize {
        self.depth.next_multiple_of(STEP) / 4
    }

    /// The length of a row that is multiplied with them.
    pub(crate) fn depth(&self) -> usize {
        self.depth
    }

    /// The length of a row of the product.
    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    /// The name of the kernel that multiplies them.
    pub(crate) fn name(&self) -> &'static str {
        self.path.name()
    }

    /// How many rows a product takes at a time.
    pub(crate) fn rows(&self) -> usize {
        self.path.tile()[0]
    }
}
