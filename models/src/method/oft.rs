//! OFT, arXiv 2306.07280: `W' = W R`, where `R` is block-diagonal and every block a rotation, `(I + Q)(I - Q)^-1` of a
//! skew-symmetric `Q` (Cayley).

use super::host::{Affine, Host, Role};
use super::matrix::{Matrix, axpy, dot};
use super::theta::Theta;
use super::{Initial, Method, MethodError, misfit};
use crate::op::Param;

/// OFT with blocks of this side, before qkv and fc1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Oft {
    /// Side of a block.
    pub(super) block_size: usize,
}

/// What lies above the diagonal of every block, row by row: one row a block.
const SKEW: &str = "oft_Q";

/// A block's rotation and `(I - Q)^-1`.
struct Block {
    rotation: Matrix,
    inverse: Matrix,
}

impl Oft {
    fn blocks(self, host: &Host, theta: &Theta) -> Result<Vec<Block>, MethodError> {
        let skew = theta.of(host, SKEW)?;
        (0..skew.rows())
            .map(|index| {
                let q = self.skew(skew.row(index));
                let n = self.block_size;
                let one = |i, j| f64::from(u8::from(i == j));
                let minus = Matrix::from_fn(n, n, |i, j| one(i, j) - q.row(i)[j]);
                let plus = Matrix::from_fn(n, n, |i, j| one(i, j) + q.row(i)[j]);
                let inverse = minus.inverse().ok_or_else(|| MethodError::NotFinite { host: host.name.clone() })?;
                Ok(Block { rotation: plus.times(&inverse), inverse })
            })
            .collect()
    }

    /// The skew-symmetric matrix with `upper` above its diagonal.
    fn skew(self, upper: &[f64]) -> Matrix {
        let mut q = Matrix::zeros(self.block_size, self.block_size);
        for ((i, j), &value) in self.places().zip(upper) {
            q.row_mut(i)[j] = value;
            q.row_mut(j)[i] = -value;
        }
        q
    }

    /// The places above the diagonal.
    fn places(self) -> impl Iterator<Item = (usize, usize)> {
        (0..self.block_size).flat_map(move |i| (i + 1..self.block_size).map(move |j| (i, j)))
    }
}

impl Method for Oft {
    fn name(&self) -> &'static str {
        "oft"
    }

    fn roles(&self) -> &[Role] {
        &[Role::Qkv, Role::Fc1]
    }

    fn params(&self, host: &Host) -> Result<Vec<Param>, MethodError> {
        let side = self.block_size;
        if side < 2 || !host.in_features.is_multiple_of(side) {
            return Err(misfit(self, host, format!("blocks of {side} do not fill a width of {}", host.in_features)));
        }
        let shape = vec![host.in_features / side, side * (side - 1) / 2];
        Ok(vec![Param { name: host.param(SKEW), shape }])
    }

    fn initial(&self, _: &Param, _: Option<(&Host, &Affine)>) -> Initial {
        Initial::Constant(0.0)
    }

    fn merge(&self, host: &Host, theta: &Theta, frozen: &Affine) -> Result<Affine, MethodError> {
        let mut merged = frozen.clone();
        for (index, block) in self.blocks(host, theta)?.iter().enumerate() {
            let columns = index * self.block_size..(index + 1) * self.block_size;
            for i in 0..merged.weight.rows() {
                let target = &mut merged.weight.row_mut(i)[columns.clone()];
                target.fill(0.0);
                for (k, &value) in frozen.weight.row(i)[columns.clone()].iter().enumerate() {
                    axpy(value, block.rotation.row(k), target);
                }
            }
        }
        Ok(merged)
    }

    fn pull_back(
        &self,
        host: &Host,
        theta: &Theta,
        frozen: &Affine,
        merged: &Affine,
        gradient: &mut Theta,
    ) -> Result<(), MethodError> {
        let n = self.block_size;
        for (index, block) in self.blocks(host, theta)?.iter().enumerate() {
            let columns = index * n..(index + 1) * n;
            let mut of_rotation = Matrix::zeros(n, n);
            for i in 0..frozen.weight.rows() {
                let slopes = &merged.weight.row(i)[columns.clone()];
                for (k, &value) in frozen.weight.row(i)[columns.clone()].iter().enumerate() {
                    axpy(value, slopes, of_rotation.row_mut(k));
                }
            }
            // dR = (I + R) dQ (I - Q)^-1.
            let mut outer = block.rotation.clone();
            (0..n).for_each(|i| outer.row_mut(i)[i] += 1.0);
            let of_q = outer.transposed_times(&of_rotation).times_transposed(&block.inverse);
            let target = gradient.of_mut(host, SKEW)?.row_mut(index);
            for (target, (i, j)) in target.iter_mut().zip(self.places()) {
                *target += of_q.row(i)[j] - of_q.row(j)[i];
            }
        }
        Ok(())
    }

    fn forward(&self, host: &Host, theta: &Theta, frozen: &Affine, x: &[f64]) -> Result<Vec<f64>, MethodError> {
        let mut turned = Vec::with_capacity(x.len());
        for (block, x) in self.blocks(host, theta)?.iter().zip(x.chunks_exact(self.block_size)) {
            turned.extend((0..self.block_size).map(|i| dot(block.rotation.row(i), x)));
        }
        Ok(frozen.apply(&turned))
    }
}
