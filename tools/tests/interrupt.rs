//! Training that is interrupted from outside goes on to the bits that an undisturbed run gives.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use common::write_backbone;
use edge_vit_models::{Tensor, adapter};
use edge_vit_tools::engine::uniform;
use image::{Rgb, RgbImage};

/// What a program that Ctrl-C ended returns by custom: 128 and the signal's number.
const INTERRUPTED: i32 = 130;

fn prepare(folder: &Path) {
    write_backbone(&folder.join("backbone.safetensors"), 2);
    for (class, color) in [("cold", [0, 90, 200]), ("warm", [200, 90, 0])] {
        let class = folder.join("pictures").join(class);
        fs::create_dir_all(&class).unwrap();
        for index in 0..12 {
            let color = color.map(|channel: u8| channel + 3 * index);
            RgbImage::from_pixel(20, 20, Rgb(color)).save(class.join(format!("{index}.png"))).unwrap();
        }
    }
}

fn train(folder: &Path, out: &str, resume: bool) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_edge-vit-tools"));
    command.current_dir(folder).args(["train", "--device", "cpu", "--backbone", "backbone.safetensors"]);
    command.args(["--data", "pictures", "--out", out, "--image-size", "16", "--epochs", "150", "--batch-size", "8"]);
    command.args(resume.then_some("--resume"));
    command
}

/// Starts a run, sends it `signal` once it has taken some steps, and waits for its end.
fn disturbed(folder: &Path, out: &str, signal: &str) -> Output {
    let child = train(folder, out, false).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let log = folder.join(out).join("log.jsonl");
    let begun = Instant::now();
    let steps = || fs::read_to_string(&log).map_or(0, |text| text.matches("\"step\"").count());
    while steps() < 20 {
        assert!(begun.elapsed() < Duration::from_secs(60), "the run does not begin");
        sleep(Duration::from_millis(1));
    }
    let sent = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
    assert!(sent.success(), "the run ended before it could be disturbed");
    child.wait_with_output().unwrap()
}

fn adapters(folder: &Path, out: &str) -> BTreeMap<String, Tensor> {
    adapter::File::read(&folder.join(out).join("adapters.safetensors")).unwrap().tensors
}

#[test]
fn a_run_that_was_interrupted_or_killed_goes_on_to_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    prepare(folder);
    assert!(train(folder, "undisturbed", false).output().unwrap().status.success());

    let output = disturbed(folder, "interrupted", "-INT");
    assert_eq!(output.status.code(), Some(INTERRUPTED), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("--resume"), "{text}");

    let output = disturbed(folder, "killed", "-KILL");
    assert_eq!(output.status.code(), None, "a kill leaves no status");

    let expected = adapters(folder, "undisturbed");
    for out in ["interrupted", "killed"] {
        let output = train(folder, out, true).output().unwrap();
        assert!(output.status.success(), "{out}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(adapters(folder, out) == expected, "{out}: other weights than an undisturbed run's");
    }
}

#[test]
fn twenty_kills_at_any_moment_change_no_bit() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    prepare(folder);
    let begun = Instant::now();
    assert!(train(folder, "undisturbed", false).output().unwrap().status.success());
    let whole = begun.elapsed();
    let expected = adapters(folder, "undisturbed");

    let (mut kills, mut finished) = (0, 0);
    while kills < 20 || finished == 0 {
        let out = format!("run{finished}");
        let resume = folder.join(&out).join("last.safetensors").exists();
        let mut child = train(folder, &out, resume).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        if kills < 20 {
            // Anywhere from before the first step to a third of a whole run later.
            sleep(whole.mul_f32(uniform(2, 0, kills) / 3.0));
            // The child is waited for below, so that its number is no other's yet.
            child.kill().unwrap();
        }
        let status = child.wait().unwrap();
        match status.code() {
            None => kills += 1,
            Some(code) => {
                assert_eq!(code, 0, "{out}, after {kills} kills");
                assert!(adapters(folder, &out) == expected, "{out}: other weights than an undisturbed run's");
                finished += 1;
            }
        }
    }
}

/// A pipe whose reader has gone.
fn nobody() -> Stdio {
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    writer.into()
}

#[test]
fn a_run_whose_records_nobody_reads_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    prepare(folder.path());
    let output = train(folder.path(), "unread", false).arg("--json").stdout(nobody()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("log.jsonl"), "{text}");
    assert!(!adapters(folder.path(), "unread").is_empty());
}

#[test]
fn a_command_whose_results_nobody_reads_ends_without_a_word() {
    let command = env!("CARGO_BIN_EXE_edge-vit-tools");
    let output = Command::new(command).args(["boards", "--json"]).stdout(nobody()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.is_empty(), "{text}");
}
