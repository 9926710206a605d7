//! Backbones against the public implementations: models/tests/fixtures/generate.py says which, and how the
//! reference was made.

#![allow(clippy::unwrap_used, reason = "the helpers of a test may panic as the test does")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use edge_vit::Model;
use edge_vit_models::adapter::{self, Adaptation};
use edge_vit_models::method::{LoraTarget, MethodSpec, Site};
use edge_vit_models::onnx::{self, Batch};
use edge_vit_models::{Graph, Op, Tensor, backbone, checkpoint};
use edge_vit_tools::cpu::CpuEngine;
use edge_vit_tools::engine::Engine;
use edge_vit_tools::gpu::{self, GpuEngine};

/// Float32 rounding of the interpolated position embeddings and of the stored reference.
const RELATIVE_TOLERANCE: f64 = 1e-5;
/// Sums in float32.
const F32_TOLERANCE: f64 = 1e-4;

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

/// The graph of a fixture up to `output`, for the size of the stored pictures, these, and what the publisher computes.
fn reference(name: &str, output: &str) -> (Graph, Tensor, Tensor) {
    let mut reference = checkpoint::read(fixture(&format!("{name}.reference.safetensors"))).unwrap().tensors;
    let pixels = reference.remove("pixels").unwrap();
    let &[_, _, height, width] = pixels.shape() else { panic!("{:?}", pixels.shape()) };
    let mut graph = backbone::load(fixture(&format!("{name}.safetensors")), Some([height, width])).unwrap().graph;
    let last = match output {
        "tokens" => {
            let pool = graph.find("pool").unwrap();
            let norm = graph.find("norm").filter(|&norm| norm < pool).or(graph.find("final_conv.act"));
            norm.unwrap_or(graph.nodes.iter().rposition(|node| node.op == Op::Add).unwrap())
        }
        "features" => graph.nodes.iter().rposition(|node| node.name != "head").unwrap(),
        _ => graph.find("head").unwrap(),
    };
    graph.nodes.truncate(last + 1);
    graph.retain_used_weights().unwrap();
    (graph, pixels, reference.remove(output).unwrap())
}

/// Compares with what the publisher computes: the CPU engine in float64, and in float32 the CPU engine, the GPU engine where
/// there is an adapter, and the exported file in the device's engine.
fn check(name: &str, outputs: &[&str]) {
    for output in outputs {
        let (graph, pixels, expected) = reference(name, output);
        let pictures = pixels.shape()[0];
        let none = BTreeSet::new();
        let agree = |engine: &str, got: &[f32], tolerance: f64| {
            let difference = relative_difference(got, expected.values());
            println!("{name}, {output}, {engine}: {difference:.1e}");
            assert!(difference < tolerance, "{name}, {output}, {engine}: {difference:.1e}");
        };
        let run = |engine: &mut dyn Engine| engine.forward(pixels.values(), pictures).unwrap();
        agree("float64", &run(&mut CpuEngine::<f64>::new(&graph, &none).unwrap()), RELATIVE_TOLERANCE);
        agree("float32", &run(&mut CpuEngine::<f32>::new(&graph, &none).unwrap()), F32_TOLERANCE);
        if gpu::adapters().is_empty() {
            eprintln!("skipped: there is no graphics adapter on this machine");
        } else {
            agree("wgpu", &run(&mut GpuEngine::new(None, &graph, &none).unwrap()), F32_TOLERANCE);
        }
        // A device's model gives one row of numbers.
        if *output != "tokens" {
            let file = onnx::to_bytes(&graph, Batch::One, &BTreeMap::new()).unwrap();
            let model = Model::from_bytes(&file).unwrap();
            let one = pixels.values().chunks_exact(pixels.len() / pictures);
            let got: Vec<f32> = one.flat_map(|picture| model.run(picture).unwrap()).collect();
            agree("tract", &got, F32_TOLERANCE);
        }
    }
}

#[test]
fn timms_vision_transformer_gives_its_features_and_logits() {
    check("timm_vit", &["features", "logits"]);
}

#[test]
fn timms_layer_scale_and_antialiased_positions_of_an_oblong_picture_are_followed() {
    check("timm_vit_layer_scale_resized", &["features", "logits"]);
}

#[test]
fn hugging_faces_dinov2_gives_its_features() {
    check("hf_dinov2", &["features"]);
}

#[test]
fn hugging_faces_positions_of_an_oblong_picture_are_followed() {
    check("hf_dinov2_resized", &["features"]);
}

#[test]
fn hugging_faces_videomae_gives_its_tokens_features_and_logits() {
    check("hf_videomae", &["tokens", "features", "logits"]);
    check("hf_videomae_norm", &["tokens"]);
}

#[test]
fn hugging_faces_vit_gives_its_features_and_logits() {
    check("hf_vit", &["features", "logits"]);
}

