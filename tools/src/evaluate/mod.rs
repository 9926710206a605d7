//! How good a merged model is on labelled pictures, measured through the code that the device runs.
//!
//! [`Samples::find`] lists the pictures, [`evaluate`] runs the model over them, [`Evaluation`] holds the figures.

pub mod calibration;
mod clips;
mod figures;
#[cfg(test)]
pub(crate) mod fixture;
pub mod reliability;
mod samples;
mod text;

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use edge_vit::{Bundle, Classifier};
use rayon::prelude::*;
use thiserror::Error;

use crate::data::{DataError, open_picture};

pub use clips::evaluate_clips;
pub use figures::{ClassFigures, Evaluation, Mistake, Outcome, Share, Skipped, WORST_KEPT, median};
pub use samples::{Sample, Samples, UnknownFolder};
pub(crate) use text::printable;
pub use text::to_text;

/// Why a model could not be measured.
#[derive(Debug, Error)]
pub enum EvaluateError {
    /// The data set cannot be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The data set has a `train` part alone.
    #[error(
        "{} holds training pictures, but none for validation or test: a figure on the pictures trained on says little. \
         Name others, or set some apart",
        path.display()
    )]
    OnlyTrain {
        /// The folder.
        path: PathBuf,
    },
    /// A choice is to be made by pictures that are kept to measure the result.
    #[error(
        "{} is the test part of a data set: what is chosen by it is not measured by it any more. Name the validation \
         pictures",
        path.display()
    )]
    IsTest {
        /// The folder.
        path: PathBuf,
    },
    /// The data set has parts, and none to choose by.
    #[error("{} has parts, but none for validation; name the pictures to choose by", path.display())]
    NoVal {
        /// The folder.
        path: PathBuf,
    },
    /// The data set has no test pictures to measure the result with.
    #[error(
        "{} has no test part: the result is measured once, on pictures that neither trained the model nor chose anything. Set some \
         apart",
        path.display()
    )]
    NoTest {
        /// The folder.
        path: PathBuf,
    },
    /// No picture of the data set belongs to a clip.
    #[error(
        "{} has no clips: --clip averages the frames of a film, of a folder CLASS/CLIP, or of a `group` of a CSV file; leave it \
         out to judge each picture by itself",
        path.display()
    )]
    NoClips {
        /// The folder.
        path: PathBuf,
    },
    /// No class of the data set is a label of the model.
    #[error(
        "no class in {} is named like a label of the model: expected some of {expected}; found {found}",
        path.display()
    )]
    NoKnownClass {
        /// The folder.
        path: PathBuf,
        /// The first labels of the model, in words.
        expected: String,
        /// The first classes found, in words.
        found: String,
    },
    /// The classes have no picture at all.
    #[error("the classes in {} have no picture (jpg, png, webp, bmp, tiff, gif) and no film", path.display())]
    NoPictures {
        /// The folder.
        path: PathBuf,
    },
    /// Not one picture could be read.
    #[error("none of the {count} pictures in {} can be read; the first, {first}: {reason}", path.display())]
    NoneReadable {
        /// The folder.
        path: PathBuf,
        /// How many were tried.
        count: usize,
        /// The first of them.
        first: String,
        /// Why it cannot be read.
        reason: String,
    },
    /// The model failed on a picture that was read.
    #[error("the model failed on {}: {source}", path.display())]
    Model {
        /// The picture.
        path: PathBuf,
        /// What the runtime said.
        source: edge_vit::Error,
    },
    /// The model's logits are not one finite number a label.
    #[error(
        "the model gave {got} for {}, expected {labels} finite logits: the file is damaged or was folded from \
         diverged adapters",
        path.display()
    )]
    Logits {
        /// The picture.
        path: PathBuf,
        /// The number of labels.
        labels: usize,
        /// What came, in words.
        got: String,
    },
}

/// What became of one picture.
enum Seen<T> {
    Scored(T),
    Skipped(Skipped),
}

/// Runs `classifier` over `samples` on all of rayon's threads and gathers the figures. `progress` is called with the
/// number of pictures done and may be called from any thread.
///
/// A picture that cannot be read is left out and named in [`Evaluation::skipped`].
///
/// # Errors
/// Those of [`outcomes`].
pub fn evaluate(
    classifier: &Classifier,
    samples: &Samples,
    progress: &(dyn Fn(usize) + Sync),
) -> Result<Evaluation, EvaluateError> {
    let (outcomes, skipped) = outcomes(classifier, samples, progress)?;
    let Bundle { labels, rejection, .. } = classifier.bundle();
    Ok(Evaluation::new(labels, samples, &outcomes, skipped, *rejection))
}

