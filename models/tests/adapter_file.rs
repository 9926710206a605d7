//! Adapter files: what is written is read again, and every file that does not fit is refused with its own reason.

#![allow(clippy::unwrap_used, reason = "the helpers of a test may panic as the test does")]

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use edge_vit_models::adapter::{
    Adaptation, AdapterError, FORMAT_VERSION, File, METADATA_KEY, METHOD, Meta, Placement, Spec, insert, trainable,
};
use edge_vit_models::checkpoint::{CheckpointError, write_safetensors};
use edge_vit_models::{Graph, Task, Tensor};
use serde_json::{Value, json};

use common::{CLASSES, IMAGE_SIZE, fill, small_vit};

const SHA256: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
const TENSOR: &str = "blocks.1.attn.adapter.adapter_B.weight";

fn spec() -> Spec {
    Spec { placement: Placement::RepAttn, hidden: 4, groups: 2, scale: 0.1, blocks: Some(1..2) }
}

/// The adapted small ViT and the file of its adapters and head.
fn trained() -> (Graph, File) {
    let mut graph = insert(&small_vit(), &spec(), 0).unwrap();
    let backbone = graph.weights.clone();
    fill(&mut graph, 7);
    let names = trainable(&graph);
    for (name, tensor) in backbone {
        if !names.contains(&name) {
            graph.weights.insert(name, tensor);
        }
    }
    let meta = Meta {
        format_version: Meta::version(Task::Classification),
        task: Task::Classification,
        method: METHOD.to_owned(),
        spec: Adaptation::Adapters(spec()),
        backbone_name: "small_vit".to_owned(),
        backbone_sha256: SHA256.to_owned(),
        image_size: IMAGE_SIZE,
        labels: (0..CLASSES).map(|class| format!("class \"{class}\" \u{e9}")).collect(),
        preprocessing: json!({ "mean": [0.485, 0.456, 0.406] }),
        training: json!({ "epochs": 3 }),
    };
    let tensors = names.into_iter().map(|name| (name.clone(), graph.weights[&name].clone())).collect();
    (graph, File { meta, tensors })
}

fn written(file: &File, metadata: &BTreeMap<String, String>) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("adapters.safetensors");
    write_safetensors(&path, &file.tensors, metadata).unwrap();
    (folder, path)
}

/// Reads a file whose metadata are those of a good one after `change`.
fn read_changed(change: impl FnOnce(&mut Value)) -> AdapterError {
    let (_, file) = trained();
    let mut meta = serde_json::to_value(&file.meta).unwrap();
    change(&mut meta);
    let (_folder, path) = written(&file, &BTreeMap::from([(METADATA_KEY.to_owned(), meta.to_string())]));
    File::read(&path).unwrap_err()
}

/// Applies a good file after `change`.
fn apply_changed(change: impl FnOnce(&mut File)) -> AdapterError {
    let (_, mut file) = trained();
    change(&mut file);
    file.apply(&small_vit(), SHA256).unwrap_err()
}

#[test]
fn what_is_written_is_read_and_applied_again() {
    let (graph, file) = trained();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("adapters.safetensors");
    file.write(&path).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let read = File::read(&path).unwrap();
    assert_eq!(read, file);
    // The backbone's own head gives way to the trained one.
    assert_eq!(read.apply(&small_vit(), &SHA256.to_uppercase()).unwrap(), graph);
    read.write(&path).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), bytes, "equal contents give equal bytes");
}

#[test]
fn a_file_that_is_not_there_or_truncated_is_refused() {
    let error = File::read(Path::new("nowhere/adapters.safetensors")).unwrap_err();
    assert!(matches!(error, AdapterError::Checkpoint(CheckpointError::Read { .. })), "{error}");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("adapters.safetensors");
    trained().1.write(&path).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    for len in [0, 4, 100, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..len]).unwrap();
        let error = File::read(&path).unwrap_err();
        assert!(matches!(error, AdapterError::Checkpoint(_)), "{len}: {error}");
    }
}

