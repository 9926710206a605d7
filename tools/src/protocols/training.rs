//! One training of a protocol, and the model file that becomes of it.

use std::path::{Path, PathBuf};

use edge_vit::Classifier;
use edge_vit_models::adapter::Adaptation;
use edge_vit_models::backbone;
use serde_json::{Value, json};

use super::ProtocolError;
use crate::merge::{Merge, MergeError};
use crate::train::series::{self, Records};
use crate::train::{self, Options, TrainError, Validated};

/// Checks what no later step would, before hours are spent: the recipe, that the method can be folded, and the backbone. What
/// comes back tells one protocol from another in its file: the recipe, the backbone and `more`.
///
/// # Errors
/// What does not fit.
pub(super) fn begin(options: &Options, more: Value) -> Result<Value, ProtocolError> {
    options.recipe.check()?;
    if let Adaptation::Comparison(_) = options.recipe.adapters {
        return Err(ProtocolError::NotFolded { method: options.recipe.adapters.method().to_owned() });
    }
    let backbone = backbone::load(&options.backbone, None).map_err(TrainError::from)?;
    // Through text, so that a number of the file is the same to the last digit.
    let text = serde_json::to_string(&options.recipe).map_err(TrainError::Json)?;
    let mut asked: Value = serde_json::from_str(&text).map_err(TrainError::Json)?;
    let mut set = |name: &str, value: Value| {
        if let Some(fields) = asked.as_object_mut() {
            fields.insert(name.to_owned(), value);
        }
    };
    set("backbone_name", json!(backbone.name));
    set("backbone_sha256", json!(backbone.sha256));
    for (name, value) in more.as_object().into_iter().flatten() {
        set(name, value.clone());
    }
    Ok(asked)
}

/// A training that ended.
#[derive(Debug)]
pub(super) struct Trained {
    /// The epoch that was kept.
    pub(super) kept: Validated,
    /// The file of adapters.
    pub(super) adapters: PathBuf,
}

/// Trains `options` on `data` in the folder `name` below theirs, or goes on with it; with `search`, by
/// [`series::search`]. `None` where it was stopped.
pub(super) fn train(
    options: &Options,
    search: bool,
    data: &Path,
    name: &str,
    records: Records<'_>,
) -> Result<Option<Trained>, ProtocolError> {
    let out = options.out.join(name);
    let began = out.join(if search { "search.json" } else { "last.safetensors" }).exists();
    let own = Options { data: data.to_owned(), out: out.clone(), resume: began, ..options.clone() };
    let adapters = out.join("adapters.safetensors");
    if search {
        let series = series::search(&own, &mut |trial, record| records(&format!("{name}/{trial}"), record))?;
        if series.interrupted {
            return Ok(None);
        }
        let kept = series.best().and_then(|trial| trial.kept).ok_or(ProtocolError::NothingTrained)?;
        return Ok(Some(Trained { kept, adapters }));
    }
    let outcome = train::run(&own, &mut |record| records(name, record))?;
    Ok(outcome.kept.filter(|_| !outcome.interrupted).map(|kept| Trained { kept, adapters }))
}

/// A path as it stands in a file of results.
pub(super) fn whole(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// The model file of `adapters` at `strength`, as `fold` makes it, opened by the device's code.
pub(super) fn fold(backbone: &Path, adapters: &Path, strength: f64) -> Result<Classifier, ProtocolError> {
    let merge =
        Merge { backbone, adapters, pictures: None, strength, free_batch: false, merge_tokens: None, quantize: None };
    let merged = merge.run()?;
    Ok(Classifier::from_bytes(&merged.bytes).map_err(MergeError::from)?)
}
