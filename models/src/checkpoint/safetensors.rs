//! Safetensors, read through the format's own crate, and written with its header in the order of the names: the same
//! weights give the same bytes, so that a file's hash says whether its weights are the same.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use safetensors::{Dtype, SafeTensors};
use serde_json::{Map, Value, json};

use super::CheckpointError;
use super::dtype::Float;
use crate::Tensor;
use crate::file::write_atomic;

type Contents = (BTreeMap<String, Tensor>, BTreeMap<String, String>);

pub(super) fn parse(bytes: &[u8]) -> Result<Contents, CheckpointError> {
    let (_, header) = SafeTensors::read_metadata(bytes)?;
    let metadata = header.metadata().iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect();
    let mut tensors = BTreeMap::new();
    for (name, view) in SafeTensors::deserialize(bytes)?.iter() {
        let float = match view.dtype() {
            Dtype::F16 => Float::F16,
            Dtype::BF16 => Float::Bf16,
            Dtype::F32 => Float::F32,
            Dtype::F64 => Float::F64,
            // Counters and indices, such as PyTorch keeps beside weights; weights in whole numbers are smaller ones.
            Dtype::I64 | Dtype::I32 | Dtype::BOOL => continue,
            other => return Err(CheckpointError::Dtype { name: name.to_owned(), got: format!("{other:?}") }),
        };
        let values = float.decode(view.data()).ok_or_else(|| CheckpointError::Values {
            name: name.to_owned(),
            reason: format!("{} bytes are no whole number of values", view.data().len()),
        })?;
        let tensor = Tensor::new(view.shape(), values).map_err(|error| CheckpointError::values(name, &error))?;
        tensors.insert(name.to_owned(), tensor);
    }
    Ok((tensors, metadata))
}

/// Writes float32 tensors and string metadata as one safetensors file: to a temporary file beside it, synced, renamed.
/// The same contents give the same bytes.
///
/// # Errors
/// When the file cannot be written, or a tensor bears the name `__metadata__`, which the format keeps for itself.
pub fn write_safetensors(
    path: impl AsRef<Path>,
    tensors: &BTreeMap<String, Tensor>,
    metadata: &BTreeMap<String, String>,
) -> Result<(), CheckpointError> {
    let path = path.as_ref();
    let written = to_bytes(tensors, metadata).and_then(|bytes| write_atomic(path, &bytes));
    written.map_err(|source| CheckpointError::Write { path: path.to_owned(), source })
}

fn to_bytes(tensors: &BTreeMap<String, Tensor>, metadata: &BTreeMap<String, String>) -> io::Result<Vec<u8>> {
    const METADATA: &str = "__metadata__";
    if tensors.contains_key(METADATA) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("no tensor may be named `{METADATA}`")));
    }
    let mut header = Map::new();
    if !metadata.is_empty() {
        header.insert(METADATA.to_owned(), json!(metadata));
    }
    let mut end = 0;
    for (name, tensor) in tensors {
        let begin = end;
        end += size_of::<f32>() * tensor.len();
        let entry = json!({"dtype": "F32", "shape": tensor.shape(), "data_offsets": [begin, end]});
        header.insert(name.clone(), entry);
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    // The format asks for values aligned to eight bytes.
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut bytes = Vec::with_capacity(8 + header.len() + end);
    bytes.extend((header.len() as u64).to_le_bytes());
    bytes.extend(header);
    bytes.extend(tensors.values().flat_map(|tensor| tensor.values()).flat_map(|value| value.to_le_bytes()));
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Checkpoint, read};
    use super::*;

    fn sample() -> Contents {
        let tensors = BTreeMap::from([
            ("norm.weight".to_owned(), Tensor::new([3], vec![1.0, -2.5, 3.0e-8]).unwrap()),
            ("cls_token".to_owned(), Tensor::new([1, 1, 2], vec![0.5, -0.0]).unwrap()),
            ("empty".to_owned(), Tensor::new([0, 4], vec![]).unwrap()),
        ]);
        (tensors, BTreeMap::from([("num_heads".to_owned(), "6 \"of\" them".to_owned())]))
    }

    #[test]
    fn what_is_written_is_read_back_and_written_again_to_the_same_bytes() {
        let (tensors, metadata) = sample();
        let path = tempfile::tempdir().unwrap().keep().join("weights.safetensors");
        write_safetensors(&path, &tensors, &metadata).unwrap();
        let checkpoint = read(&path).unwrap();
        assert_eq!((&checkpoint.tensors, &checkpoint.metadata), (&tensors, &metadata));
        assert_eq!(checkpoint.sha256.len(), 64);
        write_safetensors(&path, &checkpoint.tensors, &checkpoint.metadata).unwrap();
        assert_eq!(read(&path).unwrap().sha256, checkpoint.sha256);
    }

    #[test]
    fn counters_are_left_out_and_quantised_weights_refused_by_name() {
        let read = |dtype: &str, len: usize| {
            let entry = json!({ "steps": { "dtype": dtype, "shape": [1], "data_offsets": [0, len] } });
            let mut header = entry.to_string().into_bytes();
            header.resize(header.len().next_multiple_of(8), b' ');
            let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
            bytes.extend(header);
            bytes.resize(bytes.len() + len, 0);
            Checkpoint::from_bytes(&bytes)
        };
        assert!(matches!(read("I64", 8), Err(CheckpointError::Empty)), "nothing is left");
        let error = read("I8", 1).unwrap_err();
        assert!(matches!(&error, CheckpointError::Dtype { name, got } if name == "steps" && got == "I8"), "{error}");
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = read("no/such/file.safetensors").unwrap_err();
        assert!(error.to_string().starts_with("cannot read `no/such/file.safetensors`"), "{error}");
    }

    proptest! {
        #[test]
        fn a_truncated_file_is_an_error(cut in 0usize..1000) {
            let (tensors, metadata) = sample();
            let bytes = to_bytes(&tensors, &metadata).unwrap();
            let cut = cut % bytes.len();
            prop_assert!(Checkpoint::from_bytes(&bytes[..cut]).is_err());
        }

        #[test]
        fn changed_bytes_never_panic(changes in prop::collection::vec((any::<usize>(), any::<u8>()), 1..8)) {
            let (tensors, metadata) = sample();
            let mut bytes = to_bytes(&tensors, &metadata).unwrap();
            for (at, value) in changes {
                let at = at % bytes.len();
                bytes[at] = value;
            }
            if let Ok(checkpoint) = Checkpoint::from_bytes(&bytes) {
                let _ = super::super::to_timm(&checkpoint.tensors);
            }
        }
    }
}
