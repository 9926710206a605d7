//! Reading weights: a map from a publisher's names to tensors, and from those to timm's.

mod clip;
mod config;
mod convnext;
mod dtype;
mod jax;
mod mobilevit;
mod names;
mod npy;
mod npz;
mod onnx;
mod safetensors;
mod shards;
mod swin;
mod torch;
mod videomae;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::file::hex;
use crate::{Tensor, TensorError};

pub use names::{Publisher, text_to_timm, to_timm};
pub use safetensors::write_safetensors;
pub use shards::shard_files;

/// The weights of one file.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// By the names that the publisher gave; [`to_timm`] gives timm's.
    pub tensors: BTreeMap<String, Tensor>,
    /// What the file says of itself: `__metadata__` of safetensors, `metadata_props` of ONNX; of Google's files `num_heads`, which
    /// a shape tells.
    pub metadata: BTreeMap<String, String>,
    /// SHA-256 of the file in hexadecimal.
    pub sha256: String,
}

/// Why weights could not be read, understood or written.
#[derive(Debug, Error)]
pub enum CheckpointError {
    /// The file cannot be opened or read.
    #[error("cannot read `{path}`: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file cannot be written; what stood there is untouched.
    #[error("cannot write `{path}`: {source}; what stood there is unchanged")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file was read, but its bytes are not weights.
    #[error("`{path}`: {cause}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with its bytes.
        cause: Box<CheckpointError>,
    },
    /// The bytes are of none of the formats.
    #[error("expected a safetensors, ONNX, PyTorch or NumPy (.npz) file, got {got}")]
    Foreign {
        /// What it seems to be, and what to do with it.
        got: &'static str,
    },
    /// There is no text tower among the tensors.
    #[error(
        "the file holds no text tower of a CLIP; take a whole CLIP by OpenAI's, OpenCLIP's or Hugging Face's names, timm's \
         files are of the image tower alone"
    )]
    NoText,
    /// The header of a safetensors file is broken, or bytes are missing or left over.
    #[error("not a whole safetensors file ({0}); was the download cut off?")]
    Safetensors(#[from] ::safetensors::SafeTensorError),
    /// The messages of an ONNX file are broken.
    #[error("not a whole ONNX file ({0}); was the download cut off?")]
    Onnx(#[from] prost::DecodeError),
    /// A zip archive is broken.
    #[error("not a whole NumPy archive ({0}); was the download cut off?")]
    Npz(Box<zip::result::ZipError>),
    /// A file of PyTorch's is broken, or holds what is no plain tensor.
    #[error("not a whole PyTorch file of plain tensors ({0}); was the download cut off?")]
    Torch(Box<pytorch_reader::PytorchError>),
    /// The values of a tensor are of a type that weights are not.
    #[error("tensor `{name}` holds {got}; weights must be F32, F16, BF16 or F64")]
    Dtype {
        /// The tensor.
        name: String,
        /// Its type.
        got: String,
    },
    /// The values of a tensor lie in another file.
    #[error(
        "tensor `{name}` keeps its values in another file; save the model as one file (onnx.save with \
         save_as_external_data=False)"
    )]
    External {
        /// The tensor.
        name: String,
    },
    /// A tensor has more or fewer values than its shape says, or an impossible shape.
    #[error("tensor `{name}`: {reason}")]
    Values {
        /// The tensor.
        name: String,
        /// What was expected and what came.
        reason: String,
    },
    /// The index of a checkpoint in several files is broken.
    #[error("not an index of shards: {reason}; fetch it again")]
    Index {
        /// What is wrong with it.
        reason: String,
    },
    /// The file holds no floating-point tensor at all.
    #[error("the file holds no weights")]
    Empty,
    /// Names of nobody's vision transformers.
    #[error(
        "{count} tensors belong to no backbone that is known, by timm's, Hugging Face's or the authors' names: {shown}"
    )]
    UnknownNames {
        /// How many.
        count: usize,
        /// The first of them.
        shown: String,
    },
    /// A vision transformer with a part that is not supported.
    #[error("tensor `{name}` belongs to a model with {part}, which is not supported; take one without")]
    Unsupported {
        /// The tensor.
        name: String,
        /// The part.
        part: &'static str,
    },
    /// A tensor that its neighbours need is not there.
    #[error("tensor `{name}` is missing; is the file whole, and is it a vision transformer?")]
    Missing {
        /// The publisher's name of it.
        name: String,
    },
    /// A tensor has a shape that does not fit.
    #[error("tensor `{name}` has shape {got:?}, expected {expected}")]
    WrongShape {
        /// The tensor.
        name: String,
        /// The shape needed, in words.
        expected: String,
        /// The shape found.
        got: Vec<usize>,
    },
}

