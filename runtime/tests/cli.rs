//! The binary: what it writes where, and its exit codes.

#![allow(clippy::unwrap_used)] // A helper of a test may fail as a test does.

mod common;

use std::fs;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use common::fixture;

fn edge_vit(model: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_edge-vit"));
    command.env_remove("RUST_LOG").arg("--model").arg(fixture(model));
    command
}

fn run(command: &mut Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

fn json_lines(stdout: &str) -> Vec<Value> {
    stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn json_is_an_object_a_line() {
    let photo = fixture("photo.png");
    let other = fixture("orientation_6.jpg");
    let mut command = edge_vit("tiny.onnx");
    let (code, stdout, stderr) = run(command.arg("--image").args([&photo, &other]).args(["--json", "--top-k", "2"]));
    assert_eq!(code, Some(0), "{stderr}");
    let lines = json_lines(&stdout);
    assert_eq!(lines.len(), 2);
    for (line, path) in lines.iter().zip([&photo, &other]) {
        assert_eq!(line["source"], path.to_str().unwrap());
        let top = line["top"].as_array().unwrap();
        assert_eq!(top.len(), 2);
        assert_eq!((&line["label"], &line["score"]), (&top[0]["label"], &top[0]["score"]));
        assert!(top[0]["score"].as_f64() >= top[1]["score"].as_f64());
        assert!(line["stages"]["model_ms"].as_f64().unwrap() > 0.0);
        assert_eq!(line["known"], true);
    }
}

#[test]
fn text_names_the_picture_and_its_classes() {
    let (code, stdout, stderr) = run(edge_vit("tiny.onnx").arg("--image").arg(fixture("photo.png")));
    assert_eq!(code, Some(0), "{stderr}");
    assert_eq!(stdout.lines().count(), 1);
    assert!(stdout.contains("photo.png  ") && stdout.matches(" %").count() == 3, "{stdout}");
    assert!(stderr.is_empty(), "{stderr}");
}

#[test]
fn a_bad_picture_in_a_folder_is_named_and_the_others_are_classified() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("inner")).unwrap();
    fs::copy(fixture("photo.png"), dir.path().join("b.PNG")).unwrap();
    fs::copy(fixture("photo.png"), dir.path().join("inner/c.png")).unwrap();
    fs::write(dir.path().join("notes.txt"), "no picture").unwrap();
    let run_dir = || run(edge_vit("tiny.onnx").arg("--json").arg("--dir").arg(dir.path()));
    let (code, stdout, stderr) = run_dir();
    assert_eq!((code, json_lines(&stdout).len(), stderr.as_str()), (Some(0), 2, ""));

    fs::write(dir.path().join("a.jpg"), "no picture").unwrap();
    let (code, stdout, stderr) = run_dir();
    assert_eq!(code, Some(1));
    let sources: Vec<_> = json_lines(&stdout).iter().map(|line| line["source"].to_string()).collect();
    assert!(sources.len() == 2 && sources[0].contains("b.PNG") && sources[1].contains("c.png"), "{sources:?}");
    assert!(stderr.contains("a.jpg: not a readable picture") && stderr.contains("1 of 3 pictures"), "{stderr}");
}

#[test]
fn the_self_test_passes_here() {
    let (code, stdout, stderr) = run(edge_vit("tiny.onnx").arg("--self-test"));
    assert_eq!(code, Some(0), "{stderr}");
    assert_eq!(stdout.matches("ok, tensor equal, logits within").count(), 2, "{stdout}");
    let words: Vec<_> = stdout.lines().next().unwrap().split_whitespace().collect();
    assert!(words[0] == "kernels" && words[1].contains("_mmm_f32_"), "{stdout}");
    assert!(
        words.contains(&std::env::consts::ARCH) || words.contains(&format!("{},", std::env::consts::ARCH).as_str())
    );
    let (code, stdout, _) = run(edge_vit("tiny.onnx").args(["--self-test", "--json"]));
    assert_eq!(code, Some(0));
    for line in json_lines(&stdout) {
        assert!(line["passed"] == true && line["tensor_equal"] == true, "{line}");
        assert_eq!(line["instructions"][0], std::env::consts::ARCH);
        assert!(line["kernels"].as_array().unwrap().iter().all(|name| name.as_str().unwrap().contains("_mmm_f32_")));
    }
}

/// `edge-vit bench` of a model, in two rounds.
fn bench(model: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_edge-vit"));
    command.env_remove("RUST_LOG").args(["bench", "--rounds", "2", "--threads", "1", "--model"]).arg(fixture(model));
    command
}

