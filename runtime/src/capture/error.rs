//! Why a source gives no shot.

use thiserror::Error;

/// An error of a source; the message says what to do.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The source does not exist, may not be used, or is set up wrongly. Opening it again helps only if somebody acts.
    #[error("{0}")]
    Open(String),
    /// A program that the source is read through is not installed; the message names it.
    #[error("{0}")]
    NoProgram(String),
    /// The source was there and no longer is: unplugged, its process ended, its driver failed.
    #[error("{source_name} is gone: {reason}")]
    Lost {
        /// The source's name.
        source_name: String,
        /// What the system said.
        reason: String,
    },
    /// This shot is damaged; the next may be whole.
    #[error("a damaged frame: {0}")]
    Damaged(String),
}
