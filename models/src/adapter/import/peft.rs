//! LoRA as Hugging Face's `peft` saves it: `adapter_config.json` and `adapter_model.safetensors` in one folder.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;

use super::{ImportError, Imported};
use crate::adapter::Adaptation;
use crate::checkpoint;
use crate::method::{LoraTarget, MethodSpec};

/// Before every name of a saved model.
const PREFIX: &str = "base_model.model.";
/// Where the head stands whose weights are saved with the adapters: Hugging Face's, timm's, and that of timm's Swin and ConvNeXt.
const HEADS: [&str; 3] = ["classifier", "head", "head.fc"];
/// The largest configuration that is read.
const MOST_BYTES: u64 = 1 << 20;

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

/// Reads a LoRA on the linear layers of the blocks, by timm's names or Hugging Face's of ViT, DINOv2, CLIP, SigLIP or Swin.
pub(super) fn read(folder: &Path) -> Result<Imported, ImportError> {
    let path = folder.join("adapter_config.json");
    let failed = |reason: String| ImportError::Read { path: path.clone(), reason };
    let size = path.metadata().map_err(|error| failed(error.to_string()))?.len();
    if size > MOST_BYTES {
        return Err(failed(format!("it has {size} bytes, a configuration at most {MOST_BYTES}")));
    }
    let text = std::fs::read(&path).map_err(|error| failed(error.to_string()))?;
    let config: Config = serde_json::from_slice(&text).map_err(|error| failed(error.to_string()))?;
    if let Some(reason) = config.refusal() {
        return Err(ImportError::Unsupported { reason });
    }
    let mut tensors = BTreeMap::new();
    let mut targets = BTreeSet::new();
    for (name, tensor) in checkpoint::read(folder.join("adapter_model.safetensors"))?.tensors {
        let own = match taken(name.strip_prefix(PREFIX).unwrap_or(&name)) {
            Some(Taken::Head(own)) => own,
            Some(Taken::Matrix(target, own)) => {
                targets.insert(target);
                own
            }
            None => {
                let reason = format!(
                    "`{name}` is no LoRA of a linear layer within a block; train with target_modules=[\"query\", \
                     \"value\"] (or q_proj, v_proj, timm's qkv) and modules_to_save=[\"classifier\"] (timm's head)"
                );
                return Err(ImportError::Unsupported { reason });
            }
        };
        tensors.insert(own, tensor);
    }
    let spec = Adaptation::Method(MethodSpec::Lora { rank: config.r, alpha: config.alpha(), targets });
    Ok(Imported { spec, tensors })
}

/// This crate's name of a tensor, and what it belongs to.
#[derive(Debug, PartialEq)]
enum Taken {
    Head(String),
    Matrix(LoraTarget, String),
}

fn taken(name: &str) -> Option<Taken> {
    let (module, kind) = name.rsplit_once('.')?;
    let module = module.trim_end_matches(".default");
    if HEADS.contains(&module.trim_end_matches(".modules_to_save")) {
        return Some(Taken::Head(format!("head.{kind}")));
    }
    let (layer, matrix) = module.rsplit_once('.')?;
    let (block, target) = place(layer)?;
    let [a, b] = target.matrices();
    let own = match (matrix, kind) {
        ("lora_A", "weight") => a,
        ("lora_B", "weight") => b,
        _ => return None,
    };
    let host = target.host();
    Some(Taken::Matrix(target, format!("{block}.{host}.{own}")))
}

/// timm's name of the block of an image tower's layer, and what the layer is in it.
fn place(layer: &str) -> Option<(String, LoraTarget)> {
    if layer.contains("text_model") {
        return None;
    }
    let segments: Vec<&str> = layer.split('.').collect();
    let is_list = |name: &&str| matches!(*name, "layer" | "layers" | "blocks" | "stages");
    // Of a pyramid's two lists, of stages and of their blocks, the block's is the last.
    let list = segments.iter().rposition(is_list)?;
    let index: usize = segments.get(list + 1)?.parse().ok()?;
    let stage = match segments.get(list.checked_sub(2).unwrap_or(segments.len())..list) {
        Some(&[outer, stage]) if is_list(&outer) => format!("{outer}.{}.", stage.parse::<usize>().ok()?),
        _ => String::new(),
    };
    Some((format!("{stage}blocks.{index}"), within(&segments[list + 2..].join("."))?))
}

