//! From options to all that stands before the first step: backbone with adapters, pictures, split, configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use edge_vit::Preprocessing;
use edge_vit_models::adapter::{self, Adapted, Attached};
use edge_vit_models::backbone::{self, Backbone};
use edge_vit_models::file::hex;
use edge_vit_models::{Graph, Task, Tensor};
use rayon::prelude::*;
use sha2::{Digest as _, Sha256};

use super::device::Device;
use super::inputs::{Cut, Inputs, cut};
use super::masks::Masks;
use super::options::Config;
use super::shots::few;
use super::{Options, TrainError};
use crate::data::{DataError, Dataset, Picture, PictureSet, split};
use crate::engine::Precision;
use crate::preprocessing;
use crate::segmentation::MaskedDataset;

/// Between these sides, in pixels, the size of the pictures is chosen automatically.
const AUTOMATIC_SIZE: [usize; 2] = [112, 224];

/// What a run works on.
pub(super) struct Prepared {
    pub(super) config: Config,
    pub(super) backbone: String,
    pub(super) preprocessing: Preprocessing,
    pub(super) trainable: BTreeSet<String>,
    /// The method that the trainable weights' gradients are for, where it is one with parameters of its own; taken by the
    /// engine.
    pub(super) attached: Option<Attached>,
    pub(super) trained_parameters: usize,
    pub(super) cut: Cut,
    /// The backbone as its publisher left it, with a head of zeros for the classes.
    pub(super) plain: Graph,
    pub(super) inputs: Inputs,
    /// What patches are to answer, by position in `inputs`; `None` where pictures have labels.
    pub(super) masks: Option<Masks>,
    /// Positions in `inputs`.
    pub(super) train: Vec<usize>,
    /// Positions in `inputs`.
    pub(super) val: Vec<usize>,
    /// Pictures left out, with the reason.
    pub(super) skipped: Vec<(PathBuf, String)>,
}

/// Reads the backbone and the pictures, puts adapters and a head in, and runs the frozen layers.
pub(super) fn prepare(options: &Options, device: &Device) -> Result<Prepared, TrainError> {
    let recipe = &options.recipe;
    let masked = match recipe.task {
        Task::Classification => None,
        Task::Segmentation => Some(MaskedDataset::read(&options.data)?),
    };
    let mut data = masked.as_ref().map_or_else(|| Dataset::read(&options.data), |masked| Ok(masked.unlabelled()))?;
    let labels = masked.as_ref().map_or(&data.train.labels, |masked| &masked.labels).clone();
    let native = backbone::load(&options.backbone, None)?;
    let frames = native.config.num_frames();
    data = data.filmstrips(frames)?;
    if let Some(shots) = recipe.shots {
        data = few(data, shots, recipe.val_fraction, recipe.group.as_ref(), recipe.seed)?;
    }
    let step = native.config.image_step();
    let side = match recipe.image_size {
        None => automatic_size(&data.train.pictures, frames, step),
        Some(side) => checked_side(side, step)?,
    };
    let size = [side, side];
    let backbone = match native.config.image_size() == size {
        true => native,
        false => backbone::load(&options.backbone, Some(size))?,
    };
    let mut graph = match recipe.task {
        Task::Classification => backbone::with_head(&backbone.graph, labels.len())?,
        Task::Segmentation => backbone::with_patch_head(&backbone.graph, labels.len(), recipe.mask_scale)?,
    };
    if let Some(path) = &recipe.head {
        graph.weights.extend(head(path, &backbone, recipe.task, &labels)?);
    }
    let plain = graph.clone();
    let adapted = recipe.adapters.begin(&graph, recipe.seed)?;
    let trained_parameters = adapted.trained_parameters();
    if adapted.graph.shapes()?.last() != plain.shapes()?.last() {
        return Err(TrainError::Tokens { method: recipe.adapters.method() });
    }
    let Adapted { graph, trainable, attached } = adapted;
    check_precision(recipe.precision, attached.as_ref(), recipe.adapters.method())?;
    let cut = cut(&graph, &trainable)?;
    let prefix = cut.prefix.as_ref().map(|prefix| device.engine(prefix, &BTreeSet::new())).transpose()?;

    let preprocessing = preprocessing::of(&backbone);
    let mut inputs = Inputs::new(preprocessing.clone(), prefix, recipe.augment.clone(), options.cache_limit);
    log::info!("reading {} pictures at {side}x{side}", count(&data));
    let mut skipped = Vec::new();
    for set in [Some(&mut data.train), data.val.as_mut()].into_iter().flatten() {
        inputs.load(&mut set.pictures, &options.stop, &mut |path, reason| {
            log::warn!("skipped {}: {reason}", path.display());
            skipped.push((path.to_owned(), reason));
        })?;
    }
    data.train.check_classes()?;
    if let Some(val) = data.val.as_ref().filter(|val| val.pictures.is_empty()) {
        return Err(DataError::NoPictures { path: val.path.clone() }.into());
    }
    if inputs.not_kept() > 0 {
        let (missing, all) = (inputs.not_kept(), inputs.len());
        log::info!("{missing} of {all} pictures do not fit --cache-limit and are computed again in every epoch");
    }
    let (train, val) = match &data.val {
        Some(_) => {
            let count = data.train.pictures.len();
            ((0..count).collect(), (count..inputs.len()).collect())
        }
        None => {
            let parts = split(&data.train, recipe.val_fraction, recipe.group.as_ref(), recipe.seed)?;
            (parts.train, parts.val)
        }
    };
    let masks = match (&masked, backbone::mask_grid(&plain)) {
        (Some(masked), Some(grid)) => {
            let pictures = data.train.pictures.iter().chain(data.val.iter().flat_map(|val| &val.pictures));
            Some(Masks::read(masked, pictures, grid)?)
        }
        _ => None,
    };
    let config = Config {
        recipe: recipe.clone(),
        input_size: size,
        backbone_sha256: backbone.sha256,
        labels,
        pictures_sha256: fingerprint(&data, masks.as_ref()),
    };
    Ok(Prepared {
        config,
        backbone: backbone.name,
        preprocessing,
        trainable,
        attached,
        trained_parameters,
        cut,
        plain,
        inputs,
        masks,
        train,
        val,
        skipped,
    })
}

