//! Names of weights: Hugging Face's of ViT and DINOv2, Google's of ViT, and timm's, to timm's.

use std::collections::BTreeMap;

use super::{CheckpointError, jax};
use crate::Tensor;

/// Whose names and conventions a checkpoint follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Publisher {
    /// timm's `vision_transformer.py`, and Meta's own files, which bear the same names.
    Timm,
    /// Hugging Face's `modeling_dinov2.py`.
    HuggingFaceDinov2,
    /// Hugging Face's `modeling_vit.py`.
    HuggingFaceVit,
    /// Google's `vision_transformer` and `big_vision`, in JAX.
    Jax,
}

impl Publisher {
    /// The publisher whose names these are; timm where they are nobody's.
    pub fn of(tensors: &BTreeMap<String, Tensor>) -> Self {
        if jax::is_one(tensors.keys().map(String::as_str)) {
            return Self::Jax;
        }
        let mut names = tensors.keys().map(|name| without_prefix(name));
        let is_hugging_face = |name: &str| name.starts_with("embeddings.") || name.starts_with("encoder.layer.");
        if !names.clone().any(is_hugging_face) {
            Self::Timm
        } else if names.any(|name| name.contains(".layernorm_before.")) {
            Self::HuggingFaceVit
        } else {
            Self::HuggingFaceDinov2
        }
    }

    /// The number that this publisher's models add to the variance in LayerNorm where their file does not say:
    /// 1e-12 is the default of Hugging Face's ViT, 1e-6 that of the others.
    pub fn layer_norm_eps(self) -> f32 {
        match self {
            Self::HuggingFaceVit => 1e-12,
            Self::Timm | Self::HuggingFaceDinov2 | Self::Jax => 1e-6,
        }
    }
}

