//! The names of CLIP's and SigLIP's image towers, OpenAI's (and OpenCLIP's) and Hugging Face's, to timm's.

use super::names::{Publisher, Target, block, is_weight_or_bias};

/// Before the names of the image tower where the file holds the text tower too.
const OPENAI_TOWER: &str = "visual.";
const HUGGING_FACE_TOWER: &str = "vision_model.";

/// Whose names these are; `None` where they are of no CLIP or SigLIP.
pub(super) fn publisher<'a>(mut names: impl Iterator<Item = &'a str> + Clone) -> Option<Publisher> {
    if names.clone().any(|name| name.strip_prefix(OPENAI_TOWER).unwrap_or(name) == "conv1.weight")
        && names.clone().any(|name| name.contains("transformer.resblocks."))
    {
        Some(Publisher::OpenAiClip)
    } else if !names.clone().any(|name| in_tower(name) == "embeddings.patch_embedding.weight") {
        None
    } else if names.any(|name| in_tower(name) == "embeddings.class_embedding") {
        Some(Publisher::HuggingFaceClip)
    } else {
        Some(Publisher::HuggingFaceSiglip)
    }
}

/// Hugging Face's name within the image tower, whose prefix a file of the tower alone may leave out.
fn in_tower(name: &str) -> &str {
    name.strip_prefix(HUGGING_FACE_TOWER).unwrap_or(name)
}

/// `visual.*`, or the same without the prefix where the tower stands alone; the text tower is not used.
pub(super) fn openai_target(name: &str) -> Target {
    let tower = match name.strip_prefix(OPENAI_TOWER) {
        Some(rest) => rest,
        // Of a whole CLIP these belong to the text.
        None if is_openai_text(name) => return Target::Unused,
        None => name,
    };
    let renamed = |new: &str| Target::Rename(new.to_owned());
    if let Some((index, rest)) = block(tower, "transformer.resblocks.") {
        return openai_block_target(index, &rest);
    }
    match tower {
        "class_embedding" => Target::Raised("cls_token".to_owned(), 3),
        "positional_embedding" => Target::Raised("pos_embed".to_owned(), 3),
        "conv1.weight" => renamed("patch_embed.proj.weight"),
        "ln_pre.weight" => renamed("norm_pre.weight"),
        "ln_pre.bias" => renamed("norm_pre.bias"),
        "ln_post.weight" => renamed("norm.weight"),
        "ln_post.bias" => renamed("norm.bias"),
        "proj" => Target::Transposed("head.weight".to_owned()),
        _ => Target::Unknown,
    }
}

fn is_openai_text(name: &str) -> bool {
    const TEXT: [&str; 7] = [
        "positional_embedding",
        "text_projection",
        "logit_scale",
        "logit_bias",
        "token_embedding.weight",
        "ln_final.weight",
        "ln_final.bias",
    ];
    name.starts_with("transformer.") || name.starts_with("text.") || TEXT.contains(&name)
}

/// The text tower, which OpenCLIP's newer files keep under `text.`; the image tower is not used.
pub(super) fn openai_text_target(name: &str) -> Target {
    if name.starts_with(OPENAI_TOWER) || name == "logit_bias" {
        return Target::Unused;
    }
    let tower = name.strip_prefix("text.").unwrap_or(name);
    let renamed = |new: &str| Target::Rename(new.to_owned());
    if let Some((index, rest)) = block(tower, "transformer.resblocks.") {
        return openai_block_target(index, &rest);
    }
    match tower {
        "token_embedding.weight" => renamed("token_embed.weight"),
        "positional_embedding" => Target::Raised("pos_embed".to_owned(), 3),
        "ln_final.weight" => renamed("norm.weight"),
        "ln_final.bias" => renamed("norm.bias"),
        "text_projection" => Target::Transposed("head.weight".to_owned()),
        "text_projection.weight" => renamed("head.weight"),
        "logit_scale" => renamed("logit_scale"),
        // A buffer that follows from the length.
        "attn_mask" => Target::Unused,
        _ => Target::Unknown,
    }
}

