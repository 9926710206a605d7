//! Exported files, run by onnxruntime, against the graph's definition in float64.
//!
//! Skipped where python3 does not find numpy, onnx and onnxruntime; `./test` installs them.

#![allow(clippy::unwrap_used, reason = "the helpers of a test may panic as the test does")]

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

use edge_vit_models::adapter::{Spec, insert};
use edge_vit_models::backbone::with_patch_head;
use edge_vit_models::fold::fold;
use edge_vit_models::onnx::{Batch, write};
use edge_vit_models::{Activation, Graph, Op};
use serde_json::{Value, json};

use common::{fill, small_vit};

/// Largest difference, relative to the largest logit, that float32 sums of the small ViT may have.
const F32_RELATIVE: f64 = 1e-5;

/// The graph for `onnx_reference.py`.
fn describe(graph: &Graph) -> Value {
    let nodes = graph.nodes.iter().map(|node| {
        let mut fields = match &node.op {
            Op::PatchEmbed { patch_size, tubelets, .. } => {
                json!({ "patch_size": patch_size, "tubelets": tubelets })
            }
            Op::LayerNorm { eps } => json!({ "eps": eps }),
            Op::Linear { bias, .. } => json!({ "bias": bias }),
            Op::Attention { num_heads, scale } | Op::AttentionPool { num_heads, scale } => {
                json!({ "num_heads": num_heads, "scale": scale })
            }
            Op::InsertTokens { at, .. } => json!({ "at": at }),
            Op::DropTokens { count, at } => json!({ "count": count, "at": at }),
            Op::PixelShuffle { grid, factor } => json!({ "grid": grid, "factor": factor }),
            Op::MeanTokens { skip } => json!({ "skip": skip }),
            Op::RepAdapter { groups, scale, .. } => json!({ "groups": groups, "scale": scale }),
            _ => json!({}),
        };
        fields["name"] = json!(node.name);
        fields["op"] = json!(node.op.name());
        fields["inputs"] = json!(node.inputs);
        fields
    });
    nodes.collect()
}

fn write_reference(folder: &Path, graph: &Graph) {
    let mut index = BTreeMap::new();
    let mut bytes = Vec::new();
    for (name, tensor) in &graph.weights {
        index.insert(name, (tensor.shape(), bytes.len() / 4));
        bytes.extend(tensor.values().iter().flat_map(|value| value.to_le_bytes()));
    }
    std::fs::write(folder.join("graph.json"), describe(graph).to_string()).unwrap();
    std::fs::write(folder.join("weights.json"), json!(index).to_string()).unwrap();
    std::fs::write(folder.join("weights.bin"), bytes).unwrap();
}

fn python(arguments: &[&str]) -> Option<Output> {
    Command::new("python3").args(arguments).output().ok()
}

/// Compares the files that `models` makes with the definition of `graph`; returns the script's lines.
fn differences(graph: &Graph, models: &[(&str, &Graph, Batch)]) -> Option<Vec<String>> {
    let peers = python(&["-c", "import numpy, onnx, onnxruntime"]);
    if !peers.is_some_and(|output| output.status.success()) {
        eprintln!("skipped: python3 does not find numpy, onnx and onnxruntime; ./test installs them");
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    write_reference(folder.path(), graph);
    for (name, model, batch) in models {
        write(&folder.path().join(name), model, *batch, &BTreeMap::new()).unwrap();
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/onnx_reference.py");
    let output = python(&[script.to_str().unwrap(), folder.path().to_str().unwrap()]).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines: Vec<String> = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), models.len());
    Some(lines)
}

#[track_caller]
fn agree(lines: Vec<String>, output: &str) {
    for line in lines {
        println!("{line}");
        let words: Vec<&str> = line.split(' ').collect();
        assert_eq!(words[1..3], ["pixels", output], "{line}");
        assert!(words[3].parse::<f64>().unwrap() <= F32_RELATIVE, "{line}");
    }
}

