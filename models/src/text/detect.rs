//! The configuration of a text tower, told from its weights.

use std::collections::BTreeMap;

use super::Config;
use crate::Tensor;
use crate::backbone::{BackboneError, activation, depth, eps, number, shape, wrong};

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
        let act_layer = activation(metadata)?.ok_or(BackboneError::UnknownActivation)?;
        let expected = format!("a positive divisor of the width {width}");
        let divides = |&heads: &usize| heads > 0 && width.is_multiple_of(heads);
        let num_heads = match number(metadata, "text_num_heads", &expected, divides)? {
            Some(heads) => heads,
            None if width.is_multiple_of(HEAD_DIM) => width / HEAD_DIM,
            None => return Err(BackboneError::UnknownHeads { embed_dim: width }),
        };
        Ok(Self {
            vocab_size,
            context_length,
            width,
            depth: depth(weights)?,
            num_heads,
            mlp_ratio: hidden as f32 / width as f32,
            act_layer,
            ln_eps: eps(metadata, "layer_norm_eps", 1e-5)?,
            embed_dim,
        })
    }
}
