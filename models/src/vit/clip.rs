//! What VideoMAE (arXiv 2203.12602) does otherwise than a transformer of pictures: patches that reach through several frames, and
//! positions that are computed.

use super::pos_embed::{Resampling, resample};
use crate::{Tensor, TensorError};

/// Frames of a clip where nobody says how many.
pub(super) const NUM_FRAMES: usize = 16;
/// The most frames of a clip that are taken for serious.
pub(super) const MAX_FRAMES: usize = 64;
/// Side of a frame in pixels where nobody says it.
pub(super) const IMAGE_SIZE: usize = 224;
/// The longest side of a frame that is taken for serious where positions are computed, in pixels.
pub(super) const MAX_SIDE: usize = 1024;

/// A convolution's kernel `[D, C, t, p, p]` as `[D, t C, p, p]`: the channels of the `t` frames behind one another. One of pictures
/// stays as it is.
///
/// # Errors
/// When it is too large to address.
pub(super) fn flat_kernel(kernel: &Tensor) -> Result<Tensor, TensorError> {
    let &[dim, channels, frames, height, width] = kernel.shape() else {
        return Ok(kernel.clone());
    };
    let plane = height * width;
    let mut values = Vec::with_capacity(kernel.len());
    for row in kernel.values().chunks_exact((channels * frames * plane).max(1)) {
        for frame in 0..frames {
            let planes = (0..channels).map(|channel| &row[(channel * frames + frame) * plane..][..plane]);
            planes.for_each(|values_of| values.extend_from_slice(values_of));
        }
    }
    Tensor::new([dim, frames * channels, height, width], values)
}

/// The position embeddings `[1, count, D]` of VideoMAE: `sin` and `cos` in turns of `position / 10000^(2 floor(j / 2) / D)`, computed in float64.
///
/// # Errors
/// When they are too many to address.
pub(super) fn sinusoid(count: usize, dim: usize) -> Result<Tensor, TensorError> {
    let shape = vec![1, count, dim];
    if crate::tensor::checked_len(&shape).is_none() {
        return Err(TensorError::TooLarge { shape });
    }
    let value = |position: usize, j: usize| {
        let angle = position as f64 / 10_000f64.powf((2 * (j / 2)) as f64 / dim as f64);
        (if j.is_multiple_of(2) { angle.sin() } else { angle.cos() }) as f32
    };
    let values = (0..count).flat_map(|position| (0..dim).map(move |j| value(position, j))).collect();
    Tensor::new(shape, values)
}

/// The position embeddings `[1, tubelets h w, D]`, those of each tubelet interpolated as [`resample`] does those of a picture.
///
/// # Errors
/// When `pos_embed` is not of this shape, or the new one is too large to address.
pub(super) fn resample_each(
    pos_embed: &Tensor,
    tubelets: usize,
    old: [usize; 2],
    new: [usize; 2],
    resampling: Resampling,
) -> Result<Tensor, TensorError> {
    let dim = pos_embed.shape().last().copied().unwrap_or(0);
    let each = old[0].saturating_mul(old[1]);
    let pos_embed = pos_embed.clone().reshape([tubelets, each, dim])?;
    let mut values = Vec::new();
    for of_one in pos_embed.values().chunks_exact((each * dim).max(1)) {
        let of_one = Tensor::new([1, each, dim], of_one.to_vec())?;
        values.extend_from_slice(resample(&of_one, 0, old, new, resampling)?.values());
    }
    Tensor::new([1, tubelets * new[0] * new[1], dim], values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_channels_of_a_frame_stand_together() {
        // Each value is `channel * 10 + frame`.
        let values = [0.0, 1.0, 10.0, 11.0, 20.0, 21.0].to_vec();
        let kernel = Tensor::new([1, 3, 2, 1, 1], values).unwrap();
        let flat = flat_kernel(&kernel).unwrap();
        assert_eq!((flat.shape(), flat.values()), (&[1, 6, 1, 1][..], &[0.0, 10.0, 20.0, 1.0, 11.0, 21.0][..]));
        assert_eq!(flat_kernel(&flat).unwrap(), flat);
    }

    #[test]
    fn positions_are_sines_and_cosines_in_turns() {
        let table = sinusoid(3, 4).unwrap();
        let expected = [2f64.sin(), 2f64.cos(), 0.02f64.sin(), 0.02f64.cos()].map(|value| value as f32);
        assert_eq!((table.shape(), &table.values()[8..]), (&[1, 3, 4][..], &expected[..]));
        assert!(matches!(sinusoid(usize::MAX, 4), Err(TensorError::TooLarge { .. })));
    }

    #[test]
    fn positions_of_a_tubelet_are_interpolated_within_it() {
        let values = [[1.0; 8], [5.0; 8]].concat();
        let pos_embed = Tensor::new([1, 8, 2], values).unwrap();
        let other = resample_each(&pos_embed, 2, [2, 2], [1, 3], Resampling::Bicubic).unwrap();
        assert_eq!((other.shape(), other.values()), (&[1, 6, 2][..], &[[1.0; 6], [5.0; 6]].concat()[..]));
        assert!(resample_each(&pos_embed, 3, [2, 2], [1, 3], Resampling::Bicubic).is_err());
    }
}
