//! CLIP's text tower (arXiv 2103.00020) as OpenAI's `clip`, OpenCLIP and Hugging Face's `modeling_clip.py` compute it: from
//! tokens to a vector in the space that the image tower projects into.

mod detect;

use std::collections::BTreeMap;
use std::path::Path;

use thiserror::Error;

use crate::backbone::{BackboneError, missing};
use crate::checkpoint::{self, Checkpoint, CheckpointError, Publisher, text_to_timm};
use crate::{Activation, Graph, GraphError, Op, Tensor, TensorError, vit};

/// The sizes of a text tower.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Number of tokens that there are.
    pub vocab_size: usize,
    /// The most tokens of a text, its marks among them.
    pub context_length: usize,
    /// Width of a token.
    pub width: usize,
    /// Number of blocks.
    pub depth: usize,
    /// Number of attention heads.
    pub num_heads: usize,
    /// Width of the MLP's hidden layer over that of a token.
    pub mlp_ratio: f32,
    /// The MLP's nonlinearity.
    pub act_layer: Activation,
    /// Added to the variance in every LayerNorm.
    pub ln_eps: f32,
    /// Width of the space that texts and pictures share.
    pub embed_dim: usize,
}

/// A text tower with its weights.
#[derive(Debug, Clone, PartialEq)]
pub struct Tower {
    /// Its sizes.
    pub config: Config,
    /// The factor on the cosine of a text and a picture: `exp(logit_scale)`.
    pub scale: f32,
    weights: BTreeMap<String, Tensor>,
}

/// Why a text has no vector.
#[derive(Debug, Error)]
pub enum TextError {
    /// The weights make no text tower.
    #[error(transparent)]
    Backbone(#[from] BackboneError),
    /// A tensor cannot be held.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// The weights do not fill the graph.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// A token that the tower does not know.
    #[error("token {token} is not one of the tower's {vocab_size}; does the tokenizer belong to this CLIP?")]
    Token {
        /// The token.
        token: u32,
        /// Number of tokens that there are.
        vocab_size: usize,
    },
    /// No token, or too many.
    #[error("a text has {got} tokens, the tower takes 1 to {most}; shorten it")]
    Length {
        /// Number of tokens.
        got: usize,
        /// The most that are taken.
        most: usize,
    },
}

impl Tower {
    /// Reads the text tower of a whole CLIP, by OpenAI's, OpenCLIP's or Hugging Face's names.
    ///
    /// # Errors
    /// When the file cannot be read, holds no whole text tower, or leaves the activation or the heads open.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, TextError> {
        let path = path.as_ref();
        let checkpoint = checkpoint::read(path).map_err(BackboneError::from)?;
        Self::from_checkpoint(&checkpoint).map_err(|error| match error {
            TextError::Backbone(BackboneError::Checkpoint(cause)) => {
                let cause = CheckpointError::File { path: path.to_owned(), cause: Box::new(cause) };
                TextError::Backbone(cause.into())
            }
            other => other,
        })
    }

    fn from_checkpoint(checkpoint: &Checkpoint) -> Result<Self, TextError> {
        let metadata = Publisher::of(&checkpoint.tensors).defaults(&checkpoint.metadata);
        let mut weights = text_to_timm(&checkpoint.tensors).map_err(BackboneError::from)?;
        let config = Config::detect(&weights, &metadata)?;
        let scale = weights.remove("logit_scale").and_then(|scale| scale.values().first().copied());
        let Some(scale) = scale else { return Ok(missing("logit_scale")?) };
        let tower = Self { config, scale: scale.exp(), weights };
        tower.graph(tower.config.context_length)?;
        Ok(tower)
    }

    /// The graph for texts of `len` tokens, with its weights: `[len, width]`, what [`Tower::input`] gives, to
    /// `[len, embed_dim]`, of which the last token of the text is the text's vector.
    ///
    /// # Errors
    /// When there are no such texts, or a weight is missing or misshapen.
    pub fn graph(&self, len: usize) -> Result<Graph, TextError> {
        let Config { context_length, width, depth, num_heads, ln_eps: eps, embed_dim, .. } = self.config;
        if len == 0 || len > context_length {
            return Err(TextError::Length { got: len, most: context_length });
        }
        let Config { mlp_ratio, act_layer, .. } = self.config;
        let blocks =
            vit::Config { embed_dim: width, num_heads, mlp_ratio, act_layer, ln_eps: eps, ..vit::Config::default() };
        let attention = Op::CausalAttention { num_heads, scale: blocks.attention_scale() };
        let mut graph = Graph::default();
        let input = graph.push("tokens", Op::Input { shape: vec![len, width] }, &[]);
        let mut x = graph.push("pos_embed", Op::PosEmbed, &[input]);
        for index in 0..depth {
            x = vit::block(&mut graph, &blocks, attention.clone(), &format!("blocks.{index}"), x);
        }
        x = graph.push("norm", Op::LayerNorm { eps }, &[x]);
        graph.push("head", Op::Linear { out_features: embed_dim, bias: false }, &[x]);
        graph.weights = self.weights.clone();
        if let Some(positions) = graph.weights.get_mut("pos_embed") {
            let first = positions.values()[..len * width].to_vec();
            *positions = Tensor::new([1, len, width], first)?;
        }
        graph.validate()?;
        graph.retain_used_weights()?;
        Ok(graph)
    }

