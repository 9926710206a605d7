//! Why no decisions can be made.

use thiserror::Error;

use super::options::MAX_CLIP;

/// An error of this module; the message says what was expected, what came, what to do.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DecisionError {
    /// An option is not between 0 and 1.
    #[error("`{field}` is {value}: give a number between 0 and 1")]
    OutOfRange {
        /// The option.
        field: &'static str,
        /// Its value.
        value: f32,
    },
    /// A clip has too many pictures.
    #[error("`clip` is {pictures}: give a number of pictures from 1 to {MAX_CLIP}")]
    Clip {
        /// How many were asked for.
        pictures: usize,
    },
    /// Nothing is called as an entry of the ignored classes says.
    #[error("`ignore`: no class of the model is called `{entry}`{}; {}", did_you_mean(nearest.as_deref()), in_words(labels))]
    UnknownLabel {
        /// The entry.
        entry: String,
        /// The class whose name is nearest to it, if one is near.
        nearest: Option<String>,
        /// The model's classes.
        labels: Vec<String>,
    },
    /// Every class is ignored.
    #[error("`ignore` names all {classes} classes of the model, so that none is left to answer with; leave one out")]
    AllIgnored {
        /// How many classes the model has.
        classes: usize,
    },
    /// The bundle is not sound.
    #[error("the model's bundle is not sound")]
    Bundle(#[from] crate::Error),
}

/// How many classes a message lists.
const LISTED: usize = 8;

fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map(|nearest| format!(" (did you mean `{nearest}`?)")).unwrap_or_default()
}

fn in_words(labels: &[String]) -> String {
    let listed = labels.iter().take(LISTED).map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
    match labels.len().checked_sub(LISTED) {
        Some(more @ 1..) => format!("it has {listed} and {more} more"),
        _ => format!("it has {listed}"),
    }
}
