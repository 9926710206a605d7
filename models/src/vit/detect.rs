//! The configuration of a vision transformer, told from its weights.

use std::collections::BTreeMap;

use super::{Config, GlobalPool, clip};
use crate::backbone::{BackboneError, activation, depth, eps, number, shape, tubes, wrong};
use crate::checkpoint::CheckpointError;
use crate::{Activation, Tensor};

/// timm's models whose heads are not 64 wide, by the width of a token: so400m, huge, giant and gigantic, all of 16 heads.
const SIXTEEN_HEADS: [usize; 4] = [1152, 1280, 1408, 1664];

impl Config {
    /// The configuration of the model that has these weights, by timm's names (see [`crate::checkpoint::to_timm`]).
    ///
    /// The weights say patch, tubelet, channels, width, depth, MLP, LayerScale, tokens, pooling and head; the picture is the square
    /// that the position embeddings cover. `metadata` may say `num_heads`, `layer_norm_eps`, `head_norm_eps` and `act_layer`, and of clips `num_frames`
    /// (otherwise 16) and, where positions are computed, `image_size` (otherwise 224). Otherwise heads
    /// are 64 wide, but widths of 1152, 1280, 1408 and 1664 have 16 heads (so400m, huge, giant, gigantic), epsilon is 1e-6,
    /// or 1e-5 with a LayerNorm before the blocks (CLIP), and the activation is the exact GELU.
    ///
    /// # Errors
    /// When a weight that tells one of these is missing or of another rank, or the rest cannot be told.
    pub fn detect(
        weights: &BTreeMap<String, Tensor>,
        metadata: &BTreeMap<String, String>,
    ) -> Result<Self, BackboneError> {
        let mut config = Self::detect_but_image_size(weights, metadata)?;
        if config.computes_positions(weights) {
            config.image_size = [Self::clip_size(metadata)?; 2];
            return Ok(config);
        }
        let (positions, no_embed_class) = config.positions(weights, None)?;
        let side = positions.isqrt();
        if side == 0 || side * side != positions {
            return Err(BackboneError::UnknownGrid { positions, patch_size: config.patch_size });
        }
        config.no_embed_class = no_embed_class;
        config.image_size = [side * config.patch_size; 2];
        Ok(config)
    }

    /// As [`Config::detect`], with an image size of 0.
    pub(super) fn detect_but_image_size(
        weights: &BTreeMap<String, Tensor>,
        metadata: &BTreeMap<String, String>,
    ) -> Result<Self, BackboneError> {
        let proj = "patch_embed.proj.weight";
        let [embed_dim, in_chans, tubelet_size, patch_size] = tubes(weights, proj)?;
        let num_frames = match tubelet_size {
            1 => 1,
            _ => {
                let most = clip::MAX_FRAMES;
                let expected = format!("a multiple of the {tubelet_size} frames of a tubelet, up to {most}");
                let whole = |&frames: &usize| (1..=most).contains(&frames) && frames.is_multiple_of(tubelet_size);
                number(metadata, "num_frames", &expected, whole)?.unwrap_or(clip::NUM_FRAMES)
            }
        };
        let fc1 = "blocks.0.mlp.fc1.weight";
        let depth = depth(weights)?;
        let &[mlp_hidden, _] = shape(weights, fc1)? else {
            return Err(wrong(fc1, "[hidden, D]", shape(weights, fc1)?));
        };
        let num_classes = match weights.get("head.weight").map(Tensor::shape) {
            None => None,
            Some(&[classes, width]) if width == embed_dim => Some(classes),
            Some(got) => return Err(wrong("head.weight", &format!("[classes, {embed_dim}]"), got)),
        };
        let (class_token, pre_norm) = (weights.contains_key("cls_token"), weights.contains_key("norm_pre.weight"));
        if tubelet_size > 1 && class_token {
            let part = "a class token beside tubelets";
            return Err(CheckpointError::Unsupported { name: "cls_token".to_owned(), part }.into());
        }
        let ln_eps = eps(metadata, "layer_norm_eps", if pre_norm { 1e-5 } else { 1e-6 })?;
        let reg_tokens = match weights.get("reg_token").map(Tensor::shape) {
            None => 0,
            Some(&[1, count, width]) if width == embed_dim => count,
            Some(got) => return Err(wrong("reg_token", &format!("[1, registers, {embed_dim}]"), got)),
        };
        Ok(Self {
            image_size: [0, 0],
            patch_size,
            in_chans,
            num_frames,
            tubelet_size,
            embed_dim,
            depth,
            num_heads: num_heads(embed_dim, metadata)?,
            mlp_ratio: mlp_hidden as f32 / embed_dim as f32,
            layer_scale: weights.contains_key("blocks.0.ls1.gamma"),
            ln_eps,
            head_norm_eps: match weights.contains_key("fc_norm.weight") {
                true => eps(metadata, "head_norm_eps", ln_eps)?,
                false => 1e-6,
            },
            class_token,
            dist_token: class_token && weights.contains_key("dist_token"),
            reg_tokens,
            no_embed_class: false,
            pre_norm,
            act_layer: match activation(metadata)? {
                Some(act_layer) => act_layer,
                // The weights of a CLIP, which has a LayerNorm before its blocks, leave it open.
                None if pre_norm => return Err(BackboneError::UnknownActivation),
                None => Activation::Gelu,
            },
            global_pool: if weights.contains_key("attn_pool.query") {
                GlobalPool::Map
            } else if weights.contains_key("fc_norm.weight") {
                GlobalPool::AvgFcNorm
            } else if class_token {
                GlobalPool::Token
            } else {
                GlobalPool::Avg
            },
            num_classes,
            head_bias: weights.contains_key("head.bias"),
        })
    }

