//! Packages of PyPI, unpacked into a folder by pip.
//!
//! Wheels alone are taken: building from source would run the packages' own code.

use std::io;
use std::path::Path;
use std::process::Command;

use thiserror::Error;

/// Why pip did not bring the packages.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PipError {
    /// Python could not be started.
    #[error("Python cannot be started: install it, with pip (Debian, Ubuntu: apt-get install python3-pip)")]
    NoPython(#[source] io::Error),
    /// Python has no pip.
    #[error("Python has no pip: install it (Debian, Ubuntu: apt-get install python3-pip)")]
    NoPip,
    /// The disk is full.
    #[error("no space is left for what pip brings: free some")]
    DiskFull,
    /// Whatever else pip met with.
    #[error("pip failed ({reason}): check the network, or pip's own settings (`pip config list`)")]
    Failed {
        /// pip's last error, else its last line.
        reason: String,
    },
}

/// Unpacks `requirements` (`NAME==VERSION` each), and nothing that they depend on, into `folder`. `python` is the program
/// that carries pip.
///
/// # Errors
/// [`PipError`]; what is in the folder then is of no use.
pub fn install(python: &Path, requirements: &[&str], folder: &Path) -> Result<(), PipError> {
    let pip = Command::new(python)
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "--no-deps"])
        .args(["--no-compile", "--no-cache-dir", "--only-binary=:all:", "--target"])
        .arg(folder)
        .args(requirements)
        .output()
        .map_err(PipError::NoPython)?;
    if pip.status.success() { Ok(()) } else { Err(explain(&String::from_utf8_lossy(&pip.stderr))) }
}

fn explain(stderr: &str) -> PipError {
    if stderr.contains("No module named pip") {
        return PipError::NoPip;
    }
    if stderr.contains("No space left on device") {
        return PipError::DiskFull;
    }
    let lines = || stderr.lines().map(str::trim).filter(|line| !line.is_empty());
    let reason = lines().rfind(|line| line.starts_with("ERROR")).or_else(|| lines().next_back());
    PipError::Failed { reason: reason.unwrap_or("it said nothing").to_owned() }
}
