//! The configuration of a text tower, told from its weights.

use std::collections::{BTreeMap, BTreeSet};

use super::Config;
use crate::backbone::{BackboneError, missing, number, shape, wrong};
use crate::{Activation, Tensor};

/// Width of a head of every CLIP's text tower.
const HEAD_DIM: usize = 64;

impl Config {
    /// The configuration of the tower that has these weights (see [`crate::checkpoint::text_to_timm`]). `metadata` say
    /// `act_layer`, which weights leave open, and may say `text_num_heads` (64 wide otherwise) and `layer_norm_eps`.
    ///
    /// # Errors
    /// When a weight that tells one of these is missing or of another rank, or the rest cannot be told.
    pub fn detect(
        weights: &BTreeMap<String, Tensor>,
        metadata: &BTreeMap<String, String>,
    ) -> Result<Self, BackboneError> {
        let matrix = |name: &str| match *shape(weights, name)? {
            [rows, columns] if rows * columns > 0 => Ok([rows, columns]),
            ref got => Err(wrong(name, "a matrix", got)),
        };
        let [vocab_size, width] = matrix("token_embed.weight")?;
        let [hidden, _] = matrix("blocks.0.mlp.fc1.weight")?;
        let [embed_dim, _] = matrix("head.weight")?;
        let context_length = match *shape(weights, "pos_embed")? {
            [1, len, dim] if dim == width && len > 0 => len,
            ref got => return Err(wrong("pos_embed", &format!("[tokens, {width}]"), got)),
        };
        let index = |name: &String| name.strip_prefix("blocks.")?.split_once('.')?.0.parse::<usize>().ok();
        let indices: BTreeSet<usize> = weights.keys().filter_map(index).collect();
        if let Some(gap) = (0..indices.len()).find(|index| !indices.contains(index)) {
            return missing(&format!("blocks.{gap}.norm1.weight"));
        }
        let act_layer = metadata.get("act_layer").ok_or(BackboneError::UnknownActivation)?;
        let act_layer = Activation::named(act_layer).ok_or_else(|| BackboneError::Metadata {
            key: "act_layer",
            value: act_layer.clone(),
            expected: format!("one of {}", Activation::ALL.map(Activation::name).join(", ")),
        })?;
        let expected = format!("a positive divisor of the width {width}");
        let divides = |&heads: &usize| heads > 0 && width.is_multiple_of(heads);
        let num_heads = match number(metadata, "text_num_heads", &expected, divides)? {
            Some(heads) => heads,
            None if width.is_multiple_of(HEAD_DIM) => width / HEAD_DIM,
            None => return Err(BackboneError::UnknownHeads { embed_dim: width }),
        };
        let is_eps = |&eps: &f32| eps > 0.0 && eps.is_finite();
        Ok(Self {
            vocab_size,
            context_length,
            width,
            depth: indices.len(),
            num_heads,
            mlp_ratio: hidden as f32 / width as f32,
            act_layer,
            ln_eps: number(metadata, "layer_norm_eps", "a positive number", is_eps)?.unwrap_or(1e-5),
            embed_dim,
        })
    }
}