    /// Whether the positions are no weights, as those of a VideoMAE.
    pub(super) fn computes_positions(&self, weights: &BTreeMap<String, Tensor>) -> bool {
        self.tubelet_size > 1 && !weights.contains_key("pos_embed")
    }

    /// Side of the frames that a model was made for whose positions do not tell it.
    ///
    /// # Errors
    /// When `metadata` say something else.
    pub(super) fn clip_size(metadata: &BTreeMap<String, String>) -> Result<usize, BackboneError> {
        let expected = format!("a number of pixels from 1 to {}", clip::MAX_SIDE);
        let said = number(metadata, "image_size", &expected, |side: &usize| (1..=clip::MAX_SIDE).contains(side))?;
        Ok(said.unwrap_or(clip::IMAGE_SIZE))
    }

    /// The number of patches of a picture, or of a tubelet, that have a position embedding, and whether they alone have one: where the class token may
    /// have one too, the number that fits `grid`, or else that of a square, decides.
    pub(super) fn positions(
        &self,
        weights: &BTreeMap<String, Tensor>,
        grid: Option<[usize; 2]>,
    ) -> Result<(usize, bool), BackboneError> {
        let len = match *shape(weights, "pos_embed")? {
            [1, len, dim] if dim == self.embed_dim && len > 0 => len,
            ref got => return Err(wrong("pos_embed", &format!("[1, tokens, {}]", self.embed_dim), got)),
        };
        let square = |count: usize| count > 0 && count.isqrt() * count.isqrt() == count;
        let fits = |count: usize| grid.and_then(|[rows, columns]| rows.checked_mul(columns)) == Some(count);
        if self.tubelet_size > 1 {
            let tubelets = self.tubelets()?;
            let whole = (len / tubelets, false);
            let expected = || format!("[1, {tubelets} times the patches, {}]", self.embed_dim);
            let is_whole = len.is_multiple_of(tubelets);
            return if is_whole { Ok(whole) } else { Err(wrong("pos_embed", &expected(), &[1, len, self.embed_dim])) };
        }
        match self.class_token {
            true if self.dist_token && len > 2 => Ok((len - 2, false)),
            false => Ok((len, self.reg_tokens > 0)),
            true if square(len) && !square(len - 1) => Ok((len, true)),
            true if fits(len) && !fits(len - 1) && !square(len - 1) => Ok((len, true)),
            true if len > 1 => Ok((len - 1, false)),
            true => Err(wrong("pos_embed", &format!("[1, 1 + patches, {}]", self.embed_dim), &[1, len])),
        }
    }
}

