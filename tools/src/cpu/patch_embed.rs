//! The patch embedding as a product: a patch's pixels, channel by channel and row by row, are one row of a matrix.

use super::Real;

/// Where the patches of a picture lie.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patches {
    /// Channels, height and width of a picture; height and width are multiples of the patch.
    pub(super) picture: [usize; 3],
    /// Side of a patch.
    pub(super) patch_size: usize,
}

impl Patches {
    /// Number of pixels of a patch over all channels.
    pub(super) fn row_len(self) -> usize {
        self.picture[0] * self.patch_size * self.patch_size
    }

    /// For every stretch of pixels that a patch's row and a picture's row share: where it begins in the matrix of patches
    /// and where in the picture.
    fn stretches(self) -> impl Iterator<Item = (usize, usize)> {
        let ([channels, height, width], side) = (self.picture, self.patch_size);
        let (down, across) = (height / side, width / side);
        let patches = (0..down).flat_map(move |y| (0..across).map(move |x| (y, x)));
        let lines = move || (0..channels).flat_map(move |c| (0..side).map(move |line| (c, line)));
        patches
            .flat_map(move |(y, x)| lines().map(move |(c, line)| (c * height + y * side + line) * width + x * side))
            .enumerate()
            .map(move |(stretch, pixel)| (stretch * side, pixel))
    }

    /// Pictures `[pictures, C, H, W]` to rows `[pictures * patches, C p p]`.
    pub(super) fn gather<T: Real>(self, pictures: &[T], rows: &mut [T]) {
        let len = self.picture.iter().product();
        for (picture, rows) in pictures.chunks_exact(len).zip(rows.chunks_exact_mut(len)) {
            for (row, pixel) in self.stretches() {
                rows[row..row + self.patch_size].copy_from_slice(&picture[pixel..pixel + self.patch_size]);
            }
        }
    }

    /// The inverse of [`Patches::gather`].
    pub(super) fn scatter<T: Real>(self, rows: &[T], pictures: &mut [T]) {
        let len = self.picture.iter().product();
        for (picture, rows) in pictures.chunks_exact_mut(len).zip(rows.chunks_exact(len)) {
            for (row, pixel) in self.stretches() {
                picture[pixel..pixel + self.patch_size].copy_from_slice(&rows[row..row + self.patch_size]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_go_row_by_row_and_channel_by_channel() {
        let patches = Patches { picture: [2, 2, 4], patch_size: 2 };
        let picture: Vec<f64> = (0..16).map(f64::from).collect();
        let mut rows = vec![0.0; 16];
        patches.gather(&picture, &mut rows);
        assert_eq!(rows, [0., 1., 4., 5., 8., 9., 12., 13., 2., 3., 6., 7., 10., 11., 14., 15.]);
        let mut back = vec![0.0; 16];
        patches.scatter(&rows, &mut back);
        assert_eq!(back, picture);
    }
}
