//! Why no file in fewer bits came of it.

use std::path::PathBuf;

use edge_vit_models::onnx::OnnxError;
use thiserror::Error;

use super::Bits;
use crate::data::DataError;
use crate::engine::EngineError;
use crate::evaluate::EvaluateError;
use crate::segmentation::SegmentationError;

/// Why a model could not be brought to fewer bits.
#[derive(Debug, Error)]
pub enum QuantizeError {
    /// The allowed loss is no number of points.
    #[error("--max-drop is {got}; expected points of accuracy, 0 or above")]
    MaxDrop {
        /// What was given.
        got: f64,
    },
    /// No layer of the graph can multiply integers.
    #[error("no layer of this model can be in int8; use --precision f16")]
    NoLayers,
    /// The accuracy drops too far, whatever stays in float32.
    #[error(
        "{} loses {drop:.2} points of {of} on {pictures} pictures{how}, more than the {max_drop} allowed; nothing was \
         written. Allow more with --max-drop, or {}",
        subject(*bits, *merges),
        if *merges { "merge fewer tokens" } else { "choose another --precision" }
    )]
    Drop {
        /// The numbers asked for.
        bits: Bits,
        /// Whether tokens are merged.
        merges: bool,
        /// How many pictures were looked at.
        pictures: usize,
        /// Points lost.
        drop: f64,
        /// What they are points of.
        of: &'static str,
        /// With how much in float32.
        how: String,
        /// Points that may be lost.
        max_drop: f64,
    },
    /// It is not known which pictures chose the epoch.
    #[error(
        "what int8, f16-compute and merged tokens cost is measured on labelled pictures, and {reason}; name some that were not trained on with --calibrate DIR, \
         as train takes them"
    )]
    NoValidation {
        /// Why the training's own are not to be had.
        reason: String,
    },
    /// Two processors could compute too different logits.
    #[error(
        "written so, this model's logits hang on the rounding of a processor ({relative:.2} of the largest); nothing was \
         written. Use --precision f16 in place of int8, or merge fewer tokens"
    )]
    Unstable {
        /// Relative to the largest logit.
        relative: f64,
    },
    /// The training's pictures cannot be listed.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The pictures cannot be measured.
    #[error(transparent)]
    Evaluate(#[from] EvaluateError),
    /// The pictures with masks cannot be read or measured.
    #[error(transparent)]
    Segmentation(#[from] SegmentationError),
    /// A graph could not be run.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The graph could not be written as ONNX.
    #[error(transparent)]
    Onnx(#[from] OnnxError),
    /// The device's code does not take the file.
    #[error("the device's own code refuses the file: {0}; nothing was written")]
    Device(#[from] edge_vit::Error),
    /// A record of the training is not readable.
    #[error(
        "the adapters' record of the training is not readable ({reason}); name labelled pictures with --calibrate DIR"
    )]
    Record {
        /// What is wrong.
        reason: String,
    },
    /// The folder of the training holds other pictures now.
    #[error(
        "{} holds {found} readable pictures, {expected} were trained with: which of them chose the epoch cannot be told. Name \
         labelled pictures that were not trained on with --calibrate DIR",
        path.display()
    )]
    Changed {
        /// The folder.
        path: PathBuf,
        /// Pictures then.
        expected: usize,
        /// Pictures now.
        found: usize,
    },
}

/// What is measured, as a sentence's subject.
fn subject(bits: Bits, merges: bool) -> String {
    match (merges, bits) {
        (false, bits) => bits.name().to_owned(),
        (true, Bits::F32) => "merging tokens".to_owned(),
        (true, bits) => format!("{} with merged tokens", bits.name()),
    }
}
