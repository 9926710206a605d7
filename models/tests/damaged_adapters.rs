//! No file of another program's adapters makes the import panic, whatever its tensors are called and however they are shaped.

#![allow(clippy::unwrap_used, reason = "the helpers of a test may panic as the test does")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use edge_vit_models::adapter::import;
use edge_vit_models::backbone::{self, Backbone};
use edge_vit_models::checkpoint::{self, write_safetensors};
use proptest::prelude::*;

use damage::{damage, damaged};

mod damage;

/// Adapters, the backbone that they are of, and the factor that a file of RepAdapter's authors leaves open.
const FIXTURES: [(&str, &str, Option<f32>); 4] = [
    ("authors_repblock.pt", "timm_vit", Some(0.5)),
    ("authors_every_linear.pt", "timm_vit", Some(0.5)),
    ("hf_vit_lora_all", "hf_vit", None),
    ("timm_vit_lora", "timm_vit", None),
];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// Imports the adapters at `path` and merges them into the backbone, as far as that goes.
fn merged(path: &Path, scale: Option<f32>, backbone: &Backbone) -> Result<(), String> {
    let imported = import(path, scale).map_err(|error| error.to_string())?;
    let rows = imported.tensors["head.weight"].shape().first().copied().unwrap_or(0);
    let labels = (0..rows).map(|label| label.to_string()).collect();
    let file = imported.into_file(backbone, labels, serde_json::Value::Null, serde_json::Value::Null);
    let merged = file.merged(&backbone.graph, &backbone.sha256, 1.0).map_err(|error| error.to_string())?;
    merged.graph.validate().map(|_| ()).map_err(|error| error.to_string())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn damaged_adapters_are_an_error_or_other_adapters(
        which in 0..FIXTURES.len(),
        places in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
        damages in prop::collection::vec(damage(), 3),
    ) {
        let (name, backbone, scale) = FIXTURES[which];
        let backbone = backbone::load(fixture(&format!("{backbone}.safetensors")), None).unwrap();
        let of_peft = fixture(name).is_dir();
        let source = if of_peft { fixture(name).join("adapter_model.safetensors") } else { fixture(name) };
        let mut tensors = checkpoint::read(source).unwrap().tensors;
        for (place, damage) in places.iter().zip(&damages) {
            if tensors.is_empty() {
                break;
            }
            let name = place.get(&tensors.keys().cloned().collect::<Vec<_>>()).clone();
            let tensor = tensors.remove(&name).unwrap();
            tensors.extend(damaged(&name, tensor, damage));
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("adapter_model.safetensors");
        write_safetensors(&path, &tensors, &BTreeMap::new()).unwrap();
        let result = if of_peft {
            std::fs::copy(fixture(name).join("adapter_config.json"), folder.path().join("adapter_config.json")).unwrap();
            merged(folder.path(), scale, &backbone)
        } else {
            merged(&path, scale, &backbone)
        };
        match result {
            Ok(()) => {}
            Err(error) => prop_assert!(!places.is_empty() && !error.is_empty(), "{error}"),
        }
    }
}
