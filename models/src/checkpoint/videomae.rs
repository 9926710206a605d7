//! The names of VideoMAE, its authors' and Hugging Face's, to timm's. There are biases of q and v, and none of k.

use std::collections::BTreeMap;

use super::CheckpointError;
use super::names::{Publisher, Target, block, hugging_face_block_target, is_weight_or_bias, timm_target};
use crate::Tensor;

/// Before the names of Hugging Face's encoder in files that hold more.
const HUGGING_FACE_MODEL: &str = "videomae.";
/// Before the names of the authors' encoder in files that hold the decoder too.
const AUTHORS_ENCODER: &str = "encoder.";

/// Whose names these are; `None` where no patch reaches through several frames.
pub(super) fn publisher(tensors: &BTreeMap<String, Tensor>) -> Option<Publisher> {
    let reaches = |name: &str, prefix: &str| {
        let tensor = tensors.get(name).or_else(|| tensors.get(&format!("{prefix}{name}")));
        tensor.is_some_and(|tensor| tensor.shape().len() == 5)
    };
    if reaches("embeddings.patch_embeddings.projection.weight", HUGGING_FACE_MODEL) {
        Some(Publisher::HuggingFaceVideoMae)
    } else if reaches("patch_embed.proj.weight", AUTHORS_ENCODER)
        && tensors.keys().any(|name| name.ends_with(".attn.q_bias"))
    {
        Some(Publisher::VideoMae)
    } else {
        None
    }
}

/// How the biases of q and k end, as the authors and Hugging Face's older files have them, and as its newer ones do.
const QUERY_AND_KEY: [[&str; 2]; 2] = [["q_bias", "k_bias"], ["attention.query.bias", "attention.key.bias"]];

/// The tensors, and a bias of zeros for k beside each that is of q.
///
/// # Errors
/// When zeros cannot be held.
pub(super) fn with_key_biases(tensors: &BTreeMap<String, Tensor>) -> Result<BTreeMap<String, Tensor>, CheckpointError> {
    let mut whole = tensors.clone();
    for (name, bias) in tensors {
        let key = QUERY_AND_KEY.iter().find_map(|[q, k]| Some(format!("{}{k}", name.strip_suffix(q)?)));
        let Some(key) = key.filter(|key| !tensors.contains_key(key)) else { continue };
        let zeros = Tensor::full(bias.shape(), 0.0).map_err(|error| CheckpointError::values(name, &error))?;
        whole.insert(key, zeros);
    }
    Ok(whole)
}

/// The authors' `modeling_finetune.py` and the encoder of `modeling_pretrain.py`.
pub(super) fn authors_target(name: &str) -> Target {
    if is_of_pretraining(name) {
        return Target::Unused;
    }
    let name = name.strip_prefix(AUTHORS_ENCODER).unwrap_or(name);
    match block(name, "blocks.") {
        Some((index, rest)) => joined_bias(index, &rest, "attn.").unwrap_or_else(|| timm_target(name)),
        None => timm_target(name),
    }
}

/// Hugging Face's `modeling_videomae.py`.
pub(super) fn hugging_face_target(name: &str) -> Target {
    if is_of_pretraining(name) {
        return Target::Unused;
    }
    let name = name.strip_prefix(HUGGING_FACE_MODEL).unwrap_or(name);
    if let Some((index, rest)) = block(name, "encoder.layer.") {
        return joined_bias(index, &rest, "attention.attention.")
            .unwrap_or_else(|| hugging_face_block_target(&format!("blocks.{index}"), &rest));
    }
    // Positions are computed; a file that keeps them keeps what comes of it.
    if name == "embeddings.position_embeddings" {
        return Target::Rename("pos_embed".to_owned());
    }
    let Some((module, kind)) = name.rsplit_once('.').filter(|(_, kind)| is_weight_or_bias(kind)) else {
        return Target::Unknown;
    };
    let new = match module {
        "embeddings.patch_embeddings.projection" => "patch_embed.proj",
        "layernorm" => "norm",
        "fc_norm" => "fc_norm",
        "classifier" => "head",
        _ => return Target::Unknown,
    };
    Target::Rename(format!("{new}.{kind}"))
}

