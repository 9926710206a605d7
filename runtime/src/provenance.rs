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
    /// Share of the validation pictures whose first prediction was right, 0 to 1.
    pub validation_accuracy: Option<f64>,
}
