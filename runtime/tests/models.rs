//! The binary and a folder of models: installed, switched while a program runs, signed, and returned from.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use common::fixture;

/// The longest that anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A model file whose content is its version's own.
fn model(folder: &Path, version: u8) -> PathBuf {
    let mut bytes = fs::read(fixture("tiny.onnx")).unwrap();
    // One more entry of `metadata_props`, field 14: messages of protobuf are joined by joining their bytes.
    bytes.extend([0x72, 6, 0x0a, 1, b'v', 0x12, 1, b'0' + version]);
    let path = folder.join(format!("v{version}.onnx"));
    fs::write(&path, bytes).unwrap();
    path
}

fn edge_vit() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_edge-vit"));
    command.env_remove("RUST_LOG");
    command
}

/// What `edge-vit model ACTION...` writes and says, and its exit code.
fn manage(store: &Path, action: &[&str]) -> (Option<i32>, String) {
    let output = edge_vit().args(["model", "--store"]).arg(store).args(action).output().unwrap();
    let written = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    (output.status.code(), written)
}

/// The lines of a stream as they come.
fn lines(stream: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (send, receive) = channel();
    thread::spawn(move || BufReader::new(stream).lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
    receive
}

fn wait_for(lines: &Receiver<String>, word: &str) -> String {
    loop {
        let line = lines.recv_timeout(PATIENCE).unwrap_or_else(|error| panic!("no line with {word}: {error}"));
        if line.contains(word) {
            return line;
        }
    }
}

#[test]
fn a_running_program_takes_a_new_model_over_and_keeps_the_old_for_a_broken_one() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("models");
    let path = |version| model(folder.path(), version).display().to_string();
    let (code, first) = manage(&store, &["install", &path(1)]);
    assert_eq!(code, Some(0), "{first}");

    let mut program = edge_vit()
        .args(["--stdin", "--every-frame", "--model"])
        .arg(&store)
        .env("RUST_LOG", "info")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (answers, logs) = (lines(program.stdout.take().unwrap()), lines(program.stderr.take().unwrap()));
    let mut stdin = program.stdin.take().unwrap();
    let photo = fs::read(fixture("orientation_1.jpg")).unwrap();
    stdin.write_all(&photo).unwrap();
    let before = wait_for(&answers, "stdin");

    let (code, second) = manage(&store, &["install", &path(2)]);
    assert_eq!(code, Some(0), "{second}");
    assert!(wait_for(&logs, "switched from").contains(second.trim()));
    stdin.write_all(&photo).unwrap();
    assert_eq!(wait_for(&answers, "stdin"), before);

    let broken = folder.path().join("broken.onnx");
    fs::write(&broken, b"no model").unwrap();
    let (code, said) = manage(&store, &["install", &broken.display().to_string()]);
    assert!(code == Some(1) && said.contains("not an ONNX model"), "{said}");
    stdin.write_all(&photo).unwrap();
    assert_eq!(wait_for(&answers, "stdin"), before);
    let (_, list) = manage(&store, &["list"]);
    assert!(list.lines().any(|line| line.contains(second.trim()) && line.contains("in use")), "{list}");
    let (_, list) = manage(&store, &["list", "--json"]);
    let list: Vec<serde_json::Value> = list.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let in_use: Vec<_> = list.iter().filter(|model| model["current"] == true).map(|model| &model["id"]).collect();
    assert_eq!(in_use, [second.trim()]);
    drop(stdin);
    assert_eq!(program.wait().unwrap().code(), Some(0));
}

#[test]
fn a_model_with_which_the_program_dies_twice_is_returned_from() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("models");
    let path = |version| model(folder.path(), version).display().to_string();
    let (_, first) = manage(&store, &["install", &path(1)]);
    edge_vit::store::Store::open(&store).unwrap().healthy(first.trim()).unwrap();
    let (_, second) = manage(&store, &["install", &path(2)]);
    for _ in 0..2 {
        let mut program = edge_vit()
            .args(["--stdin", "--every-frame", "--model"])
            .arg(&store)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let answers = lines(program.stdout.take().unwrap());
        program.stdin.as_mut().unwrap().write_all(&fs::read(fixture("orientation_1.jpg")).unwrap()).unwrap();
        wait_for(&answers, "stdin");
        program.kill().unwrap();
        program.wait().unwrap();
    }
    let output = edge_vit().arg("--model").arg(&store).arg("--image").arg(fixture("photo.png")).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("returned from") && said.contains(first.trim()) && said.contains(second.trim()), "{said}");
}

#[test]
fn a_model_that_is_not_signed_is_refused_where_a_key_is_required() {
    let folder = tempfile::tempdir().unwrap();
    let file = model(folder.path(), 1);
    let pair = minisign::KeyPair::generate_unencrypted_keypair().unwrap();
    let key = pair.pk.to_base64();
    let classify = || {
        let mut command = edge_vit();
        command.args(["--require-key", &key, "--model"]).arg(&file).arg("--image").arg(fixture("photo.png"));
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, said) = classify();
    assert!(code == Some(1) && said.contains("v1.onnx.minisig"), "{said}");

    let sign = |bytes: &[u8]| {
        let signature = minisign::sign(None, &pair.sk, bytes, None, None).unwrap();
        fs::write(folder.path().join("v1.onnx.minisig"), signature.to_string()).unwrap();
    };
    sign(&fs::read(&file).unwrap());
    assert_eq!(classify(), (Some(0), String::new()));
    sign(b"another file");
    let (code, said) = classify();
    assert!(code == Some(1) && !said.contains("panicked"), "{said}");
}
