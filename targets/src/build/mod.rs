//! The program, built for a board on a desktop.
//!
//! `zig` is the C compiler and linker, for it links against the glibc that is asked for; `cargo-zigbuild` puts it before
//! cargo. Both, and the libclang that reads the camera's headers, are brought from PyPI into the user's cache, in fixed
//! versions. Two builds of one source by one Rust toolchain give the same bytes, wherever they run.

mod cargo;
mod elf;
mod error;
mod toolchain;

use std::fs;
use std::path::PathBuf;

use edge_vit_models::file::{hex, write_executable};
use sha2::{Digest as _, Sha256};

use crate::profile::{Instructions, Profile, Version};

pub(crate) use elf::architecture;
pub use elf::{Inspected, inspect};
pub use error::BuildError;

/// Where a build finds the source and leaves the program.
#[derive(Debug, Clone, Default)]
pub struct BuildOptions {
    /// A folder of the workspace's source.
    pub source: PathBuf,
    /// Where cargo keeps what it compiles; `CARGO_TARGET_DIR`, else `target` in the source, where none is given.
    pub target: Option<PathBuf>,
    /// The folder that the program is written to; `boards/ID` in cargo's folder where none is given.
    pub out: Option<PathBuf>,
}

/// A program for a board.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// The file.
    pub binary: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256, lower-case hex.
    pub sha256: String,
    /// The oldest glibc that it runs with.
    pub glibc: Version,
    /// How many half-precision multiply-adds of vectors it holds.
    pub fp16: usize,
    /// How many dot products of bytes it holds.
    pub dot_products: usize,
    /// The Rust compiler that built it.
    pub rustc: String,
}

/// Builds the program for a board and checks what came of it. What the compilers say goes to stderr.
///
/// # Errors
/// When the folder holds no source of the workspace, the tools cannot be had, the source does not compile, or the program
/// would not run on the board.
pub fn build(profile: &Profile, options: &BuildOptions) -> Result<Built, BuildError> {
    let source = cargo::workspace(&options.source)?;
    let target = match &options.target {
        Some(target) => target.clone(),
        None => std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| source.join("target"), PathBuf::from),
    };
    let target = std::path::absolute(&target).map_err(|error| BuildError::io(&target, error))?;
    let rustc = toolchain::rust_target(&profile.triple, &source)?;
    let tools = toolchain::Tools::bring()?;
    let linked = cargo::build(profile, &source, &target, &tools)?;

    let bytes = fs::read(&linked).map_err(|error| BuildError::io(&linked, error))?;
    let inspected = inspect(&bytes)?;
    check(profile, &inspected)?;
    let out = options.out.clone().unwrap_or_else(|| target.join("boards").join(&profile.id));
    let binary = out.join("edge-vit");
    let written = fs::create_dir_all(&out).and_then(|()| write_executable(&binary, &bytes));
    written.map_err(|error| BuildError::io(&binary, error))?;
    Ok(Built {
        bytes: bytes.len() as u64,
        sha256: hex(Sha256::digest(&bytes)),
        binary,
        glibc: inspected.glibc.map_or(profile.glibc, |(version, _)| version),
        fp16: inspected.fp16,
        dot_products: inspected.dot_products,
        rustc,
    })
}

/// Refuses a program that the board could not run, or that lacks what the board is fast with.
///
/// # Errors
/// [`BuildError::Architecture`], [`BuildError::Glibc`] or [`BuildError::Kernels`].
pub fn check(profile: &Profile, inspected: &Inspected) -> Result<(), BuildError> {
    if !profile.triple.starts_with(&format!("{}-", inspected.architecture)) {
        let (expected, got) = (profile.triple.clone(), inspected.architecture);
        return Err(BuildError::Architecture { expected, got });
    }
    if let Some((needs, symbol)) = &inspected.glibc
        && *needs > profile.glibc
    {
        return Err(BuildError::Glibc { floor: profile.glibc, needs: *needs, symbol: symbol.clone() });
    }
    for (instructions, name, count) in [
        (Instructions::Fp16, "half-precision", inspected.fp16),
        (Instructions::DotProd, "dot-product", inspected.dot_products),
    ] {
        if profile.cpu.kernels.contains(&instructions) && count == 0 {
            return Err(BuildError::Kernels { board: profile.id.clone(), name });
        }
    }
    Ok(())
}
