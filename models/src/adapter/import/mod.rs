//! Adapters that another program trained, under this crate's names.

mod authors;
mod peft;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::{Adaptation, File, Meta};
use crate::backbone::Backbone;
use crate::checkpoint::CheckpointError;
use crate::task::Task;
use crate::tensor::Tensor;

/// Adapters and head.
#[derive(Debug, Clone, PartialEq)]
pub struct Imported {
    /// The method.
    pub spec: Adaptation,
    /// Its tensors, and `head.weight` `[C, D]` and `head.bias` `[C]`.
    pub tensors: BTreeMap<String, Tensor>,
}

impl Imported {
    /// The adapter file of `backbone` with these adapters, the head's rows called `labels`; `preprocessing` and `training` as
    /// [`Meta`] has them.
    pub fn into_file(
        self,
        backbone: &Backbone,
        labels: Vec<String>,
        preprocessing: serde_json::Value,
        training: serde_json::Value,
    ) -> File {
        let meta = Meta {
            format_version: Meta::version(Task::Classification),
            task: Task::Classification,
            method: self.spec.method().to_owned(),
            spec: self.spec,
            backbone_name: backbone.name.clone(),
            backbone_sha256: backbone.sha256.clone(),
            image_size: backbone.config.image_size(),
            labels,
            preprocessing,
            training,
        };
        File { meta, tensors: self.tensors }
    }
}

/// Why adapters cannot be taken over.
#[derive(Debug, Error)]
pub enum ImportError {
    /// A file cannot be read.
    #[error("cannot read {}: {reason}; give the folder that peft's save_pretrained wrote", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The tensors cannot be read.
    #[error(transparent)]
    Tensors(#[from] CheckpointError),
    /// The adapters are of a kind that has no equal here.
    #[error("these adapters cannot be taken over: {reason}")]
    Unsupported {
        /// What they are and what can be taken.
        reason: String,
    },
    /// The factor on the adapters' branch is not known.
    #[error(
        "files of RepAdapter's authors do not hold the factor on an adapter's branch; give the `s` of its training with --scale"
    )]
    NoScale,
    /// The factor on the adapters' branch is known already.
    #[error("peft's configuration holds the factor; leave --scale out")]
    Scale,
}

/// Reads a folder that Hugging Face's `peft` saved (a LoRA), or a file of RepAdapter's authors, which does not hold the
/// factor `scale` on an adapter's branch.
///
/// # Errors
/// When the files cannot be read, the adapters are of another kind or stand anywhere else, there is no head, or `scale` is
/// given for a folder or not for a file.
pub fn import(path: &Path, scale: Option<f32>) -> Result<Imported, ImportError> {
    let imported = match (path.is_dir(), scale) {
        (true, None) => peft::read(path),
        (true, Some(_)) => Err(ImportError::Scale),
        (false, None) => Err(ImportError::NoScale),
        (false, Some(scale)) => authors::read(path, scale),
    }?;
    if !imported.tensors.contains_key("head.weight") || !imported.tensors.contains_key("head.bias") {
        let reason = "there is no head; save it with them (peft: modules_to_save=[\"classifier\"], timm's: [\"head\"])";
        return Err(ImportError::Unsupported { reason: reason.to_owned() });
    }
    Ok(imported)
}
