//! What a model says of a picture.

use serde::{Deserialize, Serialize};

/// What the head of a model answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// One class for the whole picture: logits `[C]`.
    #[default]
    Classification,
    /// A class for each of its patches: logits `[P, C]`, patches row by row.
    Segmentation,
}

impl Task {
    /// Its name, as files and options have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Classification => "classification",
            Self::Segmentation => "segmentation",
        }
    }

    /// Whether it is the one that files mean which do not name any.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
