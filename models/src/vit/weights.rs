//! What a publisher leaves out or writes otherwise, made what the graph reads.

use std::collections::BTreeMap;

use crate::Tensor;
use crate::checkpoint::CheckpointError;

/// Adds a patch embedding's bias of zero where there is none (CLIP's), leaves out the heads of a distilled DeiT, and computes the query of a pooling by attention,
/// `attn_pool.query` `[D] = W_q latent + b_q`, which depends on no picture.
///
/// # Errors
/// When a part of the pooling is missing or misshapen.
pub(super) fn complete(weights: &mut BTreeMap<String, Tensor>) -> Result<(), CheckpointError> {
    if let Some(&width) = weights.get("patch_embed.proj.weight").and_then(|weight| weight.shape().first()) {
        let name = "patch_embed.proj.bias";
        if !weights.contains_key(name) {
            weights.insert(name.to_owned(), full(name, width)?);
        }
    }
    if weights.contains_key("dist_token") {
        // Of the two heads each reads a token of its own: no linear layer over their mean stands for both.
        weights.retain(|name, _| !name.starts_with("head."));
    }
    split_in_proj(weights)?;
    if weights.contains_key("attn_pool.latent") {
        let query = query(weights)?;
        for name in ["latent", "q.weight", "q.bias"] {
            weights.remove(&format!("attn_pool.{name}"));
        }
        weights.insert("attn_pool.query".to_owned(), query);
    }
    Ok(())
}

/// Hugging Face keeps q, k and v of the pooling in one, `attn_pool.in_proj` `[3D, D]`, timm q and kv.
fn split_in_proj(weights: &mut BTreeMap<String, Tensor>) -> Result<(), CheckpointError> {
    for kind in ["weight", "bias"] {
        let name = format!("attn_pool.in_proj.{kind}");
        let Some(joined) = weights.remove(&name) else { continue };
        let Some((&rows, rest)) = joined.shape().split_first().filter(|(rows, _)| rows.is_multiple_of(3)) else {
            return Err(wrong(&name, "3 D rows", &joined));
        };
        let third = joined.len() / 3;
        for (part, values, rows) in
            [("q", &joined.values()[..third], rows / 3), ("kv", &joined.values()[third..], rows / 3 * 2)]
        {
            let shape: Vec<usize> = [rows].into_iter().chain(rest.iter().copied()).collect();
            let tensor = Tensor::new(shape, values.to_vec()).map_err(|error| CheckpointError::values(&name, &error))?;
            weights.insert(format!("attn_pool.{part}.{kind}"), tensor);
        }
    }
    Ok(())
}

fn query(weights: &BTreeMap<String, Tensor>) -> Result<Tensor, CheckpointError> {
    let get = |part: &str| {
        let name = format!("attn_pool.{part}");
        weights.get(&name).ok_or(CheckpointError::Missing { name })
    };
    let (latent, weight, bias) = (get("latent")?, get("q.weight")?, get("q.bias")?);
    let width = bias.len();
    if weight.shape() != [width, width] {
        return Err(wrong("attn_pool.q.weight", &format!("[{width}, {width}]"), weight));
    }
    if latent.len() != width {
        return Err(wrong("attn_pool.latent", &format!("[1, 1, {width}], one query"), latent));
    }
    let row = |(row, &bias): (&[f32], &f32)| {
        let products = row.iter().zip(latent.values()).map(|(&w, &x)| f64::from(w) * f64::from(x));
        (products.sum::<f64>() + f64::from(bias)) as f32
    };
    let values = weight.values().chunks_exact(width.max(1)).zip(bias.values()).map(row).collect();
    Tensor::new([width], values).map_err(|error| CheckpointError::values("attn_pool.q.weight", &error))
}

fn full(name: &str, len: usize) -> Result<Tensor, CheckpointError> {
    Tensor::full([len], 0.0).map_err(|error| CheckpointError::values(name, &error))
}

fn wrong(name: &str, expected: &str, got: &Tensor) -> CheckpointError {
    CheckpointError::WrongShape { name: name.to_owned(), expected: expected.to_owned(), got: got.shape().to_vec() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_of_a_pooling_is_computed_and_its_parts_go() {
        let tensor = |shape: &[usize], values: &[f32]| Tensor::new(shape, values.to_vec()).unwrap();
        let mut weights = BTreeMap::from([
            ("attn_pool.latent".to_owned(), tensor(&[1, 1, 2], &[1.0, 2.0])),
            (
                "attn_pool.in_proj.weight".to_owned(),
                tensor(&[6, 2], &[1.0, 0.0, 3.0, 1.0, 9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0]),
            ),
            ("attn_pool.in_proj.bias".to_owned(), tensor(&[6], &[0.5, 0.0, 1.0, 2.0, 3.0, 4.0])),
        ]);
        complete(&mut weights).unwrap();
        let names: Vec<&str> = weights.keys().map(String::as_str).collect();
        assert_eq!(names, ["attn_pool.kv.bias", "attn_pool.kv.weight", "attn_pool.query"]);
        assert_eq!(weights["attn_pool.query"].values(), [1.5, 5.0]);
        assert_eq!(weights["attn_pool.kv.weight"].shape(), [4, 2]);
        assert_eq!(weights["attn_pool.kv.bias"].values(), [1.0, 2.0, 3.0, 4.0]);
    }

    #[test]
    fn a_part_that_is_missing_is_named() {
        let mut weights = BTreeMap::from([("attn_pool.latent".to_owned(), Tensor::full([1, 1, 2], 0.0).unwrap())]);
        assert!(
            matches!(complete(&mut weights), Err(CheckpointError::Missing { name }) if name == "attn_pool.q.weight")
        );
    }
}
