//! Clips through a VideoMAE, from a folder of frames to the device's code: what tells the classes apart is the order of the frames alone.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

#[path = "common/program.rs"]
mod program;

use std::fs;
use std::path::Path;
use std::process::Output;

use edge_vit::frame::Frame;
use edge_vit::{Classifier, Error, filmstrip};
use edge_vit_tools::engine::uniform;
use image::{Rgb, RgbImage};
use program::{run, said};
use serde_json::Value;

/// Frames of a clip: those that the backbone sees at a time.
const FRAMES: usize = 6;

fn succeeds(folder: &Path, arguments: &str) -> Output {
    let output = run(folder, arguments);
    assert!(output.status.success(), "{arguments}: {}", said(&output));
    output
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A brighter half that goes from the top to the bottom, or the other way round, over noise.
fn clip(downwards: bool, seed: u32) -> Vec<RgbImage> {
    let frame = |index: usize| {
        let at = if downwards { index } else { FRAMES - 1 - index };
        let rows = if at < FRAMES / 2 { 0..8 } else { 8..16 };
        RgbImage::from_fn(16, 16, |x, y| {
            let noise = uniform(seed, index as u32, 16 * y + x);
            Rgb([(if rows.contains(&y) { 145.0 } else { 105.0 } + 20.0 * noise) as u8; 3])
        })
    };
    (0..FRAMES).map(frame).collect()
}

/// Thirty clips of each class to train on and ten to test with.
fn make(folder: &Path) {
    for (class, downwards) in [("down", true), ("up", false)] {
        for number in 0..40 {
            let part = if number < 30 { "train" } else { "test" };
            let of_clip = folder.join("clips").join(part).join(class).join(format!("{number:02}"));
            fs::create_dir_all(&of_clip).unwrap();
            for (index, frame) in clip(downwards, 2 * number + u32::from(downwards)).iter().enumerate() {
                frame.save(of_clip.join(format!("{index}.png"))).unwrap();
            }
        }
    }
}

#[test]
fn the_order_of_frames_is_learned_folded_and_seen_by_the_device() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    make(folder);
    let backbone = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tests/fixtures/hf_videomae.safetensors");
    fs::copy(backbone, folder.join("videomae.safetensors")).unwrap();

    succeeds(
        folder,
        "train --device cpu --backbone videomae.safetensors --data clips --out run --image-size 16 --epochs 60 --batch-size 8 --lr 5e-3",
    );
    let folded = succeeds(
        folder,
        "fold --backbone videomae.safetensors --adapters run/adapters.safetensors --out model.onnx --json",
    );
    assert!(json(&folded)["difference"]["relative"].as_f64().unwrap() < 1e-5, "{}", said(&folded));
    let measured = json(&succeeds(folder, "eval --model model.onnx --data clips --json"));
    assert_eq!((&measured["top1"]["of"], &measured["top1"]["correct"]), (&20.into(), &20.into()), "{measured}");
    for refused in ["eval --model model.onnx --data clips --clip", "data check clips --backbone videomae.safetensors"] {
        let refused = run(folder, refused);
        assert!(refused.status.code() == Some(1) && said(&refused).contains("6 frames"), "{}", said(&refused));
    }
    succeeds(folder, "export --backbone videomae.safetensors --image-size 16 --out plain.onnx");
    succeeds(folder, "report --run run --model model.onnx --plain plain.onnx --out report.html");
    let report = fs::read_to_string(folder.join("report.html")).unwrap();
    assert!(
        report.contains("data:image/jpeg") && !report.contains("No map:"),
        "the frames and what the attention weighs"
    );
    succeeds(
        folder,
        "fold --backbone videomae.safetensors --adapters run/adapters.safetensors --out small.onnx --precision int8 --max-drop 5",
    );

    let classifier = Classifier::open(folder.join("model.onnx")).unwrap();
    assert!(classifier.self_test().unwrap().passed());
    let of_strip = |frames: Vec<RgbImage>| classifier.logits(&filmstrip::join(frames)).unwrap();
    let frames = clip(true, 1000);
    let best = |strip: RgbImage| classifier.classify(&strip).unwrap()[0].label.clone();
    assert_eq!(best(filmstrip::join(frames.clone())), "down");
    assert_eq!(best(filmstrip::join(frames.iter().rev().cloned())), "up");
    assert!(matches!(classifier.logits(&RgbImage::new(16, 16 * 6 + 1)), Err(Error::Filmstrip { frames: 6, .. })));

    // Frame by frame: before the first stand as many like it, and then the newest six count.
    let mut workspace = classifier.workspace();
    let mut look = |frame: &RgbImage| classifier.frame_logits(&Frame::from(frame), &mut workspace).unwrap().to_vec();
    assert_eq!(look(&frames[3]), of_strip(vec![frames[3].clone(); FRAMES]));
    let seen: Vec<Vec<f32>> = frames.iter().map(&mut look).collect();
    let after_two = [vec![frames[3].clone(); FRAMES - 2], frames[..2].to_vec()].concat();
    assert_eq!((&seen[1], &seen[FRAMES - 1]), (&of_strip(after_two), &of_strip(frames.clone())));
    workspace.forget();
    let after = classifier.frame_logits(&Frame::from(&frames[0]), &mut workspace).unwrap().to_vec();
    assert_eq!(after, of_strip(vec![frames[0].clone(); FRAMES]));
}
