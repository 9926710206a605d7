//! Position embeddings for another grid of patches, by bicubic interpolation.

use crate::checkpoint::Publisher;
use crate::{Tensor, TensorError};

/// How position embeddings are interpolated. Both are PyTorch's `interpolate(mode="bicubic", align_corners=False)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resampling {
    /// `antialias=False`: four taps with a = -0.75, indices clamped at the border.
    Bicubic,
    /// `antialias=True`: taps with a = -0.5 over a support that grows as the grid shrinks, cut at the border and
    /// normalised.
    BicubicAntialias,
}

impl Resampling {
    /// What the publisher does: timm `resample_abs_pos_embed` with antialias, Hugging Face
    /// `interpolate_pos_encoding` without, but for DINOv2 with registers. Google's and OpenAI's files are taken as timm and OpenCLIP take them.
    pub fn of(publisher: Publisher) -> Self {
        match publisher {
            Publisher::HuggingFaceDinov2
            | Publisher::HuggingFaceVit
            | Publisher::HuggingFaceClip
            | Publisher::HuggingFaceSiglip
            | Publisher::HuggingFaceVideoMae => Self::Bicubic,
            _ => Self::BicubicAntialias,
        }
    }

    /// For each of `new` positions along one side, the first of `old` ones that it reads and the weights of those from
    /// there on.
    fn taps(self, old: usize, new: usize) -> Vec<Taps> {
        let scale = old as f64 / new as f64;
        (0..new)
            .map(|index| {
                let center = (index as f64 + 0.5) * scale;
                match self {
                    Self::Bicubic => clamped_taps(center - 0.5, old),
                    Self::BicubicAntialias => support_taps(center, scale.max(1.0), old),
                }
            })
            .collect()
    }
}

/// Where a new position reads: index and weight.
type Taps = Vec<(usize, f64)>;

fn clamped_taps(position: f64, old: usize) -> Taps {
    let floor = position.floor();
    let last = old as f64 - 1.0;
    let tap = |offset: i32| {
        let at = floor + f64::from(offset);
        (at.clamp(0.0, last) as usize, cubic(position - at, -0.75))
    };
    (-1..=2).map(tap).collect()
}

fn support_taps(center: f64, stretch: f64, old: usize) -> Taps {
    let support = 2.0 * stretch;
    let begin = (center - support + 0.5).max(0.0) as usize;
    let end = ((center + support + 0.5) as usize).min(old);
    let weight = |index: usize| cubic((index as f64 + 0.5 - center) / stretch, -0.5);
    let total: f64 = (begin..end).map(weight).sum();
    (begin..end).map(|index| (index, weight(index) / total)).collect()
}

/// Keys' cubic convolution kernel.
fn cubic(distance: f64, a: f64) -> f64 {
    let x = distance.abs();
    if x <= 1.0 {
        ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a
    } else {
        0.0
    }
}

/// Position embeddings `[1, prefix + oh ow, D]` of an `[oh, ow]` grid for a `[nh, nw]` grid: `[1, prefix + nh nw, D]`.
/// The first `prefix`, those of the class token, stay; equal grids give the same tensor. Computed in float64.
///
/// # Errors
/// When `pos_embed` is not of this shape, or the new one is too large to address.
pub fn resample(
    pos_embed: &Tensor,
    prefix: usize,
    old: [usize; 2],
    new: [usize; 2],
    resampling: Resampling,
) -> Result<Tensor, TensorError> {
    let dim = pos_embed.shape().last().copied().unwrap_or(0);
    // Refuses a tensor of another shape and a grid that cannot be addressed.
    let tokens = |grid: [usize; 2]| grid[0].saturating_mul(grid[1]).saturating_add(prefix);
    let pos_embed = pos_embed.clone().reshape([1, tokens(old), dim])?;
    if old == new {
        return Ok(pos_embed);
    }
    let shape = vec![1, tokens(new), dim];
    if crate::tensor::checked_len(&shape).is_none() {
        return Err(TensorError::TooLarge { shape });
    }
    let (class, patches) = pos_embed.values().split_at(prefix * dim);
    let patches: Vec<f64> = patches.iter().map(|&value| f64::from(value)).collect();
    let row_taps = resampling.taps(old[0], new[0]);
    let column_taps = resampling.taps(old[1], new[1]);

    // Columns within each old row, then rows.
    let mut wide = Vec::with_capacity(old[0] * new[1] * dim);
    for row in 0..old[0] {
        for taps in &column_taps {
            wide.extend(weighted_sum(taps, &patches[row * old[1] * dim..], dim, dim));
        }
    }
    let mut values = class.to_vec();
    for taps in &row_taps {
        for column in 0..new[1] {
            values.extend(weighted_sum(taps, &wide[column * dim..], new[1] * dim, dim).map(|value| value as f32));
        }
    }
    Tensor::new(shape, values)
}

