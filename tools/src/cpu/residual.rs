//! The residual sum with stochastic depth, and the factor a channel of LayerScale.

use super::Real;
use super::vector::vectorized;

/// `y = trunk + factor branch`, one factor a picture.
pub(super) fn add<T: Real>(trunk: &[T], branch: &[T], factors: &[T], y: &mut [T]) {
    let len = y.len() / factors.len();
    vectorized(
        #[inline(always)]
        || {
            let pictures = y.chunks_exact_mut(len).zip(trunk.chunks_exact(len)).zip(branch.chunks_exact(len));
            for (((y, trunk), branch), &factor) in pictures.zip(factors) {
                for ((y, &trunk), &branch) in y.iter_mut().zip(trunk).zip(branch) {
                    *y = trunk + factor * branch;
                }
            }
        },
    );
}

/// `values *= factor`, one factor a picture: the branch's gradient from the sum's.
pub(super) fn scale_pictures<T: Real>(values: &mut [T], factors: &[T]) {
    let len = values.len() / factors.len();
    vectorized(
        #[inline(always)]
        || {
            for (values, &factor) in values.chunks_exact_mut(len).zip(factors) {
                for value in values {
                    *value *= factor;
                }
            }
        },
    );
}

/// `values *= gamma` over rows: LayerScale, and its gradient with respect to the input.
pub(super) fn scale_channels<T: Real>(values: &mut [T], gamma: &[T]) {
    vectorized(
        #[inline(always)]
        || {
            for row in values.chunks_exact_mut(gamma.len()) {
                for (value, &gamma) in row.iter_mut().zip(gamma) {
                    *value *= gamma;
                }
            }
        },
    );
}

/// The gradient of gamma: the sum over the rows of `x dy`.
pub(super) fn scale_channels_weights<T: Real>(x: &[T], dy: &[T], dgamma: &mut [T]) {
    let dim = dgamma.len();
    dgamma.fill(T::ZERO);
    vectorized(
        #[inline(always)]
        || {
            for (x, dy) in x.chunks_exact(dim).zip(dy.chunks_exact(dim)) {
                for ((dgamma, &x), &dy) in dgamma.iter_mut().zip(x).zip(dy) {
                    *dgamma += x * dy;
                }
            }
        },
    );
}
