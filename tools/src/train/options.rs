//! What a training run is asked to do, and the part of it that decides the result.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use edge_vit_models::Task;
use edge_vit_models::adapter::{Adaptation, Spec};
use serde::Serialize;
use serde_json::Value;

use super::TrainError;
use super::augment::Augment;
use super::device::DeviceChoice;
use super::sampler::Sampler;
use crate::data::Group;
use crate::engine::Precision;

/// Everything that [`super::run`] needs to know.
#[derive(Debug, Clone)]
pub struct Options {
    /// The backbone's weights.
    pub backbone: PathBuf,
    /// The pictures: see [`crate::data::Dataset::read`].
    pub data: PathBuf,
    /// The run's folder; made where it is not there.
    pub out: PathBuf,
    /// What decides the result.
    pub recipe: Recipe,
    /// Where to compute.
    pub device: DeviceChoice,
    /// The most bytes of preprocessed pictures (or of the frozen layers' output) kept in memory; what does not fit is
    /// computed again whenever it is needed.
    pub cache_limit: u64,
    /// Whether the activations of a block are computed again in the backward instead of kept: less memory, the same result.
    pub checkpoint_activations: bool,
    /// Whether a linear probe of the frozen backbone is trained before the first step, to compare with.
    pub probe: bool,
    /// Whether to go on with the run in `out`.
    pub resume: bool,
    /// Set from elsewhere, ends the run after the step at hand with its state saved.
    pub stop: Arc<AtomicBool>,
}

/// What decides the result of a run, beside backbone, pictures and device.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Recipe {
    /// What the head is to answer.
    #[serde(skip_serializing_if = "Task::is_default")]
    pub task: Task,
    /// How many times finer than the patches the masks of a segmentation are: 1, 2 or 4.
    #[serde(skip_serializing_if = "is_one")]
    pub mask_scale: usize,
    /// Which adapters, or another method.
    pub adapters: Adaptation,
    /// A file of adapters whose head training begins with; `None` for a head of zeros.
    pub head: Option<PathBuf>,
    /// Side of the square that pictures are resized to; `None` chooses it by the pictures.
    pub image_size: Option<usize>,
    /// Share of the pictures split off to choose the epoch, where there is no folder for that.
    pub val_fraction: f64,
    /// What makes pictures belong to one side of that split.
    pub group: Option<Group>,
    /// Pictures of each class that are trained on, and as many that choose the epoch; `None` for all.
    pub shots: Option<usize>,
    /// What pictures are augmented with.
    pub augment: Augment,
    /// Which pictures an epoch holds.
    pub sampler: Sampler,
    /// How exact the GPU computes.
    #[serde(skip_serializing_if = "Precision::is_default")]
    pub precision: Precision,
    /// Passes over the pictures.
    pub epochs: u32,
    /// Pictures a step.
    pub batch_size: usize,
    /// Highest learning rate.
    pub lr: f32,
    /// The learning rate at the end; `None` for a hundredth of the highest.
    pub min_lr: Option<f32>,
    /// Decoupled weight decay.
    pub weight_decay: f32,
    /// Epochs in which the learning rate rises; `None` for a tenth of all.
    pub warmup_epochs: Option<f64>,
    /// The learning rate of the first step; `None` for what the first of equal steps up to the highest reaches.
    pub warmup_lr: Option<f32>,
    /// Decay of the moving average of the trained weights, which is validated and kept in their place; `None` for none.
    pub ema: Option<f32>,
    /// Epochs without a better one after which the run ends; `None` for never.
    pub patience: Option<u32>,
    /// Share of the target spread over all classes.
    pub label_smoothing: f32,
    /// Probability that an adapter's hidden unit is dropped.
    pub dropout: f32,
    /// Probability that the last residual branch is dropped; earlier ones less.
    pub drop_path: f32,
    /// Share of the validation pictures that the fitted rejection threshold may give up.
    pub false_rejection_rate: f64,
    /// Decides adapters' first weights, split, order and what is dropped.
    pub seed: u64,
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            task: Task::default(),
            mask_scale: 1,
            adapters: Adaptation::Adapters(Spec::default()),
            head: None,
            image_size: None,
            val_fraction: 0.15,
            group: None,
            shots: None,
            augment: Augment::default(),
            sampler: Sampler::default(),
            precision: Precision::default(),
            epochs: 30,
            batch_size: 32,
            lr: 2e-3,
            min_lr: None,
            weight_decay: 1e-4,
            warmup_epochs: None,
            warmup_lr: None,
            ema: None,
            patience: None,
            label_smoothing: 0.0,
            dropout: 0.1,
            drop_path: 0.1,
            false_rejection_rate: 0.05,
            seed: 0,
        }
    }
}

impl Recipe {
    /// Epochs in which the learning rate rises.
    pub fn warmup(&self) -> f64 {
        self.warmup_epochs.unwrap_or_else(|| f64::from(self.epochs) / 10.0)
    }

