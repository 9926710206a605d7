//! Weights in fewer bits: which layers bear it, what it costs on labelled pictures, and how far two processors may differ then.
//!
//! Every Linear but the head can multiply 8-bit integers. [`Quantize`] measures the accuracy that this costs through the
//! device's own code; where that is more than allowed, the most sensitive layers stay in float32, as few as will do.

mod compare;
mod error;
mod fewest;
#[cfg(test)]
mod tests;
mod tolerance;
mod validation;

use std::path::Path;

use edge_vit::{Bundle, Classifier, Measured, Quantization};
use edge_vit_models::adapter::Meta;
use edge_vit_models::onnx::{self, Batch, Precision, Precisions};
use edge_vit_models::{Graph, quant};

use crate::cpu::CpuEngine;
use crate::engine::{Engine as _, EngineError};
use crate::evaluate::{Outcome, Samples, outcomes};

pub use error::QuantizeError;
pub use validation::validation_pictures;

/// How many points of accuracy may be lost where nothing else is said.
pub const MAX_DROP: f64 = 0.5;

/// In which numbers a file holds its weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bits {
    /// 16-bit floats: half the file, and float32 again when it is loaded.
    F16,
    /// 8-bit integers in linear layers: a quarter of the file, and products of integers.
    Int8,
}

impl Bits {
    /// As the command line and the file call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::F16 => "f16",
            Self::Int8 => "int8",
        }
    }
}

/// How the weights are to be written, and what that may cost.
#[derive(Debug, Clone, Copy)]
pub struct Quantize<'a> {
    /// In which numbers.
    pub bits: Bits,
    /// Labelled pictures to measure the cost on; `None` for the validation pictures of the training where int8 needs some.
    pub calibrate: Option<&'a Path>,
    /// The most points of accuracy (hundredths) that may be lost on them, 0 or above.
    pub max_drop: f64,
}

/// A Linear and how it bears eight bits.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    /// Its name.
    pub name: String,
    /// How far its output is above what eight bits change of it, in decibels.
    pub decibels: f64,
    /// Whether it multiplies integers in the file.
    pub int8: bool,
}

/// What is to be written.
#[derive(Debug, Clone)]
pub(crate) struct Chosen {
    /// Of every node.
    pub(crate) precisions: Precisions,
    /// Every layer that could be in eight bits, the most sensitive first; none for float16.
    pub(crate) layers: Vec<Layer>,
    /// What labelled pictures say.
    pub(crate) measured: Option<Measured>,
}

/// The model that is to be written, in float32.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Whole<'a> {
    pub(crate) graph: &'a Graph,
    pub(crate) batch: Batch,
    /// What the file carries, without golden cases.
    pub(crate) bundle: &'a Bundle,
}

impl Whole<'_> {
    fn classifier(&self, precisions: &Precisions) -> Result<Classifier, QuantizeError> {
        let metadata = self.bundle.to_metadata()?;
        Ok(Classifier::from_bytes(&onnx::to_bytes_at(self.graph, self.batch, precisions, &metadata)?)?)
    }

    fn outcomes(&self, precisions: &Precisions, samples: &Samples) -> Result<Vec<Outcome>, QuantizeError> {
        let (outcomes, skipped) = outcomes(&self.classifier(precisions)?, samples, &|_| ())?;
        for picture in &skipped {
            log::debug!("{} is left out: {}", picture.path, picture.reason);
        }
        Ok(outcomes)
    }
}

