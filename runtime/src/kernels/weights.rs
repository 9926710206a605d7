//! The weights of a linear layer, laid out in the order in which a product reads them.

use std::ops::Range;

use super::aligned::Aligned;
use super::half::{self, Half};
use super::prefetch::Coming;
use super::{halves, name, tile};

/// A matrix `[depth, columns]` and a bias `[columns]`.
///
/// The matrix is cut into panels as wide as a product's tile. Each panel is stored row after row, the last one filled with
/// zeros up to its width.
#[derive(Debug)]
pub(crate) struct Weights {
    panels: Panels,
    pub(super) bias: Vec<f32>,
    pub(super) depth: usize,
    pub(super) columns: usize,
    /// Columns in a panel.
    pub(super) width: usize,
    /// What is to be known of weights that are multiplied in sixteen bits.
    pub(super) half: Option<Half>,
}

/// The panels, one after another, `depth * width` values each.
#[derive(Debug)]
enum Panels {
    Floats(Aligned<f32>),
    /// In sixteen bits, made floats panel by panel in every product that is not of sixteen bits itself.
    Halves(Aligned<u16>),
}

impl Weights {
    /// Packs the matrix `[depth, bias.len()]` of which `fill(row, columns, values)` writes the values of a row in some of its columns.
    pub(crate) fn pack(depth: usize, bias: Vec<f32>, fill: impl Fn(usize, Range<usize>, &mut [f32])) -> Self {
        let [_, width] = tile();
        let panels = Panels::Floats(packed(depth, bias.len(), width, fill));
        let columns = bias.len();
        Self { panels, bias, depth, columns, width, half: None }
    }

    /// Packs a matrix whose values are given as the bits of float16; none where one of these is infinite or no number. Products are
    /// computed in sixteen bits by `path`, if there is one, and else in thirty-two.
    pub(crate) fn pack_halves(
        depth: usize,
        bias: &[f32],
        path: Option<half::Path>,
        fill: impl Fn(usize, Range<usize>, &mut [u16]),
    ) -> Option<Self> {
        let columns = bias.len();
        let [_, width] = path.map_or_else(tile, half::Path::tile);
        let values = packed(depth, columns, width, fill);
        if !values.iter().all(|&half| halves::is_finite(half)) {
            return None;
        }
        let half = path.map(|path| Half::of(path, &values, depth, width));
        Some(Self { panels: Panels::Halves(values), bias: bias.to_vec(), depth, columns, width, half })
    }

    /// How many values a panel has.
    fn panel_len(&self) -> usize {
        self.depth * self.width
    }

    /// How many floats [`panel`](Self::panel) needs room for.
    pub(super) fn room(&self) -> usize {
        match self.panels {
            Panels::Floats(_) => 0,
            Panels::Halves(_) => self.panel_len(),
        }
    }

    /// Panel `index`, in `room` where it is not stored as floats.
    pub(super) fn panel<'a>(&'a self, index: usize, room: &'a mut [f32]) -> &'a [f32] {
        let len = self.panel_len();
        match &self.panels {
            Panels::Floats(values) => &values[index * len..][..len],
            Panels::Halves(values) => {
                halves::widen(&values[index * len..][..len], room);
                room
            }
        }
    }

    /// Panel `index` as it is stored, where that is in sixteen bits; no values elsewhere.
    #[cfg(target_arch = "aarch64")]
    pub(super) fn half_panel(&self, index: usize) -> &[u16] {
        let len = self.panel_len();
        match &self.panels {
            Panels::Floats(_) => &[],
            Panels::Halves(values) => &values[index * len..][..len],
        }
    }

    /// What begins to fetch panel `index`, if there is one, in so many steps.
    pub(super) fn coming(&self, index: usize, steps: usize) -> Coming {
        let len = self.panel_len();
        match &self.panels {
            Panels::Floats(values) => Coming::new(values.chunks(len.max(1)).nth(index).unwrap_or_default(), steps),
            Panels::Halves(values) => Coming::new(values.chunks(len.max(1)).nth(index).unwrap_or_default(), steps),
        }
    }

    /// The length of a row that is multiplied with them.
    pub(crate) fn depth(&self) -> usize {
        self.depth
    }

    /// The length of a row of the product.
    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    /// How many rows a product takes at once.
    pub(crate) fn rows(&self) -> usize {
        let [rows, _] = self.half.map_or_else(tile, |half| half.path.tile());
        rows
    }

    /// The name of the kernel that multiplies them, if this machine has one of ours.
    pub(crate) fn name(&self) -> Option<&'static str> {
        self.half.map(|half| half.path.name()).or_else(name)
    }
}

/// What fills a matrix for [`Weights::pack`] whose value at row `p` and column `j` is `at(p, j)`.
pub(crate) fn each<T>(at: impl Fn(usize, usize) -> T) -> impl Fn(usize, Range<usize>, &mut [T]) {
    move |row, columns, values| values.iter_mut().zip(columns).for_each(|(value, column)| *value = at(row, column))
}

/// The panels of a matrix, `width` columns each.
fn packed<T: Clone + Default>(
    depth: usize,
    columns: usize,
    width: usize,
    fill: impl Fn(usize, Range<usize>, &mut [T]),
) -> Aligned<T> {
    /// Rows that go into all panels before the next: they are read from one end to the other, whichever way they lie.
    const BAND: usize = 8;
    let mut values = Aligned::new(depth * columns.next_multiple_of(width));
    for top in (0..depth).step_by(BAND) {
        let panels = values.chunks_exact_mut((depth * width).max(1));
        for (panel, left) in panels.zip((0..columns).step_by(width)) {
            for row in top..depth.min(top + BAND) {
                let right = columns.min(left + width);
                fill(row, left..right, &mut panel[row * width..][..right - left]);
            }
        }
    }
    values
}