    /// Checks what no later step would.
    ///
    /// # Errors
    /// Names the option, what fits and what came.
    pub fn check(&self) -> Result<(), TrainError> {
        let rate = |value: f32| (0.0..1.0).contains(&value);
        let share = |value: f64| (0.0..=1.0).contains(&value);
        let up_to_lr = |value: Option<f32>| value.is_none_or(|value| (0.0..=self.lr).contains(&value));
        let number = |value: Option<f32>| value.map_or(f64::NAN, f64::from);
        let Augment { flip, crop, color_jitter, erase, mix, .. } = &self.augment;
        let checks = [
            ("--epochs", self.epochs > 0, "at least 1", f64::from(self.epochs)),
            ("--batch-size", self.batch_size > 0, "at least 1", self.batch_size as f64),
            ("--lr", self.lr > 0.0 && self.lr.is_finite(), "above 0", f64::from(self.lr)),
            (
                "--weight-decay",
                self.weight_decay >= 0.0 && self.weight_decay.is_finite(),
                "0 or above",
                f64::from(self.weight_decay),
            ),
            (
                "--warmup",
                (0.0..=f64::from(self.epochs)).contains(&self.warmup()),
                "between 0 and the number of epochs",
                self.warmup(),
            ),
            ("--min-lr", up_to_lr(self.min_lr), "between 0 and --lr", number(self.min_lr)),
            ("--warmup-lr", up_to_lr(self.warmup_lr), "between 0 and --lr", number(self.warmup_lr)),
            ("--ema", self.ema.is_none_or(rate), "from 0 to below 1", number(self.ema)),
            ("--mask-scale", matches!(self.mask_scale, 1 | 2 | 4), "1, 2 or 4", self.mask_scale as f64),
            ("--patience", self.patience != Some(0), "at least 1", 0.0),
            ("--shots", self.shots != Some(0), "at least 1", 0.0),
            ("--flip", share(*flip), "between 0 and 1", *flip),
            (
                "--crop",
                crop.is_none_or(|crop| crop > 0.0 && crop <= 1.0),
                "above 0 and at most 1",
                crop.unwrap_or(f64::NAN),
            ),
            ("--color-jitter", *color_jitter >= 0.0 && color_jitter.is_finite(), "0 or above", *color_jitter),
            ("--erase", share(*erase), "between 0 and 1", *erase),
            ("--mixup", mix.mixup >= 0.0 && mix.mixup.is_finite(), "0 or above", mix.mixup),
            ("--cutmix", mix.cutmix >= 0.0 && mix.cutmix.is_finite(), "0 or above", mix.cutmix),
            ("--mix-prob", share(mix.probability), "between 0 and 1", mix.probability),
            ("--switch-prob", share(mix.switch_probability), "between 0 and 1", mix.switch_probability),
            ("--label-smoothing", rate(self.label_smoothing), "from 0 to below 1", f64::from(self.label_smoothing)),
            ("--dropout", rate(self.dropout), "from 0 to below 1", f64::from(self.dropout)),
            ("--drop-path", rate(self.drop_path), "from 0 to below 1", f64::from(self.drop_path)),
            (
                "--false-rejection-rate",
                (0.0..1.0).contains(&self.false_rejection_rate),
                "from 0 to below 1",
                self.false_rejection_rate,
            ),
        ];
        match checks.into_iter().find(|(_, fits, ..)| !fits) {
            Some((option, _, expected, got)) => Err(TrainError::Option { option, expected, got: got.to_string() }),
            None => self.check_task(),
        }
    }

    /// Checks that nothing is asked for that masks do not follow, or that only masks have.
    fn check_task(&self) -> Result<(), TrainError> {
        if self.mask_scale != 1 && self.task != Task::Segmentation {
            return Err(TrainError::OfMasks { option: "--mask-scale" });
        }
        let Augment { crop, rand_augment, erase, mix, .. } = &self.augment;
        let of_labels = [
            ("--crop", crop.is_some()),
            ("--rand-augment", rand_augment.is_some()),
            ("--erase", *erase > 0.0),
            ("--mixup", mix.mixup > 0.0),
            ("--cutmix", mix.cutmix > 0.0),
            ("--sampler balanced", self.sampler == Sampler::Balanced),
            ("--shots", self.shots.is_some()),
        ];
        match of_labels.into_iter().find(|(_, is_set)| *is_set && self.task == Task::Segmentation) {
            Some((option, _)) => Err(TrainError::NotOfTask { option, task: self.task.name() }),
            None => Ok(()),
        }
    }
}

fn is_one(scale: &usize) -> bool {
    *scale == 1
}

