//! The names of Swin transformers, Microsoft's and Hugging Face's, to timm's. In both a stage ends with the downsampling
//! that begins timm's next one.

use super::names::{Publisher, Target, block, is_weight_or_bias};

/// Whose names these are; `None` where they are of no Swin but timm's.
pub(super) fn publisher<'a>(mut names: impl Iterator<Item = &'a str> + Clone) -> Option<Publisher> {
    if names.clone().any(|name| without_prefix(name).starts_with("encoder.layers.0.blocks.")) {
        let is_v2 = names.any(|name| name.ends_with(".attention.self.logit_scale"));
        Some(if is_v2 { Publisher::HuggingFaceSwinV2 } else { Publisher::HuggingFaceSwin })
    } else {
        names.any(|name| name == "layers.0.downsample.reduction.weight").then_some(Publisher::MicrosoftSwin)
    }
}

fn without_prefix(name: &str) -> &str {
    name.strip_prefix("swin.").or_else(|| name.strip_prefix("swinv2.")).unwrap_or(name)
}

/// timm's names within `layers.{stage}.`.
pub(super) fn timm_layer(name: &str, rest: &str) -> Target {
    let module = match rest.strip_prefix("blocks.") {
        Some(_) => match block(rest, "blocks.") {
            Some((_, module)) => module,
            None => return Target::Unknown,
        },
        None => rest.to_owned(),
    };
    let renamed = || Target::Rename(name.to_owned());
    match module.as_str() {
        "attn.relative_position_bias_table"
        | "attn.relative_coords_table"
        | "attn.logit_scale"
        | "attn.q_bias"
        | "attn.v_bias" => renamed(),
        "attn.relative_position_index" | "attn_mask" => Target::Unused,
        _ => match module.rsplit_once('.') {
            Some((
                "norm1"
                | "norm2"
                | "attn.qkv"
                | "attn.proj"
                | "attn.cpb_mlp.0"
                | "attn.cpb_mlp.2"
                | "mlp.fc1"
                | "mlp.fc2"
                | "downsample.norm"
                | "downsample.reduction",
                kind,
            )) if is_weight_or_bias(kind) => renamed(),
            _ => Target::Unknown,
        },
    }
}

/// Microsoft's own names, timm's but for the downsampling.
pub(super) fn microsoft_target(name: &str) -> Target {
    let Some((stage, rest)) = block(name, "layers.") else { return super::names::timm_target(name) };
    let stage = if rest.starts_with("downsample.") { stage + 1 } else { stage };
    let name = format!("layers.{stage}.{rest}");
    timm_layer(&name, &rest)
}

pub(super) fn hugging_face_target(name: &str) -> Target {
    target(name, false)
}

pub(super) fn hugging_face_v2_target(name: &str) -> Target {
    target(name, true)
}

fn target(name: &str, is_v2: bool) -> Target {
    let name = without_prefix(name);
    if let Some((stage, rest)) = block(name, "encoder.layers.") {
        return match block(&rest, "blocks.") {
            Some((index, rest)) => block_target(&format!("layers.{stage}.blocks.{index}"), &rest, is_v2),
            None if rest.starts_with("downsample.") => Target::Rename(format!("layers.{}.{rest}", stage + 1)),
            None => Target::Unknown,
        };
    }
    let Some((module, kind)) = name.rsplit_once('.').filter(|(_, kind)| is_weight_or_bias(kind)) else {
        return if name == "embeddings.mask_token" { Target::Unused } else { Target::Unknown };
    };
    let new = match module {
        "embeddings.patch_embeddings.projection" => "patch_embed.proj",
        "embeddings.norm" => "patch_embed.norm",
        "layernorm" => "norm",
        "classifier" => "head",
        _ => return Target::Unknown,
    };
    Target::Rename(format!("{new}.{kind}"))
}

fn block_target(block: &str, rest: &str, is_v2: bool) -> Target {
    let renamed = |new: &str| Target::Rename(format!("{block}.{new}"));
    match rest {
        "attention.self.relative_position_bias_table" => return renamed("attn.relative_position_bias_table"),
        "attention.self.logit_scale" => return renamed("attn.logit_scale"),
        "attention.self.relative_position_index" | "attention.self.relative_coords_table" => return Target::Unused,
        "attention.self.query.bias" if is_v2 => return renamed("attn.q_bias"),
        "attention.self.value.bias" if is_v2 => return renamed("attn.v_bias"),
        _ => {}
    }
    let Some((module, kind)) = rest.rsplit_once('.').filter(|(_, kind)| is_weight_or_bias(kind)) else {
        return Target::Unknown;
    };
    let joined = |part| Target::Joined(format!("{block}.attn.qkv.{kind}"), part);
    let new = match module {
        "attention.self.query" => return joined(0),
        "attention.self.key" => return joined(1),
        "attention.self.value" => return joined(2),
        "attention.self.continuous_position_bias_mlp.0" => "attn.cpb_mlp.0",
        "attention.self.continuous_position_bias_mlp.2" => "attn.cpb_mlp.2",
        "attention.output.dense" => "attn.proj",
        "layernorm_before" => "norm1",
        "layernorm_after" => "norm2",
        "intermediate.dense" => "mlp.fc1",
        "output.dense" => "mlp.fc2",
        _ => return Target::Unknown,
    };
    renamed(&format!("{new}.{kind}"))
}
