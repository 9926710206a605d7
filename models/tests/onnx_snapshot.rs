//! The structure of an emitted file is a stored text: a difference that nobody declared fails.
//!
//! `UPDATE_SNAPSHOTS=1 cargo test -p edge-vit-models --test onnx_snapshot` rewrites the stored texts.

#![allow(clippy::unwrap_used, reason = "the helpers of a test may panic as the test does")]

mod common;

use std::collections::BTreeMap;
use std::path::PathBuf;

use edge_vit_models::adapter::{Spec, insert};
use edge_vit_models::fold::fold;
use edge_vit_models::onnx::{Batch, to_bytes, to_text};
use edge_vit_models::{Graph, Op};

use common::{fill, small_vit};

/// The small ViT with trained-looking adapters: no weight of theirs is zero.
fn adapted() -> Graph {
    let spec = Spec { hidden: 4, groups: 2, ..Spec::default() };
    let mut graph = insert(&small_vit(), &spec, 0).unwrap();
    fill(&mut graph, 2);
    graph
}

fn text(graph: &Graph, batch: Batch) -> String {
    to_text(&to_bytes(graph, batch, &BTreeMap::new()).unwrap()).unwrap()
}

#[track_caller]
fn matches_snapshot(name: &str, text: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots").join(name);
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let stored = std::fs::read_to_string(&path).unwrap_or_default().replace("\r\n", "\n");
    for (number, (got, expected)) in text.lines().zip(stored.lines()).enumerate() {
        assert_eq!(got, expected, "{name}, line {}; UPDATE_SNAPSHOTS=1 rewrites it", number + 1);
    }
    assert_eq!(text.lines().count(), stored.lines().count(), "{name}; UPDATE_SNAPSHOTS=1 rewrites it");
}

#[test]
fn the_plain_and_the_folded_backbone_are_the_same_text() {
    let folded = fold(&adapted(), 1.0).unwrap();
    for (batch, name) in [(Batch::One, "small_vit.txt"), (Batch::Free, "small_vit_free_batch.txt")] {
        matches_snapshot(name, &text(&small_vit(), batch));
        matches_snapshot(name, &text(&folded, batch));
    }
    let weights = |graph: &Graph| to_bytes(graph, Batch::One, &BTreeMap::new()).unwrap();
    assert_ne!(weights(&folded), weights(&small_vit()), "only the text is the same");
}

#[test]
fn the_unmerged_graph_is_as_stored() {
    matches_snapshot("small_vit_unmerged.txt", &text(&adapted(), Batch::One));
}

#[test]
fn a_graph_without_head_gives_features() {
    let mut graph = small_vit();
    graph.nodes.truncate(graph.find("norm").unwrap() + 1);
    let norm = graph.nodes.len() - 1;
    graph.push("pool", Op::MeanTokens { skip: 1 }, &[norm]);
    let text = text(&graph, Batch::One);
    assert!(text.contains("output features Float [1, 16]\n"), "{text}");
    assert!(text.contains("Slice pool/kept ") && text.contains("ReduceMean pool "), "{text}");
}

#[test]
fn equal_arguments_give_equal_bytes_with_the_metadata_in_them() {
    let metadata = BTreeMap::from([("edge_vit.labels".to_owned(), "[\"a\",\"b\"]".to_owned())]);
    let bytes = || to_bytes(&small_vit(), Batch::One, &metadata).unwrap();
    assert_eq!(bytes(), bytes());
    assert!(to_text(&bytes()).unwrap().contains("\nmetadata edge_vit.labels\n"));
}

#[test]
fn a_missing_weight_is_refused_and_foreign_bytes_are_no_model() {
    let mut graph = small_vit();
    graph.weights.remove("cls_token");
    let error = to_bytes(&graph, Batch::One, &BTreeMap::new()).unwrap_err();
    assert!(error.to_string().contains("`cls_token`"), "{error}");
    assert!(to_text(b"not a model").is_err());
}
