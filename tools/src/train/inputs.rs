//! What the trained part of the graph takes: pictures, or what the frozen layers before it make of them, kept in memory.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use edge_vit::Preprocessing;
use edge_vit_models::{Graph, Op};
use rayon::prelude::*;

use super::TrainError;
use crate::data::Picture;
use crate::engine::{Engine, EngineError, Plan};

/// Pictures decoded, and run through the frozen layers, at a time.
const CHUNK: usize = 64;

/// A graph cut where training begins to matter.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Cut {
    /// The frozen layers from the pixels on; `None` where the first trained layer reads the pixels.
    pub(super) prefix: Option<Graph>,
    /// The rest.
    pub(super) tail: Graph,
    /// Residual sums in the prefix.
    pub(super) residuals: usize,
}

/// Cuts `graph` after the last node that depends on no trained weight and whose output alone is read behind it.
pub(super) fn cut(graph: &Graph, trainable: &BTreeSet<String>) -> Result<Cut, EngineError> {
    let plan = Plan::new(graph, trainable)?;
    let first_trained = plan.carries_grad.iter().position(|carries| *carries).unwrap_or(0);
    for at in (1..first_trained).rev() {
        if let Some((prefix, tail)) = graph.split_after(at)? {
            let residuals = prefix.nodes.iter().filter(|node| node.op == Op::Add).count();
            return Ok(Cut { prefix: Some(prefix), tail, residuals });
        }
    }
    Ok(Cut { prefix: None, tail: graph.clone(), residuals: 0 })
}

/// One picture.
#[derive(Debug)]
struct Sample {
    path: PathBuf,
    label: u32,
    /// What the tail takes; `None` where the limit was reached.
    kept: Option<Vec<f32>>,
}

/// The inputs of the graph's tail, by picture.
pub(super) struct Inputs {
    preprocessing: Preprocessing,
    prefix: Option<Box<dyn Engine>>,
    samples: Vec<Sample>,
    /// Bytes that may still be kept.
    room: u64,
}

impl Inputs {
    /// Nothing yet. `prefix` runs the frozen layers on the pixels; at most `limit` bytes are kept.
    pub(super) fn new(preprocessing: Preprocessing, prefix: Option<Box<dyn Engine>>, limit: u64) -> Self {
        Self { preprocessing, prefix, samples: Vec::new(), room: limit }
    }

    /// Reads `pictures` and appends them. Those that cannot be decoded are taken out of the list and handed to
    /// `skipped` with the reason.
    pub(super) fn load(
        &mut self,
        pictures: &mut Vec<Picture>,
        stop: &AtomicBool,
        skipped: &mut dyn FnMut(&Path, String),
    ) -> Result<(), TrainError> {
        let mut readable = Vec::with_capacity(pictures.len());
        for chunk in pictures.chunks(CHUNK) {
            if stop.load(Ordering::Relaxed) {
                return Err(TrainError::Stopped);
            }
            let preprocessing = &self.preprocessing;
            let decoded: Vec<_> = chunk.par_iter().map(|picture| decode(&picture.path, preprocessing)).collect();
            let (mut batch, first) = (Vec::new(), self.samples.len());
            for (picture, decoded) in chunk.iter().zip(decoded) {
                match decoded {
                    Ok(values) => {
                        batch.extend(values);
                        self.samples.push(Sample { path: picture.path.clone(), label: picture.label, kept: None });
                        readable.push(picture.clone());
                    }
                    Err(reason) => skipped(&picture.path, reason),
                }
            }
            self.keep(first, batch)?;
        }
        *pictures = readable;
        Ok(())
    }

    /// Number of pictures.
    pub(super) fn len(&self) -> usize {
        self.samples.len()
    }

    /// Number of pictures whose input is not kept.
    pub(super) fn not_kept(&self) -> usize {
        self.samples.iter().filter(|sample| sample.kept.is_none()).count()
    }

    /// The classes of the pictures `ids`.
    pub(super) fn labels(&self, ids: &[usize]) -> Vec<u32> {
        ids.iter().map(|&id| self.samples[id].label).collect()
    }

    /// The tail's input `[pictures, ...]` for the pictures `ids`.
    pub(super) fn batch(&mut self, ids: &[usize]) -> Result<Vec<f32>, TrainError> {
        let missing: Vec<usize> = ids.iter().copied().filter(|&id| self.samples[id].kept.is_none()).collect();
        let (samples, preprocessing) = (&self.samples, &self.preprocessing);
        let decoded: Result<Vec<Vec<f32>>, TrainError> = missing
            .par_iter()
            .map(|&id| {
                let path = &samples[id].path;
                decode(path, preprocessing).map_err(|reason| TrainError::Picture { path: path.clone(), reason })
            })
            .collect();
        let computed = self.through_prefix(decoded?.concat(), missing.len())?;
        let len = computed.len().checked_div(missing.len()).unwrap_or(0);
        let mut computed = computed.chunks(len.max(1));
        let mut batch = Vec::new();
        for &id in ids {
            match &self.samples[id].kept {
                Some(values) => batch.extend_from_slice(values),
                None => batch.extend_from_slice(computed.next().unwrap_or_default()),
            }
        }
        Ok(batch)
    }

    /// Keeps the inputs of the samples from `first` on, whose pixels are `batch`, as far as there is room.
    fn keep(&mut self, first: usize, batch: Vec<f32>) -> Result<(), TrainError> {
        let count = self.samples.len() - first;
        if count == 0 || self.room == 0 {
            return Ok(());
        }
        let inputs = self.through_prefix(batch, count)?;
        let len = inputs.len() / count;
        let bytes = (len * size_of::<f32>()) as u64;
        for (sample, values) in self.samples[first..].iter_mut().zip(inputs.chunks(len.max(1))) {
            if bytes > self.room {
                self.room = 0;
                break;
            }
            self.room -= bytes;
            sample.kept = Some(values.to_vec());
        }
        Ok(())
    }

    fn through_prefix(&mut self, pixels: Vec<f32>, pictures: usize) -> Result<Vec<f32>, TrainError> {
        match &mut self.prefix {
            Some(prefix) if pictures > 0 => Ok(prefix.forward(&pixels, pictures)?),
            _ => Ok(pixels),
        }
    }
}

fn decode(path: &Path, preprocessing: &Preprocessing) -> Result<Vec<f32>, String> {
    match edge_vit::open_picture(path) {
        Ok(picture) => Ok(preprocessing.apply(&picture)),
        Err(error) => Err(error.to_string()),
    }
}
