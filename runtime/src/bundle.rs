//! What a model file carries for the device, and how it lies in the file.
//!
//! An ONNX file has a map of strings, `metadata_props`. The bundle is JSON under keys `edge_vit.*` there, defined
//! here alone: whoever writes a model takes it as opaque pairs.

use std::collections::{BTreeMap, HashSet};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{Error, GoldenCase, MAX_CLASSES, Preprocessing, Provenance, ResizeMode};

/// Version of the bundle's layout that this crate writes and reads.
pub const FORMAT_VERSION: u32 = 1;

const FORMAT: &str = "edge_vit.format";
const LABELS: &str = "edge_vit.labels";
const PREPROCESSING: &str = "edge_vit.preprocessing";
const ACTIVATION: &str = "edge_vit.activation";
const PROVENANCE: &str = "edge_vit.provenance";
const GOLDEN: &str = "edge_vit.golden";
const REJECTION: &str = "edge_vit.rejection";
const GOLDEN_TOLERANCE: &str = "edge_vit.golden_tolerance";
const TASK: &str = "edge_vit.task";
const HALF_PRODUCTS: &str = "edge_vit.half_products";

/// The widest tolerance of golden cases that a file may ask for. With a wider one a self-test would prove nothing.
pub const LARGEST_GOLDEN_TOLERANCE: f32 = 0.5;

/// What the model's outputs answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "snake_case", deny_unknown_fields)]
pub enum Task {
    /// One logit a label for the whole picture. Files that name no task mean this one.
    #[default]
    Classification,
    /// One logit a label for each patch of the picture, patches row by row.
    Segmentation {
        /// Rows and columns of patches, which cover the whole picture.
        grid: [usize; 2],
    },
}

impl Task {
    /// How many values the model gives for `labels` labels; `None` where they are too many to address.
    pub fn outputs(self, labels: usize) -> Option<usize> {
        match self {
            Self::Classification => Some(labels),
            Self::Segmentation { grid: [rows, columns] } => rows.checked_mul(columns)?.checked_mul(labels),
        }
    }
}

/// Whether linear layers whose weights a file holds in float16 are multiplied in float16 too: with half the instructions, on processors
/// that have those, and with sums that are rounded to 11 bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HalfProducts {
    /// In float32 on every processor. Files that say nothing mean this.
    #[default]
    Never,
    /// In float16 on processors with arithmetic in it (ARMv8.2's FP16), in float32 on others.
    WhereNative,
    /// In float16 everywhere. Where the processor has no such arithmetic, float32 is rounded after each operation, which tells what others
    /// answer, slowly.
    Everywhere,
}

impl HalfProducts {
    /// What a model file's metadata says.
    pub(crate) fn of_metadata(metadata: &BTreeMap<String, String>) -> Result<Self, Error> {
        Ok(metadata.contains_key(HALF_PRODUCTS).then(|| read(metadata, HALF_PRODUCTS)).transpose()?.unwrap_or_default())
    }
}

/// What turns the model's logits into scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// The classes exclude each other: the scores are probabilities that sum to 1.
    Softmax,
}

impl Activation {
    /// The scores of `logits`, in float32.
    pub fn apply(self, logits: &[f32]) -> Vec<f32> {
        let mut scores = vec![0.0; logits.len()];
        self.apply_into(logits, 1.0, &mut scores);
        scores
    }

    /// Writes the scores of `logits`, each divided by `temperature` (above 0), to `scores`, which is as long.
    pub(crate) fn apply_into(self, logits: &[f32], temperature: f32, scores: &mut [f32]) {
        match self {
            Self::Softmax => {
                // The largest logit is taken off first: no exponential can overflow, and at least one is 1.
                let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let mut sum = 0.0;
                for (score, logit) in scores.iter_mut().zip(logits) {
                    *score = ((logit - largest) / temperature).exp();
                    sum += *score;
                }
                scores.iter_mut().for_each(|score| *score /= sum);
            }
        }
    }
}

/// When none of the classes is to be believed, fitted on validation pictures.
///
/// The score that a picture is judged by is that of its best class under softmax of the logits divided by
/// [`temperature`](Self::temperature).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Rejection {
    /// What the logits are divided by before softmax, above 0, so that a score of 0.8 is right in 8 of 10 pictures.
    pub temperature: f32,
    /// The score, 0 to 1, below which the answer is that none of the classes fits.
    pub threshold: f32,
    /// The share of pictures of the classes, 0 to 1, that the threshold was chosen to give up.
    pub false_rejection_rate: f32,
}

