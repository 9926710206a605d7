//! Names of weights: Hugging Face's, the authors' own and timm's, to timm's.

use std::collections::BTreeMap;

use super::{CheckpointError, clip, convnext, jax, mobilevit, swin, videomae};
use crate::Tensor;

/// Whose names and conventions a checkpoint follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Publisher {
    /// timm's, and Meta's own files of DeiT and DINOv2, which bear the same names.
    Timm,
    /// Hugging Face's `modeling_dinov2.py`.
    HuggingFaceDinov2,
    /// Hugging Face's `modeling_dinov2_with_registers.py`.
    HuggingFaceDinov2WithRegisters,
    /// Hugging Face's `modeling_vit.py` and `modeling_deit.py`.
    HuggingFaceVit,
    /// Hugging Face's `modeling_clip.py`.
    HuggingFaceClip,
    /// Hugging Face's `modeling_siglip.py`.
    HuggingFaceSiglip,
    /// OpenAI's `clip`, and OpenCLIP, which bears the same names.
    OpenAiClip,
    /// Google's `vision_transformer` and `big_vision`, in JAX.
    Jax,
    /// Microsoft's `Swin-Transformer`, of both versions.
    MicrosoftSwin,
    /// Hugging Face's `modeling_swin.py`.
    HuggingFaceSwin,
    /// Hugging Face's `modeling_swinv2.py`.
    HuggingFaceSwinV2,
    /// Meta's `ConvNeXt` and `ConvNeXt-V2`.
    MetaConvNext,
    /// Hugging Face's `modeling_convnext.py` and `modeling_convnextv2.py`.
    HuggingFaceConvNext,
    /// Hugging Face's `modeling_mobilevit.py`.
    HuggingFaceMobileVit,
    /// The authors' `VideoMAE`.
    VideoMae,
    /// Hugging Face's `modeling_videomae.py`.
    HuggingFaceVideoMae,
}

impl Publisher {
    /// The publisher whose names these are; timm where they are nobody's.
    pub fn of(tensors: &BTreeMap<String, Tensor>) -> Self {
        if jax::is_one(tensors.keys().map(String::as_str)) {
            return Self::Jax;
        }
        let all = || tensors.keys().map(String::as_str);
        let others = videomae::publisher(tensors)
            .or_else(|| clip::publisher(all()))
            .or_else(|| swin::publisher(all()))
            .or_else(|| convnext::publisher(all()))
            .or_else(|| mobilevit::publisher(all()));
        if let Some(publisher) = others {
            return publisher;
        }
        let mut names = tensors.keys().map(|name| without_prefix(name));
        let is_hugging_face = |name: &str| name.starts_with("embeddings.") || name.starts_with("encoder.layer.");
        if !names.clone().any(is_hugging_face) {
            Self::Timm
        } else if names.clone().any(|name| name.contains(".layernorm_before.")) {
            Self::HuggingFaceVit
        } else if names.any(|name| name == "embeddings.register_tokens") {
            Self::HuggingFaceDinov2WithRegisters
        } else {
            Self::HuggingFaceDinov2
        }
    }

    /// `metadata` and, where it does not say them, what this publisher's models have where nothing is said: the numbers added
    /// to the variance in LayerNorm (`layer_norm_eps`, `head_norm_eps`) and the activation (`act_layer`).
    pub(crate) fn defaults(self, metadata: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let mut metadata = metadata.clone();
        let mut default = |key: &str, value: &str| {
            metadata.entry(key.to_owned()).or_insert_with(|| value.to_owned());
        };
        match self {
            Self::HuggingFaceVit => default("layer_norm_eps", "1e-12"),
            Self::HuggingFaceVideoMae => {
                default("layer_norm_eps", "1e-12");
                default("head_norm_eps", "1e-5");
            }
            Self::HuggingFaceClip | Self::OpenAiClip => default("layer_norm_eps", "1e-5"),
            Self::HuggingFaceSiglip => default("act_layer", "gelu_tanh"),
            // What its configuration calls the layers' is that of the last alone.
            Self::HuggingFaceConvNext => {
                let said = metadata.remove("layer_norm_eps").unwrap_or_else(|| "1e-12".to_owned());
                metadata.entry("head_norm_eps".to_owned()).or_insert(said);
            }
            _ => {}
        }
        metadata
    }
}

