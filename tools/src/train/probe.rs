//! The instant baseline: a linear probe, that is a new head on the features of the frozen backbone, before anything is
//! adapted.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use edge_vit_models::{Graph, Op, Tensor, adapter};
use rand::seq::SliceRandom as _;
use serde::{Deserialize, Serialize};

use super::TrainError;
use super::device::Device;
use super::inputs::Inputs;
use super::prepare::Prepared;
use super::random::{Purpose, stream};
use super::run::judge;
use super::schedule::Schedule;
use crate::cpu::CpuEngine;
use crate::engine::{Engine, EngineError, Hyper, Noise, Step, targets};

/// Pictures whose features are computed at a time.
const CHUNK: usize = 64;
/// Features a step.
const BATCH: usize = 256;
/// Steps of the optimiser, which end near the optimum of some hundreds of features.
const STEPS: usize = 500;
/// Highest learning rate; features have a deviation of 1.
const LR: f32 = 1e-2;
/// Decoupled weight decay.
const WEIGHT_DECAY: f32 = 1e-2;
/// Below this deviation a feature says nothing.
const FLAT: f32 = 1e-6;

/// How well a linear probe does on the validation pictures, which choose nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    /// Share of validation pictures whose best class is right, 0 to 1.
    pub val_top1: f32,
    /// Mean cross-entropy on the validation pictures.
    pub val_loss: f32,
    /// Seconds that features and head took.
    pub seconds: f64,
}

impl Probe {
    /// Computes the features of all pictures as they are and fits the head: softmax regression on features of mean 0 and
    /// deviation 1 over the training pictures, by AdamW.
    pub(super) fn train(prepared: &mut Prepared, device: &Device, stop: &AtomicBool) -> Result<Self, TrainError> {
        let began = Instant::now();
        let Prepared { plain, cut, inputs, train, val, config, .. } = prepared;
        let classes = config.labels.len();
        let backbone = features(plain, cut.prefix.as_ref())?;
        let mut backbone = match &backbone {
            Some(graph) => Some(device.engine(graph, &BTreeSet::new())?),
            None => None,
        };
        let mut of = |ids: &[usize]| rows(inputs, backbone.as_deref_mut(), ids, stop);
        let (mut known, mut unseen) = (of(train)?, of(val)?);
        let width = known.len() / train.len().max(1);
        let scales = standardize(&mut known, width);
        unseen.chunks_exact_mut(width.max(1)).for_each(|row| scales.apply(row));
        let mut head = fit(&known, &inputs.labels(train), width, classes, config.recipe.seed)?;
        let logits = head.forward(&unseen, val.len())?;
        let (mut right, mut loss) = (0usize, 0.0);
        for (logits, label) in logits.chunks_exact(classes).zip(inputs.labels(val)) {
            let (hit, cross_entropy) = judge(logits, label as usize);
            right += usize::from(hit);
            loss += cross_entropy;
        }
        let count = val.len() as f64;
        let (val_top1, val_loss) = ((right as f64 / count) as f32, (loss / count) as f32);
        Ok(Self { val_top1, val_loss, seconds: began.elapsed().as_secs_f64() })
    }
}

/// The layers of the backbone `plain` from the output of `prefix`, or from the pixels, to what its head takes; `None` where
/// that is what the prefix gives.
fn features(plain: &Graph, prefix: Option<&Graph>) -> Result<Option<Graph>, EngineError> {
    let last = prefix.and_then(|prefix| prefix.nodes.last()).map(|node| node.name.as_str());
    let rest = match plain.nodes.iter().position(|node| Some(node.name.as_str()) == last) {
        Some(at) => plain.split_after(at)?.map_or_else(|| plain.clone(), |(_, rest)| rest),
        None => plain.clone(),
    };
    // The head is the last node; before it there may be nothing but the input.
    match rest.nodes.len().checked_sub(2) {
        None | Some(0) => Ok(None),
        Some(at) => Ok(rest.split_after(at)?.map(|(features, _)| features)),
    }
}

