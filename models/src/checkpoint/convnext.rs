//! The names of ConvNeXts, Meta's and Hugging Face's, to timm's.

use super::names::{Publisher, Target, block, is_weight_or_bias};

/// Whose names these are; `None` where they are of no ConvNeXt but timm's.
pub(super) fn publisher<'a>(mut names: impl Iterator<Item = &'a str> + Clone) -> Option<Publisher> {
    if names.clone().any(|name| name == "downsample_layers.0.0.weight") {
        Some(Publisher::MetaConvNext)
    } else {
        let is_one = |name: &str| without_prefix(name).starts_with("encoder.stages.0.layers.");
        names.any(is_one).then_some(Publisher::HuggingFaceConvNext)
    }
}

fn without_prefix(name: &str) -> &str {
    name.strip_prefix("convnext.").or_else(|| name.strip_prefix("convnextv2.")).unwrap_or(name)
}

/// timm's names within `stages.{stage}.`.
pub(super) fn timm_stage(name: &str, rest: &str) -> Target {
    let module = match rest.strip_prefix("blocks.") {
        Some(_) => match block(rest, "blocks.") {
            Some((_, module)) => module,
            None => return Target::Unknown,
        },
        None => rest.to_owned(),
    };
    match module.rsplit_once('.') {
        None if module == "gamma" => Target::Rename(name.to_owned()),
        Some(("conv_dw" | "norm" | "mlp.fc1" | "mlp.fc2" | "mlp.grn" | "downsample.0" | "downsample.1", kind))
            if is_weight_or_bias(kind) =>
        {
            Target::Rename(name.to_owned())
        }
        Some(("shortcut.conv", _)) => Target::Unsupported("a ConvNeXt whose blocks change the width"),
        _ => Target::Unknown,
    }
}

pub(super) fn meta_target(name: &str) -> Target {
    if let Some((stage, rest)) = block(name, "downsample_layers.") {
        return match (stage, rest.rsplit_once('.')) {
            (_, Some((_, kind))) if !is_weight_or_bias(kind) => Target::Unknown,
            (0, _) => Target::Rename(format!("stem.{rest}")),
            (_, Some(("0" | "1", _))) => Target::Rename(format!("stages.{stage}.downsample.{rest}")),
            _ => Target::Unknown,
        };
    }
    if let Some((stage, rest)) = block(name, "stages.") {
        let Some((index, rest)) = block(&rest, "") else { return Target::Unknown };
        return block_target(&format!("stages.{stage}.blocks.{index}"), &rest);
    }
    match name.rsplit_once('.') {
        Some(("norm" | "head", kind)) if is_weight_or_bias(kind) => Target::Rename(name.to_owned()),
        _ => Target::Unknown,
    }
}

pub(super) fn hugging_face_target(name: &str) -> Target {
    let name = without_prefix(name);
    if let Some((stage, rest)) = block(name, "encoder.stages.") {
        return match block(&rest, "layers.") {
            Some((index, rest)) => block_target(&format!("stages.{stage}.blocks.{index}"), &rest),
            None => match rest.strip_prefix("downsampling_layer.") {
                Some(rest) => Target::Rename(format!("stages.{stage}.downsample.{rest}")),
                None => Target::Unknown,
            },
        };
    }
    let Some((module, kind)) = name.rsplit_once('.').filter(|(_, kind)| is_weight_or_bias(kind)) else {
        return Target::Unknown;
    };
    let new = match module {
        "embeddings.patch_embeddings" => "stem.0",
        "embeddings.layernorm" => "stem.1",
        "layernorm" => "norm",
        "classifier" => "head",
        _ => return Target::Unknown,
    };
    Target::Rename(format!("{new}.{kind}"))
}

/// Meta's and Hugging Face's modules of a block, which bear the same names but for the norm and the scale.
fn block_target(block: &str, rest: &str) -> Target {
    let new = match rest {
        "gamma" | "layer_scale_parameter" => "gamma".to_owned(),
        // Vectors that Meta and Hugging Face keep as `[1, 1, 1, D]`.
        "grn.gamma" | "grn.weight" => return Target::Lowered(format!("{block}.mlp.grn.weight")),
        "grn.beta" | "grn.bias" => return Target::Lowered(format!("{block}.mlp.grn.bias")),
        _ => {
            let Some((module, kind)) = rest.rsplit_once('.').filter(|(_, kind)| is_weight_or_bias(kind)) else {
                return Target::Unknown;
            };
            let new = match module {
                "dwconv" => "conv_dw",
                "norm" | "layernorm" => "norm",
                "pwconv1" => "mlp.fc1",
                "pwconv2" => "mlp.fc2",
                _ => return Target::Unknown,
            };
            format!("{new}.{kind}")
        }
    };
    Target::Rename(format!("{block}.{new}"))
}
