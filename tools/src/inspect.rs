//! What a file is and holds: weights, adapters, the state of a run, a merged model, any other ONNX model.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use edge_vit::Bundle;
use edge_vit_models::checkpoint::{self, Checkpoint, CheckpointError, Publisher};
use edge_vit_models::file::hex;
use edge_vit_models::onnx::proto::{Dimension, DimensionValue, ModelProto, ValueInfoProto};
use edge_vit_models::{adapter, backbone, mobilevit, vit};
use prost::Message as _;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::report::run::as_json;
use crate::train::STATE_KEY;

/// How the keys of a bundle begin in the metadata of a merged model.
const BUNDLE_PREFIX: &str = "edge_vit.";
/// First bytes of files that are often taken for models, and what is to be said of them.
const STRANGERS: [(&[u8], &str); 6] = [
    (b"version https://git-lfs", "a Git LFS pointer: the file itself has not been fetched"),
    (b"<!DOCTYPE", "a web page: the download went wrong"),
    (b"<html", "a web page: the download went wrong"),
    (b"\xff\xd8\xff", "a JPEG picture: `edge-vit` classifies it"),
    (b"\x89PNG", "a PNG picture: `edge-vit` classifies it"),
    (b"GGUF", "a GGUF file: convert it to safetensors"),
];

/// Why it cannot be said what a file holds.
#[derive(Debug, Error)]
pub enum InspectError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A folder was named.
    #[error("{} is a folder: name a file in it", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
    },
    /// The file is empty.
    #[error("{} is empty", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The file is of a kind that holds no model here.
    #[error("{} is neither safetensors nor ONNX, but {what}", path.display())]
    Stranger {
        /// The file.
        path: PathBuf,
        /// What it is, and what to do.
        what: &'static str,
    },
    /// The file begins like none that is known.
    #[error("{} is neither safetensors nor ONNX, or its beginning is damaged", path.display())]
    Unknown {
        /// The file.
        path: PathBuf,
    },
    /// The file begins like one that is known, and does not go on like it.
    #[error("{} begins like {kind} and is cut short or damaged: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The kind that it begins like.
        kind: &'static str,
        /// What is wrong.
        reason: String,
    },
}

