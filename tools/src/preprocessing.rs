//! How pictures become a backbone's input.

use edge_vit::Preprocessing;
use edge_vit_models::adapter::Meta;
use edge_vit_models::backbone::{Backbone, Normalization};
use serde_json::Value;

/// Pictures of the backbone's size, or clips of as many frames as it sees, normalised as its publisher does it.
pub(crate) fn of(backbone: &Backbone) -> Preprocessing {
    let Normalization { mean, std } = backbone.normalization;
    let frames = backbone.config.num_frames();
    Preprocessing { mean, std, frames, ..Preprocessing::imagenet(backbone.config.image_size()) }
}

/// How many frames the model of these adapters sees at a time. Those of pictures do not say it.
pub(crate) fn frames_of(meta: &Meta) -> usize {
    let said = meta.preprocessing.get("frames").and_then(Value::as_u64);
    said.and_then(|frames| usize::try_from(frames).ok()).unwrap_or(1)
}
