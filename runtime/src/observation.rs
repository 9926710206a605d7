//! What is said of one classified picture, to every output alike.

use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::capture::Counts;

/// The name of the answer that none of the classes fits.
pub const UNKNOWN: &str = "unknown";

/// One class of several.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Candidate {
    /// Its name.
    #[serde(serialize_with = "text")]
    pub label: Arc<str>,
    /// Its score, 0 to 1, smoothed over time if smoothing is on.
    pub score: f32,
}

/// Where the time of a picture went, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Stages {
    /// From the camera's bytes to pixels.
    pub decode_ms: f64,
    /// Resizing and normalising.
    pub prepare_ms: f64,
    /// The model.
    pub model_ms: f64,
}

/// The answer for one picture: what `--json` writes as a line, `/events` sends and MQTT publishes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Observation {
    /// The picture's source: a camera, a command, a file.
    #[serde(serialize_with = "text")]
    pub source: Arc<str>,
    /// The picture's number in its source, from 0.
    pub frame: u64,
    /// When the picture was taken, in seconds after the Unix epoch.
    pub time: f64,
    /// From the picture's arrival to this answer, in milliseconds.
    pub age_ms: f64,
    /// The decided label, or [`UNKNOWN`].
    #[serde(serialize_with = "text")]
    pub label: Arc<str>,
    /// Whether the label is one of the model's.
    pub known: bool,
    /// Whether the label differs from the previous answer's.
    pub changed: bool,
    /// The score of the decided label; of the best class if the label is unknown.
    pub score: f32,
    /// The best classes, best first.
    pub top: Vec<Candidate>,
    /// Where the time went.
    pub stages: Stages,
    /// What has happened to the source so far.
    pub counts: Counts,
}

fn text<S: Serializer>(text: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(text)
}
