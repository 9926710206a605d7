//! The file that a fetch leaves: a safetensors that says where it came from and proves that it is whole.
//!
//! Its metadata holds the SHA-256 of the publisher's file (`source_sha256`) and one over the tensors themselves
//! (`tensors_sha256`), so it is verified without the network and without a second file beside it.

use std::collections::BTreeMap;
use std::path::Path;

use edge_vit_models::Tensor;
use edge_vit_models::checkpoint::{self, Checkpoint, CheckpointError};
use edge_vit_models::file::hex;
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use super::FetchError;

/// Metadata key: SHA-256 of the publisher's file, hex.
pub const SOURCE_SHA256: &str = "source_sha256";
/// Metadata key: SHA-256 over the tensors, hex.
pub const TENSORS_SHA256: &str = "tensors_sha256";

/// Why a file is not the backbone that it should be.
#[derive(Debug, Error)]
pub enum Unverified {
    /// It cannot be read as a checkpoint.
    #[error(transparent)]
    Unreadable(#[from] CheckpointError),
    /// It does not come from the publisher's file.
    #[error("it was not made from the file with SHA-256 {expected}")]
    OtherSource {
        /// The hash of the registry.
        expected: String,
    },
    /// Its tensors are not those that were written.
    #[error("its tensors were changed since it was written")]
    Changed,
}

/// Checks that the file at `path` was made from the publisher's file of that SHA-256 and is unchanged.
///
/// # Errors
/// When it was not, or is not.
pub fn verify(path: &Path, source_sha256: &str) -> Result<(), Unverified> {
    let checkpoint = checkpoint::read(path)?;
    if checkpoint.metadata.get(SOURCE_SHA256).map(String::as_str) != Some(source_sha256) {
        return Err(Unverified::OtherSource { expected: source_sha256.to_owned() });
    }
    check_tensors(&checkpoint)
}

/// What the file at `path` says of itself, its tensors being those that were written.
///
/// # Errors
/// When it cannot be read, or they were changed.
pub(super) fn verified(path: &Path) -> Result<BTreeMap<String, String>, Unverified> {
    let checkpoint = checkpoint::read(path)?;
    check_tensors(&checkpoint)?;
    Ok(checkpoint.metadata)
}

fn check_tensors(checkpoint: &Checkpoint) -> Result<(), Unverified> {
    match checkpoint.metadata.get(TENSORS_SHA256) == Some(&tensors_sha256(&checkpoint.tensors)) {
        true => Ok(()),
        false => Err(Unverified::Changed),
    }
}

/// Writes the tensors with the metadata and the two hashes, atomically.
///
/// # Errors
/// When the file cannot be written; what stood at `path` is then untouched.
pub(super) fn write(
    path: &Path,
    tensors: &BTreeMap<String, Tensor>,
    mut metadata: BTreeMap<String, String>,
    source_sha256: &str,
) -> Result<(), FetchError> {
    metadata.insert(SOURCE_SHA256.to_owned(), source_sha256.to_owned());
    metadata.insert(TENSORS_SHA256.to_owned(), tensors_sha256(tensors));
    checkpoint::write_safetensors(path, tensors, &metadata).map_err(|error| match error {
        CheckpointError::Write { path, source } => FetchError::io(&path, source),
        error => error.into(),
    })
}

/// SHA-256 over the tensors in order of their names: for each its name, its rank and dimensions, its values
/// (little-endian float32), every count as a little-endian 64-bit number before what it counts.
fn tensors_sha256(tensors: &BTreeMap<String, Tensor>) -> String {
    let mut hasher = Sha256::new();
    let count = |hasher: &mut Sha256, n: usize| hasher.update((n as u64).to_le_bytes());
    for (name, tensor) in tensors {
        count(&mut hasher, name.len());
        hasher.update(name);
        count(&mut hasher, tensor.shape().len());
        tensor.shape().iter().for_each(|&dim| count(&mut hasher, dim));
        tensor.values().iter().for_each(|value| hasher.update(value.to_le_bytes()));
    }
    hex(hasher.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_proves_its_origin_and_its_tensors() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("b.safetensors");
        let mut tensors = BTreeMap::from([("a".to_owned(), Tensor::new([2], vec![1.0, 2.0]).unwrap())]);
        write(&path, &tensors, BTreeMap::new(), "abc").unwrap();
        verify(&path, "abc").unwrap();
        assert!(matches!(verify(&path, "xyz"), Err(Unverified::OtherSource { .. })));

        let metadata = checkpoint::read(&path).unwrap().metadata;
        tensors.insert("a".to_owned(), Tensor::new([2], vec![1.0, 2.5]).unwrap());
        checkpoint::write_safetensors(&path, &tensors, &metadata).unwrap();
        assert!(matches!(verify(&path, "abc"), Err(Unverified::Changed)));

        std::fs::write(&path, b"no checkpoint").unwrap();
        assert!(matches!(verify(&path, "abc"), Err(Unverified::Unreadable(_))));
    }

    #[test]
    fn a_shape_cannot_hide_behind_the_same_values() {
        let wide = BTreeMap::from([("a".to_owned(), Tensor::full([1, 4], 0.0).unwrap())]);
        let tall = BTreeMap::from([("a".to_owned(), Tensor::full([4, 1], 0.0).unwrap())]);
        assert_ne!(tensors_sha256(&wide), tensors_sha256(&tall));
    }
}