/// Everything that decides the result of a run on one device: written to `config.json`, and compared before a run is
/// resumed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Config {
    /// The recipe.
    #[serde(flatten)]
    pub(super) recipe: Recipe,
    /// Height and width that pictures are brought to.
    pub(super) input_size: [usize; 2],
    /// The backbone's weights.
    pub(super) backbone_sha256: String,
    /// Class names in order.
    pub(super) labels: Vec<String>,
    /// Over the names and classes of all readable pictures.
    pub(super) pictures_sha256: String,
}

impl Config {
    /// The configuration as it is compared: through text, so that one read from a file is the same to the last digit.
    pub(super) fn to_value(&self) -> Result<Value, TrainError> {
        let text = serde_json::to_string(self).map_err(TrainError::Json)?;
        serde_json::from_str(&text).map_err(TrainError::Json)
    }
}

/// The fields in which two configurations differ, each as `name: then -> now`.
pub(super) fn differences(then: &Value, now: &Value) -> Vec<String> {
    let empty = serde_json::Map::new();
    let (then, now) = (then.as_object().unwrap_or(&empty), now.as_object().unwrap_or(&empty));
    let mut names: Vec<&String> = then.keys().chain(now.keys()).collect();
    names.sort();
    names.dedup();
    let text = |value: Option<&Value>| value.map_or("absent".to_owned(), Value::to_string);
    let differs = |name: &&String| then.get(*name) != now.get(*name);
    names
        .into_iter()
        .filter(differs)
        .map(|name| format!("{name}: {} -> {}", text(then.get(name)), text(now.get(name))))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_outside_their_range_are_named() {
        let refused = |change: fn(&mut Recipe)| {
            let mut recipe = Recipe::default();
            change(&mut recipe);
            recipe.check().unwrap_err().to_string()
        };
        assert!(Recipe::default().check().is_ok());
        assert!(refused(|recipe| recipe.epochs = 0).contains("--epochs"));
        assert!(refused(|recipe| recipe.lr = f32::NAN).contains("--lr"));
        assert!(refused(|recipe| recipe.dropout = 1.0).contains("--dropout"));
        assert!(refused(|recipe| recipe.false_rejection_rate = 1.0).contains("--false-rejection-rate"));
        assert!(refused(|recipe| recipe.min_lr = Some(0.1)).contains("--min-lr"));
        assert!(refused(|recipe| recipe.ema = Some(1.0)).contains("--ema"));
        assert!(refused(|recipe| recipe.patience = Some(0)).contains("--patience"));
        assert!(refused(|recipe| recipe.mask_scale = 3).contains("--mask-scale"));
        assert!(refused(|recipe| recipe.mask_scale = 2).contains("--task segmentation"));
        assert!(refused(|recipe| recipe.shots = Some(0)).contains("--shots"));
        assert!(refused(|recipe| recipe.augment.flip = 1.5).contains("--flip"));
        assert!(refused(|recipe| recipe.augment.crop = Some(0.0)).contains("--crop"));
        assert!(refused(|recipe| recipe.augment.mix.mixup = f64::INFINITY).contains("--mixup"));
        assert!(refused(|recipe| recipe.augment.mix.switch_probability = f64::NAN).contains("--switch-prob"));
        assert!(refused(|recipe| recipe.warmup_epochs = Some(31.0)).contains("--warmup"));
    }

    #[test]
    fn what_masks_do_not_follow_is_refused_for_segmentation_alone() {
        for (change, option) in [
            ((|recipe| recipe.augment.crop = Some(0.5)) as fn(&mut Recipe), "--crop"),
            (|recipe| recipe.augment.erase = 0.5, "--erase"),
            (|recipe| recipe.augment.mix.cutmix = 1.0, "--cutmix"),
            (|recipe| recipe.sampler = Sampler::Balanced, "--sampler"),
            (|recipe| recipe.shots = Some(3), "--shots"),
        ] {
            let mut recipe = Recipe::default();
            change(&mut recipe);
            recipe.check().unwrap();
            recipe.task = Task::Segmentation;
            let error = recipe.check().unwrap_err().to_string();
            assert!(error.contains(option) && error.contains("segmentation"), "{error}");
        }
        let mut recipe = Recipe { task: Task::Segmentation, ..Recipe::default() };
        (recipe.augment.flip, recipe.augment.color_jitter) = (0.5, 0.4);
        recipe.check().unwrap();
    }

    #[test]
    fn differences_name_the_field_and_both_values() {
        let config = |lr: f32| Config {
            recipe: Recipe { lr, ..Recipe::default() },
            input_size: [112, 112],
            backbone_sha256: "00".into(),
            labels: vec!["a".into()],
            pictures_sha256: "11".into(),
        };
        let (then, now) = (config(2e-3).to_value().unwrap(), config(1e-3).to_value().unwrap());
        assert_eq!(differences(&then, &now), ["lr: 0.002 -> 0.001"]);
        assert_eq!(differences(&then, &then), [""; 0]);
    }
}
