//! Convolutions with their BatchNorms in them, as the Linears that they are over maps with channels last.

use std::collections::BTreeMap;

use crate::Tensor;
use crate::backbone::{BackboneError, missing, wrong};
use crate::checkpoint::CheckpointError;

/// Added to the variance in timm's BatchNorms.
const EPS: f64 = 1e-5;

/// Puts every `{module}.bn`, which in inference is `gamma (x - mean) / sqrt(var + eps) + beta`, into `{module}.conv` before
/// it: `W' = diag(gamma / sqrt(var + eps)) W`, `c' = beta - mean gamma / sqrt(var + eps)`.
///
/// # Errors
/// When one of its vectors is missing or of another length than the convolution has channels, or not finite when merged.
pub(super) fn without_batch_norms(weights: &mut BTreeMap<String, Tensor>) -> Result<(), BackboneError> {
    let is_norm = |name: &String| Some(name.strip_suffix(".bn.weight")?.to_owned());
    let modules: Vec<String> = weights.keys().filter_map(is_norm).collect();
    for module in modules {
        let key = format!("{module}.conv.weight");
        let Some(weight) = weights.get(&key) else { return missing(&key) };
        let channels = weight.shape().first().copied().unwrap_or(0);
        let mut vector = |suffix: &str| {
            let name = format!("{module}.bn.{suffix}");
            match weights.remove(&name) {
                Some(tensor) if tensor.shape() == [channels] => {
                    Ok(tensor.values().iter().map(|&value| f64::from(value)).collect::<Vec<f64>>())
                }
                Some(tensor) => Err(wrong(&name, &format!("[{channels}]"), tensor.shape())),
                None => missing(&name),
            }
        };
        let (gamma, beta) = (vector("weight")?, vector("bias")?);
        let (mean, var) = (vector("running_mean")?, vector("running_var")?);
        let scale: Vec<f64> = gamma.iter().zip(&var).map(|(gamma, var)| gamma / (var + EPS).sqrt()).collect();
        let bias: Vec<f32> = (0..channels).map(|i| (beta[i] - mean[i] * scale[i]) as f32).collect();
        if !bias.iter().all(|value| value.is_finite()) {
            let reason = "its variance is negative, or its values are not finite".to_owned();
            return Err(CheckpointError::Values { name: format!("{module}.bn"), reason }.into());
        }
        if let Some(weight) = weights.get_mut(&key) {
            let len = weight.len() / channels.max(1);
            for (row, scale) in weight.values_mut().chunks_exact_mut(len.max(1)).zip(&scale) {
                row.iter_mut().for_each(|value| *value = (f64::from(*value) * scale) as f32);
            }
        }
        let name = format!("{module}.conv.bias");
        let bias = Tensor::new([channels], bias).map_err(|error| CheckpointError::values(&name, &error))?;
        weights.insert(name, bias);
    }
    Ok(())
}

/// Convolutions `[out, in, k, k]` become `[out, in k k]`, as [`crate::Op::Unfold`] lays out what a kernel covers; depthwise
/// ones stay.
///
/// # Errors
/// When one cannot be held.
pub(super) fn as_linear(weights: &mut BTreeMap<String, Tensor>) -> Result<(), BackboneError> {
    for (name, tensor) in weights.iter_mut() {
        let is_dense = !name.ends_with(".conv2_kxk.conv.weight");
        if let (true, &[out, channels, height, width]) = (is_dense, tensor.shape()) {
            let flat = tensor.clone().reshape([out, channels * height * width]);
            *tensor = flat.map_err(|error| CheckpointError::values(name, &error))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights() -> BTreeMap<String, Tensor> {
        let tensor = |shape: &[usize], values: &[f32]| Tensor::new(shape, values.to_vec()).unwrap();
        BTreeMap::from([
            ("stem.conv.weight".to_owned(), tensor(&[2, 1, 1, 2], &[1.0, -2.0, 3.0, 0.5])),
            ("stem.bn.weight".to_owned(), tensor(&[2], &[2.0, -1.0])),
            ("stem.bn.bias".to_owned(), tensor(&[2], &[0.5, 0.25])),
            ("stem.bn.running_mean".to_owned(), tensor(&[2], &[1.0, -3.0])),
            ("stem.bn.running_var".to_owned(), tensor(&[2], &[4.0, 0.25])),
        ])
    }

    #[test]
    fn a_merged_norm_gives_what_the_norm_did() {
        let before = weights();
        let mut after = before.clone();
        without_batch_norms(&mut after).unwrap();
        assert_eq!(after.keys().collect::<Vec<_>>(), ["stem.conv.bias", "stem.conv.weight"]);
        let x = [0.75, -1.5];
        let apply = |weights: &BTreeMap<String, Tensor>, i: usize| {
            let row = &weights["stem.conv.weight"].values()[2 * i..];
            f64::from(row[0]) * x[0] + f64::from(row[1]) * x[1]
        };
        for i in 0..2 {
            let of = |name: &str| f64::from(before[&format!("stem.bn.{name}")].values()[i]);
            let deviation = (of("running_var") + EPS).sqrt();
            let expected = of("weight") * (apply(&before, i) - of("running_mean")) / deviation + of("bias");
            let got = apply(&after, i) + f64::from(after["stem.conv.bias"].values()[i]);
            assert!((got - expected).abs() < 1e-6, "{got} {expected}");
        }
    }

    #[test]
    fn a_broken_norm_is_refused() {
        let without = |name: &str| {
            let mut weights = weights();
            weights.remove(name);
            without_batch_norms(&mut weights).unwrap_err().to_string()
        };
        assert!(without("stem.bn.running_var").contains("stem.bn.running_var"));
        assert!(without("stem.conv.weight").contains("stem.conv.weight"));
        let mut negative = weights();
        negative.get_mut("stem.bn.running_var").unwrap().values_mut()[1] = -1.0;
        assert!(without_batch_norms(&mut negative).unwrap_err().to_string().contains("variance"));
        let mut short = weights();
        short.insert("stem.bn.bias".into(), Tensor::full([1], 0.0).unwrap());
        assert!(without_batch_norms(&mut short).unwrap_err().to_string().contains("[2]"));
    }
}
