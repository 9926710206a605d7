//! `edge-vit-tools data` as a person calls it.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use image::{Rgb, RgbImage};
use serde_json::Value;

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_edge-vit-tools")).arg("data").args(arguments).output().unwrap()
}

fn lines(output: &Output) -> Vec<Value> {
    String::from_utf8_lossy(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A table of two classes of ten pictures to train on, and one of each to test with.
fn table(root: &Path) -> String {
    let mut text = "path,label,split\n".to_owned();
    for n in 0..22u32 {
        let (label, part) = (["cat", "dog"][n as usize % 2], if n < 20 { "train" } else { "test" });
        let wave = |k: u32, at: u32| (127.0 + 120.0 * ((k * (n + 2)) as f32 * at as f32 / 97.0 + n as f32).sin()) as u8;
        let picture = RgbImage::from_fn(24, 24, |x, y| Rgb([wave(7, x), wave(5, y), wave(3, x + y)]));
        picture.save(root.join(format!("{n}.png"))).unwrap();
        text += &format!("{n}.png,{label},{part}\n");
    }
    text
}

#[test]
fn show_counts_and_check_fails_where_test_pictures_were_trained_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("table.csv");
    let mut text = table(dir.path());
    fs::write(&path, &text).unwrap();
    let path = path.to_str().unwrap();

    let shown = run(&["show", path]);
    let out = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.status.success() && out.contains(": CSV\n"), "{out}");
    assert!(out.lines().any(|line| line.split_whitespace().eq(["cat", "10", "1"])), "{out}");
    let json = &lines(&run(&["show", path, "--json"]))[0];
    assert_eq!((&json["layout"], &json["parts"]["train"]["pictures"]), (&"csv".into(), &20.into()));

    let checked = run(&["check", path, "--json"]);
    assert_eq!((checked.status.code(), lines(&checked).len()), (Some(0), 1), "{checked:?}");
    assert!(String::from_utf8_lossy(&run(&["check", path]).stdout).contains("nothing found"));

    fs::copy(dir.path().join("4.png"), dir.path().join("again.png")).unwrap();
    text += "again.png,cat,test\n";
    fs::write(path, text).unwrap();
    let checked = run(&["check", path, "--json"]);
    let found = lines(&checked);
    assert_eq!((checked.status.code(), found.len()), (Some(1), 2), "{checked:?}");
    assert_eq!((&found[0]["finding"], &found[0]["weight"]), (&"leak".into(), &"spoils".into()));
    assert_eq!((&found[1]["finding"], &found[1]["spoils"]), (&"summary".into(), &1.into()));
    assert!(String::from_utf8_lossy(&checked.stderr).contains("1 finding(s) in"), "{checked:?}");
}

#[test]
fn what_is_no_data_set_is_said() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("set.zip"), b"").unwrap();
    for action in ["show", "check"] {
        let output = run(&[action, dir.path().join("set.zip").to_str().unwrap()]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && said.contains("is no data set; give a folder"), "{said}");
    }
}
