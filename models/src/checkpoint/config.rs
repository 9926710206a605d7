//! What a publisher's `config.json` beside the weights says of the model and the weights do not.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

/// The largest such file that is read.
const MOST_BYTES: u64 = 1 << 20;

/// `num_heads`, `text_num_heads`, `layer_norm_eps`, `act_layer`, `window_size`, `pretrained_window_sizes`, `image_size`, `num_frames`, `mean` and `std` as far as Hugging Face's, timm's or OpenCLIP's configuration in the folder of
/// `path` says them. A file that is none of these says nothing.
pub(super) fn beside(path: &Path) -> BTreeMap<String, String> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut said = BTreeMap::new();
    for name in ["config.json", "open_clip_config.json", "preprocessor_config.json"] {
        let path = folder.join(name);
        let small = path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() <= MOST_BYTES);
        let read = || serde_json::from_slice(&std::fs::read(&path).ok()?).ok();
        if let Some(config) = small.then(read).flatten() {
            said.extend(of(&config));
        }
    }
    said
}

fn of(config: &Value) -> BTreeMap<String, String> {
    let mut said = BTreeMap::new();
    let mut say = |key: &str, value: Option<String>| {
        if let Some(value) = value {
            said.insert(key.to_owned(), value);
        }
    };
    // OpenCLIP's, timm's, and Hugging Face's of pictures.
    for (mean, std) in [
        ("/preprocess_cfg/mean", "/preprocess_cfg/std"),
        ("/pretrained_cfg/mean", "/pretrained_cfg/std"),
        ("/image_mean", "/image_std"),
    ] {
        if let (Some(mean), Some(std)) = (config.pointer(mean), config.pointer(std)) {
            say("mean", Some(mean.to_string()));
            say("std", Some(std.to_string()));
        }
    }
    // OpenCLIP's.
    if let Some(model) = config.get("model_cfg") {
        let quick = model.get("quick_gelu").and_then(Value::as_bool).unwrap_or(false);
        say("act_layer", Some(if quick { "quick_gelu" } else { "gelu" }.to_owned()));
        say("text_num_heads", text(model.pointer("/text_cfg/heads")));
        return said;
    }
    // timm's.
    if let Some(architecture) = config.get("architecture").and_then(Value::as_str) {
        let of_name = || match architecture {
            name if name.contains("quickgelu") => Some("quick_gelu".to_owned()),
            name if name.contains("_clip_") => Some("gelu".to_owned()),
            _ => None,
        };
        say("act_layer", text(config.pointer("/model_args/act_layer")).or_else(of_name));
        if let Some(windows) = windows(architecture) {
            let [window, size] = windows.map(|(_, own)| own);
            say("window_size", Some(window.to_string()));
            say("image_size", Some(size.to_string()));
            if let [(Some(window), _), (Some(size), _)] = windows {
                // Maps that were smaller than the window were one window.
                let sizes = [4, 8, 16, 32].map(|stride| window.min(size / stride));
                say("pretrained_window_sizes", Some(format!("{sizes:?}")));
            }
        }
        return said;
    }
    // Hugging Face's: the tower's own where the model has two, whose defaults are those of its kind.
    let model_type = config.get("model_type").and_then(Value::as_str).unwrap_or_default();
    let tower = config.get("vision_config").unwrap_or(config);
    let default = (model_type == "clip" || model_type == "clip_vision_model").then(|| "quick_gelu".to_owned());
    say("act_layer", text(tower.get("hidden_act")).or(default));
    say("num_heads", text(tower.get("num_attention_heads")));
    let is_swin = matches!(model_type, "swin" | "swinv2" | "");
    if is_swin {
        let pretrained = config.get("pretrained_window_sizes").filter(|sizes| sizes.is_array());
        say("pretrained_window_sizes", pretrained.map(Value::to_string));
        say("window_size", text(config.get("window_size")));
    }
    if is_swin || model_type == "mobilevit" || model_type == "videomae" {
        say("image_size", text(config.get("image_size")));
        say("num_frames", text(config.get("num_frames")));
    }
    say("layer_norm_eps", text(tower.get("layer_norm_eps")));
    say("text_num_heads", text(config.pointer("/text_config/num_attention_heads")));
    said
}

/// Window and picture of `swinv2_base_window12to16_192to256`, each with what it was trained with before, if that differs.
fn windows(architecture: &str) -> Option<[(Option<usize>, usize); 2]> {
    let (_, rest) = architecture.strip_prefix("swin")?.split_once("window")?;
    let (window, size) = rest.split_once('_')?;
    let pair = |text: &str| match text.split_once("to") {
        Some((before, now)) => Some((Some(before.parse().ok()?), now.parse().ok()?)),
        None => Some((None, text.parse().ok()?)),
    };
    Some([pair(window)?, pair(size)?])
}

/// A string or a number as text.
fn text(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn act(config: Value) -> Option<String> {
        of(&config).remove("act_layer")
    }

    #[test]
    fn each_publishers_configuration_tells_the_activation() {
        assert_eq!(act(json!({ "model_cfg": { "quick_gelu": true } })).unwrap(), "quick_gelu");
        assert_eq!(act(json!({ "model_cfg": { "embed_dim": 512 } })).unwrap(), "gelu");
        assert_eq!(act(json!({ "architecture": "vit_base_patch16_clip_quickgelu_224" })).unwrap(), "quick_gelu");
        assert_eq!(act(json!({ "architecture": "vit_base_patch16_clip_224" })).unwrap(), "gelu");
        assert_eq!(act(json!({ "architecture": "vit_base_patch16_224" })), None);
        assert_eq!(act(json!({ "model_type": "clip", "vision_config": {} })).unwrap(), "quick_gelu");
        let tower =
            json!({ "vision_config": { "hidden_act": "gelu", "num_attention_heads": 12, "layer_norm_eps": 1e-5 } });
        let said = of(&tower);
        assert_eq!((said["act_layer"].as_str(), said["num_heads"].as_str()), ("gelu", "12"));
        assert_eq!(said["layer_norm_eps"].parse::<f32>().unwrap(), 1e-5);
        let said = of(&json!({ "image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.5, 0.5] }));
        assert_eq!((said["mean"].as_str(), said["std"].as_str()), ("[0.5,0.5,0.5]", "[0.25,0.5,0.5]"));
        let said = of(&json!({ "architecture": "swinv2_base_window12to16_192to256" }));
        assert_eq!((said["window_size"].as_str(), said["image_size"].as_str()), ("16", "256"));
        assert_eq!(said["pretrained_window_sizes"], "[12, 12, 12, 6]");
        let said = of(&json!({ "architecture": "swinv2_tiny_window8_256" }));
        assert_eq!((said["window_size"].as_str(), said.get("pretrained_window_sizes")), ("8", None));
        let said = of(&json!({ "model_type": "videomae", "num_frames": 8, "image_size": 112, "hidden_act": "gelu" }));
        assert_eq!((said["num_frames"].as_str(), said["image_size"].as_str()), ("8", "112"));
        let said = of(&json!({ "model_type": "swinv2", "window_size": 8, "image_size": 256 }));
        assert_eq!((said["window_size"].as_str(), said["image_size"].as_str()), ("8", "256"));
        assert!(of(&json!({ "lr": 0.1, "vision_config": 3 })).is_empty() && of(&json!([1])).is_empty());
    }
}
