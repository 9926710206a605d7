//! `y = x W^T + b` over rows, `W` `[out, in]` as it is stored.

use super::Real;
use super::product::{Layout, add_product, product};
use super::vector::{repeat_row, sum_rows};

/// `x` `[rows, in]` to `y` `[rows, out]`.
pub(super) fn forward<T: Real>(x: &[T], weight: &[T], bias: Option<&[T]>, dim: usize, y: &mut [T]) {
    let (rows, out) = (x.len() / dim, weight.len() / dim);
    let (x, weight) = (Layout::dense(rows, dim).of(x), Layout::dense(out, dim).of(weight));
    let target = Layout::dense(rows, out);
    match bias {
        Some(bias) => {
            repeat_row(y, bias);
            add_product(target.of_mut(y), x, weight.transpose(), T::ONE);
        }
        None => product(target.of_mut(y), x, weight.transpose(), T::ONE),
    }
}

/// `dx = dy W`.
pub(super) fn backward_input<T: Real>(dy: &[T], weight: &[T], dim: usize, dx: &mut [T]) {
    let (rows, out) = (dx.len() / dim, weight.len() / dim);
    let (dy, weight) = (Layout::dense(rows, out).of(dy), Layout::dense(out, dim).of(weight));
    product(Layout::dense(rows, dim).of_mut(dx), dy, weight, T::ONE);
}

/// `dW = dy^T x` of the weight alone.
pub(super) fn backward_weight<T: Real>(x: &[T], dy: &[T], dim: usize, dweight: &mut [T]) {
    let (rows, out) = (x.len() / dim, dweight.len() / dim);
    let (x_rows, dy_rows) = (Layout::dense(rows, dim).of(x), Layout::dense(rows, out).of(dy));
    product(Layout::dense(out, dim).of_mut(dweight), dy_rows.transpose(), x_rows, T::ONE);
}

/// `dW = dy^T x`, and `db`, the sum of `dy` over the rows.
pub(super) fn backward_weights<T: Real>(x: &[T], dy: &[T], dim: usize, dweight: &mut [T], dbias: &mut [T]) {
    backward_weight(x, dy, dim, dweight);
    sum_rows(dy, T::ONE, dbias);
}

#[cfg(test)]
mod tests {
    use super::*;

    const X: [f64; 4] = [1.0, 2.0, 3.0, 4.0];
    const W: [f64; 6] = [1.0, 0.0, 0.0, 1.0, 2.0, -1.0];

    #[test]
    fn by_hand() {
        let mut y = [0.0; 6];
        forward(&X, &W, Some(&[10.0, 20.0, 30.0]), 2, &mut y);
        assert_eq!(y, [11.0, 22.0, 30.0, 13.0, 24.0, 32.0]);
        let mut dx = [0.0; 4];
        backward_input(&[1.0, 0.0, 2.0, 0.0, 1.0, 1.0], &W, 2, &mut dx);
        assert_eq!(dx, [5.0, -2.0, 2.0, 0.0]);
        let (mut dw, mut db) = ([0.0; 6], [0.0; 3]);
        backward_weights(&X, &[1.0, 0.0, 2.0, 0.0, 1.0, 1.0], 2, &mut dw, &mut db);
        assert_eq!(dw, [1.0, 2.0, 3.0, 4.0, 5.0, 8.0]);
        assert_eq!(db, [1.0, 1.0, 3.0]);
    }
}