impl Rejection {
    /// Says whether the numbers are in their ranges.
    ///
    /// # Errors
    /// [`Error::InvalidRejection`] names the field.
    pub fn check(&self) -> Result<(), Error> {
        if !(self.temperature.is_finite() && self.temperature > 0.0) {
            let reason = format!("is {}, not a finite number above 0", self.temperature);
            return Err(Error::InvalidRejection { field: "temperature", reason });
        }
        for (field, share) in [("threshold", self.threshold), ("false_rejection_rate", self.false_rejection_rate)] {
            if !(0.0..=1.0).contains(&share) {
                return Err(Error::InvalidRejection { field, reason: format!("is {share}, not between 0 and 1") });
            }
        }
        Ok(())
    }
}

/// Everything that a device needs beside the graph.
#[derive(Debug, Clone, PartialEq)]
pub struct Bundle {
    /// Name of each output, in the outputs' order.
    pub labels: Vec<String>,
    /// What is done to a picture before the model.
    pub preprocessing: Preprocessing,
    /// What is done to the logits after it.
    pub activation: Activation,
    /// Where the model came from.
    pub provenance: Provenance,
    /// Pictures whose logits are known.
    pub golden: Vec<GoldenCase>,
    /// When the answer is that none of the classes fits; `None` in files that were made without validation pictures.
    pub rejection: Option<Rejection>,
    /// How far logits may be from the golden ones, relative to a case's largest, on a machine that computes as it should;
    /// `None` for that of float32. A model in 8 bits needs more: where one processor rounds a value up and another down, the
    /// layers behind see a whole step of difference. So may one that merges tokens, where two pairs are nearly as alike, and one with
    /// [`HalfProducts`].
    pub golden_tolerance: Option<f32>,
    /// In which numbers weights in float16 are multiplied.
    pub half_products: HalfProducts,
    /// What the outputs answer.
    pub task: Task,
}

impl Bundle {
    /// The bundle as pairs for the model file's metadata.
    ///
    /// # Errors
    /// Those of [`check`](Self::check): nothing is written that could not be read.
    pub fn to_metadata(&self) -> Result<BTreeMap<String, String>, Error> {
        self.check()?;
        let mut metadata = BTreeMap::from([
            write(FORMAT, &FORMAT_VERSION)?,
            write(LABELS, &self.labels)?,
            write(PREPROCESSING, &self.preprocessing)?,
            write(ACTIVATION, &self.activation)?,
            write(PROVENANCE, &self.provenance)?,
            write(GOLDEN, &self.golden)?,
        ]);
        metadata.extend(self.rejection.as_ref().map(|rejection| write(REJECTION, rejection)).transpose()?);
        metadata.extend(self.golden_tolerance.map(|tolerance| write(GOLDEN_TOLERANCE, &tolerance)).transpose()?);
        let halves = self.half_products;
        metadata.extend((halves != HalfProducts::default()).then(|| write(HALF_PRODUCTS, &halves)).transpose()?);
        metadata.extend((self.task != Task::default()).then(|| write(TASK, &self.task)).transpose()?);
        Ok(metadata)
    }

    /// The bundle of a model file's metadata. Keys of others are not looked at.
    ///
    /// # Errors
    /// [`Error::NoBundle`] if there is no key of ours, [`Error::BundleVersion`] if it is of another format,
    /// [`Error::BundleKeyMissing`] and [`Error::BundleKeyInvalid`] name a key, and those of [`check`](Self::check).
    pub fn from_metadata(metadata: &BTreeMap<String, String>) -> Result<Self, Error> {
        if !metadata.keys().any(|key| key.starts_with("edge_vit.")) {
            return Err(Error::NoBundle);
        }
        let found = read(metadata, FORMAT)?;
        if found != FORMAT_VERSION {
            return Err(Error::BundleVersion { found, known: FORMAT_VERSION });
        }
        let bundle = Self {
            labels: read(metadata, LABELS)?,
            preprocessing: read(metadata, PREPROCESSING)?,
            activation: read(metadata, ACTIVATION)?,
            provenance: read(metadata, PROVENANCE)?,
            golden: read(metadata, GOLDEN)?,
            rejection: metadata.contains_key(REJECTION).then(|| read(metadata, REJECTION)).transpose()?,
            golden_tolerance: (metadata.contains_key(GOLDEN_TOLERANCE).then(|| read(metadata, GOLDEN_TOLERANCE)))
                .transpose()?,
            half_products: HalfProducts::of_metadata(metadata)?,
            task: metadata.contains_key(TASK).then(|| read(metadata, TASK)).transpose()?.unwrap_or_default(),
        };
        bundle.check()?;
        Ok(bundle)
    }

