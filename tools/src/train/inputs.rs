//! What the trained part of the graph takes: pictures, or what the frozen layers before it make of them, kept in memory.
//!
//! Where pictures are augmented, they are kept themselves, and the frozen layers are run on what becomes of them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use edge_vit::Preprocessing;
use edge_vit_models::{Graph, Op};
use image::RgbImage;
use rayon::prelude::*;

use super::TrainError;
use super::augment::Augment;
use super::loader::{Batch, Origin, Pixels, Work, decode, prepare};
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
    /// `None` where the limit was reached.
    kept: Option<Kept>,
    /// What random parts are taken of; `None` where none was taken yet, or the limit was reached.
    source: Option<Arc<RgbImage>>,
}

/// What stays in memory of a picture.
#[derive(Debug)]
enum Kept {
    /// What the tail takes.
    Input(Vec<f32>),
    /// The picture at the model's size.
    Picture(Arc<RgbImage>),
}

impl Sample {
    fn is_input_kept(&self) -> bool {
        matches!(self.kept, Some(Kept::Input(_)))
    }

    /// What is augmented: the picture at the model's size, or, where `parts` of it are taken, one in which they still have
    /// its detail.
    fn origin(&self, parts: bool) -> Origin {
        match (parts, &self.source, &self.kept) {
            (true, Some(source), _) => Origin::Picture(Arc::clone(source)),
            (false, _, Some(Kept::Picture(picture))) => Origin::Picture(Arc::clone(picture)),
            _ => Origin::File(self.path.clone()),
        }
    }
}

/// The inputs of the graph's tail, by picture.
pub(super) struct Inputs {
    preprocessing: Preprocessing,
    prefix: Option<Box<dyn Engine>>,
    augment: Augment,
    samples: Vec<Sample>,
    /// Bytes that may still be kept.
    room: u64,
}

impl Inputs {
    /// Nothing yet. `prefix` runs the frozen layers on the pixels; at most `limit` bytes are kept.
    pub(super) fn new(
        preprocessing: Preprocessing,
        prefix: Option<Box<dyn Engine>>,
        augment: Augment,
        limit: u64,
    ) -> Self {
        Self { preprocessing, prefix, augment, samples: Vec::new(), room: limit }
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
            let (preprocessing, augmented) = (&self.preprocessing, self.augment.is_on());
            let decoded: Vec<_> = chunk
                .par_iter()
                .map(|Picture { path, .. }| match augmented {
                    true => prepare(path, preprocessing).map(|picture| Kept::Picture(Arc::new(picture))),
                    false => decode(path, preprocessing).map(Kept::Input),
                })
                .collect();
            let (mut batch, first) = (Vec::new(), self.samples.len());
            for (picture, decoded) in chunk.iter().zip(decoded) {
                match decoded {
                    Ok(decoded) => {
                        let kept = match decoded {
                            Kept::Input(pixels) => {
                                batch.extend(pixels);
                                None
                            }
                            Kept::Picture(decoded) => self.fits(&decoded).then_some(Kept::Picture(decoded)),
                        };
                        let Picture { path, label, .. } = picture.clone();
                        self.samples.push(Sample { path, label, kept, source: None });
                        readable.push(picture.clone());
                    }
                    Err(reason) => skipped(&picture.path, reason),
                }
            }
            if !augmented {
                self.keep(first, batch)?;
            }
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

    /// The tail's input `[pictures, ...]` for the pictures `ids` as they are.
    pub(super) fn batch(&mut self, ids: &[usize]) -> Result<Vec<f32>, TrainError> {
        let pixels = self.plain_work(ids).run()?;
        self.filled(ids, pixels)
    }

    /// What makes the pixels of those of the pictures `ids` whose input is not kept, as they are.
    fn plain_work(&self, ids: &[usize]) -> Work {
        let missing = ids.iter().map(|&id| &self.samples[id]).filter(|sample| !sample.is_input_kept());
        let origins = missing.map(|sample| sample.origin(false)).collect();
        Work { preprocessing: self.preprocessing.clone(), origins, augment: None }
    }

    /// What makes the pixels of a batch that is trained on: augmented, or as they are of those whose input is not kept.
    pub(super) fn work(&self, batch: &Batch) -> Work {
        if !self.augment.is_on() {
            return self.plain_work(&batch.ids);
        }
        let parts = self.augment.crop.is_some();
        Work {
            preprocessing: self.preprocessing.clone(),
            origins: batch.ids.iter().map(|&id| self.samples[id].origin(parts)).collect(),
            augment: Some((self.augment.clone(), batch.draw)),
        }
    }

    /// The tail's input `[pictures, ...]` for the pictures `ids` as they are, of which `pixels` are those whose input is not kept.
    pub(super) fn filled(&mut self, ids: &[usize], pixels: Pixels) -> Result<Vec<f32>, TrainError> {
        let missing = ids.iter().filter(|&&id| !self.samples[id].is_input_kept()).count();
        let computed = self.through_prefix(pixels.values, missing)?;
        let len = computed.len().checked_div(missing).unwrap_or(0);
        let mut computed = computed.chunks(len.max(1));
        let mut batch = Vec::new();
        for &id in ids {
            match &self.samples[id].kept {
                Some(Kept::Input(values)) => batch.extend_from_slice(values),
                _ => batch.extend_from_slice(computed.next().unwrap_or_default()),
            }
        }
        Ok(batch)
    }

    /// Keeps what random parts of the pictures `ids` were taken of, as far as there is room.
    pub(super) fn keep_sources(&mut self, ids: &[usize], sources: Vec<Arc<RgbImage>>) {
        if self.augment.crop.is_none() {
            return;
        }
        for (&id, source) in ids.iter().zip(sources) {
            if self.samples[id].source.is_none() && self.fits(&source) {
                self.samples[id].source = Some(source);
            }
        }
    }

    /// Whether there is room to keep `picture`, which is then taken.
    fn fits(&mut self, picture: &RgbImage) -> bool {
        match self.room.checked_sub(picture.as_raw().len() as u64) {
            Some(rest) => {
                self.room = rest;
                true
            }
            None => false,
        }
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
            sample.kept = Some(Kept::Input(values.to_vec()));
        }
        Ok(())
    }

    /// The tail's input for `pixels` `[pictures, 3, height, width]`.
    pub(super) fn through_prefix(&mut self, pixels: Vec<f32>, pictures: usize) -> Result<Vec<f32>, TrainError> {
        match &mut self.prefix {
            Some(prefix) if pictures > 0 => Ok(prefix.forward(&pixels, pictures)?),
            _ => Ok(pixels),
        }
    }
}
