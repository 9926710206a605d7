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
    /// Packs `matrix`, the rows of which have `columns` values, for this processor.
    ///
    /// None where it has no instructions that multiply these values exactly.
    pub(crate) fn pack(matrix: &[i8], columns: usize) -> Option<Self> {
        // The compiler makes vectors of one fold at a time.
        let range = [
            matrix.iter().fold(0, |least, value| *value.min(&least)),
            matrix.iter().fold(0, |most, value| *value.max(&most)),
        ];
        let depth = matrix.len() / columns.max(1);
        let path = Path::all().into_iter().find(|path| path.is_exact(depth, range))?;
        Some(Self::pack_for(path, matrix, columns))
    }

    /// Packs for `path`.
    pub(super) fn pack_for(path: Path, matrix: &[i8], columns: usize) -> Self {
        /// How many values a word has.
        const WORD: usize = 4;
        let [_, width] = path.tile();
        let (depth, wide) = (matrix.len() / columns.max(1), columns.next_multiple_of(width));
        let groups = depth.next_multiple_of(STEP) / WORD;
        let (mut words, mut sums, zeros) = (Aligned::new(groups * wide), vec![0; wide], vec![0; columns]);
        for (group, rows) in matrix.chunks((WORD * columns).max(1)).enumerate() {
            let mut rows = rows.chunks_exact(columns);
            let rows = [(); WORD].map(|()| rows.next().unwrap_or(&zeros));
            let panels = words.chunks_exact_mut(groups * width).zip(sums.chunks_exact_mut(width));
            for ((panel, sums), left) in panels.zip((0..columns).step_by(width)) {
                let [a, b, c, d] = rows.map(|row| &row[left..columns.min(left + width)]);
                let line = panel[group * width..].iter_mut().zip(sums);
                for (((((word, sum), a), b), c), d) in line.zip(a).zip(b).zip(c).zip(d) {
                    let values = [*a, *b, *c, *d];
                    *word = i32::from_le_bytes(values.map(i8::cast_unsigned));
                    *sum += values.map(i32::from).into_iter().sum::<i32>();
                }
            }
        }
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