/// What a file is, and the facts about it in the order to be told.
#[derive(Debug, Clone, PartialEq)]
pub struct Description {
    /// What it is, in words.
    pub what: &'static str,
    /// Names and values.
    pub facts: Vec<(&'static str, Value)>,
}

impl Description {
    /// One object, with the kind under `what`.
    pub fn to_json(&self) -> Value {
        let facts = self.facts.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
        Value::Object(std::iter::once(("what".to_owned(), json!(self.what))).chain(facts).collect())
    }
}

/// Says what the file at `path` is and holds.
///
/// # Errors
/// When it cannot be read, is of no known kind, or is cut short or damaged.
pub fn inspect(path: &Path) -> Result<Description, InspectError> {
    if path.is_dir() {
        return Err(InspectError::Folder { path: path.to_owned() });
    }
    let bytes = fs::read(path).map_err(|source| InspectError::Read { path: path.to_owned(), source })?;
    let damaged = |kind, reason| InspectError::Damaged { path: path.to_owned(), kind, reason };
    let mut description = match bytes.as_slice() {
        [] => return Err(InspectError::Empty { path: path.to_owned() }),
        [_, _, _, _, _, _, _, _, b'{', ..] => {
            safetensors(path, &bytes).map_err(|reason| damaged("safetensors", reason))?
        }
        // The first field of every ONNX file that known writers make: ir_version.
        [0x08, ..] => onnx(&bytes).map_err(|reason| damaged("ONNX", reason))?,
        [b'P', b'K', ..] | [0x80, 2..=5, ..] => {
            let checkpoint = checkpoint::read(path).map_err(|error| match error {
                CheckpointError::File { cause, .. } => damaged("PyTorch or NumPy", cause.to_string()),
                error => damaged("PyTorch or NumPy", error.to_string()),
            })?;
            Description { what: "weights of a backbone (PyTorch or NumPy)", facts: weights(&checkpoint) }
        }
        _ => {
            let stranger = STRANGERS.iter().find(|(magic, _)| bytes.starts_with(magic));
            return Err(match stranger {
                Some(&(_, what)) => InspectError::Stranger { path: path.to_owned(), what },
                None => InspectError::Unknown { path: path.to_owned() },
            });
        }
    };
    let sha256 = hex(Sha256::digest(&bytes));
    description.facts.splice(0..0, [("bytes", json!(bytes.len())), ("sha256", json!(sha256))]);
    Ok(description)
}

fn safetensors(path: &Path, bytes: &[u8]) -> Result<Description, String> {
    let checkpoint = Checkpoint::from_bytes(bytes).map_err(|error| error.to_string())?;
    if let Some(state) = checkpoint.metadata.get(STATE_KEY) {
        return run_state(&checkpoint, state);
    }
    if checkpoint.metadata.contains_key(adapter::METADATA_KEY) {
        return adapters(path);
    }
    let what = "weights of a backbone (safetensors)";
    let mut facts = weights(&checkpoint);
    if !checkpoint.metadata.is_empty() {
        facts.push(("metadata", json!(checkpoint.metadata)));
    }
    Ok(Description { what, facts })
}

/// Counts, the publisher's way of naming, and the backbone that the weights make.
fn weights(checkpoint: &Checkpoint) -> Vec<(&'static str, Value)> {
    let mut facts = vec![
        ("tensors", json!(checkpoint.tensors.len())),
        ("parameters", json!(checkpoint.tensors.values().map(|tensor| tensor.len()).sum::<usize>())),
    ];
    match backbone::describe(checkpoint) {
        Ok(config) => {
            let names = match Publisher::of(&checkpoint.tensors) {
                Publisher::Timm => "timm",
                Publisher::HuggingFaceDinov2 => "Hugging Face, DINOv2",
                Publisher::HuggingFaceDinov2WithRegisters => "Hugging Face, DINOv2 with registers",
                Publisher::HuggingFaceVit => "Hugging Face, ViT",
                Publisher::HuggingFaceClip => "Hugging Face, CLIP",
                Publisher::HuggingFaceSiglip => "Hugging Face, SigLIP",
                Publisher::OpenAiClip => "OpenAI, CLIP",
                Publisher::Jax => "Google, ViT in JAX",
                Publisher::MicrosoftSwin => "Microsoft, Swin",
                Publisher::HuggingFaceSwin => "Hugging Face, Swin",
                Publisher::HuggingFaceSwinV2 => "Hugging Face, Swin V2",
                Publisher::MetaConvNext => "Meta, ConvNeXt",
                Publisher::HuggingFaceConvNext => "Hugging Face, ConvNeXt",
                Publisher::HuggingFaceMobileVit => "Hugging Face, MobileViT",
                Publisher::VideoMae => "VideoMAE",
                Publisher::HuggingFaceVideoMae => "Hugging Face, VideoMAE",
            };
            facts.extend([("names", json!(names)), ("backbone", sizes(&config))]);
        }
        Err(reason) => facts.push(("backbone", json!(format!("none that is known: {reason}")))),
    }
    facts
}

fn sizes(config: &backbone::Config) -> Value {
    match config {
        backbone::Config::Vit(config) => transformer(config),
        backbone::Config::Swin(config) => json!({
            "architecture": if config.v2.is_some() { "swin v2" } else { "swin" },
            "image_size": config.image_size,
            "patch_size": config.patch_size,
            "embed_dim": config.embed_dim,
            "depths": config.depths,
            "num_heads": config.num_heads,
            "window_sizes": config.window_sizes,
            "mlp_ratio": as_json(&config.mlp_ratio),
            "num_classes": config.num_classes,
        }),
        backbone::Config::ConvNext(config) => json!({
            "architecture": if config.use_grn { "convnext v2" } else { "convnext" },
            "image_size": config.image_size,
            "patch_size": config.patch_size,
            "depths": config.depths,
            "dims": config.dims,
            "kernel_size": config.kernel_size,
            "mlp_ratio": as_json(&config.mlp_ratio),
            "layer_scale": config.layer_scale,
            "num_classes": config.num_classes,
        }),
        backbone::Config::MobileVit(config) => {
            let widths: Vec<_> = config.stages.iter().map(|stage| &stage.bottlenecks).collect();
            let of_stages = |of: fn(&mobilevit::Transformer) -> usize| -> Vec<usize> {
                config.stages.iter().filter_map(|stage| stage.transformer.as_ref().map(of)).collect()
            };
            json!({
                "architecture": "mobilevit",
                "image_size": config.image_size,
                "inverted_residuals": widths,
                "embed_dims": of_stages(|transformer| transformer.embed_dim),
                "depths": of_stages(|transformer| transformer.depth),
                "num_heads": config.num_heads,
                "num_features": config.num_features,
                "num_classes": config.num_classes,
            })
        }
    }
}

fn transformer(config: &vit::Config) -> Value {
    json!({
        "architecture": "vit",
        "image_size": config.image_size,
        "num_frames": config.num_frames,
        "tubelet_size": config.tubelet_size,
        "patch_size": config.patch_size,
        "embed_dim": config.embed_dim,
        "depth": config.depth,
        "num_heads": config.num_heads,
        "mlp_ratio": as_json(&config.mlp_ratio),
        "layer_scale": config.layer_scale,
        "class_token": config.class_token,
        "dist_token": config.dist_token,
        "reg_tokens": config.reg_tokens,
        "pre_norm": config.pre_norm,
        "act_layer": config.act_layer.name(),
        "global_pool": config.global_pool.name(),
        "num_classes": config.num_classes,
    })
}

fn adapters(path: &Path) -> Result<Description, String> {
    let file = adapter::File::read(path).map_err(|error| error.to_string())?;
    let count = |head: bool| -> usize {
        let wanted = file.tensors.iter().filter(|(name, _)| name.starts_with("head.") == head);
        wanted.map(|(_, tensor)| tensor.len()).sum()
    };
    let meta = &file.meta;
    let facts = vec![
        ("method", json!(meta.method)),
        ("task", json!(meta.task.name())),
        ("spec", as_json(&meta.spec)),
        ("adapter_parameters", json!(count(false))),
        ("head_parameters", json!(count(true))),
        ("backbone", json!({ "name": meta.backbone_name, "sha256": meta.backbone_sha256 })),
        ("image_size", json!(meta.image_size)),
        ("labels", json!(meta.labels)),
        ("preprocessing", meta.preprocessing.clone()),
        ("training", meta.training.clone()),
        ("format_version", json!(meta.format_version)),
    ];
    Ok(Description { what: "trained adapters with their head: `fold` makes a model of them", facts })
}

fn run_state(checkpoint: &Checkpoint, state: &str) -> Result<Description, String> {
    let mut state: Value = serde_json::from_str(state).map_err(|error| error.to_string())?;
    let trained = checkpoint.tensors.iter().filter(|(name, _)| name.starts_with("value/"));
    let parameters: usize = trained.map(|(_, tensor)| tensor.len()).sum();
    let kept_epoch = state.pointer("/kept/epoch").cloned().unwrap_or_default();
    let mut take = |key: &str| state.get_mut(key).map(Value::take).unwrap_or_default();
    let facts = vec![
        ("steps", take("steps")),
        ("epochs", take("epochs")),
        ("kept_epoch", kept_epoch),
        ("device", take("device")),
        ("trained_parameters", json!(parameters)),
        ("config", take("config")),
        ("format_version", take("format_version")),
    ];
    Ok(Description { what: "state of a training run: `train --resume` goes on from it", facts })
}

fn onnx(bytes: &[u8]) -> Result<Description, String> {
    let model = ModelProto::decode(bytes).map_err(|error| error.to_string())?;
    let graph = model.graph.as_ref().ok_or("it holds no graph")?;
    let mut operators: BTreeMap<&str, usize> = BTreeMap::new();
    for node in &graph.node {
        *operators.entry(node.op_type.as_str()).or_default() += 1;
    }
    // The dimensions are read from a file: they may claim anything.
    let elements = |dims: &[i64]| dims.iter().fold(1u64, |all, &dim| all.saturating_mul(dim.try_into().unwrap_or(0)));
    let sizes = graph.initializer.iter().map(|weight| elements(&weight.dims));
    let parameters = sizes.fold(0u64, u64::saturating_add);
    let opsets: BTreeMap<&str, i64> = model
        .opset_import
        .iter()
        .map(|opset| (if opset.domain.is_empty() { "ai.onnx" } else { opset.domain.as_str() }, opset.version))
        .collect();
    let ends = |values: &[ValueInfoProto]| -> BTreeMap<String, String> {
        values.iter().map(|value| (value.name.clone(), shape(value))).collect()
    };
    // Older writers list the weights among the inputs too.
    let is_weight = |value: &&ValueInfoProto| graph.initializer.iter().any(|weight| weight.name == value.name);
    let inputs: Vec<ValueInfoProto> = graph.input.iter().filter(|value| !is_weight(value)).cloned().collect();
    let graph_facts = [
        ("producer", json!(format!("{} {}", model.producer_name, model.producer_version).trim())),
        ("ir_version", json!(model.ir_version)),
        ("opset", json!(opsets)),
        ("inputs", json!(ends(&inputs))),
        ("outputs", json!(ends(&graph.output))),
        ("operators", json!(operators)),
        ("initializers", json!(graph.initializer.len())),
        ("parameters", json!(parameters)),
    ];
    let metadata: BTreeMap<String, String> =
        model.metadata_props.iter().map(|entry| (entry.key.clone(), entry.value.clone())).collect();
    if metadata.keys().any(|key| key.starts_with(BUNDLE_PREFIX)) {
        let bundle = Bundle::from_metadata(&metadata).map_err(|error| error.to_string())?;
        let own = [
            ("task", json!(bundle.task)),
            ("labels", json!(bundle.labels)),
            ("preprocessing", as_json(&bundle.preprocessing)),
            ("activation", json!(bundle.activation)),
            ("provenance", as_json(&bundle.provenance)),
            ("golden_cases", json!(bundle.golden.len())),
            ("rejection", as_json(&bundle.rejection)),
            ("golden_tolerance", json!(bundle.golden_tolerance.unwrap_or(edge_vit::LOGIT_TOLERANCE))),
            ("half_products", json!(bundle.half_products)),
        ];
        let what = "merged model: one file for `edge-vit` (ONNX)";
        return Ok(Description { what, facts: own.into_iter().chain(graph_facts).collect() });
    }
    let mut facts: Vec<(&'static str, Value)> = graph_facts.to_vec();
    if let Ok(checkpoint) = Checkpoint::from_bytes(bytes) {
        facts.extend(weights(&checkpoint).into_iter().filter(|(name, _)| matches!(*name, "names" | "backbone")));
    }
    if !metadata.is_empty() {
        facts.push(("metadata", json!(metadata)));
    }
    Ok(Description { what: "ONNX model without labels and preprocessing", facts })
}

/// The shape of an input or output as `[batch, 3, 224, 224]`.
fn shape(value: &ValueInfoProto) -> String {
    let Some(tensor) = value.r#type.as_ref().and_then(|kind| kind.tensor_type.as_ref()) else {
        return "no tensor".to_owned();
    };
    let size = |dimension: &Dimension| match &dimension.value {
        Some(DimensionValue::DimValue(size)) => size.to_string(),
        Some(DimensionValue::DimParam(name)) => name.clone(),
        None => "?".to_owned(),
    };
    match &tensor.shape {
        Some(shape) => format!("[{}]", shape.dim.iter().map(size).collect::<Vec<_>>().join(", ")),
        None => "of any shape".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use edge_vit_models::Tensor;
    use edge_vit_models::onnx::proto::{
        GraphProto, NodeProto, OperatorSetIdProto, StringStringEntryProto, TensorProto,
    };

    use super::*;

    fn described(bytes: &[u8]) -> Result<Description, InspectError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, bytes).unwrap();
        inspect(&path)
    }

