//! What the device's crate may depend on: an invariant of the architecture, so a test.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// Crates that must never reach a device: GPU compute, adapters and training, the formats and downloads of the desktop.
const FORBIDDEN: &[&str] = &["wgpu", "edge-vit-models", "edge-vit-tools", "safetensors", "hf-hub", "ureq", "faer"];
/// Crates that only a program needs, and a firmware that embeds the library does not.
const PROGRAM_ONLY: &[&str] = &["clap", "env_logger", "v4l", "tokio", "axum", "rumqttc", "toml"];

/// The crates that `edge-vit` is built with, build scripts' included, on every platform.
fn dependencies(features: &[&str]) -> BTreeSet<String> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--package", "edge-vit", "--edges", "normal,build", "--target", "all"])
        .args(["--prefix", "none", "--format", "{p}", "--locked", "--manifest-path"])
        .arg(manifest)
        .args(features)
        .output()
        .unwrap();
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let names = String::from_utf8(tree.stdout).unwrap();
    names.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

fn assert_without(dependencies: &BTreeSet<String>, forbidden: &[&str]) {
    assert!(dependencies.contains("tract-onnx"), "this is not the device's tree: {dependencies:?}");
    for name in forbidden {
        assert!(
            !dependencies.contains(*name),
            "edge-vit must not depend on {name}; `cargo tree -p edge-vit -i {name}`"
        );
    }
}

#[test]
fn the_device_knows_onnx_and_nothing_of_adapters() {
    assert_without(&dependencies(&[]), FORBIDDEN);
    assert_without(&dependencies(&["--all-features"]), FORBIDDEN);
}

#[test]
fn the_library_alone_brings_no_program() {
    let library = dependencies(&["--no-default-features"]);
    assert_without(&library, FORBIDDEN);
    assert_without(&library, PROGRAM_ONLY);
}
