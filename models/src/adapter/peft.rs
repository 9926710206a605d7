//! LoRA as Hugging Face's `peft` saves it: `adapter_config.json` and `adapter_model.safetensors` in one folder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use thiserror::Error;

use crate::Tensor;
use crate::checkpoint::{self, CheckpointError};
use crate::method::MethodSpec;

/// Before every name of a saved model.
const PREFIX: &str = "base_model.model.";
/// Where the head stands whose weights are saved with the adapters.
const HEAD: [&str; 2] = ["classifier", "classifier.modules_to_save.default"];
/// The largest configuration that is read.
const MOST_BYTES: u64 = 1 << 20;

/// Adapters and head of a folder.
#[derive(Debug, Clone, PartialEq)]
pub struct Peft {
    /// The method, a LoRA.
    pub spec: MethodSpec,
    /// Its tensors under this crate's names, and `head.weight` `[C, D]` and `head.bias` `[C]`.
    pub tensors: BTreeMap<String, Tensor>,
}

/// Why a folder cannot be taken over.
#[derive(Debug, Error)]
pub enum PeftError {
    /// A file cannot be read.
    #[error("cannot read {}: {reason}; give the folder that peft's save_pretrained wrote", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The tensors cannot be read.
    #[error(transparent)]
    Tensors(#[from] CheckpointError),
    /// The adapters are of a kind that has no equal here.
    #[error("these adapters cannot be taken over: {reason}")]
    Unsupported {
        /// What they are and what can be taken.
        reason: String,
    },
}

/// The part of `adapter_config.json` that matters.
#[derive(Debug, Deserialize)]
struct Config {
    peft_type: String,
    #[serde(default)]
    r: usize,
    #[serde(default)]
    lora_alpha: f64,
    #[serde(default)]
    use_rslora: bool,
    #[serde(default)]
    use_dora: bool,
    #[serde(default)]
    fan_in_fan_out: bool,
    #[serde(default)]
    bias: Option<String>,
    #[serde(default)]
    rank_pattern: BTreeMap<String, serde_json::Value>,
    #[serde(default)]
    alpha_pattern: BTreeMap<String, serde_json::Value>,
}

impl Config {
    /// Why it is not the LoRA that can be taken; `None` where it is.
    fn refusal(&self) -> Option<String> {
        let refused = [
            (self.peft_type != "LORA", format!("they are {}, only LoRA is read", self.peft_type)),
            (self.use_dora, "they are DoRA's, whose magnitudes are kept otherwise here".to_owned()),
            (self.fan_in_fan_out, "their weights are transposed".to_owned()),
            (self.bias.as_deref().is_some_and(|bias| bias != "none"), "they train biases too".to_owned()),
            (
                !self.rank_pattern.is_empty() || !self.alpha_pattern.is_empty(),
                "their ranks or factors differ from layer to layer".to_owned(),
            ),
            (self.r == 0 || !self.lora_alpha.is_finite(), "their rank is 0 or their factor no number".to_owned()),
        ];
        refused.into_iter().find(|(is_so, _)| *is_so).map(|(_, reason)| reason)
    }