impl From<zip::result::ZipError> for CheckpointError {
    fn from(error: zip::result::ZipError) -> Self {
        Self::Npz(Box::new(error))
    }
}

impl From<pytorch_reader::PytorchError> for CheckpointError {
    fn from(error: pytorch_reader::PytorchError) -> Self {
        Self::Torch(Box::new(error))
    }
}

impl CheckpointError {
    fn unknown_names(names: &[&str]) -> Self {
        const SHOWN: usize = 5;
        let quoted: Vec<String> = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect();
        let mut shown = quoted.join(", ");
        if names.len() > SHOWN {
            shown.push_str(", ...");
        }
        Self::UnknownNames { count: names.len(), shown }
    }

    pub(crate) fn values(name: &str, error: &TensorError) -> Self {
        Self::Values { name: name.to_owned(), reason: error.to_string() }
    }
}

impl Checkpoint {
    /// Reads the bytes of a safetensors, an ONNX or a NumPy `.npz` file, told apart by what they hold.
    ///
    /// Of ONNX the floating-point initializers are taken; those that the exporter left without a name are named by the
    /// node that uses them, and where there are tensors `backbone.*` these alone are kept, without the prefix.
    ///
    /// # Errors
    /// When the bytes are truncated, damaged, of another format, or hold tensors that are not floats.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CheckpointError> {
        let (tensors, metadata) = match bytes {
            [_, _, _, _, _, _, _, _, b'{', ..] => safetensors::parse(bytes)?,
            // The first field of an ONNX file, by every known writer: ir_version.
            [0x08, ..] => onnx::parse(bytes)?,
            [b'P', b'K', ..] => {
                let tensors = npz::parse(bytes)?;
                let heads = jax::num_heads(&tensors).map(|heads| ("num_heads".to_owned(), heads.to_string()));
                (tensors, heads.into_iter().collect())
            }
            [] => return Err(CheckpointError::Foreign { got: "an empty file" }),
            _ => return Err(CheckpointError::Foreign { got: "something else" }),
        };
        Self::new(tensors, metadata, bytes)
    }

    fn new(
        tensors: BTreeMap<String, Tensor>,
        metadata: BTreeMap<String, String>,
        bytes: &[u8],
    ) -> Result<Self, CheckpointError> {
        if tensors.is_empty() {
            return Err(CheckpointError::Empty);
        }
        Ok(Self { tensors, metadata, sha256: hex(Sha256::digest(bytes)) })
    }
}

/// Reads a file of weights, see [`Checkpoint::from_bytes`]; also one of PyTorch's (`.pt`, `.pth`, `.bin`), of which nothing is
/// executed; or all shards that an index (`model.safetensors.index.json`) names. All values become float32.
///
/// Of a PyTorch file the floating-point tensors are taken: those of `state_dict`, `model_state_dict`, `model` or `teacher` where there
/// is such a dictionary, without the prefix `module.`.
///
/// What the file's own metadata do not say of `num_heads`, `layer_norm_eps`, `act_layer`, `mean` and `std` is taken from the
/// publisher's `config.json`, `open_clip_config.json` or `preprocessor_config.json` in the same folder, where there is one.
///
/// # Errors
/// When the file cannot be read, or as [`Checkpoint::from_bytes`]; the message names the file.
pub fn read(path: impl AsRef<Path>) -> Result<Checkpoint, CheckpointError> {
    let path = path.as_ref();
    let mut checkpoint = read_file(path)?;
    for (key, value) in config::beside(path) {
        checkpoint.metadata.entry(key).or_insert(value);
    }
    Ok(checkpoint)
}

/// [`read`] without what lies beside.
fn read_file(path: &Path) -> Result<Checkpoint, CheckpointError> {
    let bytes = std::fs::read(path).map_err(|source| CheckpointError::Read { path: path.to_owned(), source })?;
    let checkpoint = if shards::is_index(path) {
        shards::read(path, &bytes)
    } else if torch::is_one(&bytes) {
        torch::read(path).and_then(|tensors| Checkpoint::new(tensors, BTreeMap::new(), &bytes))
    } else {
        Checkpoint::from_bytes(&bytes)
    };
    checkpoint.map_err(|cause| CheckpointError::File { path: path.to_owned(), cause: Box::new(cause) })
}
