//! Signatures of ours against the minisign program, where it is installed, and the commands around them.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use edge_vit::signature::{PublicKey, SignatureError, verify_file};
use edge_vit_tools::sign::{Password, keygen, public_path, sign};

/// Runs minisign in `folder` with `password` on its standard input; `None` where it is not installed.
fn minisign(folder: &Path, password: &str, arguments: &[&str]) -> Option<Output> {
    let started = Command::new("minisign")
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = started else {
        println!("skipped: minisign is not installed");
        return None;
    };
    // It may end without reading.
    let _ = child.stdin.take().unwrap().write_all(format!("{password}\n{password}\n").as_bytes());
    Some(child.wait_with_output().unwrap())
}

fn succeeded(output: &Output) {
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
}

#[test]
fn minisign_believes_our_signatures_and_signs_with_our_keys() {
    for (name, password) in [("plain", Password::None), ("encrypted", Password::Text("a password".into()))] {
        let folder = tempfile::tempdir().unwrap();
        let (key, model) = (folder.path().join(name), folder.path().join("model.onnx"));
        let public = keygen(&key, password.clone()).unwrap();
        fs::write(&model, vec![7; 100_000]).unwrap();
        sign(&model, &key, password).unwrap();
        let (key, public_key) = (key.to_str().unwrap(), public_path(&key));
        let check = ["-V", "-p", public_key.to_str().unwrap(), "-m", "model.onnx"];
        let Some(output) = minisign(folder.path(), "", &check) else { return };
        succeeded(&output);
        fs::write(&model, vec![8; 100_000]).unwrap();
        assert!(!minisign(folder.path(), "", &check).unwrap().status.success());
        succeeded(&minisign(folder.path(), "a password", &["-S", "-s", key, "-m", "model.onnx"]).unwrap());
        verify_file(&[public], &model).unwrap();
    }
}

#[test]
fn signatures_and_keys_of_minisign_are_taken() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model.onnx");
    fs::write(&model, b"a model").unwrap();
    let generate = |more: &[&str]| -> Option<PublicKey> {
        let files = ["-G", "-f", "-p", "pair.pub", "-s", "pair.key"];
        succeeded(&minisign(folder.path(), "secret", &[&files, more].concat())?);
        Some(PublicKey::from_text_or_file(folder.path().join("pair.pub").to_str().unwrap()).unwrap())
    };
    let Some(key) = generate(&["-W"]) else { return };
    let minisign = |form: &[&str]| {
        let signs = [form, &["-S", "-s", "pair.key", "-m", "model.onnx"]].concat();
        succeeded(&minisign(folder.path(), "", &signs).unwrap());
    };
    minisign(&[]);
    verify_file(std::slice::from_ref(&key), &model).unwrap();
    sign(&model, &folder.path().join("pair.key"), Password::None).unwrap();
    verify_file(std::slice::from_ref(&key), &model).unwrap();
    // The older form, over the file itself.
    minisign(&["-l"]);
    assert!(matches!(verify_file(&[key], &model), Err(SignatureError::Legacy)));

    let encrypted = generate(&[]).unwrap();
    sign(&model, &folder.path().join("pair.key"), Password::Text("secret".into())).unwrap();
    verify_file(&[encrypted], &model).unwrap();
}

#[test]
fn the_commands_make_keys_sign_and_tell_who_signed() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("model.onnx"), b"a model").unwrap();
    let tools = |arguments: &str| -> (Option<i32>, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_edge-vit-tools"))
            .args(arguments.split_whitespace())
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        (output.status.code(), text.into_owned())
    };
    for key in ["mine", "other"] {
        let (code, text) = tools(&format!("keygen --no-password --out {key}"));
        assert_eq!(code, Some(0), "{text}");
    }
    let (code, text) = tools("keygen --no-password --out mine");
    assert!(code == Some(1) && text.contains("is there already"), "{text}");
    let (code, text) = tools("verify --key mine.pub model.onnx");
    assert!(code == Some(1) && text.contains("is not signed"), "{text}");
    let (code, text) = tools("sign --key mine model.onnx");
    assert!(code == Some(0) && text.contains("file:model.onnx"), "{text}");
    let (code, text) = tools("verify --key mine.pub model.onnx");
    assert!(code == Some(0) && text.contains("signed with the key"), "{text}");
    let line = fs::read_to_string(folder.path().join("mine.pub")).unwrap().lines().nth(1).unwrap().to_owned();
    let (code, text) = tools(&format!("verify --key other.pub --key {line} model.onnx"));
    assert_eq!(code, Some(0), "{text}");
    let (code, text) = tools("verify --key other.pub model.onnx");
    assert!(code == Some(1) && text.contains("not to be trusted"), "{text}");
    fs::write(folder.path().join("model.onnx"), b"another").unwrap();
    let (code, text) = tools("verify --key mine.pub model.onnx");
    assert!(code == Some(1) && text.contains("was changed"), "{text}");
    assert_eq!(tools("verify model.onnx").0, Some(2));
}