/// What becomes of one of a publisher's tensors.
pub(super) enum Target {
    /// It is timm's tensor of this name.
    Rename(String),
    /// It is timm's tensor of this name, with dimensions of 1 before its own up to this rank.
    Raised(String, usize),
    /// It is timm's vector of this name, with dimensions of 1 around it.
    Lowered(String),
    /// It is the transpose of timm's tensor of this name.
    Transposed(String),
    /// It is timm's convolution of this name with the input's channels in the reverse order.
    Reversed(String),
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
/// Understood are timm's names, Hugging Face's of ViT, DeiT, DINOv2, CLIP, SigLIP, Swin, ConvNeXt, MobileViT and VideoMAE, OpenAI's of CLIP, Microsoft's of
/// Swin, Meta's of ConvNeXt, VideoMAE's authors', and Google's of ViT, whose kernels are turned to PyTorch's layout. timm's `head.fc` becomes
/// `head`, its `head.norm` `norm`. Mask token, pooler, text tower and buffers, which the features do not depend on, are left
/// out.
///
/// # Errors
/// When a name is not known, a part is not supported (SwiGLU), one of q, k and v is missing, or their
/// shapes do not fit.
pub fn to_timm(tensors: &BTreeMap<String, Tensor>) -> Result<BTreeMap<String, Tensor>, CheckpointError> {
    let target = match Publisher::of(tensors) {
        Publisher::Jax => return jax::to_timm(tensors),
        Publisher::Timm => timm_target,
        Publisher::HuggingFaceDinov2 | Publisher::HuggingFaceDinov2WithRegisters | Publisher::HuggingFaceVit => {
            hugging_face_target
        }
        Publisher::HuggingFaceClip | Publisher::HuggingFaceSiglip => clip::hugging_face_target,
        Publisher::OpenAiClip => clip::openai_target,
        Publisher::MicrosoftSwin => swin::microsoft_target,
        Publisher::HuggingFaceSwin => swin::hugging_face_target,
        Publisher::HuggingFaceSwinV2 => swin::hugging_face_v2_target,
        Publisher::MetaConvNext => convnext::meta_target,
        Publisher::HuggingFaceConvNext => convnext::hugging_face_target,
        Publisher::HuggingFaceMobileVit => mobilevit::hugging_face_target,
        Publisher::VideoMae => return renamed(&videomae::with_key_biases(tensors)?, videomae::authors_target),
        Publisher::HuggingFaceVideoMae => {
            return renamed(&videomae::with_key_biases(tensors)?, videomae::hugging_face_target);
        }
    };
    let timm = renamed(tensors, target)?;
    if timm.contains_key("dist_token") && tensors.contains_key("classifier.weight") {
        let part = "a classifier of the class token alone beside a distillation token";
        return Err(CheckpointError::Unsupported { name: "classifier.weight".to_owned(), part });
    }
    Ok(timm)
}

/// Gives the tensors of a CLIP's text tower names after timm's: `token_embed.weight` `[V, D]`, `pos_embed` `[1, L, D]`,
/// `blocks.{i}.*`, `norm`, `head.weight` `[E, D]` (the projection) and `logit_scale`, from OpenAI's, OpenCLIP's or Hugging Face's.
///
/// # Errors
/// When they are of no CLIP, a name is not known, one of q, k and v is missing, or shapes do not fit.
pub fn text_to_timm(tensors: &BTreeMap<String, Tensor>) -> Result<BTreeMap<String, Tensor>, CheckpointError> {
    match Publisher::of(tensors) {
        Publisher::OpenAiClip => renamed(tensors, clip::openai_text_target),
        Publisher::HuggingFaceClip => renamed(tensors, clip::hugging_face_text_target),
        _ => Err(CheckpointError::NoText),
    }
}

fn renamed(
    tensors: &BTreeMap<String, Tensor>,
    target: impl Fn(&str) -> Target,
) -> Result<BTreeMap<String, Tensor>, CheckpointError> {
    let mut renamed = BTreeMap::new();
    let mut joined: BTreeMap<String, [Option<(&str, &Tensor)>; 3]> = BTreeMap::new();
    let mut unknown = Vec::new();
    for (name, tensor) in tensors {
        match target(name) {
            Target::Rename(new) => {
                renamed.insert(new, tensor.clone());
            }
            Target::Raised(new, rank) => {
                let shape = vec![1; rank.saturating_sub(tensor.shape().len())];
                let shape: Vec<usize> = shape.into_iter().chain(tensor.shape().iter().copied()).collect();
                let raised = tensor.clone().reshape(shape).map_err(|error| CheckpointError::values(name, &error))?;
                renamed.insert(new, raised);
            }
            Target::Lowered(new) => {
                let lowered = tensor.clone().reshape([tensor.len()]);
                renamed.insert(new, lowered.map_err(|error| CheckpointError::values(name, &error))?);
            }
            Target::Transposed(new) => {
                let transposed = tensor.transposed().ok_or_else(|| CheckpointError::WrongShape {
                    name: name.clone(),
                    expected: "a matrix".to_owned(),
                    got: tensor.shape().to_vec(),
                })?;
                renamed.insert(new, transposed);
            }
            Target::Reversed(new) => {
                let reversed = tensor.reversed_channels().ok_or_else(|| CheckpointError::WrongShape {
                    name: name.clone(),
                    expected: "a convolution [out, in, k, k]".to_owned(),
                    got: tensor.shape().to_vec(),
                })?;
                renamed.insert(new, reversed);
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
        let has = |mark: &str| parts.iter().flatten().any(|(name, _)| name.contains(mark));
        let marks = if has("_proj.") {
            [".q_proj.", ".k_proj.", ".v_proj."]
        } else if has("_bias") {
            [".q_bias", ".k_bias", ".v_bias"]
        } else {
            [".query.", ".key.", ".value."]
        };
        let tensor = join(&parts, marks)?;
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
    ["dinov2.", "vit.", "deit."].iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name)
}

/// `{prefix}{index}.{rest}` as index and rest.
pub(super) fn block(name: &str, prefix: &str) -> Option<(usize, String)> {
    let (index, rest) = name.strip_prefix(prefix)?.split_once('.')?;
    let plain = index.bytes().all(|digit| digit.is_ascii_digit()) && (index == "0" || !index.starts_with('0'));
    let index = if plain { index.parse().ok()? } else { return None };
    Some((index, rest.to_owned()))
}

pub(super) fn is_weight_or_bias(name: &str) -> bool {
    name == "weight" || name == "bias"
}

/// Whether this is a weight or a bias of a layer that every transformer's block has, by timm's names.
pub(super) fn is_block_layer(name: &str) -> bool {
    const LAYERS: [&str; 6] = ["norm1", "norm2", "attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"];
    name.rsplit_once('.').is_some_and(|(layer, kind)| is_weight_or_bias(kind) && LAYERS.contains(&layer))
}

/// Outside of the blocks.
const TIMM_MODULES: [&str; 14] = [
    "patch_embed.proj",
    "patch_embed.norm",
    "stem.0",
    "stem.1",
    "norm_pre",
    "norm",
    "fc_norm",
    "head",
    "attn_pool.q",
    "attn_pool.kv",
    "attn_pool.proj",
    "attn_pool.norm",
    "attn_pool.mlp.fc1",
    "attn_pool.mlp.fc2",
];

pub(super) fn timm_target(name: &str) -> Target {
    if let Some((_, rest)) = block(name, "layers.") {
        return swin::timm_layer(name, &rest);
    }
    if let Some((_, rest)) = block(name, "stages.") {
        return mobilevit::timm_stage(name, &rest).unwrap_or_else(|| convnext::timm_stage(name, &rest));
    }
    if let Some((_, rest)) = block(name, "blocks.") {
        let known = match rest.rsplit_once('.') {
            _ if is_block_layer(&rest) => true,
            Some(("ls1" | "ls2", kind)) => kind == "gamma",
            // Meta's files of DeiT-3.
            None if rest == "gamma_1" => return Target::Rename(name.replace("gamma_1", "ls1.gamma")),
            None if rest == "gamma_2" => return Target::Rename(name.replace("gamma_2", "ls2.gamma")),
            Some(("mlp.w12" | "mlp.w3" | "mlp.fc1_g" | "mlp.fc1_x", _)) => return Target::Unsupported("a SwiGLU MLP"),
            Some(("attn.q_norm" | "attn.k_norm", _)) => return Target::Unsupported("normalised queries and keys"),
            _ => false,
        };
        return if known { Target::Rename(name.to_owned()) } else { Target::Unknown };
    }
    match name {
        "cls_token" | "dist_token" | "pos_embed" | "reg_token" | "attn_pool.latent" => Target::Rename(name.to_owned()),
        "register_tokens" => Target::Rename("reg_token".to_owned()),
        "mask_token" => Target::Unused,
        "head_dist.weight" | "head_dist.bias" => Target::Unused,
        _ if name.starts_with("stem.conv.") || name.starts_with("stem.bn.") || name.starts_with("final_conv.") => {
            mobilevit::convolution(name, name.split_once('.').map_or("", |(_, part)| part))
        }
        _ => match name.rsplit_once('.') {
            Some(("head.fc", kind)) if is_weight_or_bias(kind) => Target::Rename(format!("head.{kind}")),
            Some(("head.norm", kind)) if is_weight_or_bias(kind) => Target::Rename(format!("norm.{kind}")),
            Some((module, kind)) if is_weight_or_bias(kind) && TIMM_MODULES.contains(&module) => {
                Target::Rename(name.to_owned())
            }
            _ => Target::Unknown,
        },
    }
}

fn hugging_face_target(name: &str) -> Target {
    let name = without_prefix(name);
    if let Some((index, rest)) = block(name, "encoder.layer.") {
        return hugging_face_block_target(&format!("blocks.{index}"), &rest);
    }
    match name {
        "embeddings.cls_token" => Target::Rename("cls_token".to_owned()),
        "embeddings.position_embeddings" => Target::Rename("pos_embed".to_owned()),
        "embeddings.mask_token" => Target::Unused,
        "embeddings.register_tokens" => Target::Rename("reg_token".to_owned()),
        "embeddings.distillation_token" => Target::Rename("dist_token".to_owned()),
        _ => match name.rsplit_once('.') {
            Some((module, kind)) if is_weight_or_bias(kind) => match module {
                "embeddings.patch_embeddings.projection" => Target::Rename(format!("patch_embed.proj.{kind}")),
                "layernorm" => Target::Rename(format!("norm.{kind}")),
                "classifier" => Target::Rename(format!("head.{kind}")),
                "pooler.dense" | "cls_classifier" | "distillation_classifier" => Target::Unused,
                _ => Target::Unknown,
            },
            _ => Target::Unknown,
        },
    }
}

/// Hugging Face's modules of a transformer's block, as those of timm's `block`.
pub(super) fn hugging_face_block_target(block: &str, rest: &str) -> Target {
    let module = match rest {
        "layer_scale1.lambda1" => return Target::Rename(format!("{block}.ls1.gamma")),
        "layer_scale2.lambda1" => return Target::Rename(format!("{block}.ls2.gamma")),
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
        ("attention.attention.query", kind) => return Target::Joined(format!("{block}.attn.qkv.{kind}"), 0),
        ("attention.attention.key", kind) => return Target::Joined(format!("{block}.attn.qkv.{kind}"), 1),
        ("attention.attention.value", kind) => return Target::Joined(format!("{block}.attn.qkv.{kind}"), 2),
        ("mlp.weights_in" | "mlp.weights_out", _) => return Target::Unsupported("a SwiGLU MLP"),
        _ => return Target::Unknown,
    };
    Target::Rename(format!("{block}.{new}.{kind}"))
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
        assert!(error.to_string().contains("2 tensors belong to no backbone that is known"), "{error}");
        assert!(error.to_string().contains("`fc.weight`, `layer1.0.conv1.weight`"), "{error}");
        let error = to_timm(&tensors(&["encoder.layer.0.mlp.weights_in.bias"])).unwrap_err();
        assert!(matches!(&error, CheckpointError::Unsupported { part: "a SwiGLU MLP", .. }), "{error}");
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
