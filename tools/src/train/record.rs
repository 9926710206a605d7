//! The lines of a run's `log.jsonl`: what the report draws.

use edge_vit_models::Task;
use serde::{Deserialize, Serialize};

use super::probe::Probe;

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Record {
    /// Written when a run starts and again when it is resumed.
    Run {
        /// Version of the tools.
        version: String,
        /// The device in words.
        device: String,
        /// Number of pictures trained on.
        train: usize,
        /// Number of pictures that choose the epoch.
        val: usize,
        /// Number of classes.
        classes: usize,
        /// What the head answers.
        #[serde(default, skip_serializing_if = "Task::is_default")]
        task: Task,
        /// Trained parameters: adapters and head.
        trained_parameters: usize,
        /// Seconds since 1970.
        unix_time: u64,
    },
    /// What the frozen backbone does with a new head alone, before anything is adapted.
    Probe(Probe),
    /// A picture that was left out.
    Skipped {
        /// Where it is.
        path: String,
        /// Why.
        reason: String,
    },
    /// An optimiser step.
    Step {
        /// Counted from 1.
        epoch: u32,
        /// Counted from 1 through the whole run.
        step: u64,
        /// Mean cross-entropy of the batch before the step.
        loss: f32,
        /// Learning rate.
        lr: f32,
    },
    /// The end of an epoch.
    Epoch {
        /// Counted from 1.
        epoch: u32,
        /// Mean of the epoch's step losses.
        train_loss: f32,
        /// Mean cross-entropy on the validation pictures.
        val_loss: f32,
        /// Share of validation pictures whose best class is right, 0 to 1; in segmentation, of their pixels.
        val_top1: f32,
        /// In segmentation, the mean over the classes of intersection over union on the validation pictures, 0 to 1.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        val_miou: Option<f32>,
        /// Whether its adapters were kept: it is the best so far, or the validation pictures cannot tell it from the best.
        kept: bool,
        /// Seconds of training and validation.
        seconds: f64,
    },
}
