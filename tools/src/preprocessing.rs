//! How pictures become a backbone's input.

use edge_vit::Preprocessing;
use edge_vit_models::backbone::{Backbone, Normalization};

/// Pictures of the backbone's size, normalised as its publisher does it.
pub(crate) fn of(backbone: &Backbone) -> Preprocessing {
    let Normalization { mean, std } = backbone.normalization;
    Preprocessing { mean, std, ..Preprocessing::imagenet(backbone.config.image_size()) }
}