/// What only training without labels reads.
fn is_of_pretraining(name: &str) -> bool {
    name.starts_with("decoder.") || name.starts_with("encoder_to_decoder.") || name == "mask_token"
}

/// A bias of q, k or v that stands by itself, `{attention}q_bias`.
fn joined_bias(index: usize, rest: &str, attention: &str) -> Option<Target> {
    let part = ["q_bias", "k_bias", "v_bias"].iter().position(|&bias| rest.strip_prefix(attention) == Some(bias))?;
    Some(Target::Joined(format!("blocks.{index}.attn.qkv.bias"), part))
}

#[cfg(test)]
mod tests {
    use super::super::to_timm;
    use super::*;

    fn tensors(shapes: &[(&str, &[usize])]) -> BTreeMap<String, Tensor> {
        let full = |(at, &(name, shape)): (usize, &(&str, &[usize]))| {
            (name.to_owned(), Tensor::full(shape, at as f32 + 1.0).unwrap())
        };
        shapes.iter().enumerate().map(full).collect()
    }

    #[test]
    fn both_publishers_names_become_timms_and_k_has_no_bias() {
        let kernel: &[usize] = &[2, 3, 2, 1, 1];
        for (names, publisher) in [
            (
                [
                    ("videomae.embeddings.patch_embeddings.projection.weight", kernel),
                    ("videomae.encoder.layer.0.attention.attention.q_bias", &[2]),
                    ("videomae.encoder.layer.0.attention.attention.v_bias", &[2]),
                    ("videomae.encoder.layer.0.layernorm_before.weight", &[2]),
                    ("fc_norm.bias", &[2]),
                    ("decoder.norm.bias", &[2]),
                ],
                Publisher::HuggingFaceVideoMae,
            ),
            (
                [
                    ("videomae.embeddings.patch_embeddings.projection.weight", kernel),
                    ("videomae.encoder.layer.0.attention.attention.query.bias", &[2]),
                    ("videomae.encoder.layer.0.attention.attention.value.bias", &[2]),
                    ("videomae.encoder.layer.0.layernorm_before.weight", &[2]),
                    ("fc_norm.bias", &[2]),
                    ("encoder_to_decoder.weight", &[2]),
                ],
                Publisher::HuggingFaceVideoMae,
            ),
            (
                [
                    ("encoder.patch_embed.proj.weight", kernel),
                    ("encoder.blocks.0.attn.q_bias", &[2]),
                    ("encoder.blocks.0.attn.v_bias", &[2]),
                    ("encoder.blocks.0.norm1.weight", &[2]),
                    ("fc_norm.bias", &[2]),
                    ("mask_token", &[2]),
                ],
                Publisher::VideoMae,
            ),
        ] {
            let tensors = tensors(&names);
            assert_eq!(Publisher::of(&tensors), publisher);
            let timm = to_timm(&tensors).unwrap();
            let names: Vec<&str> = timm.keys().map(String::as_str).collect();
            let expected =
                ["blocks.0.attn.qkv.bias", "blocks.0.norm1.weight", "fc_norm.bias", "patch_embed.proj.weight"];
            assert_eq!(names, expected, "{publisher:?}");
            assert_eq!(timm["blocks.0.attn.qkv.bias"].values(), [2.0, 2.0, 0.0, 0.0, 3.0, 3.0]);
        }
    }

    #[test]
    fn a_bias_without_its_partner_and_strange_names_are_refused() {
        let kernel: &[usize] = &[2, 3, 2, 1, 1];
        let alone = tensors(&[("patch_embed.proj.weight", kernel), ("blocks.0.attn.q_bias", &[2])]);
        let error = to_timm(&alone).unwrap_err();
        assert!(matches!(&error, CheckpointError::Missing { name } if name == "blocks.0.attn.v_bias"), "{error}");
        let strange =
            tensors(&[("embeddings.patch_embeddings.projection.weight", kernel), ("embeddings.cls_token", &[2])]);
        assert!(to_timm(&strange).unwrap_err().to_string().contains("`embeddings.cls_token`"));
    }
}
