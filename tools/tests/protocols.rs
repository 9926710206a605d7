//! What a shell sees of `edge-vit-tools bench`.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use common::{SIDE, write_backbone};
use image::{Rgb, RgbImage};
use serde_json::Value;

/// Lists of two classes of plain colours.
fn task(folder: &Path, lists: &[&str]) {
    fs::create_dir_all(folder.join("images")).unwrap();
    for list in lists {
        let mut lines = String::new();
        for (class, colour) in [[0, 90, 200], [200, 90, 0]].into_iter().enumerate() {
            for index in 0..6u8 {
                let name = format!("images/{list}-{class}-{index}.png");
                let colour = colour.map(|channel: u8| channel + 3 * index);
                RgbImage::from_pixel(SIDE as u32, SIDE as u32, Rgb(colour)).save(folder.join(&name)).unwrap();
                lines += &format!("{name} {class}\n");
            }
        }
        fs::write(folder.join(format!("{list}.txt")), lines).unwrap();
    }
}

fn bench(folder: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_edge-vit-tools"));
    command.current_dir(folder).args(["bench", "vtab", "--device", "cpu", "--backbone", "backbone.safetensors"]);
    command.args(["--data", "vtab", "--out", "out", "--image-size", "16", "--epochs", "2", "--quiet"]).args(more);
    command.output().unwrap()
}

#[test]
fn a_task_that_fails_is_named_and_the_exit_status_tells_it() {
    let dir = tempfile::tempdir().unwrap();
    write_backbone(&dir.path().join("backbone.safetensors"), 1);
    task(&dir.path().join("vtab/svhn"), &["train800", "val200", "test"]);
    task(&dir.path().join("vtab/dtd"), &["train800", "val200"]);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();

    let first = bench(dir.path(), &[]);
    let (out, err) = (text(&first.stdout), text(&first.stderr));
    assert_eq!(first.status.code(), Some(1), "{err}");
    assert!(out.lines().any(|line| line.starts_with("| svhn ") && line.contains(" 90.7 ")), "{out}");
    assert!(
        err.contains("one part failed: dtd") && err.contains("test.txt") && err.contains("skipped: cifar,"),
        "{err}"
    );

    task(&dir.path().join("vtab/dtd"), &["train800", "val200", "test"]);
    let second = bench(dir.path(), &["--resume", "--json"]);
    let (out, err) = (text(&second.stdout), text(&second.stderr));
    assert_eq!(second.status.code(), Some(0), "{err}");
    let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.iter().map(|line| line["kind"].as_str().unwrap()).collect::<Vec<_>>(), ["task", "task", "whole"]);
    assert_eq!((lines[0]["task"]["name"].as_str(), &lines[2]["means"]["natural"]), (Some("dtd"), &Value::Null));

    let third = bench(dir.path(), &["--tasks", "nothing"]);
    assert_eq!(third.status.code(), Some(2), "{}", text(&third.stderr));
}
