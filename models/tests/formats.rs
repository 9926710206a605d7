//! One model's weights in every format: `fixtures/convert.py` wrote the files, and had PyTorch and timm read them.

#![allow(clippy::unwrap_used, reason = "the helpers of a test may panic as the test does")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use edge_vit_models::checkpoint::{self, CheckpointError, to_timm};
use edge_vit_models::{Tensor, vit};

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
    let jax = vit::load(fixture("timm_vit.npz"), None).unwrap();
    let timm = vit::load(fixture("timm_vit.safetensors"), None).unwrap();
    assert_eq!((jax.config, jax.graph), (timm.config, timm.graph));
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
