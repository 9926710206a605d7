//! A checkpoint in several files, told by an index as Hugging Face writes it: `model.safetensors.index.json` or
//! `pytorch_model.bin.index.json`, whose `weight_map` names each tensor's file in the same folder.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::{Checkpoint, CheckpointError, read_file};
use crate::file::hex;

/// The end of an index's name.
const ENDING: &str = ".index.json";

/// Whether `path` is named as an index.
pub(super) fn is_index(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(ENDING))
}

/// The files of its folder that an index, `bytes`, names.
///
/// # Errors
/// When it is damaged, or names a file outside of its folder or another index.
pub fn shard_files(bytes: &[u8]) -> Result<BTreeSet<String>, CheckpointError> {
    let damaged = |reason: &str| CheckpointError::Index { reason: reason.to_owned() };
    let index: serde_json::Value = serde_json::from_slice(bytes).map_err(|error| damaged(&error.to_string()))?;
    let map = index.get("weight_map").and_then(serde_json::Value::as_object);
    let map = map.ok_or_else(|| damaged("it has no `weight_map`"))?;
    let mut files = BTreeSet::new();
    for file in map.values() {
        let name = file.as_str().ok_or_else(|| damaged("a tensor's file is no name"))?;
        let plain = Path::new(name).file_name().is_some_and(|plain| plain == name);
        // An index that named another, or itself, would have no end.
        if !plain || name.ends_with(ENDING) {
            return Err(damaged(&format!("`{name}` is no file of its folder that could hold tensors")));
        }
        files.insert(name.to_owned());
    }
    Ok(files)
}

/// All shards that the index `bytes` at `path` names, as one checkpoint; its hash is over the shards' hashes in the order
/// of their names.
///
/// # Errors
/// When the index is damaged or names a file outside of its folder, a shard cannot be read, or tensors are missing.
pub(super) fn read(path: &Path, bytes: &[u8]) -> Result<Checkpoint, CheckpointError> {
    let files = shard_files(bytes)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let (mut tensors, mut metadata, mut hash) = (BTreeMap::new(), BTreeMap::new(), Sha256::new());
    for file in files {
        let shard = read_file(&folder.join(file))?;
        tensors.extend(shard.tensors);
        metadata.extend(shard.metadata);
        hash.update(shard.sha256);
    }
    // What is no float is left out of a shard, so that only missing files' tensors show here.
    if tensors.is_empty() {
        return Err(CheckpointError::Empty);
    }
    Ok(Checkpoint { tensors, metadata, sha256: hex(hash.finalize()) })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::super::{read as read_path, write_safetensors};
    use super::*;
    use crate::Tensor;

    fn tensor(value: f32) -> Tensor {
        Tensor::full([2], value).unwrap()
    }

    #[test]
    fn shards_are_one_checkpoint() {
        let folder = tempfile::tempdir().unwrap();
        let shard = |name: &str, tensor_name: &str, value| {
            let tensors = BTreeMap::from([(tensor_name.to_owned(), tensor(value))]);
            write_safetensors(folder.path().join(name), &tensors, &BTreeMap::new()).unwrap();
        };
        shard("model-1.safetensors", "a", 1.0);
        shard("model-2.safetensors", "b", 2.0);
        let index = folder.path().join("model.safetensors.index.json");
        let write = |map: serde_json::Value| fs::write(&index, json!({ "weight_map": map }).to_string()).unwrap();
        write(json!({ "a": "model-1.safetensors", "b": "model-2.safetensors" }));
        let checkpoint = read_path(&index).unwrap();
        assert_eq!(checkpoint.tensors, BTreeMap::from([("a".to_owned(), tensor(1.0)), ("b".to_owned(), tensor(2.0))]));
        let before = checkpoint.sha256;
        shard("model-2.safetensors", "b", 3.0);
        assert_ne!(read_path(&index).unwrap().sha256, before);

        write(json!({ "a": "../model-1.safetensors" }));
        let error = read_path(&index).unwrap_err().to_string();
        assert!(error.contains("`../model-1.safetensors` is no file of its folder"), "{error}");
        write(json!({ "a": "model.safetensors.index.json" }));
        assert!(matches!(read_path(&index), Err(CheckpointError::File { .. })));
        write(json!({ "a": "model-3.safetensors" }));
        let error = read_path(&index).unwrap_err().to_string();
        assert!(error.contains("model-3.safetensors"), "{error}");
        for broken in ["", "{", "[]", r#"{"weight_map": 3}"#, r#"{"weight_map": {"a": 3}}"#] {
            fs::write(&index, broken).unwrap();
            assert!(read_path(&index).is_err(), "{broken}");
        }
    }
}
