//! The pictures that chose the epoch of a training, found again by its record.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use edge_vit_models::adapter::Meta;
use rayon::prelude::*;
use serde::Deserialize;

use super::QuantizeError;
use crate::data::{Dataset, Group, Part, Picture, PictureSet, open_picture, split};
use crate::evaluate::{Sample, Samples};
use crate::preprocessing::frames_of;
use crate::segmentation::{MaskedDataset, MaskedSet};

/// What of a training's record decides its split.
#[derive(Debug, Deserialize)]
struct Record {
    data: PathBuf,
    train_pictures: usize,
    val_pictures: usize,
    recipe: SplitRecipe,
}

#[derive(Debug, Deserialize)]
struct SplitRecipe {
    val_fraction: f64,
    group: Option<Group>,
    seed: u64,
}

/// The validation pictures of the training that `meta` tells of: those of the data's `val` folder, else those that its split set
/// apart.
///
/// # Errors
/// When there was no training, or its pictures are not there any more, or not the same number of them.
pub fn validation_pictures(meta: &Meta) -> Result<Samples, QuantizeError> {
    let record = Record::of(meta)?;
    let data = Dataset::read(&record.data)?.filmstrips(frames_of(meta))?;
    let chosen = match data.val {
        Some(val) => val.relabel(&meta.labels)?,
        None => set_apart(data.train.relabel(&meta.labels)?, &record)?,
    };
    let pictures = chosen.pictures.into_iter().map(Sample::from).collect();
    Ok(Samples {
        folder: chosen.path,
        part: Part::Val,
        pictures,
        unknown_folders: Vec::new(),
        missing_labels: Vec::new(),
    })
}

/// The same for a training of segmentation.
///
/// # Errors
/// As [`validation_pictures`], and when a picture has no mask.
pub(super) fn validation_masks(meta: &Meta) -> Result<MaskedSet, QuantizeError> {
    let record = Record::of(meta)?;
    let data = MaskedDataset::read(&record.data)?;
    let unlabelled = data.unlabelled().train;
    match data.val {
        Some(val) => Ok(val),
        None => {
            let MaskedSet { path, mut pictures } = data.train;
            let chosen = set_apart(unlabelled, &record)?.pictures;
            let chosen: HashSet<&Path> = chosen.iter().map(|picture| picture.path.as_path()).collect();
            pictures.retain(|picture| chosen.contains(picture.path.as_path()));
            Ok(MaskedSet { path, pictures })
        }
    }
}

impl Record {
    fn of(meta: &Meta) -> Result<Self, QuantizeError> {
        if meta.training.get("val_pictures").is_none() {
            let reason = "these adapters were made without a training".to_owned();
            return Err(QuantizeError::NoValidation { reason });
        }
        let record: Self = serde_json::from_value(meta.training.clone())
            .map_err(|error| QuantizeError::Record { reason: error.to_string() })?;
        match record.data.exists() {
            true => Ok(record),
            false => {
                let reason = format!("the training's own are not at {} any more", record.data.display());
                Err(QuantizeError::NoValidation { reason })
            }
        }
    }
}

/// The pictures of `set` that the recorded split kept from training. Pictures that cannot be read took no part in it.
fn set_apart(mut set: PictureSet, record: &Record) -> Result<PictureSet, QuantizeError> {
    let expected = record.train_pictures + record.val_pictures;
    if set.pictures.len() != expected {
        let pictures = std::mem::take(&mut set.pictures);
        let is_readable = |picture: &Picture| open_picture(&picture.path).is_ok();
        set.pictures = pictures.into_par_iter().filter(is_readable).collect();
    }
    if set.pictures.len() != expected {
        return Err(QuantizeError::Changed { path: set.path, expected, found: set.pictures.len() });
    }
    let SplitRecipe { val_fraction, group, seed } = &record.recipe;
    let parts = split(&set, *val_fraction, group.as_ref(), *seed)?;
    let pictures = parts.val.iter().map(|&index| set.pictures[index].clone()).collect();
    Ok(PictureSet { pictures, ..set })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use edge_vit_models::Task;
    use edge_vit_models::adapter::{Adaptation, Spec};
    use serde_json::{Value, json};

    use super::*;
    use crate::evaluate::fixture::paint;

    fn meta(training: Value) -> Meta {
        Meta {
            format_version: Meta::version(Task::Classification),
            task: Task::Classification,
            method: "repadapter".into(),
            spec: Adaptation::Adapters(Spec::default()),
            backbone_name: "b".into(),
            backbone_sha256: String::new(),
            image_size: [8, 8],
            labels: ["a", "b"].map(str::to_owned).to_vec(),
            preprocessing: Value::Null,
            training,
        }
    }

    fn record(data: &Path, train: usize, val: usize) -> Meta {
        let recipe = json!({ "val_fraction": 0.25, "group": { "before": "_" }, "seed": 3 });
        meta(json!({ "data": data, "train_pictures": train, "val_pictures": val, "recipe": recipe }))
    }

    #[test]
    fn the_split_is_the_trainings_own_and_unreadable_pictures_took_no_part() {
        let dir = tempfile::tempdir().unwrap();
        for class in ["a", "b"] {
            (0..8).for_each(|index| paint(&dir.path().join(format!("{class}/{index}_{class}.png")), [index * 9, 0, 0]));
        }
        let parts =
            split(&Dataset::read(dir.path()).unwrap().train, 0.25, Some(&Group::Before("_".into())), 3).unwrap();
        let names = |samples: &Samples| -> Vec<(PathBuf, usize)> {
            samples.pictures.iter().map(|sample| (sample.path.clone(), sample.class)).collect()
        };
        let whole = Dataset::read(dir.path()).unwrap().train.pictures;
        let expected: Vec<(PathBuf, usize)> =
            parts.val.iter().map(|&index| (whole[index].path.clone(), whole[index].label as usize)).collect();
        assert_eq!(expected.len(), 4);
        let found = validation_pictures(&record(dir.path(), 12, 4)).unwrap();
        assert_eq!((names(&found), found.part), (expected.clone(), Part::Val));
        fs::write(dir.path().join("a/0_damaged.png"), b"no picture").unwrap();
        assert_eq!(names(&validation_pictures(&record(dir.path(), 12, 4)).unwrap()), expected);

        let error = validation_pictures(&record(dir.path(), 20, 4)).unwrap_err();
        assert!(matches!(error, QuantizeError::Changed { expected: 24, found: 16, .. }), "{error}");
    }

    #[test]
    fn a_val_folder_comes_first() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["train/a/1.png", "train/b/1.png", "val/a/1.png", "val/b/1.png"] {
            paint(&dir.path().join(path), [0; 3]);
        }
        let found = validation_pictures(&record(dir.path(), 2, 2)).unwrap();
        assert_eq!(found.folder, dir.path().join("val"));
        assert_eq!(found.pictures.iter().map(|sample| sample.class).collect::<Vec<_>>(), [0, 1]);
    }

    #[test]
    fn without_a_training_it_is_said_what_to_do() {
        for training in [Value::Null, json!({ "data": "x" }), record(Path::new("/nowhere/at/all"), 1, 1).training] {
            let error = validation_pictures(&meta(training)).unwrap_err();
            assert!(matches!(error, QuantizeError::NoValidation { .. }), "{error}");
            assert!(error.to_string().contains("--calibrate DIR"), "{error}");
        }
    }
}