/// What becomes of one of a publisher's tensors.
enum Target {
    /// It is timm's tensor of this name.
    Rename(String),
    /// It is the part 0, 1 or 2 (q, k, v) of timm's tensor of this name.
    Joined(String, usize),
    /// The forward pass to the class token does not read it.
    Unused,
    /// It belongs to a part that is not supported.
    Unsupported(&'static str),
    /// It is not known.
    Unknown,
}

/// Gives the tensors timm's names; q, k and v are joined into `blocks.{i}.attn.qkv`, `[3D, D]` and `[3D]`.
///
/// Understood are timm's names, Hugging Face's of ViT and DINOv2 with or without the prefix `vit.` or `dinov2.`, and Google's of
/// ViT, whose kernels are turned to PyTorch's layout.
/// Mask token and pooler, which the features do not depend on, are left out.
///
/// # Errors
/// When a name is not known, a part is not supported (register tokens, SwiGLU), one of q, k and v is missing, or their
/// shapes do not fit.
pub fn to_timm(tensors: &BTreeMap<String, Tensor>) -> Result<BTreeMap<String, Tensor>, CheckpointError> {
    let target = match Publisher::of(tensors) {
        Publisher::Jax => return jax::to_timm(tensors),
        Publisher::Timm => timm_target,
        Publisher::HuggingFaceDinov2 | Publisher::HuggingFaceVit => hugging_face_target,
    };
    let mut renamed = BTreeMap::new();
    let mut joined: BTreeMap<String, [Option<(&str, &Tensor)>; 3]> = BTreeMap::new();
    let mut unknown = Vec::new();
    for (name, tensor) in tensors {
        match target(name) {
            Target::Rename(new) => {
                renamed.insert(new, tensor.clone());
            }
            Target::Joined(new, part) => joined.entry(new).or_default()[part] = Some((name, tensor)),
            Target::Unused => {}
            Target::Unsupported(part) => {
                return Err(CheckpointError::Unsupported { name: name.clone(), part });
            }
            Target::Unknown => unknown.push(name.as_str()),
        }
    }
    if !unknown.is_empty() {
        return Err(CheckpointError::unknown_names(&unknown));
    }
    for (name, parts) in joined {
        let tensor = join(&parts, [".query.", ".key.", ".value."])?;
        renamed.insert(name, tensor);
    }
    Ok(renamed)
}

/// q, k and v, of one shape, one below the other; `marks` stand in their names.
pub(super) fn join(parts: &[Option<(&str, &Tensor)>; 3], marks: [&str; 3]) -> Result<Tensor, CheckpointError> {
    let present: Vec<(&str, &Tensor)> = parts.iter().flatten().copied().collect();
    let &[(first_name, first), (_, _), (_, _)] = present.as_slice() else {
        let absent = parts.iter().position(Option::is_none).unwrap_or(0);
        let here = parts.iter().position(Option::is_some).unwrap_or(0);
        let name = present.first().map_or("", |(name, _)| name);
        return Err(CheckpointError::Missing { name: name.replace(marks[here], marks[absent]) });
    };
    for (name, tensor) in &present {
        if tensor.shape() != first.shape() {
            return Err(CheckpointError::WrongShape {
                name: (*name).to_owned(),
                expected: format!("{:?}, that of `{first_name}`", first.shape()),
                got: tensor.shape().to_vec(),
            });
        }
    }
    let Some((&rows, rest)) = first.shape().split_first() else {
        let expected = "at least one dimension".to_owned();
        return Err(CheckpointError::WrongShape { name: first_name.to_owned(), expected, got: Vec::new() });
    };
    let shape: Vec<usize> = [3 * rows].into_iter().chain(rest.iter().copied()).collect();
    let values = present.iter().flat_map(|(_, tensor)| tensor.values()).copied().collect();
    Tensor::new(shape, values).map_err(|error| CheckpointError::values(first_name, &error))
}

fn without_prefix(name: &str) -> &str {
    name.strip_prefix("dinov2.").or_else(|| name.strip_prefix("vit.")).unwrap_or(name)
}

/// `{prefix}{index}.{rest}` as index and rest.
fn block(name: &str, prefix: &str) -> Option<(usize, String)> {
    let (index, rest) = name.strip_prefix(prefix)?.split_once('.')?;
    let plain = index.bytes().all(|digit| digit.is_ascii_digit()) && (index == "0" || !index.starts_with('0'));
    let index = if plain { index.parse().ok()? } else { return None };
    Some((index, rest.to_owned()))
}

fn is_weight_or_bias(name: &str) -> bool {
    name == "weight" || name == "bias"
}

fn timm_target(name: &str) -> Target {
    if let Some((_, rest)) = block(name, "blocks.") {
        let known = match rest.rsplit_once('.') {
            Some(("norm1" | "norm2" | "attn.qkv" | "attn.proj" | "mlp.fc1" | "mlp.fc2", kind)) => {
                is_weight_or_bias(kind)
            }
            Some(("ls1" | "ls2", kind)) => kind == "gamma",
            Some(("mlp.w12" | "mlp.w3" | "mlp.fc1_g" | "mlp.fc1_x", _)) => return Target::Unsupported("a SwiGLU MLP"),
            Some(("attn.q_norm" | "attn.k_norm", _)) => return Target::Unsupported("normalised queries and keys"),
            _ => false,
        };
        return if known { Target::Rename(name.to_owned()) } else { Target::Unknown };
    }
    match name {
        "cls_token" | "pos_embed" => Target::Rename(name.to_owned()),
        "mask_token" => Target::Unused,
        "reg_token" | "register_tokens" => Target::Unsupported("register tokens"),
        "dist_token" => Target::Unsupported("a distillation token"),
        _ => match name.rsplit_once('.') {
            Some(("patch_embed.proj" | "norm" | "head", kind)) if is_weight_or_bias(kind) => {
                Target::Rename(name.to_owned())
            }
            Some(("fc_norm", _)) => Target::Unsupported("a LayerNorm behind the mean over tokens"),
            Some(("norm_pre", _)) => Target::Unsupported("a LayerNorm before the blocks"),
            _ => Target::Unknown,
        },
    }
}

fn hugging_face_target(name: &str) -> Target {
    let name = without_prefix(name);
    if let Some((index, rest)) = block(name, "encoder.layer.") {
        return hugging_face_block_target(index, &rest);
    }
    match name {
        "embeddings.cls_token" => Target::Rename("cls_token".to_owned()),
        "embeddings.position_embeddings" => Target::Rename("pos_embed".to_owned()),
        "embeddings.mask_token" => Target::Unused,
        "embeddings.register_tokens" => Target::Unsupported("register tokens"),
        _ => match name.rsplit_once('.') {
            Some((module, kind)) if is_weight_or_bias(kind) => match module {
                "embeddings.patch_embeddings.projection" => Target::Rename(format!("patch_embed.proj.{kind}")),
                "layernorm" => Target::Rename(format!("norm.{kind}")),
                "classifier" => Target::Rename(format!("head.{kind}")),
                "pooler.dense" => Target::Unused,
                _ => Target::Unknown,
            },
            _ => Target::Unknown,
        },
    }
}

fn hugging_face_block_target(index: usize, rest: &str) -> Target {
    let module = match rest {
        "layer_scale1.lambda1" => return Target::Rename(format!("blocks.{index}.ls1.gamma")),
        "layer_scale2.lambda1" => return Target::Rename(format!("blocks.{index}.ls2.gamma")),
        _ => match rest.rsplit_once('.') {
            Some((module, kind)) if is_weight_or_bias(kind) => (module, kind),
            _ => return Target::Unknown,
        },
    };
    let (new, kind) = match module {
        ("norm1" | "layernorm_before", kind) => ("norm1", kind),
        ("norm2" | "layernorm_after", kind) => ("norm2", kind),
        ("attention.output.dense", kind) => ("attn.proj", kind),
        ("mlp.fc1" | "intermediate.dense", kind) => ("mlp.fc1", kind),
        ("mlp.fc2" | "output.dense", kind) => ("mlp.fc2", kind),
        ("attention.attention.query", kind) => return Target::Joined(format!("blocks.{index}.attn.qkv.{kind}"), 0),
        ("attention.attention.key", kind) => return Target::Joined(format!("blocks.{index}.attn.qkv.{kind}"), 1),
        ("attention.attention.value", kind) => return Target::Joined(format!("blocks.{index}.attn.qkv.{kind}"), 2),
        ("mlp.weights_in" | "mlp.weights_out", _) => return Target::Unsupported("a SwiGLU MLP"),
        _ => return Target::Unknown,
    };
    Target::Rename(format!("blocks.{index}.{new}.{kind}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensors(names: &[&str]) -> BTreeMap<String, Tensor> {
        let values = |i: usize| vec![i as f32, -(i as f32)];
        names.iter().enumerate().map(|(i, &name)| (name.to_owned(), Tensor::new([2], values(i)).unwrap())).collect()
    }

    #[test]
    fn query_key_and_value_are_joined_in_this_order() {
        let names =
            ["query", "key", "value"].map(|part| format!("vit.encoder.layer.3.attention.attention.{part}.bias"));
        let timm = to_timm(&tensors(&names.each_ref().map(String::as_str))).unwrap();
        let qkv = &timm["blocks.3.attn.qkv.bias"];
        assert_eq!((qkv.shape(), qkv.values()), (&[6][..], &[0., -0., 1., -1., 2., -2.][..]));
    }

    #[test]
    fn a_missing_key_is_named() {
        let names = ["query", "value"].map(|part| format!("encoder.layer.0.attention.attention.{part}.weight"));
        let error = to_timm(&tensors(&names.each_ref().map(String::as_str))).unwrap_err();
        assert!(
            matches!(&error, CheckpointError::Missing { name } if name == "encoder.layer.0.attention.attention.key.weight"),
            "{error}"
        );
    }

    #[test]
    fn both_vit_and_dinov2_names_become_timms() {
        let both = [
            ("dinov2.encoder.layer.11.norm1.weight", "blocks.11.norm1.weight"),
            ("encoder.layer.0.layernorm_after.bias", "blocks.0.norm2.bias"),
            ("encoder.layer.0.intermediate.dense.bias", "blocks.0.mlp.fc1.bias"),
            ("encoder.layer.0.mlp.fc2.weight", "blocks.0.mlp.fc2.weight"),
            ("encoder.layer.0.output.dense.weight", "blocks.0.mlp.fc2.weight"),
            ("encoder.layer.0.attention.output.dense.weight", "blocks.0.attn.proj.weight"),
            ("encoder.layer.0.layer_scale2.lambda1", "blocks.0.ls2.gamma"),
        ];
        for (theirs, timms) in both {
            assert_eq!(to_timm(&tensors(&[theirs])).unwrap().into_keys().collect::<Vec<_>>(), [timms], "{theirs}");
        }
        assert!(to_timm(&tensors(&["embeddings.mask_token", "pooler.dense.bias"])).unwrap().is_empty());
    }

    #[test]
    fn timms_names_stay() {
        let names =
            ["blocks.0.attn.qkv.weight", "blocks.0.ls1.gamma", "cls_token", "head.bias", "patch_embed.proj.weight"];
        assert_eq!(to_timm(&tensors(&names)).unwrap(), tensors(&names));
    }

    #[test]
    fn unknown_names_and_unsupported_parts_are_refused() {
        let error = to_timm(&tensors(&["layer1.0.conv1.weight", "fc.weight"])).unwrap_err();
        assert!(error.to_string().contains("2 tensors belong to no ViT"), "{error}");
        assert!(error.to_string().contains("`fc.weight`, `layer1.0.conv1.weight`"), "{error}");
        for (name, part) in [
            ("embeddings.register_tokens", "register tokens"),
            ("reg_token", "register tokens"),
            ("encoder.layer.0.mlp.weights_in.bias", "a SwiGLU MLP"),
        ] {
            let error = to_timm(&tensors(&[name])).unwrap_err();
            assert!(matches!(&error, CheckpointError::Unsupported { part: p, .. } if *p == part), "{error}");
        }
    }

    #[test]
    fn parts_of_different_shapes_are_refused() {
        let mut tensors = tensors(&["query", "key", "value"].map(|_| "embeddings.mask_token"));
        for (part, len) in [("query", 2), ("key", 2), ("value", 3)] {
            let name = format!("encoder.layer.0.attention.attention.{part}.bias");
            tensors.insert(name, Tensor::full([len], 0.0).unwrap());
        }
        assert!(matches!(to_timm(&tensors), Err(CheckpointError::WrongShape { name, .. }) if name.contains("value")));
    }
}