/// What `classifier` says of each picture of `samples`, at least one, in their order, and the pictures that cannot be read; else
/// as [`evaluate`].
///
/// # Errors
/// When the model fails on a picture, gives logits that are no numbers, or when no picture can be read.
pub fn outcomes(
    classifier: &Classifier,
    samples: &Samples,
    progress: &(dyn Fn(usize) + Sync),
) -> Result<(Vec<Outcome>, Vec<Skipped>), EvaluateError> {
    let temperature = classifier.bundle().rejection.map_or(1.0, |rejection| f64::from(rejection.temperature));
    scored(classifier, samples, progress, &|index, logits, ms| {
        Outcome::score(index, samples.pictures[index].class, logits, temperature, ms)
    })
}

/// What `score` makes of the position of each picture in `samples`, its finite logits and the milliseconds that they took, in the
/// order of the pictures; else as [`outcomes`].
///
/// # Errors
/// Those of [`outcomes`].
pub(crate) fn scored<T: Send, S: Fn(usize, &[f32], f64) -> Option<T> + Sync>(
    classifier: &Classifier,
    samples: &Samples,
    progress: &(dyn Fn(usize) + Sync),
    score: &S,
) -> Result<(Vec<T>, Vec<Skipped>), EvaluateError> {
    let labels = classifier.bundle().labels.len();
    let done = AtomicUsize::new(0);
    let look = |(index, sample): (usize, &Sample)| {
        let seen = look_at(classifier, labels, sample, &|logits, ms| score(index, logits, ms));
        progress(done.fetch_add(1, Ordering::Relaxed) + 1);
        seen
    };
    let seen: Vec<Seen<T>> = samples.pictures.par_iter().enumerate().map(look).collect::<Result<_, _>>()?;

    let (mut scored, mut skipped) = (Vec::with_capacity(seen.len()), Vec::new());
    for one in seen {
        match one {
            Seen::Scored(score) => scored.push(score),
            Seen::Skipped(picture) => skipped.push(picture),
        }
    }
    match skipped.first() {
        Some(first) if scored.is_empty() => Err(EvaluateError::NoneReadable {
            path: samples.folder.clone(),
            count: skipped.len(),
            first: first.path.clone(),
            reason: first.reason.clone(),
        }),
        None if scored.is_empty() => Err(EvaluateError::NoPictures { path: samples.folder.clone() }),
        _ => Ok((scored, skipped)),
    }
}

fn look_at<T>(
    classifier: &Classifier,
    labels: usize,
    sample: &Sample,
    score: &dyn Fn(&[f32], f64) -> Option<T>,
) -> Result<Seen<T>, EvaluateError> {
    let picture = match open_picture(&sample.path) {
        Ok(picture) => picture,
        Err(reason) => {
            let path = sample.path.to_string_lossy().into_owned();
            return Ok(Seen::Skipped(Skipped { path, reason }));
        }
    };
    let start = Instant::now();
    let logits =
        classifier.logits(&picture).map_err(|source| EvaluateError::Model { path: sample.path.clone(), source })?;
    let ms = start.elapsed().as_secs_f64() * 1e3;
    let wrong = |got: String| EvaluateError::Logits { path: sample.path.clone(), labels, got };
    if logits.len() != labels {
        return Err(wrong(format!("{} logits", logits.len())));
    }
    let score = logits.iter().all(|logit| logit.is_finite()).then(|| score(&logits, ms)).flatten();
    score.map(Seen::Scored).ok_or_else(|| wrong("a logit that is no finite number".to_owned()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::fixture::{colour_model, paint};
    use super::*;

    #[test]
    fn pictures_are_judged_by_the_devices_code_and_bad_ones_named() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path();
        for (path, colour) in [
            ("red/1.png", [220, 10, 10]),
            ("red/2.png", [10, 10, 220]),
            ("green/1.png", [10, 220, 10]),
            ("mauve/1.png", [120, 80, 120]),
        ] {
            paint(&data.join(path), colour);
        }
        fs::write(data.join("green/2.jpg"), b"no picture").unwrap();
        let classifier = Classifier::from_bytes(&colour_model(4, Some(["red", "green", "blue"]))).unwrap();
        let samples = Samples::find(data, &classifier.bundle().labels).unwrap();
        let calls = AtomicUsize::new(0);
        let count = |_| {
            calls.fetch_add(1, Ordering::Relaxed);
        };
        let evaluation = evaluate(&classifier, &samples, &count).unwrap();
        assert_eq!(calls.into_inner(), 4);
        assert_eq!(evaluation.confusion, [[1, 0, 1], [0, 1, 0], [0, 0, 0]]);
        assert_eq!(evaluation.mistakes.len(), 1);
        assert!(evaluation.mistakes[0].path.ends_with("2.png"));
        assert_eq!(evaluation.skipped.len(), 1);
        assert!(evaluation.skipped[0].path.ends_with("2.jpg"));
        assert_eq!(evaluation.unknown_folders[0].name, "mauve");
        assert_eq!(evaluation.missing_labels, ["blue"]);

        for path in ["red/1.png", "red/2.png", "green/1.png"] {
            fs::write(data.join(path), b"cut").unwrap();
        }
        let error = evaluate(&classifier, &samples, &|_| ()).unwrap_err();
        assert!(matches!(error, EvaluateError::NoneReadable { count: 4, .. }), "{error}");
    }
}
