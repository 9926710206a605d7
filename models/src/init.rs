//! First values of what is trained.

use rand::RngCore;
use rand_chacha::ChaCha8Rng;

use crate::tensor::{Tensor, TensorError};

/// A tensor of `shape` uniform within `sqrt(6 / (rows + columns))` (Xavier), rows and columns being its last two dimensions.
///
/// # Errors
/// When the shape cannot be held.
pub(crate) fn xavier_uniform(shape: &[usize], rng: &mut ChaCha8Rng) -> Result<Tensor, TensorError> {
    let fans = shape.iter().rev().take(2).sum::<usize>().max(1);
    let bound = (6.0 / fans as f64).sqrt();
    let values = (0..shape.iter().product()).map(|_| (bound * symmetric(rng)) as f32).collect();
    Tensor::new(shape, values)
}

/// A number in [-1, 1) of 32 random bits. Written out, because the uniform distributions of `rand` may change between
/// its versions and an adapter's beginning must not.
fn symmetric(rng: &mut ChaCha8Rng) -> f64 {
    f64::from(rng.next_u32()) / f64::from(1u32 << 31) - 1.0
}
