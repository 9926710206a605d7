//! timm's names of a MobileViT.

use super::names::{Target, block, is_weight_or_bias};

/// What becomes of the tensor `name`, `{block}.{module}` within its stage; `None` where it is of no MobileViT.
pub(super) fn timm_stage(name: &str, rest: &str) -> Option<Target> {
    let (_, module) = block(rest, "")?;
    if let Some((_, layer)) = block(&module, "transformer.") {
        let is_known = matches!(
            layer.rsplit_once('.'),
            Some(("norm1" | "norm2" | "attn.qkv" | "attn.proj" | "mlp.fc1" | "mlp.fc2", kind)) if is_weight_or_bias(kind)
        );
        return Some(if is_known { Target::Rename(name.to_owned()) } else { Target::Unknown });
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
