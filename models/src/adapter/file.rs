//! The file of adapters and head: all that is needed to fold them into their backbone without a flag.
//!
//! A safetensors file of float32 tensors under timm's names, whose metadata hold [`Meta`] as JSON under [`METADATA_KEY`].

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::backbone;
use crate::checkpoint;
use crate::fold::{FoldError, fold};
use crate::graph::{Graph, Node};
use crate::method::{MethodSpec, hosts};
use crate::op::{Op, Param};
use crate::task::Task;
use crate::tensor::Tensor;

use super::adaptation::merge;
use super::insert::place;
use super::{Adaptation, AdapterError, Comparison, is_adapter, is_head, params_where};

/// The latest version of the format, which is read with all before it. What is written is the first that can say it,
/// [`Meta::version`].
pub const FORMAT_VERSION: u32 = 2;
/// The key of the safetensors metadata under which [`Meta`] stands.
pub const METADATA_KEY: &str = "edge_vit.adapter";
/// The name of RepAdapter, arXiv 2302.08106.
pub const METHOD: &str = "repadapter";

/// What an adapter file says about itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Meta {
    /// The version of the format, [`Meta::version`]: a program that does not know it refuses the file.
    pub format_version: u32,
    /// What the head answers; files of the first version are of classification.
    #[serde(default, skip_serializing_if = "Task::is_default")]
    pub task: Task,
    /// The method's name, [`Adaptation::method`].
    pub method: String,
    /// Where the adapters stand, and their sizes.
    pub spec: Adaptation,
    /// Name of the backbone, for messages.
    pub backbone_name: String,
    /// SHA-256 of the backbone's file in hexadecimal: adapters fit no other weights.
    pub backbone_sha256: String,
    /// Height and width of the pictures, in pixels.
    pub image_size: [usize; 2],
    /// Name of each class, in the order of the head's rows.
    pub labels: Vec<String>,
    /// How a picture becomes the model's input, as the runtime describes it; not interpreted here.
    pub preprocessing: serde_json::Value,
    /// How the adapters were trained; not interpreted here.
    pub training: serde_json::Value,
}

impl Meta {
    /// The version of the format that a file of this task has.
    pub fn version(task: Task) -> u32 {
        match task {
            Task::Classification => 1,
            Task::Segmentation => 2,
        }
    }
}

/// Adapters and head.
#[derive(Debug, Clone, PartialEq)]
pub struct File {
    /// What they are.
    pub meta: Meta,
    /// Their tensors by name: those of the adapters, `head.weight` `[C, D]` and `head.bias` `[C]`; where masks are `s` times finer than patches
    /// `[s^2 C, D]` and `[s^2 C]`.
    pub tensors: BTreeMap<String, Tensor>,
}

/// A backbone with adapters in its weights.
#[derive(Debug, Clone, PartialEq)]
pub struct Merged {
    /// The graph, with its head.
    pub graph: Graph,
    /// The number of adapters, or of layers that a method changed.
    pub adapters: usize,
    /// The graph with its adapters as nodes, in full strength, where they have that form.
    pub unfolded: Option<Graph>,
    /// Of a method without that form: the largest difference of a merged layer's outputs to the method's definition in
    /// float64, relative to the largest of them.
    pub departure: f64,
}

impl File {
    /// Reads an adapter file.
    ///
    /// # Errors
    /// When it is no readable safetensors file, no adapter file, one of a later format or an unknown method, or its labels
    /// are not as many as its head has rows.
    pub fn read(path: &Path) -> Result<Self, AdapterError> {
        let checkpoint = checkpoint::read(path)?;
        let Some(json) = checkpoint.metadata.get(METADATA_KEY) else {
            return Err(AdapterError::NotAnAdapterFile { key: METADATA_KEY });
        };
        let file = Self { meta: parse_meta(json)?, tensors: checkpoint.tensors };
        file.check_labels()?;
        Ok(file)
    }

