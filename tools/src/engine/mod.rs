//! What trains a graph, whatever it runs on: the interface of an engine, and what all engines share.

mod average;
mod checkpointing;
mod method;
mod noise;
mod plan;
mod precision;

use std::collections::BTreeMap;

use edge_vit_models::method::MethodError;
use edge_vit_models::quant::QuantError;
use edge_vit_models::{GraphError, Tensor};
use thiserror::Error;

pub use average::Average;
pub use checkpointing::Recompute;
pub use method::MethodEngine;
pub use noise::{Noise, uniform};
pub use plan::{BackwardNeeds, Plan};
pub(crate) use plan::{is_of_merged_tokens, merged_tokens};
pub use precision::{LossScale, Precision};

/// Why an engine could not be made or a step not be taken.
#[derive(Debug, Error)]
pub enum EngineError {
    /// The graph cannot be run.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// A weight named as trainable belongs to an operator that has no weight gradient.
    #[error("weight `{name}` of a {op} cannot be trained; leave it frozen")]
    NotTrainable {
        /// The weight.
        name: String,
        /// The operator that reads it.
        op: &'static str,
    },
    /// A weight named as trainable is not in the graph.
    #[error("weight `{name}` is to be trained, but no operator reads it")]
    UnknownTrainable {
        /// The weight.
        name: String,
    },
    /// An operator of merged tokens stands where this engine cannot have one.
    #[error(
        "`{node}` ({op}) is of merged tokens, {reason}; tokens are merged when adapters are folded, behind the training"
    )]
    MergedTokens {
        /// The node.
        node: String,
        /// Its operator.
        op: &'static str,
        /// What is not there.
        reason: &'static str,
    },
    /// The input, the targets or a state do not fit the graph.
    #[error("{what}: expected {expected}, got {got}")]
    Mismatch {
        /// What was handed in.
        what: &'static str,
        /// What fits.
        expected: String,
        /// What came.
        got: String,
    },
    /// The method's parameters do not fit the graph, or are not finite.
    #[error(transparent)]
    Method(#[from] MethodError),
    /// A weight has no form in eight bits.
    #[error(transparent)]
    Quant(#[from] QuantError),
    /// The device cannot do it.
    #[error("{0}")]
    Device(String),
}

/// AdamW, as PyTorch defines it (decoupled weight decay, bias-corrected moments).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hyper {
    /// Learning rate of this step.
    pub lr: f32,
    /// Decoupled weight decay, on every trained weight.
    pub weight_decay: f32,
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub eps: f32,
}

impl Default for Hyper {
    fn default() -> Self {
        Self { lr: 1e-3, weight_decay: 1e-4, beta1: 0.9, beta2: 0.999, eps: 1e-8 }
    }
}

/// A batch to learn from.
#[derive(Debug, Clone, Copy)]
pub struct Step<'a> {
    /// `[pictures, ...]`, each of the shape of the graph's input.
    pub input: &'a [f32],
    /// `[pictures, classes]`: the probability of each class that a picture is to be given; each row adds up to 1. Where the
    /// graph answers for each patch, `[pictures, patches, classes]`: a row adds up to how much the patch counts, 0 to 1, and
    /// one of zeros teaches nothing.
    pub targets: &'a [f32],
    /// Optimiser.
    pub hyper: Hyper,
    /// Dropout and stochastic depth of this step.
    pub noise: &'a Noise,
}

/// The targets `[labels, classes]` of labels: 1 at each label and 0 elsewhere, of which the share `smoothing` is spread over
/// all classes (`1 - smoothing + smoothing / classes` and `smoothing / classes`), as PyTorch's `label_smoothing` does.
/// A label that is no class leaves its row without a class.
pub fn targets(labels: &[u32], classes: usize, smoothing: f32) -> Vec<f32> {
    let off = smoothing / classes as f32;
    let mut targets = vec![off; labels.len() * classes];
    for (row, &label) in targets.chunks_exact_mut(classes.max(1)).zip(labels) {
        if let Some(target) = row.get_mut(label as usize) {
            *target = 1.0 - smoothing + off;
        }
    }
    targets
}

/// A trained weight and AdamW's two moments of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Trained {
    /// The weight.
    pub value: Tensor,
    /// Running mean of the gradient.
    pub m: Tensor,
    /// Running mean of the squared gradient.
    pub v: Tensor,
}

impl Trained {
    /// A weight before the first step.
    ///
    /// # Errors
    /// When its moments cannot be held.
    pub(crate) fn fresh(value: Tensor) -> Result<Self, EngineError> {
        let zero = Tensor::full(value.shape(), 0.0).map_err(|error| EngineError::Device(error.to_string()))?;
        Ok(Self { value, m: zero.clone(), v: zero })
    }
}