    /// Says whether the parts are sound and belong together.
    ///
    /// # Errors
    /// [`Error::InvalidLabels`] if there are none, or one is empty or comes twice; [`Error::InvalidPreprocessing`];
    /// [`Error::InvalidGoldenCase`] if a golden case has not one finite logit a label; [`Error::InvalidRejection`];
    /// [`Error::InvalidGoldenTolerance`]; [`Error::InvalidTask`] if the task cannot be done with the rest.
    pub fn check(&self) -> Result<(), Error> {
        let invalid = |reason| Err(Error::InvalidLabels { reason });
        if self.labels.is_empty() {
            return invalid("there is none".to_owned());
        }
        let mut seen = HashSet::new();
        for (index, label) in self.labels.iter().enumerate() {
            if label.is_empty() {
                return invalid(format!("number {index} is empty"));
            }
            if !seen.insert(label) {
                return invalid(format!("`{label}` comes twice"));
            }
        }
        self.preprocessing.check()?;
        self.rejection.as_ref().map_or(Ok(()), Rejection::check)?;
        match self.golden_tolerance {
            Some(tolerance) if !(tolerance > 0.0 && tolerance <= LARGEST_GOLDEN_TOLERANCE) => {
                return Err(Error::InvalidGoldenTolerance { got: tolerance });
            }
            _ => {}
        }
        let outputs = self.check_task()?;
        self.golden.iter().try_for_each(|case| case.check(outputs))
    }
}

impl Bundle {
    /// How many values the model gives.
    fn check_task(&self) -> Result<usize, Error> {
        let invalid = |reason: &str| Err(Error::InvalidTask { reason: reason.to_owned() });
        let outputs = match self.task.outputs(self.labels.len()) {
            Some(outputs) if outputs > 0 => outputs,
            _ => return invalid("its grid has no patches, or too many"),
        };
        if self.task != Task::Classification {
            if self.labels.len() > MAX_CLASSES {
                return invalid("a mask of one byte a pixel tells at most 255 classes apart");
            }
            if self.preprocessing.frames > 1 {
                return invalid("it is of a picture, and the model sees clips");
            }
            if self.preprocessing.resize != ResizeMode::Squash {
                return invalid("its patches have to cover the whole picture, so that its resize has to be `squash`");
            }
            if self.rejection.is_some() {
                return invalid("a rejection is of whole pictures");
            }
        }
        Ok(outputs)
    }
}

fn write(key: &'static str, value: &impl Serialize) -> Result<(String, String), Error> {
    let json = serde_json::to_string(value).map_err(|source| Error::BundleKeyInvalid { key, source })?;
    Ok((key.to_owned(), json))
}

fn read<T: DeserializeOwned>(metadata: &BTreeMap<String, String>, key: &'static str) -> Result<T, Error> {
    let json = metadata.get(key).ok_or(Error::BundleKeyMissing { key })?;
    serde_json::from_str(json).map_err(|source| Error::BundleKeyInvalid { key, source })
}

#[cfg(test)]
mod tests {
    use image::RgbImage;

    use super::*;

    fn bundle() -> Bundle {
        let preprocessing = Preprocessing::imagenet([28, 14]);
        let case = GoldenCase::new(&RgbImage::new(5, 5), &preprocessing, vec![1.5, -0.1]).unwrap();
        Bundle {
            labels: vec!["orange".into(), "vase \"blue\"".into()],
            preprocessing,
            activation: Activation::Softmax,
            provenance: Provenance { backbone: "b".into(), fold_error: Some(1.25e-7), ..Provenance::default() },
            golden: vec![case],
            rejection: Some(Rejection { temperature: 1.5, threshold: 0.4, false_rejection_rate: 0.05 }),
            golden_tolerance: Some(0.02),
            half_products: HalfProducts::WhereNative,
            task: Task::Classification,
        }
    }

    #[test]
    fn a_task_is_read_back_and_has_to_fit_the_rest() {
        let preprocessing = Preprocessing::imagenet([28, 14]);
        let case = GoldenCase::new(&RgbImage::new(5, 5), &preprocessing, vec![0.5; 4]).unwrap();
        let task = Task::Segmentation { grid: [2, 1] };
        let dense = Bundle { task, golden: vec![case], rejection: None, ..bundle() };
        assert_eq!(Bundle::from_metadata(&dense.to_metadata().unwrap()).unwrap(), dense);
        let resize = ResizeMode::ShortestSide { size: 28 };
        let cut = Preprocessing { resize, ..dense.preprocessing.clone() };
        for wrong in [
            Bundle { task: Task::Segmentation { grid: [0, 1] }, ..dense.clone() },
            Bundle { task: Task::Segmentation { grid: [usize::MAX, 2] }, ..dense.clone() },
            Bundle { rejection: bundle().rejection, ..dense.clone() },
            Bundle { preprocessing: cut, ..dense.clone() },
            Bundle { preprocessing: Preprocessing { frames: 2, ..dense.preprocessing.clone() }, ..dense.clone() },
            Bundle { labels: (0..256).map(|label| label.to_string()).collect(), ..dense.clone() },
        ] {
            assert!(matches!(wrong.check(), Err(Error::InvalidTask { .. })), "{:?}", wrong.task);
        }
        assert!(matches!(Bundle { golden: bundle().golden, ..dense }.check(), Err(Error::InvalidGoldenCase { .. })));
    }