#[test]
fn plain_unmerged_and_folded_files_compute_what_the_graph_says() {
    let mut graph = insert(&small_vit(), &Spec { hidden: 4, groups: 2, scale: 0.7, ..Spec::default() }, 0).unwrap();
    fill(&mut graph, 3);
    let folded = fold(&graph, 1.0).unwrap();
    let models = [
        ("folded.onnx", &folded, Batch::One),
        ("folded_free.onnx", &folded, Batch::Free),
        ("unmerged.onnx", &graph, Batch::One),
        ("unmerged_free.onnx", &graph, Batch::Free),
    ];
    // Every file is held against the unfolded definition.
    let Some(lines) = differences(&graph, &models) else { return };
    agree(lines, "logits");
}

#[test]
fn a_mean_over_tokens_and_a_layer_without_bias_compute_what_the_graph_says() {
    let mut graph = small_vit();
    graph.nodes.truncate(graph.find("norm").unwrap() + 1);
    let norm = graph.nodes.len() - 1;
    let pool = graph.push("pool", Op::MeanTokens { skip: 1 }, &[norm]);
    graph.push("neck", Op::Linear { out_features: 7, bias: false }, &[pool]);
    graph.weights.clear();
    fill(&mut graph, 4);
    let models = [("mean.onnx", &graph, Batch::One), ("mean_free.onnx", &graph, Batch::Free)];
    let Some(lines) = differences(&graph, &models) else { return };
    agree(lines, "features");
}

#[test]
fn the_tubelets_of_a_clip_compute_what_the_graph_says() {
    let mut graph = Graph::default();
    let pixels = graph.push("pixels", Op::Input { shape: vec![6 * 3, 8, 12] }, &[]);
    let embed = Op::PatchEmbed { patch_size: 4, embed_dim: 10, tubelets: 3 };
    let x = graph.push("patch_embed.proj", embed, &[pixels]);
    let x = graph.push("pos_embed", Op::PosEmbed, &[x]);
    let x = graph.push("qkv", Op::Linear { out_features: 30, bias: true }, &[x]);
    let x = graph.push("attn", Op::Attention { num_heads: 2, scale: 0.5 }, &[x]);
    graph.push("pool", Op::MeanTokens { skip: 0 }, &[x]);
    fill(&mut graph, 4);
    let models = [("clip.onnx", &graph, Batch::One), ("clip_free.onnx", &graph, Batch::Free)];
    let Some(lines) = differences(&graph, &models) else { return };
    agree(lines, "features");
}

#[test]
fn a_head_of_finer_masks_computes_what_the_graph_says() {
    let mut graph = with_patch_head(&small_vit(), 5, 2).unwrap();
    fill(&mut graph, 6);
    let models = [("fine.onnx", &graph, Batch::One), ("fine_free.onnx", &graph, Batch::Free)];
    let Some(lines) = differences(&graph, &models) else { return };
    agree(lines, "logits");
}

#[test]
fn registers_activations_and_pooling_by_attention_compute_what_the_graph_says() {
    let mut graph = small_vit();
    graph.nodes.truncate(graph.find("norm").unwrap() + 1);
    let mut x = graph.nodes.len() - 1;
    x = graph.push("reg_token", Op::InsertTokens { count: 3, at: 1 }, &[x]);
    x = graph.push("last_token", Op::InsertTokens { count: 1, at: 10 }, &[x]);
    for (name, activation) in [
        ("quick", Activation::QuickGelu),
        ("tanh", Activation::GeluTanh),
        ("relu", Activation::Relu),
        ("silu", Activation::Silu),
    ] {
        x = graph.push(format!("{name}.fc"), Op::Linear { out_features: 12, bias: true }, &[x]);
        x = graph.push(name, Op::Act(activation), &[x]);
    }
    graph.push("pool", Op::AttentionPool { num_heads: 3, scale: 0.5 }, &[x]);
    graph.weights.clear();
    fill(&mut graph, 4);
    let models = [("pool.onnx", &graph, Batch::One), ("pool_free.onnx", &graph, Batch::Free)];
    let Some(lines) = differences(&graph, &models) else { return };
    agree(lines, "features");
}
