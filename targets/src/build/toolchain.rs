//! The tools of a cross build: what the user has, and what is brought from PyPI.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use edge_vit_models::file::cache_folder;

use super::BuildError;
use crate::pip;

/// Packages of PyPI, each in the one version that builds are tried with.
const PACKAGES: [&str; 3] = ["ziglang==0.17.1", "cargo-zigbuild==0.24.1", "libclang==18.1.1"];

/// The cross compiler in the user's cache.
#[derive(Debug)]
pub(super) struct Tools {
    folder: PathBuf,
}

impl Tools {
    /// The tools, brought by pip if they are not there yet.
    pub(super) fn bring() -> Result<Self, BuildError> {
        let name = PACKAGES.map(|package| package.replace("==", "-")).join("_");
        let folder = cache_folder().ok_or(BuildError::NoCacheFolder)?.join("cross").join(name);
        if !folder.is_dir() {
            log::info!("bringing {} from PyPI into {}", PACKAGES.join(", "), folder.display());
            install(&folder)?;
        }
        let tools = Self { folder };
        for path in [tools.zigbuild(), tools.zig(), tools.libclang()] {
            if !path.exists() {
                return Err(BuildError::NotInPackage { path, folder: tools.folder });
            }
        }
        Ok(tools)
    }

    /// cargo's subcommand that puts zig in the place of the C compiler and linker.
    pub(super) fn zigbuild(&self) -> PathBuf {
        self.folder.join("bin/cargo-zigbuild")
    }

    pub(super) fn zig(&self) -> PathBuf {
        self.folder.join("ziglang/zig")
    }

    /// The folder of the library with which bindgen reads C headers.
    pub(super) fn libclang(&self) -> PathBuf {
        self.folder.join("clang/native")
    }

    /// What libclang is told so that it reads zig's headers of the target and none of this machine.
    pub(super) fn clang_arguments(&self, triple: &str) -> String {
        let mut words = triple.split('-');
        let (arch, abi) = (words.next().unwrap_or(triple), words.next_back().unwrap_or("gnu"));
        let zigs = match arch {
            "x86_64" => "x86",
            "armv7" => "arm",
            other => other,
        };
        let include = self.folder.join("ziglang/lib/libc/include");
        let folders = [
            self.folder.join("ziglang/lib/include"),
            include.join(format!("{zigs}-linux-gnu")),
            include.join("generic-glibc"),
            include.join(format!("{zigs}-linux-any")),
            include.join("any-linux-any"),
        ];
        let folders = folders.map(|folder| format!("-isystem '{}'", folder.display())).join(" ");
        format!("--target={arch}-linux-{abi} -nostdinc {folders}")
    }
}

/// Unpacks the packages beside `folder` and moves them there when all is in place.
fn install(folder: &Path) -> Result<(), BuildError> {
    let parent = folder.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent).map_err(|error| BuildError::io(parent, error))?;
    let unpacked = tempfile::tempdir_in(parent).map_err(|error| BuildError::io(parent, error))?;
    pip::install(Path::new("python3"), &PACKAGES, unpacked.path())
        .map_err(|source| BuildError::Pip { packages: PACKAGES.join(", "), source })?;
    match std::fs::rename(unpacked.path(), folder) {
        // Another build was faster.
        Err(_) if folder.is_dir() => Ok(()),
        moved => moved.map_err(|error| BuildError::io(folder, error)),
    }
}

/// Sees to it that the toolchain that `source` is built with has Rust's standard library for `triple`. Gives the compiler's
/// version.
pub(super) fn rust_target(triple: &str, source: &Path) -> Result<String, BuildError> {
    let ask = |arguments: &[&str]| {
        let answer = Command::new("rustc").args(arguments).current_dir(source).output();
        answer.map(|answer| String::from_utf8_lossy(&answer.stdout).trim().to_owned()).map_err(|source| {
            BuildError::NoProgram {
                program: "rustc".into(),
                remedy: "install Rust with rustup (https://rustup.rs)",
                source,
            }
        })
    };
    let version = ask(&["--version"])?;
    if Path::new(&ask(&["--print", "target-libdir", "--target", triple])?).is_dir() {
        return Ok(version);
    }
    log::info!("bringing Rust's standard library for {triple}");
    let mut rustup = Command::new("rustup");
    rustup.args(["target", "add", triple]).current_dir(source).stdout(Stdio::from(io::stderr()));
    match rustup.status() {
        Ok(status) if status.success() => Ok(version),
        Ok(status) => Err(BuildError::NoRustTarget { triple: triple.to_owned(), reason: status.to_string() }),
        Err(error) => Err(BuildError::NoRustTarget { triple: triple.to_owned(), reason: format!("rustup: {error}") }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_zigs_and_no_folder_breaks_a_word() {
        let tools = Tools { folder: "/home/me and you/.cache".into() };
        let arguments = tools.clang_arguments("aarch64-unknown-linux-gnu");
        assert!(
            arguments.starts_with("--target=aarch64-linux-gnu -nostdinc -isystem '/home/me and you/"),
            "{arguments}"
        );
        let x86 = tools.clang_arguments("x86_64-unknown-linux-gnu");
        assert!(x86.contains("--target=x86_64-linux-gnu") && x86.contains("include/x86-linux-any'"), "{x86}");
        let arm = tools.clang_arguments("armv7-unknown-linux-gnueabihf");
        assert!(arm.contains("--target=armv7-linux-gnueabihf") && arm.contains("include/arm-linux-any'"), "{arm}");
    }
}