    #[test]
    fn metadata_is_read_back() {
        let mut metadata = bundle().to_metadata().unwrap();
        assert_eq!(metadata.len(), 9);
        metadata.insert("someone.else".into(), "not JSON".into());
        assert_eq!(Bundle::from_metadata(&metadata).unwrap(), bundle());
    }

    #[test]
    fn what_is_missing_or_broken_is_named() {
        let whole = bundle().to_metadata().unwrap();
        let error = Bundle::from_metadata(&BTreeMap::from([("k".into(), "v".into())])).unwrap_err();
        assert!(matches!(error, Error::NoBundle));
        for key in whole.keys() {
            let mut metadata = whole.clone();
            metadata.remove(key);
            if key == REJECTION {
                assert_eq!(Bundle::from_metadata(&metadata).unwrap(), Bundle { rejection: None, ..bundle() });
            } else if key == GOLDEN_TOLERANCE {
                assert_eq!(Bundle::from_metadata(&metadata).unwrap(), Bundle { golden_tolerance: None, ..bundle() });
            } else if key == HALF_PRODUCTS {
                let plain = Bundle { half_products: HalfProducts::Never, ..bundle() };
                assert_eq!(Bundle::from_metadata(&metadata).unwrap(), plain);
            } else {
                let error = Bundle::from_metadata(&metadata).unwrap_err();
                assert!(matches!(error, Error::BundleKeyMissing { .. }) && error.to_string().contains(key), "{error}");
            }
            metadata.insert(key.clone(), "{\"cut".into());
            let error = Bundle::from_metadata(&metadata).unwrap_err();
            assert!(matches!(error, Error::BundleKeyInvalid { .. }) && error.to_string().contains(key), "{error}");
        }
        let mut metadata = whole;
        metadata.insert(FORMAT.into(), "2".into());
        assert!(matches!(Bundle::from_metadata(&metadata), Err(Error::BundleVersion { found: 2, known: 1 })));
    }

    #[test]
    fn labels_have_to_be_told_apart_and_golden_cases_to_fit() {
        let labels = |labels: &[&str]| Bundle { labels: labels.iter().map(|&l| l.into()).collect(), ..bundle() };
        for wrong in [labels(&[]), labels(&["a", ""]), labels(&["a", "a"])] {
            assert!(matches!(wrong.to_metadata(), Err(Error::InvalidLabels { .. })));
        }
        assert!(matches!(labels(&["a", "b", "c"]).to_metadata(), Err(Error::InvalidGoldenCase { .. })));
    }

    #[test]
    fn a_rejection_out_of_range_is_refused() {
        let sound = Rejection { temperature: 1.0, threshold: 0.5, false_rejection_rate: 0.05 };
        for (rejection, field) in [
            (Rejection { temperature: 0.0, ..sound }, "temperature"),
            (Rejection { temperature: f32::INFINITY, ..sound }, "temperature"),
            (Rejection { temperature: f32::NAN, ..sound }, "temperature"),
            (Rejection { threshold: 1.5, ..sound }, "threshold"),
            (Rejection { threshold: f32::NAN, ..sound }, "threshold"),
            (Rejection { false_rejection_rate: -0.1, ..sound }, "false_rejection_rate"),
        ] {
            let error = Bundle { rejection: Some(rejection), ..bundle() }.to_metadata().unwrap_err();
            assert!(matches!(error, Error::InvalidRejection { field: named, .. } if named == field), "{error}");
        }
    }

    #[test]
    fn a_tolerance_under_which_all_would_pass_is_refused() {
        for wrong in [0.0, -0.1, 0.51, f32::NAN, f32::INFINITY] {
            let error = Bundle { golden_tolerance: Some(wrong), ..bundle() }.to_metadata().unwrap_err();
            assert!(matches!(error, Error::InvalidGoldenTolerance { .. }), "{error}");
        }
    }

    #[test]
    fn softmax_sums_to_one_and_does_not_overflow() {
        let scores = Activation::Softmax.apply(&[1000.0, 999.0, -1000.0]);
        assert!((scores.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        assert!((scores[0] - 0.731_058_6).abs() < 1e-6, "{scores:?}");
    }
}
