//! Why a training run could not begin or go on.

use std::io;
use std::path::PathBuf;

use edge_vit_models::GraphError;
use edge_vit_models::adapter::AdapterError;
use edge_vit_models::backbone::BackboneError;
use edge_vit_models::checkpoint::CheckpointError;
use thiserror::Error;

use crate::data::DataError;
use crate::engine::EngineError;
use crate::segmentation::SegmentationError;

/// Why a training run could not begin or go on.
#[derive(Debug, Error)]
pub enum TrainError {
    /// The data set.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The backbone.
    #[error(transparent)]
    Backbone(#[from] BackboneError),
    /// The adapters.
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    /// The graph.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The device.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The saved state.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// An option is out of its range.
    #[error("{option} must be {expected}, got {got}")]
    Option {
        /// The option.
        option: &'static str,
        /// What fits.
        expected: &'static str,
        /// What came.
        got: String,
    },
    /// An option cannot be followed by this task.
    #[error("{option} cannot be followed with --task {task}, whose masks would not go with it; leave it out")]
    NotOfTask {
        /// The option.
        option: &'static str,
        /// The task.
        task: &'static str,
    },
    /// An option is of segmentation alone.
    #[error("{option} is of masks; leave it out, or learn masks with --task segmentation")]
    OfMasks {
        /// The option.
        option: &'static str,
    },
    /// A method changes how many tokens there are.
    #[error("--method {method} puts tokens among those of the patches, so that it cannot segment; take another method")]
    Tokens {
        /// The method.
        method: &'static str,
    },
    /// A method computes on the processor, in float32.
    #[error("--method {method} changes weights on the processor, which has float32 alone; leave out --precision f16")]
    NotInHalfPrecision {
        /// The method.
        method: &'static str,
    },
    /// Pictures with masks cannot be used.
    #[error(transparent)]
    Masks(#[from] SegmentationError),
    /// The head that training is to begin with does not fit.
    #[error("--head {}: {reason}; `edge-vit-tools zero-shot` makes one", path.display())]
    Head {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The picture size is not one that the backbone can cut into patches.
    #[error("--image-size must be a positive multiple of {step} for this backbone, got {got}")]
    ImageSize {
        /// What the backbone takes multiples of.
        step: usize,
        /// The size asked for.
        got: usize,
    },
    /// A class has fewer pictures than are asked for.
    #[error(
        "class `{label}` has {} for --shots {shots}; add pictures, or ask for fewer shots",
        match (validation, found) {
            (true, _) => "none left to choose the epoch by".to_owned(),
            (false, found) => format!("{found} pictures to train on, too few"),
        }
    )]
    Shots {
        /// The class.
        label: String,
        /// Its pictures.
        found: usize,
        /// How many were asked for.
        shots: usize,
        /// Whether they are missing on the side that chooses the epoch.
        validation: bool,
    },
    /// A picture that was readable when the run began is not any more.
    #[error("{} cannot be read any more: {reason}", path.display())]
    Picture {
        /// The picture.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A file of the run could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file of the run could not be written; what stood there is untouched.
    #[error("cannot write {}: {source}; is the disk full, or the folder not writable?", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something could not be put into JSON, or read from it.
    #[error("JSON: {0}")]
    Json(serde_json::Error),
    /// The folder holds a run.
    #[error("{} holds a training run; go on with it by --resume, or name another folder", path.display())]
    RunThere {
        /// The folder.
        path: PathBuf,
    },
    /// There is no run to go on with.
    #[error("{} holds no saved state to resume; start the run without --resume", path.display())]
    NothingToResume {
        /// The folder.
        path: PathBuf,
    },
    /// The saved state is not one of this program, or is damaged.
    #[error("{} is not the state of a training run: {reason}", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The run to resume was configured otherwise.
    #[error(
        "the run in {} was configured otherwise ({}); resume it with the same options, or name another folder",
        path.display(),
        differences.join("; ")
    )]
    Differs {
        /// The folder.
        path: PathBuf,
        /// The fields that differ, then and now.
        differences: Vec<String>,
    },
    /// The optimisation has diverged.
    #[error("the loss is {loss} at step {step}; try a lower --lr than {lr}")]
    Diverged {
        /// The loss.
        loss: f32,
        /// The step, counted from 1.
        step: u64,
        /// The highest learning rate.
        lr: f32,
    },
    /// Stopped before the first step.
    #[error("stopped before the first step; nothing was saved")]
    Stopped,
}
