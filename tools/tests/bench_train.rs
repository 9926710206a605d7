//! What a shell sees of `edge-vit-tools bench train`.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod common;

use std::path::Path;
use std::process::{Command, Output};

use common::{SIDE, write_backbone};
use edge_vit_tools::gpu;
use serde_json::Value;

fn bench(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_edge-vit-tools"));
    command.current_dir(folder).args(["bench", "train"]).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The operations of [`write_backbone`]'s model of one block, on 4 patches and a class token, for one picture: forward and backward.
fn operations() -> [f64; 2] {
    let (tokens, width, hidden, classes) = (5.0, 64.0, 128.0, 10.0);
    let embed = 4.0 * width * (3.0 * 8.0 * 8.0);
    let linear = tokens * width * (3.0 * width + width + hidden + hidden);
    let attention = 2.0 * tokens * tokens * width;
    let adapter = tokens * width * (8.0 + 4.0);
    let head = width * classes;
    // No gradient goes below the first adapter.
    [embed + linear + attention + 2.0 * adapter + head, linear + 2.0 * attention + 3.0 * adapter + 2.0 * head]
        .map(|count| 2.0 * count)
}

#[test]
fn a_step_is_timed_and_its_operations_are_counted_on_every_device() {
    let dir = tempfile::tempdir().unwrap();
    write_backbone(&dir.path().join("backbone.safetensors"), 1);
    let mut devices = vec!["cpu"];
    match gpu::adapters().is_empty() {
        true => println!("skipped the GPU: there is no graphics adapter on this machine"),
        false => devices.push("gpu"),
    }
    for device in devices {
        let flags =
            ["--backbone", "backbone.safetensors", "--device", device, "--batch-size", "3", "--steps", "2", "--json"];
        let output = bench(dir.path(), &flags);
        assert_eq!(output.status.code(), Some(0), "{device}: {}", text(&output.stderr));
        let measured: Value = serde_json::from_slice(&output.stdout).unwrap();
        let number = |name: &str| measured[name].as_f64().unwrap();
        assert_eq!((number("image_size"), number("batch_size")), (SIDE as f64, 3.0));
        let [forward, backward] = operations().map(|count| 3.0 * count / 1e9);
        assert!((number("forward_gflop") / forward - 1.0).abs() < 1e-9, "{device}: {measured}");
        assert!((number("backward_gflop") / backward - 1.0).abs() < 1e-9, "{device}: {measured}");
        let (median, fastest) = (number("median_s"), number("fastest_s"));
        assert!(0.0 < fastest && fastest <= median, "{device}: {measured}");
        assert!((number("median_pictures_per_s") * median - 3.0).abs() < 1e-9, "{device}: {measured}");
        let rate = (forward + backward) / median;
        assert!((number("gflop_per_s") / rate - 1.0).abs() < 1e-9, "{device}: {measured}");
        assert!(number("product_gflop_per_s") > rate, "steps of a tiny model are slower than a product: {measured}");
        assert!((number("share_of_product") * number("product_gflop_per_s") / rate - 1.0).abs() < 1e-9, "{measured}");
        // The scores of each picture's attention at least.
        assert!(number("peak_bytes") > 3.0 * 4.0 * 25.0, "{device}: {measured}");
        // Two adapters of A 8x64, B 64x4 and biases, and the head.
        assert_eq!(number("trained_parameters"), 2.0 * (512.0 + 8.0 + 256.0 + 64.0) + 650.0);
    }
}

#[test]
fn an_architecture_is_measured_by_its_name_with_any_method() {
    let dir = tempfile::tempdir().unwrap();
    let flags = ["--architecture", "vit_tiny_patch16_224", "--image-size", "32", "--batch-size", "1", "--steps", "1"];
    for method in ["lora", "linear", "vpt"] {
        let output = bench(dir.path(), &[&flags[..], &["--device", "cpu", "--method", method]].concat());
        assert_eq!(output.status.code(), Some(0), "{method}: {}", text(&output.stderr));
        let out = text(&output.stdout);
        assert!(out.contains("vit_tiny_patch16_224, 32 x 32, batch 1\n"), "{out}");
        assert!(out.contains(&format!("parameters by {method}\n")), "{out}");
    }
}

#[test]
fn what_cannot_be_measured_is_said_in_a_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let tiny = ["--architecture", "vit_tiny_patch16_224", "--device", "cpu"];
    let with = |more: &[&'static str]| [&tiny[..], more].concat();
    for (flags, status, sentence) in [
        (vec![], 2, "<--backbone <FILE>|--architecture <NAME>>"),
        (with(&["--backbone", "b.safetensors"]), 2, "cannot be used with"),
        (with(&["--steps", "0"]), 2, "0 is not in 1.."),
        (with(&["--gpu", "0"]), 2, "leave one of them out"),
        (with(&["--image-size", "40"]), 1, "--image-size must be a positive multiple of 16"),
        (with(&["--batch-size", "1000000000"]), 1, "1000000000 pictures of [3, 224, 224]"),
        (with(&["--hidden", "9"]), 1, "groups 2"),
        (with(&["--precision", "f16"]), 1, "the processor trains in float32 alone"),
        (with(&["--precision", "f16", "--method", "lora"]), 1, "--method lora changes weights on the processor"),
        (vec!["--architecture", "vit_giant"], 1, "vit_tiny_patch16_224"),
        (vec!["--backbone", "absent.safetensors"], 1, "absent.safetensors"),
    ] {
        let output = bench(dir.path(), &flags);
        let err = text(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{flags:?}: {err}");
        assert!(err.contains(sentence) && output.stdout.is_empty(), "{flags:?}: {err}");
    }
}
