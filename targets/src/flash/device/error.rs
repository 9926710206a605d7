//! Why a card in a reader is not written.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Why a card is not written, or not right.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// The device is not there, or not for this user.
    #[error("cannot open {}: is the card in the reader, and may you write to it? (sudo, or the group `disk`)", path.display())]
    Open {
        /// The device.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The path is of something else.
    #[error("{} is no disk; `lsblk` lists those that are there, and --out writes a file", path.display())]
    NoDevice {
        /// The path.
        path: PathBuf,
    },
    /// The path is of a part of a disk.
    #[error("{} is a partition, and a card is written as a whole: is it {}?", path.display(), disk.display())]
    Partition {
        /// The partition.
        path: PathBuf,
        /// The disk that it is on.
        disk: PathBuf,
    },
    /// There is a reader and no card.
    #[error("there is no card in {}", path.display())]
    Empty {
        /// The device.
        path: PathBuf,
    },
    /// The card's lock is set.
    #[error("{} cannot be written: move the lock at the card's side, or take another reader", path.display())]
    ReadOnly {
        /// The device.
        path: PathBuf,
    },
    /// This machine runs from it.
    #[error("{} is the disk that this machine runs from: the card is another one, `lsblk` lists them", path.display())]
    System {
        /// The device.
        path: PathBuf,
    },
    /// Something of it is mounted.
    #[error("{} is mounted at {}: if it is the right one, `umount` it first", path.display(), at.join(" and "))]
    Mounted {
        /// The device.
        path: PathBuf,
        /// Where.
        at: Vec<String>,
    },
    /// The system uses it otherwise.
    #[error("{} is in use by {}: it is a disk of this machine, and no card", path.display(), by)]
    Used {
        /// The device.
        path: PathBuf,
        /// What uses it.
        by: String,
    },
    /// The image does not fit.
    #[error("{} has {} MiB, and the image needs {}: take a larger card", path.display(), size >> 20, needed.div_ceil(1 << 20))]
    Small {
        /// The device.
        path: PathBuf,
        /// Its size in bytes.
        size: u64,
        /// The image's size in bytes.
        needed: u64,
    },
    /// The image cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The image.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Writing broke off.
    #[error("{} broke off after {at} bytes: no board starts from it as it is; write it again", path.display())]
    Write {
        /// The device.
        path: PathBuf,
        /// How many bytes had arrived.
        at: u64,
        /// What the system said.
        source: io::Error,
    },
    /// The card cannot be read back.
    #[error("{} was written, and cannot be read back: put the card in again, or take another reader, and write it anew", path.display())]
    Check {
        /// The device.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The card does not hold what was written.
    #[error("{} does not hold what was written, from byte {at} on: the card or the reader is worn, or not what it says it is; take another", path.display())]
    Differs {
        /// The device.
        path: PathBuf,
        /// The first byte that differs.
        at: u64,
    },
}