#[test]
fn a_bench_tells_stages_memory_and_operators() {
    let pictures = tempfile::tempdir().unwrap();
    for name in ["photo.png", "orientation_6.jpg"] {
        fs::copy(fixture(name), pictures.path().join(name)).unwrap();
    }
    let (code, stdout, stderr) = run(bench("tiny.onnx").arg("--json").arg("--pictures").arg(pictures.path()));
    assert_eq!(code, Some(0), "{stderr}");
    let [report] = json_lines(&stdout).try_into().unwrap();
    for stage in ["decode", "prepare", "model", "whole"] {
        let [p50, p90, p99] = ["p50_ms", "p90_ms", "p99_ms"].map(|key| report["stages"][stage][key].as_f64().unwrap());
        assert!(p50 > 0.0 && p50 <= p90 && p90 <= p99, "{report}");
    }
    assert!(report["first_result_ms"].as_f64() >= report["open_ms"].as_f64());
    assert_eq!((&report["pictures"]["count"], &report["rounds"]), (&2.into(), &2.into()));
    assert_eq!(report["model"]["sha256"].as_str().map(str::len), Some(64));
    assert!(report["operators"].as_object().is_some_and(|operators| !operators.is_empty()));
    if cfg!(target_os = "linux") {
        assert!(report["memory"]["peak_bytes"].as_u64() >= report["memory"]["resident_bytes"].as_u64());
    }

    let (code, stdout, stderr) = run(&mut bench("tiny.onnx"));
    assert_eq!(code, Some(0), "{stderr}");
    for line in ["model ", "opened ", "decode ", "whole ", "rate ", "memory ", "operators "] {
        assert!(stdout.lines().any(|found| found.starts_with(line)), "{line} in {stdout}");
    }
}

#[test]
fn a_bench_is_compared_with_one_of_the_same_things() {
    let (_, line, _) = run(bench("tiny.onnx").arg("--json"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("earlier.json");
    let compared = |report: &str, arguments: &[&str]| {
        fs::write(&file, report).unwrap();
        run(bench("tiny.onnx").arg("--compare").arg(&file).args(arguments))
    };
    let (code, stdout, stderr) = compared(&line, &["--factor", "1e6"]);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.contains("compared "), "{stdout}");

    let mut earlier: Value = serde_json::from_str(&line).unwrap();
    earlier["stages"]["model"]["p50_ms"] = 1e-9.into();
    let (code, stdout, stderr) = compared(&format!("{line}\n{earlier}\n\n"), &["--factor", "1e6", "--json"]);
    assert_eq!((code, stderr.as_str()), (Some(1), ""));
    assert_eq!(json_lines(&stdout)[0]["compared"]["slower"], serde_json::json!(["model"]));

    earlier["model"]["sha256"] = "00".into();
    for (report, expected) in [(earlier.to_string(), "its model is another"), ("{}".to_owned(), "holds no line of")] {
        let (code, stdout, stderr) = compared(&report, &[]);
        assert_eq!((code, stdout.as_str()), (Some(1), ""), "{stderr}");
        assert!(stderr.contains(expected), "{stderr}");
    }
    let (code, ..) = run(bench("tiny.onnx").args(["--factor", "2"]));
    assert_eq!(code, Some(2));
}

#[test]
fn failures_are_one_sentence_and_exit_1() {
    let empty = tempfile::tempdir().unwrap();
    let photo = fixture("photo.png");
    let image: [&std::ffi::OsStr; 2] = ["--image".as_ref(), photo.as_os_str()];
    for (model, arguments, expected) in [
        ("plain.onnx", image, "not written by `edge-vit-tools fold`"),
        ("photo.png", image, "not an ONNX model"),
        ("absent.onnx", image, "cannot read"),
        ("tiny.onnx", ["--image".as_ref(), "absent.jpg".as_ref()], "absent.jpg"),
        ("tiny.onnx", ["--dir".as_ref(), empty.path().as_os_str()], "holds no picture"),
        ("tiny.onnx", ["--dir".as_ref(), "absent".as_ref()], "cannot read the folder absent"),
    ] {
        let (code, stdout, stderr) = run(edge_vit(model).args(arguments));
        assert_eq!((code, stdout.as_str()), (Some(1), ""), "{model} {arguments:?}: {stderr}");
        assert!(stderr.contains(expected) && !stderr.contains("panicked"), "{model} {arguments:?}: {stderr}");
    }
}

#[cfg(all(feature = "camera", target_os = "linux"))]
#[test]
fn an_absent_camera_is_answered_with_the_remedy() {
    let (code, stdout, stderr) = run(edge_vit("tiny.onnx").args(["--camera", "4000000"]));
    assert_eq!((code, stdout.as_str()), (Some(1), ""), "{stderr}");
    assert!(stderr.contains("there is no camera /dev/video4000000"), "{stderr}");
    assert!(stderr.contains("plug a camera in") || stderr.contains("try /dev/video"), "{stderr}");
}

#[test]
fn wrong_usage_exits_2() {
    for arguments in [&[][..], &["--image"], &["--dir", "d", "--self-test"], &["--self-test", "--top-k", "0"]] {
        let (code, stdout, stderr) = run(edge_vit("tiny.onnx").args(arguments));
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{arguments:?}: {stderr}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let photo = fixture("photo.png");
    let mut command = edge_vit("tiny.onnx");
    command.arg("--image").args(std::iter::repeat_n(&photo, 200));
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stderr.is_empty());
}
