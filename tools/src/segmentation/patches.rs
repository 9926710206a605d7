//! What each patch of a picture is to answer: the share of each class in its part of the mask.

use edge_vit::{Mask, NO_CLASS};

/// Where the pixels of an axis lie in its cells: for each pixel the first cell, and the share of a cell's length that the pixel
/// has of each cell from there on.
fn overlaps(pixels: u32, cells: usize) -> Vec<(usize, Vec<f64>)> {
    let scale = cells as f64 / f64::from(pixels);
    let of = |pixel: u32| {
        let (begin, end) = (f64::from(pixel) * scale, f64::from(pixel + 1) * scale);
        let first = (begin as usize).min(cells - 1);
        // What rounding leaves of a cell that the pixel does not reach counts next to nothing.
        let last = (end.ceil() as usize).clamp(first + 1, cells);
        let share = |cell: usize| (end.min(cell as f64 + 1.0) - begin.max(cell as f64)).max(0.0);
        (first, (first..last).map(share).collect())
    };
    (0..pixels).map(of).collect()
}

/// The share of the area of each patch that each class has, `[rows, columns, classes]`. The patches of `grid` (rows and columns,
/// none of them 0) cover the whole mask. A pixel on the border of patches is divided among them. Pixels without a class have no
/// part in it, so that a patch's shares add up to how much of it has one.
///
/// The mask holds classes below `classes` and [`NO_CLASS`] alone; what is beyond is left out.
pub fn patch_shares(mask: &Mask, grid: [usize; 2], classes: usize) -> Vec<f32> {
    let [rows, columns] = grid;
    let (down, across) = (overlaps(mask.height(), rows), overlaps(mask.width(), columns));
    let mut shares = vec![0.0f64; rows * columns * classes];
    let width = across.len().max(1);
    for (line, (row, heights)) in mask.classes().chunks_exact(width).zip(&down) {
        for (&class, (column, widths)) in line.iter().zip(&across) {
            if class == NO_CLASS || usize::from(class) >= classes {
                continue;
            }
            for (row, height) in (*row..).zip(heights) {
                for (column, width) in (*column..).zip(widths) {
                    shares[(row * columns + column) * classes + usize::from(class)] += height * width;
                }
            }
        }
    }
    shares.into_iter().map(|share| share as f32).collect()
}

/// `shares` `[rows, columns, classes]` of `columns` columns, mirrored left to right.
pub fn mirrored(shares: &[f32], columns: usize, classes: usize) -> Vec<f32> {
    let rows = shares.chunks(columns * classes);
    rows.flat_map(|row| row.chunks(classes).rev()).flatten().copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(width: u32, classes: &[u8]) -> Mask {
        Mask::new(width, classes.len() as u32 / width, classes.to_vec()).unwrap()
    }

    #[test]
    fn a_patch_has_the_shares_of_its_pixels() {
        let mask = mask(4, &[0, 0, 1, 1, 0, 2, 1, NO_CLASS]);
        let shares = patch_shares(&mask, [1, 2], 3);
        assert_eq!(shares, [0.75, 0.0, 0.25, 0.0, 0.75, 0.0]);
        assert_eq!(mirrored(&shares, 2, 3), [0.0, 0.75, 0.0, 0.75, 0.0, 0.25]);
    }

    #[test]
    fn a_patch_without_a_class_counts_nothing() {
        let shares = patch_shares(&mask(2, &[NO_CLASS, 1, NO_CLASS, 1]), [1, 2], 2);
        assert_eq!(shares, [0.0, 0.0, 0.0, 1.0]);
    }

    #[test]
    fn pixels_across_borders_are_divided_by_area() {
        // Three columns over two patches: the middle one is halved.
        let shares = patch_shares(&mask(3, &[0, 1, 2]), [1, 2], 3);
        let expected = [2.0 / 3.0, 1.0 / 3.0, 0.0, 0.0, 1.0 / 3.0, 2.0 / 3.0];
        assert!(shares.iter().zip(expected).all(|(got, expected)| (got - expected).abs() < 1e-6), "{shares:?}");
        // One pixel over six patches is in all of them.
        assert_eq!(patch_shares(&mask(1, &[1]), [2, 3], 2), [0.0, 1.0].repeat(6));
    }

    /// Against sums over a mask that is finer by the number of patches in both directions.
    #[test]
    fn shares_are_those_of_a_mask_that_fits_the_grid() {
        let (width, height, grid) = (13u32, 7u32, [3usize, 5usize]);
        let classes: Vec<u8> = (0..width * height).map(|at| [0, 1, 2, NO_CLASS][(at * 7 % 11 % 4) as usize]).collect();
        let shares = patch_shares(&mask(width, &classes), grid, 3);
        let (fine_height, fine_width) = (height as usize * grid[0], width as usize * grid[1]);
        let mut counts = vec![0.0f64; grid[0] * grid[1] * 3];
        for y in 0..fine_height {
            for x in 0..fine_width {
                let class = usize::from(classes[y / grid[0] * width as usize + x / grid[1]]);
                if class < 3 {
                    let patch = y / height as usize * grid[1] + x / width as usize;
                    counts[patch * 3 + class] += 1.0 / f64::from(width * height);
                }
            }
        }
        for (share, count) in shares.iter().zip(counts) {
            assert!((f64::from(*share) - count).abs() < 1e-6, "{share} {count}");
        }
    }
}
