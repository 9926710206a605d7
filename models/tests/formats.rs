//! One model's weights in every format: `fixtures/convert.py` wrote the files, and had PyTorch and timm read them.

#![allow(clippy::unwrap_used, reason = "the helpers of a test may panic as the test does")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use edge_vit_models::Tensor;
use edge_vit_models::backbone;
use edge_vit_models::checkpoint::{self, CheckpointError, to_timm};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn weights(name: &str) -> BTreeMap<String, Tensor> {
    to_timm(&checkpoint::read(fixture(name)).unwrap().tensors).unwrap()
}

#[test]
fn a_training_programs_checkpoint_gives_its_weights_alone() {
    assert_eq!(weights("timm_vit.pth"), weights("timm_vit.safetensors"));
}

#[test]
fn pytorchs_older_format_is_read_and_bfloat16_too() {
    let (legacy, expected) = (weights("timm_vit_legacy.pth"), weights("timm_vit.safetensors"));
    assert!(legacy.keys().eq(expected.keys()));
    for (name, expected) in &expected {
        let got = &legacy[name];
        if name.contains("fc1") {
            assert_eq!(got.shape(), expected.shape());
            // Eight bits of significand, rounded.
            let near = |(got, expected): (&f32, &f32)| (got - expected).abs() <= expected.abs() / 256.0;
            assert!(got.values().iter().zip(expected.values()).all(near), "{name}");
        } else {
            assert_eq!(got, expected, "{name}");
        }
    }
}

#[test]
fn googles_names_and_layouts_become_timms_and_tell_the_heads() {
    let jax = backbone::load(fixture("timm_vit.npz"), None).unwrap();
    let timm = backbone::load(fixture("timm_vit.safetensors"), None).unwrap();
    assert_eq!((jax.config, jax.graph), (timm.config, timm.graph));
}

/// Microsoft's files end a stage with the downsampling that begins timm's next one, and hold buffers.
#[test]
fn microsofts_names_become_timms() {
    for name in ["timm_swin", "timm_swinv2"] {
        let renamed =
            |name: &str| name.replace("layers.1.downsample.", "layers.0.downsample.").replace("head.fc.", "head.");
        assert_same_backbone(name, renamed, &[("layers.1.blocks.1.attn_mask", &[1, 2])]);
    }
}

#[test]
fn metas_convnext_becomes_timms() {
    for name in ["timm_convnext", "timm_convnextv2"] {
        let renamed = |name: &str| {
            let mut name = name.replace(".blocks.", ".").replace("conv_dw", "dwconv").replace("mlp.fc", "pwconv");
            for (timms, metas) in [
                ("stem.", "downsample_layers.0."),
                ("head.norm", "norm"),
                ("head.fc", "head"),
                ("mlp.grn.weight", "grn.gamma"),
                ("mlp.grn.bias", "grn.beta"),
            ] {
                name = name.replace(timms, metas);
            }
            match name.strip_prefix("stages.").and_then(|rest| rest.split_once(".downsample.")) {
                Some((stage, rest)) => format!("downsample_layers.{stage}.{rest}"),
                None => name,
            }
        };
        assert_same_backbone(name, renamed, &[]);
    }
}

/// The fixture `name` under other names, with more tensors besides, makes the very same backbone.
fn assert_same_backbone(name: &str, renamed: impl Fn(&str) -> String, more: &[(&str, &[usize])]) {
    let expected = backbone::load(fixture(&format!("{name}.safetensors")), None).unwrap();
    let whole = checkpoint::read(fixture(&format!("{name}.safetensors"))).unwrap();
    let mut tensors: BTreeMap<String, Tensor> = BTreeMap::new();
    for (name, tensor) in whole.tensors {
        let name = renamed(&name);
        // Meta keeps these with dimensions around them.
        let shape = if name.contains("grn") { vec![1, 1, 1, tensor.len()] } else { tensor.shape().to_vec() };
        tensors.insert(name, tensor.reshape(shape).unwrap());
    }
    for &(name, shape) in more {
        tensors.insert(name.to_owned(), Tensor::full(shape, 0.0).unwrap());
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("renamed.safetensors");
    checkpoint::write_safetensors(&path, &tensors, &whole.metadata).unwrap();
    let got = backbone::load(&path, None).unwrap();
    assert_eq!(got.config, expected.config);
    assert!(got.graph == expected.graph, "{name}");
}

#[test]
fn a_damaged_file_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["timm_vit.pth", "timm_vit_legacy.pth", "timm_vit.npz"] {
        let whole = fs::read(fixture(name)).unwrap();
        let path = folder.path().join(name);
        for len in (0..whole.len()).step_by(whole.len() / 40) {
            fs::write(&path, &whole[..len]).unwrap();
            let error = checkpoint::read(&path).unwrap_err();
            assert!(matches!(&error, CheckpointError::File { .. }) && error.to_string().contains(name), "{error}");
        }
        for at in (0..whole.len()).step_by(whole.len() / 100) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0xff;
            fs::write(&path, &bytes).unwrap();
            // Either told, or a value that differs: no checksum guards all of each format.
            let _ = checkpoint::read(&path);
        }
    }
}

/// A pickle that would run a command if it were executed.
#[test]
fn nothing_in_a_pickle_is_executed() {
    let folder = tempfile::tempdir().unwrap();
    let (path, made) = (folder.path().join("evil.pth"), folder.path().join("made"));
    let command = format!("touch {}", made.display());
    let mut bytes = vec![0x80, 2];
    bytes.extend_from_slice(b"cposix\nsystem\nX");
    bytes.extend((command.len() as u32).to_le_bytes());
    bytes.extend(command.bytes());
    bytes.extend(b"\x85R.");
    fs::write(&path, &bytes).unwrap();
    assert!(checkpoint::read(&path).is_err());
    assert!(!made.exists());
}