/// The head of a file of adapters for the same backbone, task and classes.
fn head(
    path: &Path,
    backbone: &Backbone,
    task: Task,
    labels: &[String],
) -> Result<BTreeMap<String, Tensor>, TrainError> {
    let failed = |reason: String| TrainError::Head { path: path.to_owned(), reason };
    let file = adapter::File::read(path).map_err(|error| failed(error.to_string()))?;
    if !file.meta.backbone_sha256.eq_ignore_ascii_case(&backbone.sha256) {
        return Err(failed(format!("it is of the backbone `{}`, not of this one", file.meta.backbone_name)));
    }
    if file.meta.task != task {
        return Err(failed(format!("it is of {}, not of {}", file.meta.task.name(), task.name())));
    }
    if file.meta.labels != labels {
        let (expected, got) = (labels.join(", "), file.meta.labels.join(", "));
        return Err(failed(format!("its classes are {got}, those of the pictures {expected}")));
    }
    Ok(file.tensors.into_iter().filter(|(name, _)| name.starts_with("head.")).collect())
}

fn count(data: &Dataset) -> usize {
    data.train.pictures.len() + data.val.as_ref().map_or(0, |val| val.pictures.len())
}

/// [`covering_size`] of those pictures, or filmstrips of so many `frames`, that can be read.
fn automatic_size(pictures: &[Picture], frames: usize, step: usize) -> usize {
    let shorter = |picture: &Picture| {
        let (width, height) = image::image_dimensions(&picture.path).ok()?;
        Some(width.min(height / frames as u32))
    };
    covering_size(pictures.par_iter().filter_map(shorter).collect(), step)
}

/// `side`, if pictures of it can be cut into the backbone's patches, or maps, of `step`.
///
/// # Errors
/// When they cannot.
pub(crate) fn checked_side(side: usize, step: usize) -> Result<usize, TrainError> {
    if side > 0 && side.is_multiple_of(step) { Ok(side) } else { Err(TrainError::ImageSize { step, got: side }) }
}

/// Refuses half precision for a `method` that changes weights on the processor, which has float32 alone.
///
/// # Errors
/// When it is such a one.
pub(crate) fn check_precision(
    precision: Precision,
    attached: Option<&Attached>,
    method: &'static str,
) -> Result<(), TrainError> {
    match (precision, attached) {
        (Precision::F16, Some(_)) => Err(TrainError::NotInHalfPrecision { method }),
        _ => Ok(()),
    }
}

/// The smallest multiple of the backbone's step that covers the median of the pictures' shorter sides, within
/// [`AUTOMATIC_SIZE`].
pub(crate) fn covering_size(mut sides: Vec<u32>, step: usize) -> usize {
    sides.sort_unstable();
    let median = sides.get(sides.len() / 2).map_or(0, |side| *side as usize);
    covering(median, step)
}

fn covering(side: usize, step: usize) -> usize {
    let [low, high] = AUTOMATIC_SIZE;
    let low = low.next_multiple_of(step);
    let high = (high / step * step).max(low);
    side.next_multiple_of(step).clamp(low, high)
}

/// Over part, file name, class and group of all pictures and over what their patches are to answer, so that a run is not resumed
/// on others.
fn fingerprint(data: &Dataset, masks: Option<&Masks>) -> String {
    let mut hash = Sha256::new();
    let sets: [Option<&PictureSet>; 2] = [Some(&data.train), data.val.as_ref()];
    for set in sets.into_iter().flatten() {
        for picture in &set.pictures {
            hash.update(picture.label.to_le_bytes());
            hash.update(picture.path.file_name().unwrap_or_default().as_encoded_bytes());
            if let Some(group) = &picture.group {
                hash.update([2]);
                hash.update(group);
            }
            hash.update([0]);
        }
        hash.update([1]);
    }
    for share in masks.into_iter().flat_map(Masks::shares) {
        hash.update(share.to_le_bytes());
    }
    hex(hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_automatic_size_covers_the_pictures_within_its_bounds() {
        assert_eq!(covering(100, 14), 112);
        assert_eq!(covering(113, 14), 126);
        assert_eq!(covering(160, 16), 160);
        assert_eq!(covering(1080, 14), 224);
        assert_eq!(covering(32, 32), 128);
        assert_eq!(covering(0, 500), 500);
        assert_eq!((covering(32, 224), covering(32, 256)), (224, 256));
    }
}
