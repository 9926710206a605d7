//! No file of weights makes the reader panic, whatever its tensors are called and however they are shaped.

#![allow(clippy::unwrap_used, reason = "the helpers of a test may panic as the test does")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use edge_vit_models::backbone;
use edge_vit_models::checkpoint::{self, write_safetensors};
use proptest::prelude::*;

use damage::{Damage, damage, damaged};

mod damage;

const FIXTURES: [&str; 14] = [
    "timm_vit",
    "timm_siglip",
    "hf_clip",
    "hf_dinov2_registers",
    "timm_swin",
    "hf_swin",
    "timm_swinv2",
    "hf_swinv2",
    "timm_convnext",
    "hf_convnextv2",
    "timm_mobilevit",
    "hf_mobilevit",
    "hf_videomae",
    "hf_videomae_norm",
];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(format!("{name}.safetensors"))
}

/// One thing that can be wrong with a file.
#[derive(Debug, Clone)]
enum Wrong {
    Tensor(Damage),
    Metadata(&'static str, String),
}

fn wrong() -> impl Strategy<Value = Wrong> {
    let key = prop_oneof![
        Just("num_heads"),
        Just("window_size"),
        Just("image_size"),
        Just("num_frames"),
        Just("pretrained_window_sizes"),
        Just("layer_norm_eps"),
        Just("act_layer"),
        Just("mean"),
    ];
    let value = prop_oneof!["-?[0-9]{1,20}", "\\[[0-9, ]{0,12}\\]", "[a-z\\[\\]{}\",]{0,8}", Just("1e-5".to_owned())];
    prop_oneof![
        5 => damage().prop_map(Wrong::Tensor),
        1 => (key, value).prop_map(|(key, value)| Wrong::Metadata(key, value)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_damaged_backbone_is_an_error_or_another_backbone(
        which in 0..FIXTURES.len(),
        places in prop::collection::vec(any::<prop::sample::Index>(), 1..4),
        wrongs in prop::collection::vec(wrong(), 3),
        side in prop_oneof![Just(None), (0usize..300, 0usize..300).prop_map(|(h, w)| Some([h, w]))],
    ) {
        let whole = checkpoint::read(fixture(FIXTURES[which])).unwrap();
        let (mut tensors, mut metadata) = (whole.tensors, whole.metadata);
        for (place, wrong) in places.iter().zip(&wrongs) {
            let damage = match wrong {
                Wrong::Tensor(damage) => damage,
                Wrong::Metadata(key, value) => {
                    metadata.insert((*key).to_owned(), value.clone());
                    continue;
                }
            };
            if tensors.is_empty() {
                break;
            }
            let name = place.get(&tensors.keys().cloned().collect::<Vec<_>>()).clone();
            let tensor = tensors.remove(&name).unwrap();
            tensors.extend(damaged(&name, tensor, damage));
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("damaged.safetensors");
        write_safetensors(&path, &tensors, &metadata).unwrap();
        match backbone::load(&path, side) {
            Ok(loaded) => prop_assert!(loaded.graph.validate().is_ok()),
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
        if let Ok(checkpoint) = checkpoint::read(&path) {
            let _ = backbone::describe(&checkpoint);
        }
    }
}

/// The configuration beside a file is read, whatever stands in it.
#[test]
fn a_damaged_configuration_says_nothing_or_something_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("timm_swinv2.safetensors");
    let whole = checkpoint::read(fixture("timm_swinv2")).unwrap();
    write_safetensors(&path, &whole.tensors, &BTreeMap::new()).unwrap();
    let load = |config: &str| {
        std::fs::write(folder.path().join("config.json"), config).unwrap();
        backbone::load(&path, None)
    };
    assert!(load(r#"{"window_size": 4, "image_size": 32}"#).is_ok());
    assert!(load(r#"{"architecture": "swinv2_small_window4_32"}"#).is_ok());
    for config in [
        "",
        "{",
        "[1]",
        r#"{"window_size": -1}"#,
        r#"{"window_size": 99999999999}"#,
        r#"{"window_size": {"a": 1}, "image_size": []}"#,
        r#"{"architecture": "swinv2_window_to_"}"#,
        r#"{"architecture": "swinv2_window12to_192to256"}"#,
        r#"{"window_size": 4, "image_size": 0}"#,
        r#"{"window_size": 5, "image_size": 32}"#,
    ] {
        let error = load(config).unwrap_err().to_string();
        assert!(!error.is_empty(), "{config}");
    }
}
