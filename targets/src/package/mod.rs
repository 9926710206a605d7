//! A Debian package for a board: the program, a service that runs it, and a model if one is given.
//!
//! It is written without any tool of Debian, and two packages of the same content are the same bytes. What the service may do
//! stands in `targets/package/edge-vit.service`; what becomes of configuration and models at an upgrade, a removal and a purge in
//! the scripts beside it.

mod contents;
mod deb;
mod error;
mod manual;

#[cfg(test)]
mod tests;

use std::fs;
use std::path::{Path, PathBuf};

use edge_vit_models::file::write_atomic;

pub use error::PackageError;

use crate::build::architecture;
use crate::model::Model;
use crate::profile::{Profile, debian_arch};

/// The time that the files of a package bear unless another is said: 2026-01-01, in seconds since 1970.
pub const TIME: u64 = 1_767_225_600;

/// What goes into a package.
#[derive(Debug, Clone)]
pub struct Options {
    /// The program, built for the board.
    pub binary: PathBuf,
    /// A model that is installed with the program, with the signature beside it if there is one.
    pub model: Option<PathBuf>,
    /// The package's version.
    pub version: String,
    /// The time that its files bear, in seconds since 1970.
    pub time: u64,
}

/// Writes the package for `board` into the folder `out`, which is made if it is not there. Its name is
/// `edge-vit-BOARD_VERSION_ARCHITECTURE.deb`; whichever board it is for, the package itself is called `edge-vit`.
///
/// # Errors
/// [`PackageError`]; no package is there then that was not there before.
pub fn package(board: &Profile, options: &Options, out: &Path) -> Result<PathBuf, PackageError> {
    check_version(&options.version)?;
    let binary = read(&options.binary)?;
    check_architecture(board, &options.binary, &binary)?;
    let model = options.model.as_deref().map(Model::read).transpose()?;

    let entries = contents::entries(board, options, binary, model)?;
    let bytes = deb::write(board, options, &entries).map_err(|source| write_failed(out, source))?;
    let path = out.join(format!("edge-vit-{}_{}_{}.deb", board.id, options.version, board.debian_arch));
    let written = fs::create_dir_all(out).and_then(|()| write_atomic(&path, &bytes));
    written.map_err(|source| write_failed(&path, source))?;
    Ok(path)
}

fn write_failed(path: &Path, source: std::io::Error) -> PackageError {
    PackageError::Write { path: path.to_owned(), source }
}

fn read(path: &Path) -> Result<Vec<u8>, PackageError> {
    fs::read(path).map_err(|source| PackageError::Read { path: path.to_owned(), source })
}

/// Debian Policy 5.6.12, without an epoch, and without a revision: nobody else packages it.
fn check_version(version: &str) -> Result<(), PackageError> {
    let sound = version.starts_with(|first: char| first.is_ascii_digit())
        && version.chars().all(|letter| letter.is_ascii_alphanumeric() || ".+~".contains(letter));
    if sound { Ok(()) } else { Err(PackageError::Version { version: version.to_owned() }) }
}

/// Compares the processor that the program is for with the board's.
fn check_architecture(board: &Profile, path: &Path, binary: &[u8]) -> Result<(), PackageError> {
    let found = match architecture(binary) {
        Ok(architecture) => debian_arch(architecture).unwrap_or("a program for another processor"),
        Err(_) => "no program of Linux",
    };
    if found == board.debian_arch {
        return Ok(());
    }
    Err(PackageError::Architecture {
        path: path.to_owned(),
        board: board.id.clone(),
        expected: board.debian_arch.clone(),
        found: found.to_owned(),
    })
}