/// The features `[pictures, width]` of the pictures `ids`.
fn rows(
    inputs: &mut Inputs,
    mut backbone: Option<&mut (dyn Engine + 'static)>,
    ids: &[usize],
    stop: &AtomicBool,
) -> Result<Vec<f32>, TrainError> {
    let mut rows = Vec::new();
    for ids in ids.chunks(CHUNK) {
        if stop.load(Ordering::Relaxed) {
            return Err(TrainError::Stopped);
        }
        let input = inputs.batch(ids)?;
        match &mut backbone {
            Some(backbone) => rows.extend(backbone.forward(&input, ids.len())?),
            None => rows.extend(input),
        }
    }
    Ok(rows)
}

/// How features are brought to mean 0 and deviation 1.
struct Scales {
    mean: Vec<f32>,
    /// One over the deviation; 0 where there is none.
    factor: Vec<f32>,
}

impl Scales {
    fn apply(&self, row: &mut [f32]) {
        for ((value, mean), factor) in row.iter_mut().zip(&self.mean).zip(&self.factor) {
            *value = (*value - mean) * factor;
        }
    }
}

/// Brings `rows` `[pictures, width]` to mean 0 and deviation 1 in each column.
fn standardize(rows: &mut [f32], width: usize) -> Scales {
    let (mut sums, mut squares) = (vec![0.0f64; width], vec![0.0f64; width]);
    let count = (rows.len() / width.max(1)).max(1) as f64;
    for row in rows.chunks_exact(width.max(1)) {
        sums.iter_mut().zip(row).for_each(|(sum, &value)| *sum += f64::from(value));
    }
    let mean: Vec<f32> = sums.iter().map(|sum| (sum / count) as f32).collect();
    for row in rows.chunks_exact(width.max(1)) {
        for ((square, &value), &mean) in squares.iter_mut().zip(row).zip(&mean) {
            *square += f64::from(value - mean).powi(2);
        }
    }
    let factor = squares.iter().map(|square| {
        let deviation = (square / count).sqrt() as f32;
        if deviation > FLAT { 1.0 / deviation } else { 0.0 }
    });
    let scales = Scales { factor: factor.collect(), mean };
    rows.chunks_exact_mut(width.max(1)).for_each(|row| scales.apply(row));
    scales
}

/// A linear head that is fitted to `rows` `[pictures, width]`.
fn fit(rows: &[f32], labels: &[u32], width: usize, classes: usize, seed: u64) -> Result<CpuEngine<f32>, TrainError> {
    let mut graph = Graph::default();
    let input = graph.push("features", Op::Input { shape: vec![width] }, &[]);
    graph.push("head", Op::Linear { out_features: classes, bias: true }, &[input]);
    let zeros = |shape: &[usize]| Tensor::full(shape, 0.0).map_err(|error| EngineError::Device(error.to_string()));
    graph.weights.insert("head.weight".to_owned(), zeros(&[classes, width])?);
    graph.weights.insert("head.bias".to_owned(), zeros(&[classes])?);
    let mut head = CpuEngine::<f32>::new(&graph, &adapter::trainable(&graph))?;

    let schedule = Schedule { peak: LR, first: None, last: None, warmup: 0, total: STEPS as u64 };
    let (targets, noise) = (targets(labels, classes, 0.0), Noise::default());
    let mut order: Vec<usize> = (0..labels.len()).collect();
    let mut rng = stream(seed, Purpose::Probe, 0);
    let (mut at, mut step) = (order.len(), 0);
    while step < STEPS {
        if at >= order.len() {
            order.shuffle(&mut rng);
            at = 0;
        }
        let chosen = &order[at..(at + BATCH).min(order.len())];
        let gathered = |values: &[f32], len: usize| -> Vec<f32> {
            chosen.iter().flat_map(|&row| &values[row * len..][..len]).copied().collect()
        };
        let hyper = Hyper { lr: schedule.lr(step as u64), weight_decay: WEIGHT_DECAY, ..Hyper::default() };
        let (input, targets) = (gathered(rows, width), gathered(&targets, classes));
        head.train_step(&Step { input: &input, targets: &targets, hyper, noise: &noise })?;
        at += BATCH;
        step += 1;
    }
    Ok(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Classes whose features stand in a row, far apart in one direction and shifted in all.
    #[test]
    fn a_probe_tells_apart_what_a_line_can_part() {
        let row = |n: usize| {
            let noise = |k: usize| ((n * 37 + k * 11) % 17) as f32 / 17.0;
            [100.0 + (n % 3) as f32 + 0.2 * noise(1), -50.0 + noise(2), 7.0]
        };
        let mut rows: Vec<f32> = (0..90).flat_map(row).collect();
        let labels: Vec<u32> = (0..90).map(|n| n % 3).collect();
        let scales = standardize(&mut rows, 3);
        assert_eq!(scales.factor[2], 0.0, "a feature that never changes says nothing");
        let mut head = fit(&rows, &labels, 3, 3, 0).unwrap();
        let mut unseen: Vec<f32> = (90..120).flat_map(row).collect();
        unseen.chunks_exact_mut(3).for_each(|row| scales.apply(row));
        let logits = head.forward(&unseen, 30).unwrap();
        let right = logits.chunks(3).enumerate().filter(|(n, logits)| judge(logits, n % 3).0).count();
        assert!(right >= 28, "{right}");
    }
}
