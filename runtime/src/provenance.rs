//! Where a merged model came from.

use serde::{Deserialize, Serialize};

/// What a merged model was made of and how well it did; printed for people, compared by tools, not needed to run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// Name of the backbone, as its publisher or the user calls it.
    pub backbone: String,
    /// SHA-256 of the backbone's file, in hex.
    pub backbone_sha256: String,
    /// SHA-256 of the adapters' file, in hex.
    pub adapters_sha256: String,
    /// Name and version of the program that folded.
    pub tool: String,
    /// Largest logit difference of the folded against the unfolded model on real pictures, relative to the largest
    /// logit.
    pub fold_error: Option<f64>,
    /// Share of the validation pictures whose first prediction was right, 0 to 1; in segmentation, of their pixels.
    pub validation_accuracy: Option<f64>,
    /// What was done to the weights behind the fold; `None` where they are float32.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantization: Option<Quantization>,
    /// What was done to the tokens behind the fold; `None` where all are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_merging: Option<TokenMerging>,
}

/// How many tokens a model merges on its way (Token Merging, arXiv 2210.09461), and what that cost and saved.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TokenMerging {
    /// How many tokens each block that merges, merges away.
    pub per_block: usize,
    /// How many blocks merge.
    pub blocks: usize,
    /// Tokens before the first of them.
    pub tokens: usize,
    /// Tokens behind the last of them.
    pub tokens_left: usize,
    /// Billions of floating point operations that a picture takes where all tokens are kept.
    pub gflop_unmerged: f64,
    /// Billions of floating point operations that a picture takes.
    pub gflop: f64,
    /// Largest logit difference against the float32 model that keeps all tokens, on the pictures that the fold was checked on,
    /// relative to the largest logit; with what fewer bits change of them, where there are such.
    pub error: f64,
    /// What labelled pictures say, of fewer bits too where there are such.
    pub measured: Measured,
}

/// In which numbers a file holds its weights, and what that cost.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Quantization {
    /// `f16` or `int8`.
    pub precision: String,
    /// How many linear layers multiply 8-bit integers.
    pub int8_layers: usize,
    /// How many layers could.
    pub layers: usize,
    /// Largest logit difference against the float32 model on the pictures that the fold was checked on, relative to the
    /// largest logit.
    pub error: f64,
    /// What labelled pictures say; `None` where none were asked.
    pub measured: Option<Measured>,
}

/// A float32 model that keeps all tokens and the model as it is written on the same labelled pictures, both through the device's
/// code.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// How many pictures.
    pub pictures: usize,
    /// Share of them that the float32 model calls right, 0 to 1; in segmentation its mean intersection over union.
    pub float32_accuracy: f64,
    /// The same of this model.
    pub accuracy: f64,
    /// Share of them that both call the same, 0 to 1; in segmentation, of their patches.
    pub agreement: f64,
    /// What was lost, in points of a hundred; below 0 where this model is the better one.
    pub drop: f64,
}
