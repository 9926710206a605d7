//! Why there is no package.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::ModelError;

/// Why there is no package.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PackageError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The package cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The program is none for the board.
    #[error("{} is {found}, and {board} runs programs for {expected}; `edge-vit-tools build --board {board}` makes one", path.display())]
    Architecture {
        /// The program.
        path: PathBuf,
        /// The board's identifier.
        board: String,
        /// Debian's name of the board's architecture.
        expected: String,
        /// What the file is.
        found: String,
    },
    /// The package could not be named so.
    #[error(
        "{version:?} is no version of a Debian package: expected a digit first, then letters, digits and any of . + ~"
    )]
    Version {
        /// What was given.
        version: String,
    },
    /// The model cannot be read, or does not compute here what it computed when it was written.
    #[error("the model does not go into the package")]
    Model(#[from] ModelError),
    /// Documentation could not be made from the program's arguments.
    #[error("cannot write the program's manual")]
    Manual(#[source] io::Error),
}
