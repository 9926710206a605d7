//! Convolutions as the Linears that they are over maps with channels last.

use std::collections::BTreeMap;

use crate::Tensor;
use crate::backbone::{BackboneError, wrong};
use crate::checkpoint::CheckpointError;

/// Pointwise convolutions `[out, in, 1, 1]` become `[out, in]`, and downsampling ones `[out, in, 2, 2]` become
/// `[out, 4 in]` in the order of [`crate::Op::SpaceToDepth`]: column, line, channel.
///
/// # Errors
/// When one has another kernel.
pub(super) fn as_linear(weights: &mut BTreeMap<String, Tensor>) -> Result<(), BackboneError> {
    for (name, tensor) in weights.iter_mut() {
        let is_downsampling = name.ends_with(".downsample.1.weight");
        if !is_downsampling && !name.ends_with(".mlp.fc1.weight") && !name.ends_with(".mlp.fc2.weight") {
            continue;
        }
        let (shape, values) = match *tensor.shape() {
            [out, channels, 1, 1] if !is_downsampling => (vec![out, channels], tensor.values().to_vec()),
            [out, channels, 2, 2] if is_downsampling => (vec![out, 4 * channels], columns_first(tensor, channels)),
            [_, _] if !is_downsampling => continue,
            ref got => {
                let expected = if is_downsampling { "[out, in, 2, 2]" } else { "[out, in]" };
                return Err(wrong(name, expected, got));
            }
        };
        *tensor = Tensor::new(shape, values).map_err(|error| CheckpointError::values(name, &error))?;
    }
    Ok(())
}

/// `[out, in, line, column]` as `[out, column, line, in]`.
fn columns_first(tensor: &Tensor, channels: usize) -> Vec<f32> {
    let rows = tensor.values().chunks_exact((4 * channels).max(1));
    rows.flat_map(|row| {
        let places = [0, 1].into_iter().flat_map(|column| [0, 1].map(|line| 2 * line + column));
        places.flat_map(move |place| (0..channels).map(move |channel| row[4 * channel + place]))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_is_read_column_by_column() {
        let tensor = Tensor::new([1, 2, 2, 2], (0..8).map(|i| i as f32).collect()).unwrap();
        let name = "stages.1.downsample.1.weight";
        let mut weights = BTreeMap::from([(name.to_owned(), tensor)]);
        as_linear(&mut weights).unwrap();
        assert_eq!(weights[name].shape(), [1, 8]);
        assert_eq!(weights[name].values(), [0.0, 4.0, 2.0, 6.0, 1.0, 5.0, 3.0, 7.0]);
        assert!(as_linear(&mut weights).is_err(), "a downsampling convolution that is none");
    }
}
