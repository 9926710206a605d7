//! What a shell sees of `edge-vit-tools bench`.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use edge_vit_models::{Tensor, checkpoint, vit};
use edge_vit_tools::engine::uniform;
use image::{Rgb, RgbImage};
use serde_json::Value;

const SIDE: usize = 16;

fn backbone(path: &Path) {
    let config = vit::Config {
        image_size: [SIDE, SIDE],
        patch_size: 8,
        embed_dim: 64,
        depth: 1,
        num_heads: 1,
        mlp_ratio: 2.0,
        layer_scale: false,
        num_classes: None,
        ..vit::Config::default()
    };
    let mut weights = BTreeMap::new();
    for (stream, param) in vit::graph(&config).params().unwrap().into_iter().flatten().enumerate() {
        let len = param.shape.iter().product::<usize>();
        let values = (0..len).map(|index| uniform(1, stream as u32, index as u32) - 0.5).collect();
        weights.insert(param.name, Tensor::new(param.shape, values).unwrap());
    }
    checkpoint::write_safetensors(path, &weights, &BTreeMap::new()).unwrap();
}

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
    backbone(&dir.path().join("backbone.safetensors"));
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
