//! What a killed run needs to go on: `last.safetensors`.

use std::collections::BTreeMap;
use std::path::Path;

use edge_vit_models::{Tensor, checkpoint};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::TrainError;
use super::choice::{Choice, Validated};
use crate::engine::{LossScale, State, Trained};

const FORMAT_VERSION: u32 = 2;
/// Key of a run's state in the metadata of `last.safetensors`.
pub(crate) const STATE_KEY: &str = "edge_vit.training_state";

/// How far a run has come. Its place within the epoch follows from the engine's count of steps.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Progress {
    /// Epochs trained and validated.
    pub(super) epochs: u32,
    /// Sum of the losses of the steps taken in the epoch at hand.
    pub(super) loss_sum: f64,
    /// Seconds spent on the epoch at hand.
    pub(super) seconds: f64,
    /// The epochs that count so far.
    pub(super) choice: Choice,
}

/// The file's metadata. Numbers that must not change by a bit are kept as such.
#[derive(Debug, Serialize, Deserialize)]
struct Meta {
    format_version: u32,
    steps: u64,
    epochs: u32,
    loss_sum_bits: u64,
    seconds: f64,
    best: Option<ValidatedMeta>,
    kept: Option<ValidatedMeta>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    loss_scale: Option<ScaleMeta>,
    device: String,
    config: Value,
}

/// [`LossScale`] in the file.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct ScaleMeta {
    scale_bits: u32,
    good: u32,
    skipped: u32,
}

impl ScaleMeta {
    fn of(LossScale { scale, good, skipped }: LossScale) -> Self {
        Self { scale_bits: scale.to_bits(), good, skipped }
    }

    fn state(self) -> LossScale {
        LossScale { scale: f32::from_bits(self.scale_bits), good: self.good, skipped: self.skipped }
    }
}

/// [`Validated`] in the file.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct ValidatedMeta {
    epoch: u32,
    top1_bits: u32,
    loss_bits: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    miou_bits: Option<u32>,
}

impl ValidatedMeta {
    fn of(Validated { epoch, val_top1, val_miou, val_loss }: Validated) -> Self {
        let [top1_bits, loss_bits] = [val_top1, val_loss].map(f32::to_bits);
        Self { epoch, top1_bits, loss_bits, miou_bits: val_miou.map(f32::to_bits) }
    }

    fn state(self) -> Validated {
        let [val_top1, val_loss] = [self.top1_bits, self.loss_bits].map(f32::from_bits);
        Validated { epoch: self.epoch, val_top1, val_miou: self.miou_bits.map(f32::from_bits), val_loss }
    }
}

/// A run as it lies in the file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Saved {
    pub(super) engine: State,
    /// The moving average of the trained weights, where there is one.
    pub(super) average: Option<BTreeMap<String, Tensor>>,
    pub(super) progress: Progress,
    /// The device in words.
    pub(super) device: String,
    /// [`super::options::Config`] as JSON.
    pub(super) config: Value,
}

impl Saved {
    /// Writes the file, or leaves the old one.
    pub(super) fn write(&self, path: &Path) -> Result<(), TrainError> {
        let Choice { best, kept } = self.progress.choice;
        let meta = Meta {
            format_version: FORMAT_VERSION,
            steps: self.engine.steps,
            epochs: self.progress.epochs,
            loss_sum_bits: self.progress.loss_sum.to_bits(),
            seconds: self.progress.seconds,
            best: best.map(ValidatedMeta::of),
            kept: kept.map(ValidatedMeta::of),
            loss_scale: self.engine.loss_scale.map(ScaleMeta::of),
            device: self.device.clone(),
            config: self.config.clone(),
        };
        let mut tensors = BTreeMap::new();
        for (name, trained) in &self.engine.trained {
            for (part, tensor) in [("value", &trained.value), ("m", &trained.m), ("v", &trained.v)] {
                tensors.insert(format!("{part}/{name}"), tensor.clone());
            }
        }
        for (name, average) in self.average.iter().flatten() {
            tensors.insert(format!("average/{name}"), average.clone());
        }
        let text = serde_json::to_string(&meta).map_err(TrainError::Json)?;
        Ok(checkpoint::write_safetensors(path, &tensors, &BTreeMap::from([(STATE_KEY.to_owned(), text)]))?)
    }

