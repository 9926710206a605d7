//! The binary on a stream: what it writes, whom it tells, and how it ends.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod common;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use serde_json::Value;

use common::fixture;

/// The longest that anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn edge_vit() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_edge-vit"));
    command.env_remove("RUST_LOG").env_remove("NOTIFY_SOCKET").arg("--model").arg(fixture("tiny.onnx"));
    command
}

/// A program that reads pictures from us, with its answers.
struct Running {
    child: Child,
    answers: Box<dyn Iterator<Item = Value>>,
}

impl Running {
    fn start(command: &mut Command) -> Self {
        let mut child =
            command.args(["--stdin", "--json"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, answers: Box::new(lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap())) }
    }

    fn send(&mut self, bytes: &[u8]) {
        let stdin = self.child.stdin.as_mut().unwrap();
        stdin.write_all(bytes).unwrap();
        stdin.flush().unwrap();
    }

    /// Closes the stream and gives the exit code and the answers that were not read yet.
    fn finish(mut self) -> (Option<i32>, Vec<Value>) {
        drop(self.child.stdin.take());
        let rest = self.answers.by_ref().collect();
        (self.child.wait().unwrap().code(), rest)
    }
}

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn every_frame_of_a_stream_is_answered_and_a_damaged_one_is_counted() {
    let photo = fs::read(fixture("orientation_1.jpg")).unwrap();
    let mut running = Running::start(edge_vit().arg("--every-frame"));
    running.send(&photo);
    running.send(&[0xff, 0xd8, 0xff, 0xd9]);
    running.send(&photo);
    let (code, answers) = running.finish();
    assert_eq!(code, Some(0));
    assert_eq!(answers.len(), 2, "{answers:?}");
    assert_eq!(answers[0]["label"], answers[1]["label"]);
    assert_eq!((&answers[0]["changed"], &answers[1]["changed"]), (&Value::Bool(true), &Value::Bool(false)));
    assert_eq!(answers[1]["counts"]["damaged"], 1);
    assert_eq!(answers[1]["counts"]["dropped"], 0);
    for stage in ["decode_ms", "prepare_ms", "model_ms"] {
        assert!(answers[0]["stages"][stage].as_f64().unwrap() > 0.0, "{stage}");
    }
    assert!(answers[0]["time"].as_f64().unwrap() > 1.7e9);
}

#[test]
fn raw_frames_of_a_declared_size_are_read() {
    let mut running = Running::start(edge_vit().args(["--every-frame", "--format", "rgb:8x4"]));
    running.send(&[200; 8 * 4 * 3 * 2]);
    let (code, answers) = running.finish();
    assert_eq!((code, answers.len()), (Some(0), 2));
}

#[test]
fn a_command_is_run_when_the_label_changes_and_sees_no_shell() {
    let folder = tempfile::tempdir().unwrap();
    let hostile = folder.path().join("a; touch b");
    let command = format!("touch '{}' '{}/{{label}}.seen'", hostile.display(), folder.path().display());
    let photo = fs::read(fixture("orientation_1.jpg")).unwrap();
    let mut running = Running::start(edge_vit().args(["--on-label", "*", &command]));
    running.send(&photo);
    running.send(&photo);
    let label = running.answers.next().unwrap()["label"].as_str().unwrap().to_owned();
    let seen = folder.path().join(format!("{label}.seen"));
    wait_for("the command", || seen.exists());
    assert!(hostile.exists() && !Path::new("b").exists() && !folder.path().join("b").exists());
    running.finish();
}

#[test]
fn the_service_manager_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut told = String::new();
    let mut wait_until = |word: &str| {
        let mut bytes = [0; 4096];
        while !told.contains(word) {
            let len = socket.recv(&mut bytes).unwrap_or_else(|error| panic!("no {word}: {error}; told {told}"));
            told += std::str::from_utf8(&bytes[..len]).unwrap();
        }
    };
    let photo = fs::read(fixture("orientation_1.jpg")).unwrap();
    // The manager names the process that it watches, which a shell knows before the program runs. With a watchdog of a
    // microsecond every answer is late enough to be told, also the only one where the second picture replaces the first.
    let mut command = Command::new("sh");
    command.args(["-c", "WATCHDOG_PID=$$ exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_edge-vit"), "--model"]);
    command.arg(fixture("tiny.onnx")).env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "1");
    let mut running = Running::start(&mut command);
    wait_until("READY=1");
    running.send(&photo);
    running.send(&photo);
    wait_until("WATCHDOG=1");
    wait_until("STATUS=");
    running.finish();
    wait_until("STOPPING=1");
}

#[test]
fn a_configuration_is_checked_and_followed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("edge-vit.toml");
    let check = |text: &str, more: &[&str]| {
        fs::write(&file, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_edge-vit"));
        let output = command.arg("check-config").arg("--config").arg(&file).args(more).output().unwrap();
        let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        (output.status.code(), out + &err)
    };
    let good = "model = 'a.onnx'\n[source]\npipe = 'rpicam-vid -o -'\n[output]\njson = true\n[decision]\ntop_k = 2\n";
    let (code, said) = check(good, &[]);
    assert!(code == Some(0) && said.starts_with("sound: "), "{said}");
    for (text, more, expected) in [
        ("[source]\nstdin = true\n", &[][..], "no model"),
        ("model = 'a'\n", &[], "no source"),
        ("model = 'a'\n[source]\nstdin = true\ndir = 'b'\n", &[], "`stdin` and `dir`"),
        ("model = 'a'\n[source]\nstdin = true\nsize = '1x1'\n", &[], "`size` belongs to"),
        ("model = 'a'\n[source]\nstdin = true\nformat = 'x264'\n", &[], "format"),
        ("model = 'a'\n[source]\nstdin = true\n[decision]\nsmoothing_seconds = -1\n", &[], "smoothing_seconds"),
        ("model = 'a'\n[source]\nstdin = true\n[[on_label]]\nlabel = 'a'\ncommand = ''\n", &[], "empty"),
        ("model = 'a'\nrequire_key = ['no key']\n[source]\nstdin = true\n", &[], "no key"),
        ("modell = 'a'\n", &[], "line 1"),
        (good, &["--stdin", "--rate", "9"], "`rate` belongs to"),
    ] {
        let (code, said) = check(text, more);
        assert!(code == Some(2) && said.contains(expected) && !said.contains("panicked"), "{text}: {said}");
    }

    fs::write(&file, format!("model = '{}'\n[output]\njson = true\n", fixture("tiny.onnx").display())).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_edge-vit"));
    let output = command.arg("--config").arg(&file).arg("--image").arg(fixture("photo.png")).output().unwrap();
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), answer["top"].as_array().unwrap().len()), (Some(0), 3));
}

#[test]
fn an_interrupt_ends_the_loop_in_order() {
    let mut running = Running::start(&mut edge_vit());
    let photo = fs::read(fixture("orientation_1.jpg")).unwrap();
    running.send(&photo);
    running.send(&photo);
    running.answers.next().unwrap();
    let killed = Command::new("kill").args(["-INT", &running.child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    assert_eq!(running.child.wait().unwrap().code(), Some(0));
}
