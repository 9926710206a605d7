//! What the second version computes from its weights for every picture alike, computed once.

use std::collections::BTreeMap;

use super::{Config, V2};
use crate::Tensor;
use crate::backbone::{BackboneError, missing, wrong};
use crate::checkpoint::CheckpointError;

/// The largest factor on a cosine: `1 / 0.01`.
const LARGEST_SCALE: f64 = 100.0;
/// The largest bias that the network can give.
const LARGEST_BIAS: f64 = 16.0;

/// Replaces what the second version's blocks have by what the graph reads: the network of the biases by their table
/// `16 sigmoid(mlp(coordinates))`, the logarithm of the scale by the scale, and the biases of q and v by that of qkv.
///
/// # Errors
/// When a part is missing or misshapen.
pub(super) fn complete(weights: &mut BTreeMap<String, Tensor>, config: &Config) -> Result<(), BackboneError> {
    let Some(v2) = &config.v2 else { return Ok(()) };
    for (stage, &depth) in config.depths.iter().enumerate() {
        for block in 0..depth {
            let name = |part: &str| format!("layers.{stage}.blocks.{block}.attn.{part}");
            let table = table(weights, &name, config, v2, stage)?;
            weights.insert(name("relative_position_bias_table"), table);
            let scale = get(weights, &name("logit_scale"))?;
            let scale: Vec<f32> =
                scale.values().iter().map(|&log| f64::from(log).exp().min(LARGEST_SCALE) as f32).collect();
            insert(weights, name("cosine.scale"), [scale.len()], scale)?;
            if let Some(bias) = qkv_bias(weights, &name)? {
                insert(weights, name("qkv.bias"), [bias.len()], bias)?;
            }
        }
    }
    Ok(())
}

/// The biases of q and v with zeros between them for k; `None` where the file has one of qkv.
fn qkv_bias(
    weights: &BTreeMap<String, Tensor>,
    name: &dyn Fn(&str) -> String,
) -> Result<Option<Vec<f32>>, BackboneError> {
    if weights.contains_key(&name("qkv.bias")) {
        return Ok(None);
    }
    let (q, v) = (get(weights, &name("q_bias"))?, get(weights, &name("v_bias"))?);
    if v.shape() != q.shape() {
        return Err(wrong(&name("v_bias"), &format!("{:?}, that of `q_bias`", q.shape()), v.shape()));
    }
    Ok(Some(q.values().iter().copied().chain(vec![0.0; q.len()]).chain(v.values().iter().copied()).collect()))
}

/// The biases by distance, `[(2h - 1)(2w - 1), heads]`.
fn table(
    weights: &BTreeMap<String, Tensor>,
    name: &dyn Fn(&str) -> String,
    config: &Config,
    v2: &V2,
    stage: usize,
) -> Result<Tensor, BackboneError> {
    let [first, bias, second] = ["cpb_mlp.0.weight", "cpb_mlp.0.bias", "cpb_mlp.2.weight"].map(name);
    let (first, bias) = ((get(weights, &first)?, first), get(weights, &bias)?);
    let second = (get(weights, &second)?, second);
    let hidden = bias.len();
    let heads = second.0.len().checked_div(hidden).unwrap_or(0);
    for ((tensor, name), expected) in [(&first, [hidden, 2]), (&second, [heads, hidden])] {
        if tensor.shape() != expected {
            return Err(wrong(name, &format!("{expected:?}"), tensor.shape()));
        }
    }
    let window = config.windows(stage, 0).window;
    let pretrained = v2.pretrained_window_sizes.get(stage).copied().unwrap_or(0);
    let largest = window.map(|side| if pretrained > 0 { pretrained } else { side });
    let mut values = Vec::with_capacity(heads * (2 * window[0] - 1) * (2 * window[1] - 1));
    for y in 0..2 * window[0] - 1 {
        for x in 0..2 * window[1] - 1 {
            let at = [coordinate(y, window[0], largest[0]), coordinate(x, window[1], largest[1])];
            let rows = first.0.values().chunks_exact(2).zip(bias.values());
            let layer: Vec<f64> = rows
                .map(|(row, &bias)| (f64::from(row[0]) * at[0] + f64::from(row[1]) * at[1] + f64::from(bias)).max(0.0))
                .collect();
            values.extend(second.0.values().chunks_exact(hidden.max(1)).map(|row| {
                let sum: f64 = row.iter().zip(&layer).map(|(&w, x)| f64::from(w) * x).sum();
                (LARGEST_BIAS / (1.0 + (-sum).exp())) as f32
            }));
        }
    }
    let rows = values.len() / heads.max(1);
    Tensor::new([rows, heads], values).map_err(|error| CheckpointError::values(&second.1, &error).into())
}

/// The distance of `index`, from `1 - side` on, on a logarithmic scale: `sign(d) log8(8 |d| / (largest - 1) + 1)`.
fn coordinate(index: usize, side: usize, largest: usize) -> f64 {
    let distance = (index as f64 - (side as f64 - 1.0)) * 8.0 / (largest as f64 - 1.0).max(1.0);
    distance.signum() * (distance.abs() + 1.0).ln() / 8f64.ln()
}

fn get<'a>(weights: &'a BTreeMap<String, Tensor>, name: &str) -> Result<&'a Tensor, BackboneError> {
    weights.get(name).map_or_else(|| missing(name), Ok)
}

fn insert(
    weights: &mut BTreeMap<String, Tensor>,
    name: String,
    shape: [usize; 1],
    values: Vec<f32>,
) -> Result<(), BackboneError> {
    let tensor = Tensor::new(shape, values).map_err(|error| CheckpointError::values(&name, &error))?;
    weights.insert(name, tensor);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_logarithmic_and_signed() {
        assert_eq!(coordinate(3, 4, 4), 0.0);
        assert!((coordinate(6, 4, 4) - 9f64.ln() / 8f64.ln()).abs() < 1e-15);
        assert_eq!(coordinate(0, 4, 4), -coordinate(6, 4, 4));
        assert_eq!(coordinate(0, 1, 1), 0.0);
    }
}
