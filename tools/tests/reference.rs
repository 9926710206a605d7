//! Vision transformers against the public implementations: models/tests/fixtures/generate.py says which, and how the
//! reference was made.

#![allow(clippy::unwrap_used, reason = "the helpers of a test may panic as the test does")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use edge_vit_models::{checkpoint, vit};
use edge_vit_tools::cpu::CpuEngine;
use edge_vit_tools::engine::Engine as _;

/// Float32 rounding of the interpolated position embeddings and of the stored reference.
const RELATIVE_TOLERANCE: f64 = 1e-5;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tests/fixtures").join(name)
}

/// The largest difference over the largest value expected.
fn relative_difference(got: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(got.len(), expected.len());
    assert!(got.iter().all(|value| value.is_finite()), "the features are not finite");
    let largest = expected.iter().fold(0.0f64, |largest, &value| largest.max(f64::from(value).abs()));
    let differences = got.iter().zip(expected).map(|(&got, &expected)| (f64::from(got) - f64::from(expected)).abs());
    differences.fold(0.0, f64::max) / largest
}

/// Loads the model for the size of the stored pictures and compares `output`, the graph's last node's.
fn check(name: &str, output: &str) {
    let reference = checkpoint::read(fixture(&format!("{name}.reference.safetensors"))).unwrap().tensors;
    let pixels = &reference["pixels"];
    let &[pictures, 3, height, width] = pixels.shape() else { panic!("{:?}", pixels.shape()) };
    let backbone = vit::load(fixture(&format!("{name}.safetensors")), Some([height, width])).unwrap();
    let mut graph = backbone.graph;
    if output == "features" && backbone.config.num_classes.is_some() {
        graph.nodes.pop();
        graph.retain_used_weights().unwrap();
    }
    let mut engine = CpuEngine::<f64>::new(&graph, &BTreeSet::new()).unwrap();
    let got = engine.forward(pixels.values(), pictures).unwrap();
    let difference = relative_difference(&got, reference[output].values());
    println!("{name}, {output}: {difference:.1e}");
    assert!(difference < RELATIVE_TOLERANCE, "{name}, {output}: {difference:.1e}");
}

#[test]
fn timms_vision_transformer_gives_its_features_and_logits() {
    check("timm_vit", "features");
    check("timm_vit", "logits");
}

#[test]
fn timms_layer_scale_and_antialiased_positions_of_an_oblong_picture_are_followed() {
    check("timm_vit_layer_scale_resized", "features");
    check("timm_vit_layer_scale_resized", "logits");
}

#[test]
fn hugging_faces_dinov2_gives_its_features() {
    check("hf_dinov2", "features");
}

#[test]
fn hugging_faces_positions_of_an_oblong_picture_are_followed() {
    check("hf_dinov2_resized", "features");
}

#[test]
fn hugging_faces_vit_gives_its_features_and_logits() {
    check("hf_vit", "features");
    check("hf_vit", "logits");
}
