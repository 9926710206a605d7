//! Rows of a picture in another order.

/// `y` `[pictures, rows, dim]` whose row `i` is row `rows[i]` of `x`.
pub(super) fn gather<T: Copy>(x: &[T], rows: &[u32], dim: usize, y: &mut [T]) {
    let len = rows.len() * dim;
    for (x, y) in x.chunks_exact(len).zip(y.chunks_exact_mut(len)) {
        for (y, &row) in y.chunks_exact_mut(dim).zip(rows) {
            y.copy_from_slice(&x[row as usize * dim..][..dim]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_picture_has_its_own_rows() {
        let mut y = [0; 8];
        gather(&[1, 2, 3, 4, 5, 6, 7, 8], &[1, 0], 2, &mut y);
        assert_eq!(y, [3, 4, 1, 2, 7, 8, 5, 6]);
    }
}
