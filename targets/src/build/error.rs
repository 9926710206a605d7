//! Why a program could not be built for a board.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::pip::PipError;
use crate::profile::Version;

/// An error of this module; the message says what was expected, what came, what to do.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The folder is not in a checkout of the workspace.
    #[error("{} is in no checkout of edge-vit: there is no runtime/Cargo.toml of the package edge-vit in it or above; name one with --source", path.display())]
    NoSource {
        /// The folder.
        path: PathBuf,
    },
    /// A file cannot be read or written.
    #[error("cannot read or write {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Neither `XDG_CACHE_HOME` nor `HOME` is set.
    #[error("neither XDG_CACHE_HOME nor HOME says where caches are, and the cross compiler is kept there: set one")]
    NoCacheFolder,
    /// A program that the build runs cannot be started.
    #[error("cannot start {program}: {remedy}")]
    NoProgram {
        /// The program.
        program: String,
        /// Where to have it from.
        remedy: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// pip cannot bring the cross compiler.
    #[error("{packages} cannot be had from PyPI")]
    Pip {
        /// What was asked for.
        packages: String,
        /// What was in the way.
        source: PipError,
    },
    /// A package from PyPI does not hold what it has to.
    #[error("there is no {}: remove {}, so that it is brought from PyPI again", path.display(), folder.display())]
    NotInPackage {
        /// The file.
        path: PathBuf,
        /// What was brought.
        folder: PathBuf,
    },
    /// Rust's standard library for the board is not there and cannot be brought.
    #[error("Rust has no standard library for {triple}: `rustup target add {triple}` brings it ({reason})")]
    NoRustTarget {
        /// The target.
        triple: String,
        /// What rustup said.
        reason: String,
    },
    /// cargo ended with an error, which it has told.
    #[error("cargo could not build edge-vit for {board} ({status}): its messages are above")]
    Cargo {
        /// The board.
        board: String,
        /// How it ended.
        status: std::process::ExitStatus,
    },
    /// What was built is no program that can be looked into.
    #[error("what was built is no ELF file of a known form")]
    Elf(#[from] object::read::Error),
    /// The program is for another processor.
    #[error("the program is for {got}, the board is {expected}")]
    Architecture {
        /// The board's target.
        expected: String,
        /// What the file says.
        got: &'static str,
    },
    /// The program needs a newer glibc than the board has.
    #[error("the program needs glibc {needs} for `{symbol}`, the board has {floor}: it would not start there")]
    Glibc {
        /// The board's.
        floor: Version,
        /// The program's.
        needs: Version,
        /// A symbol of that version.
        symbol: String,
    },
    /// The inference engine was compiled without kernels that the board has instructions for.
    #[error("the program lacks the {name} kernels that {board} can run: the C compiler did not know the instructions")]
    Kernels {
        /// The board.
        board: String,
        /// Which.
        name: &'static str,
    },
}

impl BuildError {
    pub(super) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }
}