/// Adapters of another program on a fixture's model, taken over and folded, give the logits stored beside them.
fn check_imported(adapters: &str, scale: Option<f32>, source: &str, logits: &str) -> Adaptation {
    let imported = adapter::import(&fixture(adapters), scale).unwrap();
    let backbone = backbone::load(fixture(&format!("{source}.safetensors")), None).unwrap();
    let spec = imported.spec.clone();
    let labels = (0..5).map(|label| label.to_string()).collect();
    let file = imported.into_file(&backbone, labels, serde_json::Value::Null, serde_json::Value::Null);
    let folded = file.merged(&backbone.graph, &backbone.sha256, 1.0).unwrap().graph;
    let tensor = |file: &str, name: &str| checkpoint::read(fixture(file)).unwrap().tensors.remove(name).unwrap();
    let pixels = tensor(&format!("{source}.reference.safetensors"), "pixels");
    let expected = tensor(logits, "logits");
    let mut engine = CpuEngine::<f64>::new(&folded, &BTreeSet::new()).unwrap();
    let got = engine.forward(pixels.values(), pixels.shape()[0]).unwrap();
    let difference = relative_difference(&got, expected.values());
    assert!(difference < RELATIVE_TOLERANCE, "{adapters}: {difference:.1e}");
    spec
}

#[test]
fn a_lora_of_pefts_gives_its_logits() {
    let lora = |name: &str, source| check_imported(name, None, source, &format!("{name}/logits.safetensors"));
    let spec = |alpha, targets: &[LoraTarget]| {
        Adaptation::Method(MethodSpec::Lora { rank: 3, alpha, targets: targets.iter().copied().collect() })
    };
    use LoraTarget::{Fc1, Fc2, K, Proj, Q, Qkv, V};
    assert_eq!(lora("hf_vit_lora", "hf_vit"), spec(5.0 * 3f64.sqrt(), &[Q, V]));
    assert_eq!(lora("hf_vit_lora_all", "hf_vit"), spec(5.0, &[Q, K, V, Proj, Fc1, Fc2]));
    assert_eq!(lora("timm_vit_lora", "timm_vit"), spec(5.0, &[Qkv, Proj, Fc2]));
}

#[test]
fn rep_adapters_of_their_authors_give_their_logits() {
    let check = |name: &str| {
        let (adapters, logits) = (format!("{name}.pt"), format!("{name}.reference.safetensors"));
        check_imported(&adapters, Some(0.5), "timm_vit", &logits)
    };
    let repblock = adapter::Spec { hidden: 6, scale: 0.5, ..adapter::Spec::default() };
    assert_eq!(check("authors_repblock"), Adaptation::Adapters(repblock));
    let site = Site::EveryLinear;
    let every = MethodSpec::RepAdapter { hidden: 6, groups: 2, scale: 0.5, site };
    assert_eq!(check("authors_every_linear"), Adaptation::Method(every));
}

#[test]
fn timms_registers_stand_behind_the_class_token() {
    check("timm_vit_registers", &["tokens", "features", "logits"]);
}

#[test]
fn deit_3_gives_its_features_and_logits() {
    check("timm_deit3", &["tokens", "features", "logits"]);
}

#[test]
fn a_distilled_deits_feature_is_the_mean_of_its_two_tokens() {
    check("timm_deit_distilled", &["tokens", "features"]);
    check("hf_deit_distilled", &["tokens", "features"]);
}

#[test]
fn the_mean_of_patches_is_normalised_before_or_behind_as_timm_does_it() {
    check("timm_vit_avg", &["tokens", "features", "logits"]);
    check("timm_vit_gap", &["tokens", "features", "logits"]);
}

#[test]
fn clip_under_timms_openais_and_hugging_faces_names() {
    check("timm_clip", &["tokens", "features", "logits"]);
    check("openai_clip", &["features", "logits"]);
    check("hf_clip", &["features", "logits"]);
    check("hf_clip_whole", &["features", "logits"]);
}

#[test]
fn siglips_attention_pools_as_timm_and_hugging_face_do_it() {
    check("timm_siglip", &["tokens", "features", "logits"]);
    check("hf_siglip", &["features"]);
}

#[test]
fn hugging_faces_registers_stand_behind_the_class_token() {
    check("hf_dinov2_registers", &["tokens", "features"]);
}

#[test]
fn mobilevit_mixes_the_pixels_of_patches_as_timm_and_hugging_face_do_it() {
    check("timm_mobilevit", &["tokens", "features", "logits"]);
    check("timm_mobilevit_short", &["tokens", "features", "logits"]);
    check("hf_mobilevit", &["features", "logits"]);
}

#[test]
fn swin_cuts_and_rolls_windows_as_timm_and_hugging_face_do_it() {
    check("timm_swin", &["tokens", "features", "logits"]);
    check("hf_swin", &["features", "logits"]);
}

#[test]
fn swin_v2_computes_its_biases_and_cosines_as_timm_and_hugging_face_do_it() {
    check("timm_swinv2", &["tokens", "features", "logits"]);
    check("timm_swinv2_pretrained", &["tokens", "features", "logits"]);
    check("hf_swinv2", &["features", "logits"]);
}

#[test]
fn convnext_under_timms_and_hugging_faces_names() {
    check("timm_convnext", &["tokens", "features", "logits"]);
    check("hf_convnext", &["features", "logits"]);
}

#[test]
fn convnext_v2_normalises_responses_as_timm_and_hugging_face_do_it() {
    check("timm_convnextv2", &["tokens", "features", "logits"]);
    check("hf_convnextv2", &["features", "logits"]);
}