#[test]
fn a_backbone_is_no_adapter_file() {
    let (_folder, path) = written(&trained().1, &BTreeMap::from([("format".to_owned(), "pt".to_owned())]));
    let error = File::read(&path).unwrap_err();
    assert!(matches!(error, AdapterError::NotAnAdapterFile { .. }), "{error}");
}

#[test]
fn metadata_that_cannot_be_understood_are_refused() {
    let error = read_changed(|meta| meta["labels"] = json!("one"));
    assert!(matches!(error, AdapterError::Metadata { .. }), "{error}");
    let (_folder, path) = written(&trained().1, &BTreeMap::from([(METADATA_KEY.to_owned(), "{".to_owned())]));
    let error = File::read(&path).unwrap_err();
    assert!(matches!(error, AdapterError::Metadata { .. }), "{error}");
}

#[test]
fn a_later_format_is_refused_even_where_it_holds_other_things() {
    let error = read_changed(|meta| *meta = json!({ "format_version": FORMAT_VERSION + 1 }));
    assert!(matches!(error, AdapterError::NewerFormat { got: 3, supported: 2 }), "{error}");
}

#[test]
fn an_unknown_method_is_refused() {
    let error = read_changed(|meta| meta["method"] = json!("prompt"));
    assert!(matches!(error, AdapterError::Method { got, .. } if got == "prompt"));
}

#[test]
fn a_method_that_its_description_is_not_of_is_refused() {
    let error = read_changed(|meta| meta["method"] = json!("lora"));
    assert!(matches!(error, AdapterError::Metadata { ref reason } if reason.contains("`repadapter`")), "{error}");
}

#[test]
fn labels_must_be_as_many_as_the_head_has_rows() {
    let error = read_changed(|meta| meta["labels"] = json!(["one"]));
    assert!(matches!(error, AdapterError::LabelCount { labels: 1, rows: CLASSES }), "{error}");
    let (_, mut file) = trained();
    file.meta.labels.pop();
    let folder = tempfile::tempdir().unwrap();
    let error = file.write(&folder.path().join("adapters.safetensors")).unwrap_err();
    assert!(matches!(error, AdapterError::LabelCount { .. }), "{error}");
}

#[test]
fn another_backbone_is_refused() {
    let error = trained().1.apply(&small_vit(), "00").unwrap_err();
    assert!(matches!(&error, AdapterError::OtherBackbone { got, .. } if got == "00"), "{error}");
    assert!(error.to_string().contains("small_vit"), "{error}");
}

#[test]
fn pictures_of_another_size_are_refused() {
    let error = apply_changed(|file| file.meta.image_size = [12, 8]);
    assert!(matches!(error, AdapterError::ImageSize { expected: [12, 8], .. }), "{error}");
}

#[test]
fn tensors_must_be_exactly_those_of_the_description() {
    let error = apply_changed(|file| drop(file.tensors.remove(TENSOR)));
    assert!(matches!(&error, AdapterError::MissingTensor { name, .. } if name == TENSOR), "{error}");
    let error = apply_changed(|file| drop(file.tensors.remove("head.weight")));
    assert!(matches!(&error, AdapterError::MissingTensor { name, .. } if name == "head.weight"), "{error}");
    let error = apply_changed(|file| drop(file.tensors.insert(TENSOR.to_owned(), Tensor::full([16, 4], 0.0).unwrap())));
    assert!(matches!(&error, AdapterError::TensorShape { got, .. } if got == &[16, 4]), "{error}");
    let error = apply_changed(|file| drop(file.tensors.insert("fc".to_owned(), Tensor::full([1], 0.0).unwrap())));
    assert!(matches!(&error, AdapterError::UnexpectedTensor { name } if name == "fc"), "{error}");
}

#[test]
fn a_description_that_the_backbone_cannot_take_is_refused() {
    let error = apply_changed(|file| file.meta.spec = Adaptation::Adapters(Spec { blocks: Some(1..9), ..spec() }));
    assert!(matches!(error, AdapterError::BlockRange { depth: 2, .. }), "{error}");
    let error = apply_changed(|file| file.meta.spec = Adaptation::Adapters(Spec { groups: 0, ..spec() }));
    assert!(matches!(error, AdapterError::Grouping { .. }), "{error}");
}