    /// Writes the file; a killed run leaves the old one or the new one.
    ///
    /// # Errors
    /// When the labels are not as many as the head has rows, or the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), AdapterError> {
        self.check_labels()?;
        let json = serde_json::to_string(&self.meta).map_err(damaged)?;
        let metadata = BTreeMap::from([(METADATA_KEY.to_owned(), json)]);
        Ok(checkpoint::write_safetensors(path, &self.tensors, &metadata)?)
    }

    /// The backbone with these adapters and this head in it, not folded; a method other than RepAdapter's nodes has no such
    /// form and gives its merged weights.
    ///
    /// # Errors
    /// When the backbone is not the one that the adapters were trained on or takes pictures of another size, or the
    /// tensors are not exactly those that the description in [`Meta`] asks for.
    pub fn apply(&self, backbone: &Graph, backbone_sha256: &str) -> Result<Graph, AdapterError> {
        let graph = self.with_head(backbone, backbone_sha256)?;
        let spec = match &self.meta.spec {
            Adaptation::Adapters(spec) => spec,
            Adaptation::Method(spec) => return Ok(merge(spec, &graph, &self.tensors, 1.0)?.0),
            Adaptation::Comparison(comparison) => {
                let mut graph = comparison.place(&graph)?;
                let params = params_where(&graph, |node| comparison.is_own(&node.name) || is_head(node))?;
                graph.weights.extend(checked(&self.tensors, params)?);
                return Ok(graph);
            }
        };
        let mut graph = place(&graph, spec)?;
        let params = params_where(&graph, |node: &Node| is_adapter(node) || is_head(node))?;
        graph.weights.extend(checked(&self.tensors, params)?);
        Ok(graph)
    }

    /// The backbone with this head that computes what [`File::apply`]'s does, the adapters in its weights; `strength` in
    /// [0, 1] is how much of them.
    ///
    /// # Errors
    /// As [`File::apply`], and when the method stays in the graph, `strength` is out of range or weights are not finite.
    pub fn merged(&self, backbone: &Graph, backbone_sha256: &str, strength: f64) -> Result<Merged, AdapterError> {
        match &self.meta.spec {
            Adaptation::Adapters(_) => {
                let unfolded = self.apply(backbone, backbone_sha256)?;
                let graph = fold(&unfolded, strength)?;
                let adapters = unfolded.nodes.iter().filter(|node| is_adapter(node)).count();
                Ok(Merged { graph, adapters, unfolded: Some(unfolded), departure: 0.0 })
            }
            Adaptation::Comparison(comparison) => {
                Err(AdapterError::NotMergeable { method: comparison.name(), reason: comparison.reason() })
            }
            Adaptation::Method(spec) => {
                if !(0.0..=1.0).contains(&strength) {
                    return Err(FoldError::Strength { strength }.into());
                }
                let graph = self.with_head(backbone, backbone_sha256)?;
                let adapters = match spec.method() {
                    Some(method) => hosts(&graph, method.roles(), method.name())?.len(),
                    None => 0,
                };
                let (graph, departure) = merge(spec, &graph, &self.tensors, strength)?;
                Ok(Merged { graph, adapters, unfolded: None, departure })
            }
        }
    }

    /// The backbone, which must be the one that the adapters were trained on, with a head for the task and the labels.
    fn with_head(&self, backbone: &Graph, backbone_sha256: &str) -> Result<Graph, AdapterError> {
        let meta = &self.meta;
        if !meta.backbone_sha256.eq_ignore_ascii_case(backbone_sha256) {
            return Err(AdapterError::OtherBackbone {
                name: meta.backbone_name.clone(),
                expected: meta.backbone_sha256.clone(),
                got: backbone_sha256.to_owned(),
            });
        }
        if let Some(Op::Input { shape }) = backbone.nodes.first().map(|node| &node.op)
            && shape.get(1..) != Some(&meta.image_size)
        {
            return Err(AdapterError::ImageSize { expected: meta.image_size, got: shape.clone() });
        }
        let mask_scale = self.mask_scale()?;
        Ok(match meta.task {
            Task::Classification => backbone::with_head(backbone, meta.labels.len())?,
            Task::Segmentation => backbone::with_patch_head(backbone, meta.labels.len(), mask_scale)?,
        })
    }

    fn check_labels(&self) -> Result<(), AdapterError> {
        self.mask_scale().map(|_| ())
    }

    /// How many times finer than patches masks are; 1 for a class for the whole picture.
    fn mask_scale(&self) -> Result<usize, AdapterError> {
        let labels = self.meta.labels.len();
        let Some(head) = self.tensors.get("head.weight") else {
            return Err(AdapterError::MissingTensor { name: "head.weight".to_owned(), shape: Vec::new() });
        };
        let rows = head.shape().first().copied().unwrap_or(0);
        let scale = match self.meta.task {
            Task::Classification => 1,
            Task::Segmentation => rows.checked_div(labels).map_or(1, usize::isqrt),
        };
        if scale > 0 && scale * scale * labels == rows {
            Ok(scale)
        } else {
            Err(AdapterError::LabelCount { labels, rows })
        }
    }
}

/// The tensors of `params`, of which all must be there in their shapes, and nothing else.
pub(super) fn checked(
    tensors: &BTreeMap<String, Tensor>,
    params: Vec<Param>,
) -> Result<BTreeMap<String, Tensor>, AdapterError> {
    if let Some(name) = tensors.keys().find(|&name| params.iter().all(|param| param.name != *name)) {
        return Err(AdapterError::UnexpectedTensor { name: name.clone() });
    }
    let mut checked = BTreeMap::new();
    for param in params {
        match tensors.get(&param.name) {
            None => return Err(AdapterError::MissingTensor { name: param.name, shape: param.shape }),
            Some(tensor) if tensor.shape() != param.shape => {
                return Err(AdapterError::TensorShape {
                    name: param.name,
                    expected: param.shape,
                    got: tensor.shape().to_vec(),
                });
            }
            Some(tensor) => checked.insert(param.name, tensor.clone()),
        };
    }
    Ok(checked)
}

/// Reads version and method before the rest, which another version may hold in another form.
fn parse_meta(json: &str) -> Result<Meta, AdapterError> {
    let value: serde_json::Value = serde_json::from_str(json).map_err(damaged)?;
    let version = value.get("format_version").and_then(serde_json::Value::as_u64);
    if let Some(got) = version.filter(|&got| got > u64::from(FORMAT_VERSION)) {
        return Err(AdapterError::NewerFormat { got, supported: FORMAT_VERSION });
    }
    let method = value.get("method").and_then(serde_json::Value::as_str);
    let known = [&MethodSpec::NAMES[..], &Comparison::NAMES[..]].concat();
    if let Some(got) = method.filter(|got| !known.contains(got)) {
        return Err(AdapterError::Method { expected: known.join(", "), got: got.to_owned() });
    }
    let meta: Meta = serde_json::from_value(value).map_err(damaged)?;
    if meta.method != meta.spec.method() {
        let reason = format!("the method is `{}`, its description one of `{}`", meta.method, meta.spec.method());
        return Err(AdapterError::Metadata { reason });
    }
    Ok(meta)
}

fn damaged(error: serde_json::Error) -> AdapterError {
    AdapterError::Metadata { reason: error.to_string() }
}
