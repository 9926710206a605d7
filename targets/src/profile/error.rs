//! Why a board's profile is not to be had.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// An error of this module; the message says what was expected, what came, what to do.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// No board has that name.
    #[error("there is no board {id:?}; known are {known} (a folder in EDGE_VIT_BOARDS may hold others)")]
    Unknown {
        /// The name.
        id: String,
        /// The names that are known.
        known: String,
    },
    /// A file or folder of profiles cannot be read.
    #[error("cannot read {}; EDGE_VIT_BOARDS names folders of board profiles, with `:` between them", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A profile is no TOML, or has other fields than a profile has.
    #[error("{origin} is no board profile")]
    Syntax {
        /// The file.
        origin: String,
        /// What is wrong, and where.
        source: Box<toml::de::Error>,
    },
    /// A field holds something that cannot be.
    #[error("{origin}: `{field}` {wrong}")]
    Field {
        /// The file.
        origin: String,
        /// The field.
        field: &'static str,
        /// What is wrong with it, and what is expected.
        wrong: String,
    },
}