/// The weighted sum of the vectors of `dim` values that stand every `stride` values.
fn weighted_sum<'a>(taps: &'a Taps, values: &'a [f64], stride: usize, dim: usize) -> impl Iterator<Item = f64> + 'a {
    (0..dim).map(move |i| taps.iter().map(|&(index, weight)| weight * values[index * stride + i]).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: [Resampling; 2] = [Resampling::Bicubic, Resampling::BicubicAntialias];
    /// Rounding of float32 to float64 interpolation and back.
    const F32_TOLERANCE: f32 = 1e-6;

    fn ramp(rows: usize, columns: usize) -> Tensor {
        let values = (0..rows * columns).flat_map(|i| [(i / columns) as f32, (i % columns) as f32]);
        let values = [9.0, 8.0].into_iter().chain(values).collect();
        Tensor::new([1, 1 + rows * columns, 2], values).unwrap()
    }

    #[test]
    fn the_same_grid_is_the_same_tensor_and_the_class_token_stays() {
        let pos_embed = ramp(3, 4);
        for resampling in BOTH {
            assert_eq!(resample(&pos_embed, 1, [3, 4], [3, 4], resampling).unwrap(), pos_embed);
            let other = resample(&pos_embed, 1, [3, 4], [5, 2], resampling).unwrap();
            assert_eq!((other.shape(), &other.values()[..2]), (&[1, 11, 2][..], &[9.0, 8.0][..]));
        }
    }

    #[test]
    fn weights_of_a_position_sum_to_one() {
        for resampling in BOTH {
            for (old, new) in [(37, 16), (16, 37), (1, 5), (5, 1), (3, 4)] {
                for taps in resampling.taps(old, new) {
                    let total: f64 = taps.iter().map(|(_, weight)| weight).sum();
                    assert!((total - 1.0).abs() < 1e-12, "{resampling:?} {old} to {new}: {total}");
                    assert!(taps.iter().all(|&(index, _)| index < old));
                }
            }
        }
    }

    #[test]
    fn rows_are_resampled_along_rows_and_columns_along_columns() {
        for resampling in BOTH {
            let other = resample(&ramp(8, 12), 1, [8, 12], [4, 12], resampling).unwrap();
            for (i, pair) in other.values()[2..].chunks(2).enumerate() {
                let (row, column) = (i / 12, (i % 12) as f32);
                assert!((pair[1] - column).abs() < F32_TOLERANCE, "{resampling:?}: {pair:?} at column {column}");
                // In the middle a ramp stays one.
                if (1..3).contains(&row) {
                    assert!((pair[0] - (2.0 * row as f32 + 0.5)).abs() < 0.05, "{resampling:?}: {pair:?} at row {row}");
                }
            }
        }
    }

    #[test]
    fn a_tensor_of_another_grid_is_refused() {
        assert!(matches!(
            resample(&ramp(3, 4), 1, [4, 4], [5, 5], Resampling::Bicubic),
            Err(TensorError::Length { expected: 34, got: 26, .. })
        ));
        let huge = [usize::MAX, 2];
        assert!(matches!(
            resample(&ramp(2, 2), 1, [2, 2], huge, Resampling::Bicubic),
            Err(TensorError::TooLarge { .. })
        ));
    }
}
