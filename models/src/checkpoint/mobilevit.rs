//! The names of MobileViTs: timm's, and Hugging Face's to timm's.

use super::names::{Publisher, Target, block, hugging_face_block_target, is_block_layer, is_weight_or_bias};

/// Whose names these are; `None` where they are not Hugging Face's.
pub(super) fn publisher<'a>(mut names: impl Iterator<Item = &'a str>) -> Option<Publisher> {
    let is_one = |name: &str| without_prefix(name) == "conv_stem.convolution.weight";
    names.any(is_one).then_some(Publisher::HuggingFaceMobileVit)
}

fn without_prefix(name: &str) -> &str {
    name.strip_prefix("mobilevit.").unwrap_or(name)
}

pub(super) fn hugging_face_target(name: &str) -> Target {
    let name = without_prefix(name);
    if let Some((stage, rest)) = block(name, "encoder.layer.") {
        return match block(&rest, "layer.") {
            Some((index, rest)) => inverted_residual(&format!("stages.{stage}.{index}"), &rest),
            None => match rest.strip_prefix("downsampling_layer.") {
                Some(rest) => inverted_residual(&format!("stages.{stage}.0"), rest),
                None => transformer(&format!("stages.{stage}.1"), &rest),
            },
        };
    }
    match name {
        // Its pictures' channels are blue, green, red.
        "conv_stem.convolution.weight" => Target::Reversed("stem.conv.weight".to_owned()),
        "classifier.weight" | "classifier.bias" => Target::Rename(name.replace("classifier", "head")),
        _ => match name.split_once('.') {
            Some(("conv_stem", part)) => hugging_face_convolution("stem", part),
            Some(("conv_1x1_exp", part)) => hugging_face_convolution("final_conv", part),
            _ => Target::Unknown,
        },
    }
}

fn inverted_residual(block: &str, rest: &str) -> Target {
    let (new, part) = match rest.split_once('.') {
        Some(("expand_1x1", part)) => ("conv1_1x1", part),
        Some(("conv_3x3", part)) => ("conv2_kxk", part),
        Some(("reduce_1x1", part)) => ("conv3_1x1", part),
        _ => return Target::Unknown,
    };
    hugging_face_convolution(&format!("{block}.{new}"), part)
}

fn transformer(stage: &str, rest: &str) -> Target {
    if let Some((index, rest)) = block(rest, "transformer.layer.") {
        return hugging_face_block_target(&format!("{stage}.transformer.{index}"), &rest);
    }
    let (new, part) = match rest.split_once('.') {
        Some(("layernorm", kind)) if is_weight_or_bias(kind) => return Target::Rename(format!("{stage}.norm.{kind}")),
        Some(("conv_1x1", "convolution.weight")) => return Target::Rename(format!("{stage}.conv_1x1.weight")),
        Some(("conv_kxk", part)) => ("conv_kxk", part),
        Some(("conv_projection", part)) => ("conv_proj", part),
        Some(("fusion", part)) => ("conv_fusion", part),
        _ => return Target::Unknown,
    };
    hugging_face_convolution(&format!("{stage}.{new}"), part)
}

/// A convolution's weight and its BatchNorm, as those of timm's `module`.
fn hugging_face_convolution(module: &str, part: &str) -> Target {
    match part.split_once('.') {
        Some(("convolution", "weight")) => Target::Rename(format!("{module}.conv.weight")),
        Some(("normalization", kind)) => convolution(&format!("{module}.bn.{kind}"), &format!("bn.{kind}")),
        _ => Target::Unknown,
    }
}

/// What becomes of the tensor `name`, `{block}.{module}` within its stage; `None` where it is of no MobileViT.
pub(super) fn timm_stage(name: &str, rest: &str) -> Option<Target> {
    let (_, module) = block(rest, "")?;
    if let Some((_, layer)) = block(&module, "transformer.") {
        return Some(if is_block_layer(&layer) { Target::Rename(name.to_owned()) } else { Target::Unknown });
    }
    if matches!(module.as_str(), "norm.weight" | "norm.bias" | "conv_1x1.weight") {
        return Some(Target::Rename(name.to_owned()));
    }
    let (conv, part) = module.split_once('.')?;
    Some(match conv {
        "conv1_1x1" | "conv2_kxk" | "conv3_1x1" | "conv_kxk" | "conv_proj" | "conv_fusion" => convolution(name, part),
        "shortcut" | "conv2b_kxk" | "attn" | "attn_last" => Target::Unsupported("a ByobNet that is no MobileViT"),
        _ => Target::Unknown,
    })
}

/// A convolution's weight and its BatchNorm.
pub(super) fn convolution(name: &str, part: &str) -> Target {
    match part {
        "conv.weight" | "bn.weight" | "bn.bias" | "bn.running_mean" | "bn.running_var" => {
            Target::Rename(name.to_owned())
        }
        "bn.num_batches_tracked" => Target::Unused,
        _ => Target::Unknown,
    }
}