/// `text_model.*` and the projection; the image tower is not used.
pub(super) fn hugging_face_text_target(name: &str) -> Target {
    let renamed = |new: &str| Target::Rename(new.to_owned());
    match name {
        "text_projection.weight" => return renamed("head.weight"),
        "logit_scale" => return renamed("logit_scale"),
        _ => {}
    }
    let Some(tower) = name.strip_prefix("text_model.") else { return Target::Unused };
    if let Some((index, rest)) = block(tower, "encoder.layers.") {
        return hugging_face_block_target(index, &rest);
    }
    match tower {
        "embeddings.token_embedding.weight" => renamed("token_embed.weight"),
        "embeddings.position_embedding.weight" => Target::Raised("pos_embed".to_owned(), 3),
        "embeddings.position_ids" => Target::Unused,
        "final_layer_norm.weight" => renamed("norm.weight"),
        "final_layer_norm.bias" => renamed("norm.bias"),
        _ => Target::Unknown,
    }
}

fn openai_block_target(index: usize, rest: &str) -> Target {
    match openai_block_module(rest) {
        Some(new) => Target::Rename(format!("blocks.{index}.{new}")),
        None => Target::Unknown,
    }
}

fn openai_block_module(rest: &str) -> Option<String> {
    match rest {
        "attn.in_proj_weight" => return Some("attn.qkv.weight".to_owned()),
        "attn.in_proj_bias" => return Some("attn.qkv.bias".to_owned()),
        "ls_1.gamma" => return Some("ls1.gamma".to_owned()),
        "ls_2.gamma" => return Some("ls2.gamma".to_owned()),
        _ => {}
    }
    let (module, kind) = rest.rsplit_once('.').filter(|(_, kind)| is_weight_or_bias(kind))?;
    let new = match module {
        "ln_1" => "norm1",
        "ln_2" => "norm2",
        "attn.out_proj" => "attn.proj",
        "mlp.c_fc" => "mlp.fc1",
        "mlp.c_proj" => "mlp.fc2",
        _ => return None,
    };
    Some(format!("{new}.{kind}"))
}

/// `vision_model.*` and the projection; the text tower is not used.
pub(super) fn hugging_face_target(name: &str) -> Target {
    if name == "visual_projection.weight" {
        return Target::Rename("head.weight".to_owned());
    }
    if name.starts_with("text_") || name == "logit_scale" || name == "logit_bias" {
        return Target::Unused;
    }
    let tower = in_tower(name);
    if let Some((index, rest)) = block(tower, "encoder.layers.") {
        return hugging_face_block_target(index, &rest);
    }
    let (module, kind) = match tower {
        "embeddings.class_embedding" => return Target::Raised("cls_token".to_owned(), 3),
        "embeddings.position_embedding.weight" => return Target::Raised("pos_embed".to_owned(), 3),
        "head.probe" => return Target::Rename("attn_pool.latent".to_owned()),
        "head.attention.in_proj_weight" => return Target::Rename("attn_pool.in_proj.weight".to_owned()),
        "head.attention.in_proj_bias" => return Target::Rename("attn_pool.in_proj.bias".to_owned()),
        _ => match tower.rsplit_once('.').filter(|(_, kind)| is_weight_or_bias(kind)) {
            Some(split) => split,
            None => return Target::Unknown,
        },
    };
    let new = match module {
        "embeddings.patch_embedding" => "patch_embed.proj",
        // Hugging Face's own spelling.
        "pre_layrnorm" => "norm_pre",
        "post_layernorm" => "norm",
        "head.attention.out_proj" => "attn_pool.proj",
        "head.layernorm" => "attn_pool.norm",
        "head.mlp.fc1" => "attn_pool.mlp.fc1",
        "head.mlp.fc2" => "attn_pool.mlp.fc2",
        _ => return Target::Unknown,
    };
    Target::Rename(format!("{new}.{kind}"))
}

fn hugging_face_block_target(index: usize, rest: &str) -> Target {
    let Some((module, kind)) = rest.rsplit_once('.').filter(|(_, kind)| is_weight_or_bias(kind)) else {
        return Target::Unknown;
    };
    let joined = |part| Target::Joined(format!("blocks.{index}.attn.qkv.{kind}"), part);
    let new = match module {
        "self_attn.q_proj" => return joined(0),
        "self_attn.k_proj" => return joined(1),
        "self_attn.v_proj" => return joined(2),
        "self_attn.out_proj" => "attn.proj",
        "layer_norm1" => "norm1",
        "layer_norm2" => "norm2",
        "mlp.fc1" => "mlp.fc1",
        "mlp.fc2" => "mlp.fc2",
        _ => return Target::Unknown,
    };
    Target::Rename(format!("blocks.{index}.{new}.{kind}"))
}
