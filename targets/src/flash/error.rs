//! Why there is no card.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Why there is no card.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FlashError {
    /// The board is set up in another way.
    #[error("{board} is not set up in this way: {remedy}")]
    Board {
        /// The board's identifier.
        board: String,
        /// What to do instead.
        remedy: String,
    },
    /// What the card is to be is no sound value.
    #[error("{what} {value:?} cannot be used: expected {expected}")]
    Value {
        /// Which of the values.
        what: &'static str,
        /// What was given.
        value: String,
        /// What it has to be.
        expected: &'static str,
    },
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The image is packed, and cannot be unpacked.
    #[error("cannot unpack {}: {reason}; fetch it again", path.display())]
    Packed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The card's image cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is no package.
    #[error("{} is no Debian package; `edge-vit-tools package` writes one", path.display())]
    Package {
        /// The file.
        path: PathBuf,
    },
    /// The file is no image of a card.
    #[error("{} is no image of a Raspberry Pi's card: {reason}", path.display())]
    Image {
        /// The file.
        path: PathBuf,
        /// What it lacks.
        reason: String,
    },
    /// The image's system does not read what would be written.
    #[error(
        "{} does not run cloud-init (there is no `user-data` where it boots from): take a Raspberry Pi OS of Debian 13 (trixie) \
         from 2025-10 on", path.display()
    )]
    NoCloudInit {
        /// The file.
        path: PathBuf,
    },
    /// The boot partition is full.
    #[error(
        "the boot partition of {} has {} KiB free, and {} KiB are needed: a smaller model makes a smaller package",
        path.display(), free / 1024, needed / 1024
    )]
    Full {
        /// The image.
        path: PathBuf,
        /// Bytes that are free.
        free: u64,
        /// Bytes that are needed.
        needed: u64,
    },
}