    /// What the graph for texts of `len` tokens takes of one text: its tokens' vectors, `[len, width]`, zeros behind them,
    /// which no token of the text sees.
    ///
    /// # Errors
    /// When there is no token, there are more than `len`, or one is not known.
    pub fn input(&self, tokens: &[u32], len: usize) -> Result<Vec<f32>, TextError> {
        let Config { vocab_size, width, .. } = self.config;
        if tokens.is_empty() || tokens.len() > len {
            return Err(TextError::Length { got: tokens.len(), most: len });
        }
        let table = self.weights.get("token_embed.weight").map_or(&[][..], |table| table.values());
        let mut input = Vec::with_capacity(len * width);
        for &token in tokens {
            let at = token as usize * width;
            let row = table.get(at..at + width).ok_or(TextError::Token { token, vocab_size })?;
            input.extend_from_slice(row);
        }
        input.resize(len * width, 0.0);
        Ok(input)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::write_safetensors;

    fn tiny() -> (tempfile::TempDir, std::path::PathBuf) {
        let (width, hidden) = (8, 16);
        let shapes: [(&str, Vec<usize>); 18] = [
            ("visual.conv1.weight", vec![8, 3, 4, 4]),
            ("token_embedding.weight", vec![10, width]),
            ("positional_embedding", vec![6, width]),
            ("transformer.resblocks.0.ln_1.weight", vec![width]),
            ("transformer.resblocks.0.ln_1.bias", vec![width]),
            ("transformer.resblocks.0.ln_2.weight", vec![width]),
            ("transformer.resblocks.0.ln_2.bias", vec![width]),
            ("transformer.resblocks.0.attn.in_proj_weight", vec![3 * width, width]),
            ("transformer.resblocks.0.attn.in_proj_bias", vec![3 * width]),
            ("transformer.resblocks.0.attn.out_proj.weight", vec![width, width]),
            ("transformer.resblocks.0.attn.out_proj.bias", vec![width]),
            ("transformer.resblocks.0.mlp.c_fc.weight", vec![hidden, width]),
            ("transformer.resblocks.0.mlp.c_fc.bias", vec![hidden]),
            ("transformer.resblocks.0.mlp.c_proj.weight", vec![width, hidden]),
            ("transformer.resblocks.0.mlp.c_proj.bias", vec![width]),
            ("ln_final.weight", vec![width]),
            ("ln_final.bias", vec![width]),
            ("text_projection", vec![width, 5]),
        ];
        let tensors = shapes.into_iter().map(|(name, shape)| (name.to_owned(), Tensor::full(shape, 0.5).unwrap()));
        let mut tensors: BTreeMap<String, Tensor> = tensors.collect();
        tensors.insert("logit_scale".to_owned(), Tensor::full([1], 0.0).unwrap());
        let metadata = [("text_num_heads", "2"), ("act_layer", "quick_gelu")];
        let metadata = metadata.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clip.safetensors");
        write_safetensors(&path, &tensors, &metadata).unwrap();
        (folder, path)
    }

    #[test]
    fn weights_tell_the_tower() {
        let (_folder, path) = tiny();
        let tower = Tower::load(&path).unwrap();
        let expected = Config {
            vocab_size: 10,
            context_length: 6,
            width: 8,
            depth: 1,
            num_heads: 2,
            mlp_ratio: 2.0,
            act_layer: Activation::QuickGelu,
            ln_eps: 1e-5,
            embed_dim: 5,
        };
        assert_eq!((&tower.config, tower.scale), (&expected, 1.0));
        assert_eq!(tower.graph(4).unwrap().shapes().unwrap().last().unwrap(), &[4, 5]);
        assert_eq!(tower.input(&[1, 9], 3).unwrap().len(), 24);
    }

    #[test]
    fn a_text_that_does_not_fit_is_refused() {
        let (_folder, path) = tiny();
        let tower = Tower::load(&path).unwrap();
        assert!(matches!(tower.input(&[10], 3), Err(TextError::Token { token: 10, vocab_size: 10 })));
        assert!(matches!(tower.input(&[], 3), Err(TextError::Length { got: 0, .. })));
        assert!(matches!(tower.input(&[1; 4], 3), Err(TextError::Length { got: 4, most: 3 })));
        assert!(matches!(tower.graph(7), Err(TextError::Length { got: 7, most: 6 })));
    }
}