/// All that changes while training: enough to go on bit-exactly on the same device.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct State {
    /// Optimiser steps taken, with those that half precision skipped.
    pub steps: u64,
    /// By the weight's name.
    pub trained: BTreeMap<String, Trained>,
    /// In half precision alone.
    pub loss_scale: Option<LossScale>,
}

/// A graph on a device, ready to run and to learn. The graph's output is the logits `[classes]` of a picture or
/// `[patches, classes]` of its patches (any shape where only [`Engine::forward`] is used).
///
/// A batch of any size is taken: an engine cuts it into micro-batches that fit its memory and accumulates.
pub trait Engine {
    /// The device in words.
    fn device(&self) -> String;

    /// The output `[pictures, ...]` for `input` `[pictures, ...]`, without dropout or stochastic depth.
    ///
    /// # Errors
    /// When the input does not fit the graph or the device fails.
    fn forward(&mut self, input: &[f32], pictures: usize) -> Result<Vec<f32>, EngineError>;

    /// The mean cross-entropy over the batch (over its patches, by how much each counts, where the graph answers for those) and
    /// the gradient of every trainable weight by name; nothing is changed.
    ///
    /// # Errors
    /// When the batch does not fit the graph or the device fails.
    fn gradients(&mut self, step: &Step<'_>) -> Result<(f32, BTreeMap<String, Tensor>), EngineError>;

    /// Takes one AdamW step and returns the mean cross-entropy before it.
    ///
    /// # Errors
    /// When the batch does not fit the graph or the device fails.
    fn train_step(&mut self, step: &Step<'_>) -> Result<f32, EngineError>;

    /// Takes one AdamW step and does not wait for it: the result holds the losses of this and earlier such steps that have come
    /// back, oldest first, each once. A loss may come with one of the next calls or with [`Engine::late_losses`]; how many are
    /// owed at a time is bounded.
    ///
    /// # Errors
    /// As [`Engine::train_step`].
    fn submit_step(&mut self, step: &Step<'_>) -> Result<Vec<f32>, EngineError> {
        Ok(vec![self.train_step(step)?])
    }

    /// Waits for the steps that [`Engine::submit_step`] took, and returns the losses still owed, oldest first.
    ///
    /// # Errors
    /// When the device fails.
    fn late_losses(&mut self) -> Result<Vec<f32>, EngineError> {
        Ok(Vec::new())
    }

    /// The trained weights and the optimiser's moments.
    ///
    /// # Errors
    /// When the device fails.
    fn state(&mut self) -> Result<State, EngineError>;

    /// The trained weights, by name.
    ///
    /// # Errors
    /// When the device fails.
    fn weights(&mut self) -> Result<BTreeMap<String, Tensor>, EngineError> {
        Ok(self.state()?.trained.into_iter().map(|(name, trained)| (name, trained.value)).collect())
    }

    /// Takes up a state that [`Engine::state`] gave, or one with fresh moments.
    ///
    /// # Errors
    /// When names or shapes are not those of the trainable weights.
    fn restore(&mut self, state: &State) -> Result<(), EngineError>;

    /// Takes these values for trained weights, by name; moments and steps stay as they are.
    ///
    /// # Errors
    /// When a name or a shape is not that of a trainable weight.
    fn set_weights(&mut self, weights: &BTreeMap<String, Tensor>) -> Result<(), EngineError>;

    /// Keeps `average` of the trained weights from now on, moved behind each step; one that was kept before is forgotten.
    ///
    /// # Errors
    /// When its names or shapes are not those of the trainable weights.
    fn keep_average(&mut self, average: Average) -> Result<(), EngineError>;

    /// The averages, by the weight's name; `None` where none are kept.
    ///
    /// # Errors
    /// When the device fails.
    fn average(&mut self) -> Result<Option<BTreeMap<String, Tensor>>, EngineError>;

    /// Keeps only checkpoints of the activations for the backward from now on, which computes the others again
    /// ([`Plan::checkpoint_activations`]). Gradients stay the same to the bit where batches are cut the same.
    fn checkpoint_activations(&mut self);

    /// The most bytes of activations, gradients and scratch held at one time so far, weights left out.
    fn peak_bytes(&self) -> u64;
}

/// Checks that `weights` are some of `trainable`, by name and shape.
///
/// # Errors
/// What does not fit.
pub fn check_weights<'a>(
    mut trainable: impl FnMut(&str) -> Option<&'a [usize]>,
    weights: &BTreeMap<String, Tensor>,
) -> Result<(), EngineError> {
    for (name, tensor) in weights {
        match trainable(name) {
            None => return Err(EngineError::UnknownTrainable { name: name.clone() }),
            Some(shape) if shape != tensor.shape() => {
                let (expected, got) = (format!("`{name}` {shape:?}"), format!("{:?}", tensor.shape()));
                return Err(EngineError::Mismatch { what: "weight", expected, got });
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// Checks that `average` is one of the weights `trainable`, names and shapes, and of all of them.
///
/// # Errors
/// What does not fit.
pub fn check_average<'a>(
    trainable: impl IntoIterator<Item = (&'a str, &'a [usize])>,
    average: &Average,
) -> Result<(), EngineError> {
    let shapes: BTreeMap<&str, &[usize]> = trainable.into_iter().collect();
    check_weights(|name| shapes.get(name).copied(), average.weights())?;
    match shapes.keys().find(|name| !average.weights().contains_key(**name)) {
        Some(name) => {
            let (expected, got) = (format!("one of `{name}`"), "none".to_owned());
            Err(EngineError::Mismatch { what: "average", expected, got })
        }
        None => Ok(()),
    }
}

/// How far an engine's batch fits its graph; shared by all engines.
///
/// # Errors
/// When the input is not `pictures` times the graph's input.
pub fn check_input(plan: &Plan, input: &[f32], pictures: usize) -> Result<(), EngineError> {
    let expected = plan.input_len() * pictures;
    if pictures == 0 || input.len() != expected {
        let expected = format!("{pictures} pictures of {:?} ({expected} values), at least one", plan.shapes[0]);
        return Err(EngineError::Mismatch { what: "input", expected, got: format!("{} values", input.len()) });
    }
    Ok(())
}

/// How far the targets of a picture may add up to something else than 1, as mixed float32 do.
const TARGET_TOLERANCE: f32 = 1e-3;

/// A batch that fits its graph.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Checked {
    /// The number of pictures.
    pub pictures: usize,
    /// What the sum of the rows' losses is divided by: the pictures, or how much all patches count together. It is above 0.
    pub weight: f64,
}

/// Checks a batch's input, targets and stochastic-depth rates against the plan.
///
/// # Errors
/// What does not fit.
pub fn check_step(plan: &Plan, step: &Step<'_>) -> Result<Checked, EngineError> {
    let (classes, rows, is_dense) = (plan.classes(), plan.rows(), plan.shapes.last().map(Vec::len) == Some(2));
    if rows == 0 || (rows != 1 && !is_dense) {
        let got = format!("{:?}", plan.shapes.last());
        let expected = "logits [classes] or [patches, classes]".to_owned();
        return Err(EngineError::Mismatch { what: "output", expected, got });
    }
    let pictures = step.targets.len() / plan.output_len();
    check_input(plan, step.input, pictures)?;
    if step.targets.len() != pictures * plan.output_len() {
        let (expected, got) =
            (format!("{} rows of {classes} classes", pictures * rows), format!("{} values", step.targets.len()));
        return Err(EngineError::Mismatch { what: "targets", expected, got });
    }
    let is_distribution = |row: &&[f32]| {
        let total: f32 = row.iter().sum();
        let least = if is_dense { 0.0 } else { 1.0 - TARGET_TOLERANCE };
        row.iter().all(|&target| target >= 0.0) && (least..=1.0 + TARGET_TOLERANCE).contains(&total)
    };
    if let Some(row) = step.targets.chunks_exact(classes).find(|row| !is_distribution(row)) {
        let most = if is_dense { "at most " } else { "" };
        let expected = format!("rows of probabilities that add up to {most}1");
        return Err(EngineError::Mismatch { what: "targets", expected, got: format!("{row:?}") });
    }
    let residuals = plan.residual_of.iter().flatten().count();
    if !step.noise.drop_path.is_empty() && step.noise.drop_path.len() != residuals {
        let expected = format!("{residuals}, one a residual sum, or none");
        let got = step.noise.drop_path.len().to_string();
        return Err(EngineError::Mismatch { what: "stochastic-depth rates", expected, got });
    }
    Ok(Checked { pictures, weight: if is_dense { counted(step.targets) } else { pictures as f64 } })
}

/// How much all patches count together; 1 where none does, whose losses are 0.
fn counted(targets: &[f32]) -> f64 {
    match targets.iter().copied().map(f64::from).sum() {
        0.0 => 1.0,
        weight => weight,
    }
}
