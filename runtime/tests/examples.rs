//! The examples for firmware, run to their end.

#![allow(clippy::unwrap_used)] // A helper of a test may fail as a test does.

mod common;

use std::process::Command;

use edge_vit::{Classifier, open_picture};

use common::fixture;

/// What the example prints for the fixtures' model and photo. Examples lie beside the folder of the tests' programs.
fn run(name: &str) -> String {
    let test = std::env::current_exe().unwrap();
    let example = test.parent().unwrap().with_file_name("examples").join(name);
    assert!(example.is_file(), "{} is not there: build with `cargo test --workspace`", example.display());
    let output = Command::new(example).args([fixture("tiny.onnx"), fixture("photo.png")]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The photo's label and score.
fn best() -> (String, f32) {
    let classifier = Classifier::open(fixture("tiny.onnx")).unwrap();
    let best = classifier.classify(&open_picture(fixture("photo.png")).unwrap()).unwrap().swap_remove(0);
    (best.label, best.score)
}

#[test]
fn the_control_loop_keeps_its_ticks_and_sees_the_label() {
    let said = run("control_loop");
    let (first, last) = said.trim_end().split_once('\n').unwrap();
    assert!(first.starts_with("100 ticks, "), "{said}");
    assert!(last.starts_with(&format!("last: {} (", best().0)), "{said}");
}

#[test]
fn the_node_goes_through_its_states_and_answers_when_active() {
    let (label, score) = best();
    let expected = format!(
        "Configure: Inactive\nActivate: Active\ncamera: {label} {score:.6}\ncamera: unknown {score:.6}\n\
         refused: the threshold is 0 to 1, not 1.5\nDeactivate: Inactive\nCleanup: Unconfigured\nShutdown: Finalized\n"
    );
    assert_eq!(run("node"), expected);
}