impl Quantize<'_> {
    /// Decides the precision of every layer of `whole`. `input` holds some preprocessed pictures, `meta` tells of the training.
    pub(crate) fn choose(
        &self,
        whole: Whole<'_>,
        meta: &Meta,
        input: &[f32],
        pictures: usize,
    ) -> Result<Chosen, QuantizeError> {
        if !(self.max_drop >= 0.0 && self.max_drop.is_finite()) {
            return Err(QuantizeError::MaxDrop { got: self.max_drop });
        }
        match self.bits {
            Bits::F16 => self.f16(whole),
            Bits::Int8 => self.int8(whole, meta, input, pictures),
        }
    }

    fn f16(&self, whole: Whole<'_>) -> Result<Chosen, QuantizeError> {
        let precisions = onnx::all_f16(whole.graph);
        let Some(folder) = self.calibrate else { return Ok(Chosen { precisions, layers: Vec::new(), measured: None }) };
        let samples = Samples::validation(folder, &whole.bundle.labels)?;
        let before = whole.outcomes(&Precisions::new(), &samples)?;
        let measured = compare::measured(&before, &whole.outcomes(&precisions, &samples)?);
        match compare::is_within(&measured, self.max_drop) {
            true => Ok(Chosen { precisions, layers: Vec::new(), measured: Some(measured) }),
            false => Err(self.refused(&measured, "in float16")),
        }
    }

    fn int8(&self, whole: Whole<'_>, meta: &Meta, input: &[f32], pictures: usize) -> Result<Chosen, QuantizeError> {
        let samples = match self.calibrate {
            Some(folder) => Samples::validation(folder, &whole.bundle.labels)?,
            None => validation_pictures(meta)?,
        };
        let mut layers = sensitivities(whole.graph, input, pictures)?;
        let before = whole.outcomes(&Precisions::new(), &samples)?;
        if 100.0 / before.len().max(1) as f64 > self.max_drop {
            log::warn!("one of {} pictures is more than {} points: name more of them", before.len(), self.max_drop);
        }
        let int8 = |kept: usize| -> Precisions {
            layers[kept..].iter().map(|layer| (layer.name.clone(), Precision::Int8)).collect()
        };
        let mut tried = Vec::new();
        let kept = fewest::fewest(layers.len(), |kept| {
            let measured = compare::measured(&before, &whole.outcomes(&int8(kept), &samples)?);
            let (int8, drop) = (layers.len() - kept, measured.drop);
            log::info!("{int8} layers in int8: {drop:.2} points lost on {} pictures", measured.pictures);
            tried.push((kept, measured));
            Ok::<_, QuantizeError>(compare::is_within(&measured, self.max_drop))
        })?;
        let best = |(_, a): &&(usize, Measured), (_, b): &&(usize, Measured)| a.drop.total_cmp(&b.drop);
        let Some(kept) = kept else {
            let Some((kept, measured)) = tried.iter().min_by(best) else { return Err(QuantizeError::NoLayers) };
            return Err(self.refused(measured, &format!("with {kept} of {} layers in float32", layers.len())));
        };
        let measured = tried.iter().find(|(tried, _)| *tried == kept).map(|&(_, measured)| measured);
        let precisions = int8(kept);
        layers[..kept].iter_mut().for_each(|layer| layer.int8 = false);
        Ok(Chosen { precisions, layers, measured })
    }

    fn refused(&self, measured: &Measured, how: &str) -> QuantizeError {
        let Measured { pictures, drop, .. } = *measured;
        QuantizeError::Drop { bits: self.bits, pictures, drop, how: how.to_owned(), max_drop: self.max_drop }
    }
}

/// Every layer of `graph` that can be in eight bits, the most sensitive first; of equal ones the first of the graph.
fn sensitivities(graph: &Graph, input: &[f32], pictures: usize) -> Result<Vec<Layer>, QuantizeError> {
    let names = onnx::int8_layers(graph);
    if names.is_empty() {
        return Err(QuantizeError::NoLayers);
    }
    let noise = CpuEngine::<f32>::new(graph, &Default::default())?.int8_noise(&names, input, pictures)?;
    let layer = |(name, noise): (String, crate::cpu::Noise)| Layer { name, decibels: noise.decibels(), int8: true };
    let mut layers: Vec<Layer> = names.into_iter().zip(noise).map(layer).collect();
    layers.sort_by(|a, b| a.decibels.total_cmp(&b.decibels));
    Ok(layers)
}

impl Chosen {
    /// The layers that multiply integers.
    fn int8(&self) -> Vec<String> {
        self.layers.iter().filter(|layer| layer.int8).map(|layer| layer.name.clone()).collect()
    }

    /// What the file will compute for `input` `[pictures, ...]`: the logits of the same arithmetic on the CPU engine.
    pub(crate) fn logits(&self, graph: &Graph, input: &[f32], pictures: usize) -> Result<Vec<f32>, EngineError> {
        match self.layers.is_empty() {
            true => CpuEngine::<f32>::new(&quant::round_to_f16(graph)?, &Default::default())?.forward(input, pictures),
            false => CpuEngine::<f32>::quantized(graph, &self.int8())?.forward(input, pictures),
        }
    }

    /// How far another processor's logits may be from `logits`, those of `input` `[pictures, ...]`, relative to a picture's
    /// largest; `None` for float32's own tolerance.
    pub(crate) fn tolerance(
        &self,
        graph: &Graph,
        input: &[f32],
        pictures: usize,
        logits: &[f32],
    ) -> Result<Option<f32>, QuantizeError> {
        match self.layers.is_empty() {
            true => Ok(None),
            false => tolerance::tolerance(graph, &self.int8(), input, pictures, logits).map(Some),
        }
    }

    /// What the file says of it, `error` being the largest logit difference against float32.
    pub(crate) fn record(&self, bits: Bits, error: f64) -> Quantization {
        Quantization {
            precision: bits.name().to_owned(),
            int8_layers: self.int8().len(),
            layers: self.layers.len(),
            error,
            measured: self.measured,
        }
    }
}