    fn model(metadata: &[(&str, &str)]) -> ModelProto {
        let entry = |&(key, value): &(&str, &str)| StringStringEntryProto { key: key.into(), value: value.into() };
        let node = |op_type: &str| NodeProto { op_type: op_type.into(), ..NodeProto::default() };
        let weight = TensorProto { name: "w".into(), dims: vec![2, 3], data_type: 1, ..TensorProto::default() };
        ModelProto {
            ir_version: 8,
            opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 17 }],
            graph: Some(GraphProto {
                node: ["MatMul", "Add", "MatMul"].map(node).to_vec(),
                initializer: vec![weight],
                ..GraphProto::default()
            }),
            metadata_props: metadata.iter().map(entry).collect(),
            ..ModelProto::default()
        }
    }

    #[test]
    fn an_onnx_model_is_counted_and_its_bundle_read() {
        let plain = described(&model(&[("author", "someone")]).encode_to_vec()).unwrap().to_json();
        assert_eq!(plain["operators"], json!({"Add": 1, "MatMul": 2}));
        assert_eq!((&plain["opset"], &plain["parameters"]), (&json!({"ai.onnx": 17}), &json!(6)));
        assert_eq!(plain["metadata"]["author"], "someone");
        assert!(plain["what"].as_str().unwrap().contains("without labels"));

        let bundle = Bundle {
            labels: vec!["orange".into(), "vase".into()],
            preprocessing: edge_vit::Preprocessing::imagenet([28, 28]),
            activation: edge_vit::Activation::Softmax,
            provenance: edge_vit::Provenance::default(),
            golden: Vec::new(),
            rejection: Some(edge_vit::Rejection { temperature: 1.25, threshold: 0.5, false_rejection_rate: 0.05 }),
            golden_tolerance: None,
            half_products: edge_vit::HalfProducts::Never,
            task: edge_vit::Task::Classification,
        };
        let metadata = bundle.to_metadata().unwrap();
        let pairs: Vec<(&str, &str)> = metadata.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let merged = described(&model(&pairs).encode_to_vec()).unwrap().to_json();
        assert_eq!((&merged["labels"], &merged["golden_cases"]), (&json!(["orange", "vase"]), &json!(0)));
        assert_eq!(
            merged["rejection"],
            json!({"temperature": 1.25, "threshold": 0.5, "false_rejection_rate": 0.05f32.to_string().parse::<f64>().unwrap()})
        );

        let broken = described(&model(&pairs[1..]).encode_to_vec()).unwrap_err();
        assert!(matches!(broken, InspectError::Damaged { kind: "ONNX", .. }), "{broken}");
    }

    #[test]
    fn weights_of_no_known_model_and_the_state_of_a_run_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("weights.safetensors");
        let tensors = |name: &str| BTreeMap::from([(name.to_owned(), Tensor::full([2, 3], 1.0).unwrap())]);
        checkpoint::write_safetensors(&path, &tensors("strange"), &BTreeMap::new()).unwrap();
        let strange = inspect(&path).unwrap().to_json();
        assert_eq!(strange["parameters"], 6);
        assert!(strange["backbone"].as_str().unwrap().starts_with("none that is known"), "{strange}");

        let state =
            r#"{"steps":7,"epochs":2,"kept":{"epoch":1},"device":"cpu","config":{"seed":0},"format_version":1}"#;
        let metadata = BTreeMap::from([(STATE_KEY.to_owned(), state.to_owned())]);
        checkpoint::write_safetensors(&path, &tensors("value/head.weight"), &metadata).unwrap();
        let state = inspect(&path).unwrap().to_json();
        assert_eq!((&state["steps"], &state["kept_epoch"]), (&json!(7), &json!(1)));
        assert_eq!(state["trained_parameters"], 6);

        let whole = fs::read(&path).unwrap();
        let cut = described(&whole[..whole.len() - 3]).unwrap_err();
        assert!(matches!(cut, InspectError::Damaged { kind: "safetensors", .. }), "{cut}");
    }

    #[test]
    fn bad_files_get_a_sentence_each() {
        let whole = model(&[("author", "someone")]).encode_to_vec();
        let cut = described(&whole[..whole.len() - 3]).unwrap_err();
        assert!(matches!(cut, InspectError::Damaged { kind: "ONNX", .. }), "{cut}");
        assert!(matches!(described(b""), Err(InspectError::Empty { .. })));
        assert!(matches!(described(b"hello there"), Err(InspectError::Unknown { .. })));
        let zip = described(b"PK\x03\x04 and so on").unwrap_err();
        assert!(matches!(zip, InspectError::Damaged { kind: "PyTorch or NumPy", .. }), "{zip}");
        let pointer = described(b"version https://git-lfs.github.com/spec/v1").unwrap_err();
        assert!(matches!(pointer, InspectError::Stranger { .. }), "{pointer}");
        let header = described(b"\xff\xff\xff\xff\xff\xff\xff\x7f{}").unwrap_err();
        assert!(matches!(header, InspectError::Damaged { kind: "safetensors", .. }), "{header}");
        assert!(matches!(inspect(Path::new(".")), Err(InspectError::Folder { .. })));
        assert!(matches!(inspect(Path::new("no/such/file")), Err(InspectError::Read { .. })));
    }
}