    /// Reads the file.
    pub(super) fn read(path: &Path) -> Result<Self, TrainError> {
        let invalid = |reason: String| TrainError::State { path: path.to_owned(), reason };
        let file = checkpoint::read(path)?;
        let text = file.metadata.get(STATE_KEY).ok_or_else(|| invalid(format!("it has no `{STATE_KEY}`")))?;
        let meta: Meta = serde_json::from_str(text).map_err(|error| invalid(error.to_string()))?;
        if meta.format_version != FORMAT_VERSION {
            return Err(invalid(format!(
                "format version {}, this program reads {FORMAT_VERSION}",
                meta.format_version
            )));
        }
        let part = |part: &str, name: &str| {
            let key = format!("{part}/{name}");
            file.tensors.get(&key).cloned().ok_or_else(|| invalid(format!("tensor `{key}` is missing")))
        };
        let mut trained = BTreeMap::new();
        for name in file.tensors.keys().filter_map(|key| key.strip_prefix("value/")) {
            let weight = Trained { value: part("value", name)?, m: part("m", name)?, v: part("v", name)? };
            trained.insert(name.to_owned(), weight);
        }
        let averages = file.tensors.iter().filter_map(|(key, tensor)| Some((key.strip_prefix("average/")?, tensor)));
        let average: BTreeMap<String, Tensor> =
            averages.map(|(name, tensor)| (name.to_owned(), tensor.clone())).collect();
        if !average.is_empty() && !average.keys().eq(trained.keys()) {
            return Err(invalid("its averages are not those of its weights".to_owned()));
        }
        let [best, kept] = [meta.best, meta.kept].map(|one| one.map(ValidatedMeta::state));
        Ok(Self {
            engine: State { steps: meta.steps, trained, loss_scale: meta.loss_scale.map(ScaleMeta::state) },
            average: (!average.is_empty()).then_some(average),
            progress: Progress {
                epochs: meta.epochs,
                loss_sum: f64::from_bits(meta.loss_sum_bits),
                seconds: meta.seconds,
                choice: Choice { best, kept },
            },
            device: meta.device,
            config: meta.config,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved() -> Saved {
        let tensor = |value| Tensor::new([2], vec![value, f32::MIN_POSITIVE]).unwrap();
        let weight = Trained { value: tensor(0.1), m: tensor(0.2), v: tensor(0.3) };
        let average = Some(BTreeMap::from([("head.weight".to_owned(), tensor(0.4))]));
        Saved {
            engine: State {
                steps: 70_000_000_007,
                trained: BTreeMap::from([("head.weight".to_owned(), weight)]),
                loss_scale: Some(LossScale { scale: 4096.0, good: 17, skipped: 4 }),
            },
            average,
            progress: Progress {
                epochs: 3,
                loss_sum: 0.1 + 0.2,
                seconds: 1.5,
                choice: Choice {
                    best: Some(Validated { epoch: 2, val_top1: 1.0 / 3.0, val_miou: Some(0.7), val_loss: 0.1 }),
                    kept: Some(Validated { epoch: 3, val_top1: 0.3, val_miou: None, val_loss: 0.2 }),
                },
            },
            device: "a device".into(),
            config: serde_json::json!({"lr": 0.002}),
        }
    }

    #[test]
    fn a_state_is_read_back_to_the_bit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("last.safetensors");
        saved().write(&path).unwrap();
        assert_eq!(Saved::read(&path).unwrap(), saved());
    }

    #[test]
    fn a_state_that_cannot_be_written_leaves_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("last.safetensors");
        saved().write(&path).unwrap();
        // What stands where a folder is needed stops the write as a full disk does.
        assert!(saved().write(&path.join("last.safetensors")).is_err());
        assert_eq!(Saved::read(&path).unwrap(), saved());
    }

    #[test]
    fn another_file_is_not_taken_for_a_state() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("last.safetensors");
        let tensors = BTreeMap::from([("x".to_owned(), Tensor::full([1], 0.0).unwrap())]);
        checkpoint::write_safetensors(&path, &tensors, &BTreeMap::new()).unwrap();
        assert!(matches!(Saved::read(&path), Err(TrainError::State { .. })));
    }
}
