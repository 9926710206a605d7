//! Films as a data set, from `data show` to `eval --clip`, as a person calls it.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod common;
#[path = "common/program.rs"]
mod program;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::write_backbone;
use program::{run, said};
use serde_json::Value;

/// Makes films of two noisy colours, six to train on and three to test with of each; or nothing where there is no `ffmpeg`.
fn make(folder: &Path) -> Option<()> {
    for (class, color) in [("cold", "0x005ac8"), ("warm", "0xc85a00")] {
        for number in 0..9 {
            let part = folder.join("films").join(if number < 6 { "train" } else { "test" }).join(class);
            fs::create_dir_all(&part).unwrap();
            let source =
                format!("color={color}:size=32x32:rate=8:duration=1,noise=c0_strength=30:c0_flags=t:all_seed={number}");
            let mut command = Command::new("ffmpeg");
            command.args(["-v", "error", "-f", "lavfi", "-i", &source]).arg(part.join(format!("{number}.mp4")));
            match command.output() {
                Ok(output) => assert!(output.status.success(), "{}", said(&output)),
                Err(error) => {
                    println!("skipped: ffmpeg cannot be run: {error}");
                    return None;
                }
            }
        }
    }
    Some(())
}

#[test]
fn films_are_shown_checked_trained_on_and_measured() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    if make(folder).is_none() {
        return;
    }
    write_backbone(&folder.join("backbone.safetensors"), 2);
    fs::write(folder.join("films/train/warm/broken.mp4"), b"no film").unwrap();

    let shown = run(folder, "data show films --json");
    let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
    let count = |part: &str| shown["parts"][part]["pictures"].as_u64().unwrap();
    assert_eq!((count("train"), count("test")), (2 * 6 * 8 + 1, 2 * 3 * 8), "{shown}");

    let checked = run(folder, "data check films --json");
    let lines: Vec<Value> =
        String::from_utf8_lossy(&checked.stdout).lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let broken: Vec<&Value> = lines.iter().filter(|line| line["finding"] == "broken").collect();
    assert_eq!((checked.status.code(), broken.len()), (Some(0), 1), "{}", said(&checked));
    assert!(broken[0]["message"].as_str().unwrap().contains("Invalid data"), "{}", broken[0]);
    assert_eq!(broken[0]["fix"], "rm films/train/warm/broken.mp4");

    let trained = run(
        folder,
        "train --device cpu --backbone backbone.safetensors --data films --out run --image-size 16 --epochs 20 --batch-size 8",
    );
    assert!(trained.status.success(), "{}", said(&trained));
    assert!(said(&trained).contains("pictures left out because they could not be read: 1"), "{}", said(&trained));
    let folded =
        run(folder, "fold --backbone backbone.safetensors --adapters run/adapters.safetensors --out model.onnx");
    assert!(folded.status.success(), "{}", said(&folded));

    let clips: Value =
        serde_json::from_slice(&run(folder, "eval --model model.onnx --data films --clip --json").stdout).unwrap();
    assert_eq!((&clips["top1"]["of"], &clips["frames"]), (&6.into(), &48.into()), "{clips}");
    assert_eq!(clips["top1"]["correct"], 6, "{clips}");
    let frames: Value =
        serde_json::from_slice(&run(folder, "eval --model model.onnx --data films --json").stdout).unwrap();
    assert_eq!(frames["top1"]["of"], 48, "{frames}");
}

#[test]
fn without_ffmpeg_films_are_refused_with_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    for class in ["cold", "warm"] {
        fs::create_dir_all(folder.path().join("films").join(class)).unwrap();
        fs::write(folder.path().join("films").join(class).join("1.mp4"), b"").unwrap();
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_edge-vit-tools"));
    command.current_dir(&folder).env("XDG_CACHE_HOME", folder.path()).env("PATH", folder.path());
    let output = command.args(["data", "show", "films"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(
        said(&output).contains("no program `ffmpeg` here") && said(&output).contains("install it"),
        "{}",
        said(&output)
    );
}