/// What a layer is, by its name within the block.
fn within(name: &str) -> Option<LoraTarget> {
    let of_attention = name
        .strip_prefix("attention.attention.")
        .or_else(|| name.strip_prefix("attention.self."))
        .or_else(|| name.strip_prefix("attention."))
        .or_else(|| name.strip_prefix("self_attn."));
    Some(match (name, of_attention) {
        (_, Some("query" | "q_proj")) => LoraTarget::Q,
        (_, Some("key" | "k_proj")) => LoraTarget::K,
        (_, Some("value" | "v_proj")) => LoraTarget::V,
        (_, Some("output.dense" | "o_proj" | "out_proj")) | ("attn.proj", _) => LoraTarget::Proj,
        ("attn.qkv", _) => LoraTarget::Qkv,
        ("intermediate.dense" | "mlp.fc1", _) => LoraTarget::Fc1,
        ("output.dense" | "mlp.fc2", _) => LoraTarget::Fc2,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_those_of_the_layers_here() {
        for (name, target, own) in [
            (
                "vit.encoder.layer.3.attention.attention.value.lora_B.weight",
                LoraTarget::V,
                "blocks.3.attn.qkv.lora_B.v",
            ),
            (
                "vision_model.encoder.layers.0.self_attn.q_proj.lora_A.default.weight",
                LoraTarget::Q,
                "blocks.0.attn.qkv.lora_A.q",
            ),
            ("vit.layers.1.attention.k_proj.lora_A.weight", LoraTarget::K, "blocks.1.attn.qkv.lora_A.k"),
            ("vit.encoder.layer.0.attention.output.dense.lora_A.weight", LoraTarget::Proj, "blocks.0.attn.proj.lora_A"),
            ("vit.encoder.layer.0.intermediate.dense.lora_B.weight", LoraTarget::Fc1, "blocks.0.mlp.fc1.lora_B"),
            ("vit.encoder.layer.0.output.dense.lora_B.weight", LoraTarget::Fc2, "blocks.0.mlp.fc2.lora_B"),
            ("blocks.2.attn.qkv.lora_A.weight", LoraTarget::Qkv, "blocks.2.attn.qkv.lora_A"),
            ("layers.1.blocks.0.mlp.fc2.lora_A.weight", LoraTarget::Fc2, "layers.1.blocks.0.mlp.fc2.lora_A"),
            ("stages.3.blocks.2.mlp.fc1.lora_A.weight", LoraTarget::Fc1, "stages.3.blocks.2.mlp.fc1.lora_A"),
            (
                "swin.encoder.layers.1.blocks.0.attention.q_proj.lora_A.weight",
                LoraTarget::Q,
                "layers.1.blocks.0.attn.qkv.lora_A.q",
            ),
        ] {
            assert_eq!(taken(name), Some(Taken::Matrix(target, own.to_owned())), "{name}");
        }
        for name in ["classifier.bias", "classifier.modules_to_save.default.bias", "head.bias", "head.fc.bias"] {
            assert_eq!(taken(name), Some(Taken::Head("head.bias".to_owned())), "{name}");
        }
        for name in [
            "vit.encoder.layer.3.attention.attention.value.lora_magnitude_vector.weight",
            "text_model.encoder.layers.0.self_attn.q_proj.lora_A.weight",
            "vit.layers.1.attention.q_proj.lora_B.bias",
            "layers.x.attention.q_proj.lora_A.weight",
            "patch_embed.proj.lora_A.weight",
            "layers.0.downsample.reduction.lora_A.weight",
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