    /// `lora_alpha`, of rank-stabilised LoRA, whose factor is `lora_alpha / sqrt(r)`, that which has the same factor here.
    fn alpha(&self) -> f64 {
        if self.use_rslora { self.lora_alpha * (self.r as f64).sqrt() } else { self.lora_alpha }
    }
}

/// Reads a LoRA on queries and values, by Hugging Face's names of ViT, DINOv2, CLIP or SigLIP, with its head.
///
/// # Errors
/// When the files cannot be read, the adapters stand anywhere else or are of another kind, or there is no head.
pub fn read(folder: &Path) -> Result<Peft, PeftError> {
    let path = folder.join("adapter_config.json");
    let failed = |reason: String| PeftError::Read { path: path.clone(), reason };
    let size = path.metadata().map_err(|error| failed(error.to_string()))?.len();
    if size > MOST_BYTES {
        return Err(failed(format!("it has {size} bytes, a configuration at most {MOST_BYTES}")));
    }
    let text = std::fs::read(&path).map_err(|error| failed(error.to_string()))?;
    let config: Config = serde_json::from_slice(&text).map_err(|error| failed(error.to_string()))?;
    if let Some(reason) = config.refusal() {
        return Err(PeftError::Unsupported { reason });
    }
    let saved = checkpoint::read(folder.join("adapter_model.safetensors"))?.tensors;
    let mut tensors = BTreeMap::new();
    for (name, tensor) in saved {
        let unsupported = || PeftError::Unsupported {
            reason: format!(
                "`{name}` is no LoRA of a query or a value; train with target_modules=[\"query\", \"value\"] (or q_proj, \
                 v_proj) and modules_to_save=[\"classifier\"]"
            ),
        };
        let own = taken(name.strip_prefix(PREFIX).unwrap_or(&name)).ok_or_else(unsupported)?;
        tensors.insert(own, tensor);
    }
    if !tensors.contains_key("head.weight") || !tensors.contains_key("head.bias") {
        let reason = "there is no head; train with modules_to_save=[\"classifier\"]".to_owned();
        return Err(PeftError::Unsupported { reason });
    }
    Ok(Peft { spec: MethodSpec::Lora { rank: config.r, alpha: config.alpha() }, tensors })
}

/// This crate's name of a tensor.
fn taken(name: &str) -> Option<String> {
    let (module, kind) = name.rsplit_once('.')?;
    if HEAD.contains(&module) {
        return Some(format!("head.{kind}"));
    }
    // Older files have the adapter's name behind the matrix.
    let (layer, matrix) = module.trim_end_matches(".default").rsplit_once('.')?;
    let (block, part) = place(layer)?;
    let is_matrix = kind == "weight" && (matrix == "lora_A" || matrix == "lora_B");
    is_matrix.then(|| format!("blocks.{block}.attn.qkv.{matrix}.{part}"))
}

/// The block of a query's or a value's layer of an image tower, and which of both it is.
fn place(layer: &str) -> Option<(usize, &'static str)> {
    let (before, last) = layer.rsplit_once('.')?;
    let part = match last {
        "query" | "q_proj" => "q",
        "value" | "v_proj" => "v",
        _ => return None,
    };
    let mut segments = before.split('.');
    segments.find(|segment| *segment == "layer" || *segment == "layers")?;
    let block = segments.next()?.parse().ok()?;
    let is_attention = segments.next().is_some_and(|segment| segment == "attention" || segment == "self_attn");
    (is_attention && !before.contains("text_model")).then_some((block, part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_those_of_the_joined_layer() {
        let name = "vit.encoder.layer.3.attention.attention.value.lora_B.weight";
        assert_eq!(taken(name).unwrap(), "blocks.3.attn.qkv.lora_B.v");
        let name = "vision_model.encoder.layers.0.self_attn.q_proj.lora_A.default.weight";
        assert_eq!(taken(name).unwrap(), "blocks.0.attn.qkv.lora_A.q");
        assert_eq!(taken("vit.layers.1.attention.v_proj.lora_A.weight").unwrap(), "blocks.1.attn.qkv.lora_A.v");
        assert_eq!(taken("classifier.modules_to_save.default.bias").unwrap(), "head.bias");
        for name in [
            "vit.encoder.layer.3.attention.attention.key.lora_A.weight",
            "vit.encoder.layer.3.intermediate.dense.lora_A.weight",
            "vit.encoder.layer.3.attention.attention.value.lora_magnitude_vector.weight",
            "text_model.encoder.layers.0.self_attn.q_proj.lora_A.weight",
            "vit.layers.1.attention.q_proj.lora_B.bias",
            "layers.x.attention.q_proj.lora_A.weight",
            "classifier",
        ] {
            assert_eq!(taken(name), None, "{name}");
        }
    }

    #[test]
    fn what_has_no_equal_here_is_refused_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let error = |config: &str| {
            std::fs::write(folder.path().join("adapter_config.json"), config).unwrap();
            read(folder.path()).unwrap_err().to_string()
        };
        assert!(read(folder.path()).unwrap_err().to_string().contains("save_pretrained"));
        assert!(error("{").contains("cannot read"));
        assert!(error(r#"{"peft_type": "IA3"}"#).contains("only LoRA"));
        assert!(error(r#"{"peft_type": "LORA", "r": 4, "lora_alpha": 4, "use_dora": true}"#).contains("DoRA"));
        assert!(error(r#"{"peft_type": "LORA", "r": 4, "lora_alpha": 4, "bias": "all"}"#).contains("biases"));
        assert!(error(r#"{"peft_type": "LORA", "r": 0}"#).contains("rank is 0"));
        assert!(error(r#"{"peft_type": "LORA", "r": 4, "lora_alpha": 4}"#).contains("adapter_model.safetensors"));
    }
}
