//! cargo, run such that neither folders nor times of the machine get into the program.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::BuildError;
use super::toolchain::Tools;
use crate::profile::Profile;

/// Variables of the caller's that would change what is compiled.
const FOREIGN: [&str; 9] =
    ["RUSTFLAGS", "RUSTC_LINKER", "CARGO_BUILD_TARGET", "CC", "CXX", "AR", "CFLAGS", "CXXFLAGS", "LDFLAGS"];
/// What others of them begin with.
const FOREIGN_BEGINNINGS: [&str; 9] = [
    "CARGO_PROFILE_",
    "CARGO_TARGET_",
    "CC_",
    "CXX_",
    "AR_",
    "CFLAGS_",
    "CXXFLAGS_",
    "TARGET_",
    "BINDGEN_EXTRA_CLANG_ARGS",
];

/// The root of the workspace that `folder` lies in.
pub(super) fn workspace(folder: &Path) -> Result<PathBuf, BuildError> {
    let start = std::path::absolute(folder).map_err(|error| BuildError::io(folder, error))?;
    let root = start.ancestors().find(|folder| is_workspace(folder));
    root.map(Path::to_owned).ok_or_else(|| BuildError::NoSource { path: start.clone() })
}

fn is_workspace(folder: &Path) -> bool {
    let manifest = std::fs::read_to_string(folder.join("runtime/Cargo.toml")).unwrap_or_default();
    let manifest: toml::Table = manifest.parse().unwrap_or_default();
    let name = manifest.get("package").and_then(|package| package.get("name"));
    name.and_then(toml::Value::as_str) == Some("edge-vit") && folder.join("Cargo.lock").is_file()
}

/// Builds the program and gives the path of what was linked.
pub(super) fn build(profile: &Profile, source: &Path, target: &Path, tools: &Tools) -> Result<PathBuf, BuildError> {
    let triple = &profile.triple;
    let mut cargo = Command::new(tools.zigbuild());
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if FOREIGN.contains(&name.as_str()) || FOREIGN_BEGINNINGS.iter().any(|beginning| name.starts_with(beginning)) {
            cargo.env_remove(name);
        }
    }
    let status = cargo
        .args(["zigbuild", "--locked", "--profile", "board", "--package", "edge-vit"])
        .args(["--target", &format!("{triple}.{}", profile.glibc)])
        .current_dir(source)
        .env("CARGO_TARGET_DIR", target)
        .env("CARGO_ENCODED_RUSTFLAGS", flags(profile, source, target).join("\x1f"))
        .env("CARGO_INCREMENTAL", "0")
        .env("CARGO_ZIGBUILD_ZIG_PATH", tools.zig())
        .env("LIBCLANG_PATH", tools.libclang())
        .env(format!("BINDGEN_EXTRA_CLANG_ARGS_{}", triple.replace('-', "_")), tools.clang_arguments(triple))
        .env("SOURCE_DATE_EPOCH", "0")
        .env("LC_ALL", "C.UTF-8")
        .env("TZ", "UTC")
        .stdout(Stdio::from(io::stderr()))
        .status()
        .map_err(|source| BuildError::NoProgram {
            program: tools.zigbuild().display().to_string(),
            remedy: "remove its folder, so that it is brought again",
            source,
        })?;
    if !status.success() {
        return Err(BuildError::Cargo { board: profile.id.clone(), status });
    }
    Ok(target.join(triple).join("board/edge-vit"))
}

/// What rustc is told: the board's processor, and names for the folders that differ from desktop to desktop.
fn flags(profile: &Profile, source: &Path, target: &Path) -> Vec<String> {
    let mut flags = vec![format!("-Ctarget-cpu={}", profile.cpu.target)];
    if !profile.cpu.features.is_empty() {
        flags.push(format!("-Ctarget-feature={}", profile.cpu.features.join(",")));
    }
    let homes = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let cargo = homes.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")));
    // The last one that fits holds: cargo's folder for what it builds often lies in the source.
    for (folder, name) in [(cargo.as_deref(), "cargo"), (Some(source), "edge-vit"), (Some(target), "target")] {
        flags.extend(folder.map(|folder| format!("--remap-path-prefix={}=/{name}", folder.display())));
    }
    flags
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile;

    #[test]
    fn a_folder_within_the_checkout_leads_to_its_root_and_another_is_refused() {
        let root = workspace(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap();
        assert_eq!(root, Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap());
        let elsewhere = tempfile::tempdir().unwrap();
        let message = workspace(elsewhere.path()).unwrap_err().to_string();
        assert!(message.contains("no checkout of edge-vit") && message.contains("--source"), "{message}");
    }

    #[test]
    fn the_boards_processor_is_told_with_what_it_lacks() {
        let profile = profile::find("raspberry-pi-4", &[]).unwrap();
        let flags = flags(&profile, Path::new("/src"), Path::new("/src/target"));
        assert_eq!(flags[..2], ["-Ctarget-cpu=cortex-a72", "-Ctarget-feature=-aes,-sha2"]);
        assert_eq!(
            flags[flags.len() - 2..],
            ["--remap-path-prefix=/src=/edge-vit", "--remap-path-prefix=/src/target=/target"]
        );
    }
}
