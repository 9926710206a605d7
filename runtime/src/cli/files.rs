//! Pictures from files.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use edge_vit::{Classifier, Prediction, open_picture};

use crate::cli::output::Output;

/// Endings of the files in a folder that are taken for pictures.
const ENDINGS: [&str; 8] = ["jpg", "jpeg", "png", "webp", "bmp", "tif", "tiff", "gif"];

/// Classifies each of `paths`. A picture that cannot be classified is named on stderr and skipped; gives whether
/// there was none such.
pub(crate) fn run(classifier: &Classifier, paths: &[PathBuf], output: &mut Output) -> Result<bool> {
    let mut failed = 0;
    for path in paths {
        let source = path.display().to_string();
        match classify(classifier, path) {
            Ok((predictions, ms)) => output.predictions(&source, &predictions, ms)?,
            Err(error) => {
                failed += 1;
                log::error!("{source}: {:#}", anyhow::Error::from(error));
            }
        }
    }
    if failed > 0 {
        log::error!("{failed} of {} pictures could not be classified", paths.len());
    }
    Ok(failed == 0)
}

/// The predictions for the picture at `path`, and the milliseconds that preprocessing and model took.
fn classify(classifier: &Classifier, path: &Path) -> Result<(Vec<Prediction>, f64), edge_vit::Error> {
    let picture = open_picture(path)?;
    let start = Instant::now();
    let predictions = classifier.classify(&picture)?;
    Ok((predictions, start.elapsed().as_secs_f64() * 1e3))
}

/// The pictures in `dir` and the folders in it, in order of their paths. Linked folders are not followed.
pub(crate) fn pictures(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("cannot read the folder {}", folder.display()))? {
            let entry = entry.with_context(|| format!("cannot read the folder {}", folder.display()))?;
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(path);
            } else if has_picture_ending(&path) {
                found.push(path);
            }
        }
    }
    ensure!(!found.is_empty(), "{} holds no picture ({})", dir.display(), ENDINGS.join(", "));
    found.sort();
    Ok(found)
}

fn has_picture_ending(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    ENDINGS.iter().any(|known| ending.eq_ignore_ascii_case(known))
}
