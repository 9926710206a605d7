//! PyTorch's own files (`.pt`, `.pth`, `.bin`), of which nothing is ever executed.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::Path;

use pytorch_reader::{DType, PytorchReader};

use super::CheckpointError;
use crate::Tensor;

/// Where training programs put the weights among what else they save; the first that is there is taken.
const WRAPPERS: [&str; 4] = ["state_dict", "model_state_dict", "model", "teacher"];
/// What `DataParallel` and its like put before every name.
const PARALLEL: &str = "module.";

/// Whether these are the bytes of a file of PyTorch's: a zip archive with a `data.pkl`, or a pickle of protocol 2 or later.
pub(super) fn is_one(bytes: &[u8]) -> bool {
    match bytes {
        // A safetensors file whose header is 640 or more bytes long may begin like a pickle.
        [_, _, _, _, _, _, _, _, b'{', ..] => false,
        [0x80, 2..=5, ..] => true,
        [b'P', b'K', ..] => zip::ZipArchive::new(Cursor::new(bytes))
            .is_ok_and(|archive| archive.file_names().flatten().any(|name| name.ends_with("/data.pkl"))),
        _ => false,
    }
}

/// The floating-point tensors; whole numbers, which are counters and indices, are left out.
pub(super) fn read(path: &Path) -> Result<BTreeMap<String, Tensor>, CheckpointError> {
    let mut tensors = BTreeMap::new();
    let found = PytorchReader::new(path)?.into_tensors();
    let wrapper = WRAPPERS.iter().find(|wrapper| found.keys().any(|name| within(name, wrapper).is_some()));
    for (name, tensor) in &found {
        let name = match wrapper.map(|wrapper| within(name, wrapper)) {
            Some(None) => continue,
            Some(Some(rest)) => rest,
            None => name,
        };
        let name = name.strip_prefix(PARALLEL).unwrap_or(name);
        // The reader gives the machine's byte order.
        let decode: fn(&[u8]) -> Vec<f32> = match tensor.dtype() {
            DType::F32 => |bytes| convert(bytes, f32::from_ne_bytes),
            DType::F64 => |bytes| convert(bytes, |value| f64::from_ne_bytes(value) as f32),
            DType::F16 => |bytes| convert(bytes, |value| half::f16::from_ne_bytes(value).to_f32()),
            DType::BF16 => |bytes| convert(bytes, |value| f32::from_bits(u32::from(u16::from_ne_bytes(value)) << 16)),
            _ => continue,
        };
        let values = |reason: String| CheckpointError::Values { name: name.to_owned(), reason };
        let bytes = tensor.read().map_err(|error| values(error.to_string()))?;
        let made = Tensor::new(tensor.shape(), decode(&bytes)).map_err(|error| values(error.to_string()))?;
        tensors.insert(name.to_owned(), made);
    }
    Ok(tensors)
}

/// The name within the dictionary `wrapper`.
fn within<'a>(name: &'a str, wrapper: &str) -> Option<&'a str> {
    name.strip_prefix(wrapper)?.strip_prefix('.')
}

fn convert<const N: usize>(bytes: &[u8], value: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    bytes.as_chunks::<N>().0.iter().map(|&bytes| value(bytes)).collect()
}