fn num_heads(embed_dim: usize, metadata: &BTreeMap<String, String>) -> Result<usize, BackboneError> {
    let expected = format!("a positive divisor of the width {embed_dim}");
    let divides = |&heads: &usize| heads > 0 && embed_dim.is_multiple_of(heads);
    match number(metadata, "num_heads", &expected, divides)? {
        Some(heads) => Ok(heads),
        None if SIXTEEN_HEADS.contains(&embed_dim) => Ok(16),
        None if embed_dim.is_multiple_of(64) => Ok(embed_dim / 64),
        None => Err(BackboneError::UnknownHeads { embed_dim }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{filled, tiny};
    use super::*;

    fn two_heads() -> BTreeMap<String, String> {
        BTreeMap::from([("num_heads".to_owned(), "2".to_owned())])
    }

    #[test]
    fn weights_tell_the_configuration_that_made_them() {
        for layer_scale in [false, true] {
            for class_token in [false, true] {
                for num_classes in [None, Some(7)] {
                    let global_pool = if class_token { GlobalPool::Token } else { GlobalPool::Avg };
                    let base = Config { image_size: [12, 12], mlp_ratio: 3.0, depth: 11, global_pool, ..tiny() };
                    let head_bias = num_classes.is_some();
                    let config = Config { layer_scale, class_token, num_classes, head_bias, ..base };
                    assert_eq!(Config::detect(&filled(&config).weights, &two_heads()).unwrap(), config);
                }
            }
        }
    }

    #[test]
    fn tokens_and_pooling_are_told() {
        let base = Config { image_size: [12, 12], head_bias: false, ..tiny() };
        for config in [
            Config { reg_tokens: 4, ..base.clone() },
            Config { reg_tokens: 4, no_embed_class: true, ..base.clone() },
            Config { no_embed_class: true, ..base.clone() },
            Config { dist_token: true, ..base.clone() },
            Config { global_pool: GlobalPool::AvgFcNorm, ..base.clone() },
            Config { global_pool: GlobalPool::Map, class_token: false, ..base.clone() },
            Config { num_classes: Some(3), ..base.clone() },
        ] {
            assert_eq!(Config::detect(&filled(&config).weights, &two_heads()).unwrap(), config);
        }
    }

    #[test]
    fn a_clip_has_to_say_its_activation() {
        let config = Config { image_size: [12, 12], pre_norm: true, head_bias: false, ln_eps: 1e-5, ..tiny() };
        let weights = filled(&config).weights;
        let mut metadata = two_heads();
        assert!(matches!(Config::detect(&weights, &metadata), Err(BackboneError::UnknownActivation)));
        for act_layer in Activation::ALL {
            metadata.insert("act_layer".into(), act_layer.name().into());
            let expected = Config { act_layer, ..config.clone() };
            assert_eq!(Config::detect(&weights, &metadata).unwrap(), expected);
        }
        metadata.insert("act_layer".into(), "mish".into());
        assert!(matches!(Config::detect(&weights, &metadata), Err(BackboneError::Metadata { key: "act_layer", .. })));
    }

    #[test]
    fn heads_are_64_wide_but_where_timms_are_not() {
        let none = BTreeMap::new();
        for (width, heads) in
            [(192, 3), (384, 6), (768, 12), (1024, 16), (1152, 16), (1280, 16), (1408, 16), (1664, 16)]
        {
            assert_eq!(num_heads(width, &none).unwrap(), heads, "{width}");
        }
        assert!(matches!(num_heads(100, &none), Err(BackboneError::UnknownHeads { embed_dim: 100 })));
        assert_eq!(num_heads(100, &two_heads()).unwrap(), 2);
        assert!(matches!(num_heads(101, &two_heads()), Err(BackboneError::Metadata { key: "num_heads", .. })));
    }

    #[test]
    fn what_is_missing_or_misshapen_is_named() {
        let config = Config { image_size: [12, 12], ..tiny() };
        let weights = filled(&config).weights;
        let error = |change: &dyn Fn(&mut BTreeMap<String, Tensor>)| {
            let mut weights = weights.clone();
            change(&mut weights);
            Config::detect(&weights, &two_heads()).unwrap_err().to_string()
        };
        let without_patches = error(&|weights| drop(weights.remove("patch_embed.proj.weight")));
        assert!(without_patches.contains("`patch_embed.proj.weight` is missing"), "{without_patches}");
        let with_gap = error(&|weights| {
            weights.insert("blocks.3.norm1.weight".into(), Tensor::full([16], 1.0).unwrap());
        });
        assert!(with_gap.contains("`blocks.2.norm1.weight` is missing"), "{with_gap}");
        let flat = error(&|weights| {
            weights.insert("pos_embed".into(), Tensor::full([10, 16], 1.0).unwrap());
        });
        assert!(flat.contains("`pos_embed` has shape [10, 16], expected [1, tokens, 16]"), "{flat}");
        let oblong = error(&|weights| {
            weights.insert("pos_embed".into(), Tensor::full([1, 7, 16], 1.0).unwrap());
        });
        assert!(oblong.contains("6 position embeddings are no square grid"), "{oblong}");
    }
}
