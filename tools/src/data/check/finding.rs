//! What was found, for eyes and for programs.

use std::path::PathBuf;

use serde::Serialize;

use super::Seen;
use crate::data::Part;

/// What kind of thing was found, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The classes of the parts do not fit each other, or there are too few.
    Classes,
    /// The same picture with two labels.
    Conflict,
    /// The same picture, or pictures of one group, in two parts.
    Leak,
    /// A class with few pictures.
    Few,
    /// Classes of very different sizes.
    Imbalance,
    /// A file that is no picture that can be read.
    Broken,
    /// The same picture twice in one part.
    Duplicate,
    /// A file whose name ends like another format than its content.
    Ending,
    /// A picture of an unusual shape or size, or of one colour all over.
    Shape,
    /// A picture that a backbone's features say to be of another class.
    Suspect,
}

/// Whether a finding spoils a training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Weight {
    /// The training fails, learns from wrong labels for certain, or its result is measured wrongly.
    Spoils,
    /// The training goes on; the finding deserves a look.
    Warns,
}

/// A picture as a finding shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shown {
    /// Where it is.
    pub path: PathBuf,
    /// The film that it is a frame of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub film: Option<PathBuf>,
    /// The part that it is in.
    pub part: Part,
    /// Its label.
    pub label: String,
}

impl From<&Seen> for Shown {
    fn from(seen: &Seen) -> Self {
        Self { path: seen.path.clone(), film: seen.film.clone(), part: seen.part, label: seen.label.clone() }
    }
}

/// Something to look at, with what would mend it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// What it is.
    #[serde(rename = "finding")]
    pub kind: Kind,
    /// Whether it spoils a training.
    pub weight: Weight,
    /// What was found, in words.
    pub message: String,
    /// The pictures that it is about.
    pub pictures: Vec<Shown>,
    /// Bits of 64 by which the perceptual hashes of a pair that looks the same differ; `None` for the same bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub distance: Option<u32>,
    /// What would mend it: a command line or a sentence.
    pub fix: String,
}
