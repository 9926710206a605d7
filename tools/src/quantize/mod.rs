//! Weights in fewer bits: which layers bear it, what it costs on labelled pictures, and how far two processors may differ then.
//!
//! Every Linear but the head can multiply 8-bit integers. [`Quantize`] measures the accuracy that this costs through the
//! device's own code; where that is more than allowed, the most sensitive layers stay in float32, as few as will do. What the
//! merging of tokens costs is measured with it, and by itself where the weights stay as they are.

mod error;
mod fewest;
mod labelled;
#[cfg(test)]
mod tests;
mod tolerance;
mod validation;

use std::borrow::Cow;
use std::path::Path;

use edge_vit::{Bundle, HalfProducts, Measured, Model, Quantization, Task};
use edge_vit_models::adapter::Meta;
use edge_vit_models::onnx::{self, Batch, Precision, Precisions};
use edge_vit_models::{Graph, quant};

use crate::cpu::CpuEngine;
use crate::engine::{Engine as _, EngineError};
use labelled::{Answers, Labelled, is_within};

pub use error::QuantizeError;
pub use validation::validation_pictures;

/// How many points of accuracy may be lost where nothing else is said.
pub const MAX_DROP: f64 = 0.5;

/// In which numbers a file holds its weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bits {
    /// 32-bit floats: the weights stay as they are, and the merging of tokens alone is measured.
    F32,
    /// 16-bit floats: half the file, multiplied in float32.
    F16,
    /// The same, multiplied in 16 bits on processors with arithmetic in them.
    F16Compute,
    /// 8-bit integers in linear layers: a quarter of the file, and products of integers.
    Int8,
}

impl Bits {
    /// As the command line and the file call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::F16Compute => "f16-compute",
            Self::Int8 => "int8",
        }
    }
}

/// How the weights are to be written, and what that may cost.
#[derive(Debug, Clone, Copy)]
pub struct Quantize<'a> {
    /// In which numbers.
    pub bits: Bits,
    /// Labelled pictures to measure the cost on; `None` for the validation pictures of the training where other arithmetic or the
    /// merging of tokens needs some.
    pub calibrate: Option<&'a Path>,
    /// The most points (hundredths) of accuracy, in segmentation of mean IoU, that may be lost on them, 0 or above.
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
    bits: Bits,
    merges: bool,
    /// Of every node.
    pub(crate) precisions: Precisions,
    /// Every layer that could be in eight bits, the most sensitive first; none but for int8.
    pub(crate) layers: Vec<Layer>,
    /// What labelled pictures say.
    pub(crate) measured: Option<Measured>,
    /// The model as processors run it that multiply in 16 bits, if that is not how others do.
    in_halves: Option<Model>,
}

/// The model that is to be written, in float32.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Whole<'a> {
    pub(crate) graph: &'a Graph,
    /// The same without what merges tokens, if anything does.
    pub(crate) unmerged: Option<&'a Graph>,
    pub(crate) batch: Batch,
    /// What the file carries, without golden cases.
    pub(crate) bundle: &'a Bundle,
}

impl Whole<'_> {
    /// What the model says of `pictures` in float32 and with all tokens.
    fn unchanged(&self, pictures: &Labelled) -> Result<Answers, QuantizeError> {
        self.answers(self.unmerged.unwrap_or(self.graph), &Precisions::new(), pictures)
    }

    /// What it says of them at `precisions`.
    fn changed(&self, precisions: &Precisions, pictures: &Labelled) -> Result<Answers, QuantizeError> {
        self.answers(self.graph, precisions, pictures)
    }

    fn answers(&self, graph: &Graph, precisions: &Precisions, pictures: &Labelled) -> Result<Answers, QuantizeError> {
        pictures.answers(&self.bytes(graph, precisions)?)
    }

    fn bytes(&self, graph: &Graph, precisions: &Precisions) -> Result<Vec<u8>, QuantizeError> {
        Ok(onnx::to_bytes_at(graph, self.batch, precisions, &self.bundle.to_metadata()?)?)
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
        let labelled = match (self.calibrate, self.bits) {
            (Some(folder), _) => Some(Labelled::named(folder, whole.bundle)?),
            (None, Bits::F32 | Bits::F16) if whole.unmerged.is_none() => None,
            (None, _) => Some(Labelled::of_training(meta)?),
        };
        match (self.bits, labelled) {
            (Bits::F32, labelled) => self.alike(whole, Precisions::new(), labelled.as_ref()),
            (Bits::F16, labelled) => self.alike(whole, onnx::all_f16(whole.graph), labelled.as_ref()),
            (Bits::F16Compute, labelled) => {
                let everywhere = Bundle { half_products: HalfProducts::Everywhere, ..whole.bundle.clone() };
                let (whole, precisions) = (Whole { bundle: &everywhere, ..whole }, onnx::all_f16(whole.graph));
                let in_halves = Model::from_bytes(&whole.bytes(whole.graph, &precisions)?)?;
                let chosen = self.alike(whole, precisions, labelled.as_ref())?;
                Ok(Chosen { in_halves: Some(in_halves), ..chosen })
            }
            (Bits::Int8, Some(labelled)) => self.int8(whole, &labelled, input, pictures),
            (Bits::Int8, None) => Err(QuantizeError::NoLayers),
        }
    }

    /// All layers at `precisions`, measured where there are `labelled` pictures.
    fn alike(
        &self,
        whole: Whole<'_>,
        precisions: Precisions,
        labelled: Option<&Labelled>,
    ) -> Result<Chosen, QuantizeError> {
        let measure = |labelled: &Labelled| {
            let measured = whole.unchanged(labelled)?.against(&whole.changed(&precisions, labelled)?);
            match is_within(&measured, self.max_drop) {
                true => Ok(measured),
                false => Err(self.refused(whole, &measured, "")),
            }
        };
        let measured = labelled.map(measure).transpose()?;
        Ok(self.chosen(whole, precisions, Vec::new(), measured))
    }

    fn int8(
        &self,
        whole: Whole<'_>,
        labelled: &Labelled,
        input: &[f32],
        pictures: usize,
    ) -> Result<Chosen, QuantizeError> {
        let mut layers = sensitivities(whole.graph, input, pictures)?;
        let before = whole.unchanged(labelled)?;
        if 100.0 / before.pictures().max(1) as f64 > self.max_drop {
            log::warn!(
                "one of {} pictures is more than {} points: name more of them",
                before.pictures(),
                self.max_drop
            );
        }
        let int8 = |kept: usize| -> Precisions {
            layers[kept..].iter().map(|layer| (layer.name.clone(), Precision::Int8)).collect()
        };
        let mut tried = Vec::new();
        let kept = fewest::fewest(layers.len(), |kept| {
            let measured = before.against(&whole.changed(&int8(kept), labelled)?);
            let (int8, drop) = (layers.len() - kept, measured.drop);
            log::info!("{int8} layers in int8: {drop:.2} points lost on {} pictures", measured.pictures);
            tried.push((kept, measured));
            Ok::<_, QuantizeError>(is_within(&measured, self.max_drop))
        })?;
        let best = |(_, a): &&(usize, Measured), (_, b): &&(usize, Measured)| a.drop.total_cmp(&b.drop);
        let Some(kept) = kept else {
            let Some((kept, measured)) = tried.iter().min_by(best) else { return Err(QuantizeError::NoLayers) };
            let how = format!(" with {kept} of {} layers in float32", layers.len());
            return Err(self.refused(whole, measured, &how));
        };
        let measured = tried.iter().find(|(tried, _)| *tried == kept).map(|&(_, measured)| measured);
        let precisions = int8(kept);
        layers[..kept].iter_mut().for_each(|layer| layer.int8 = false);
        Ok(self.chosen(whole, precisions, layers, measured))
    }

    fn chosen(
        &self,
        whole: Whole<'_>,
        precisions: Precisions,
        layers: Vec<Layer>,
        measured: Option<Measured>,
    ) -> Chosen {
        Chosen { bits: self.bits, merges: whole.unmerged.is_some(), precisions, layers, measured, in_halves: None }
    }

    fn refused(&self, whole: Whole<'_>, measured: &Measured, how: &str) -> QuantizeError {
        let Measured { pictures, drop, .. } = *measured;
        let (bits, merges, max_drop) = (self.bits, whole.unmerged.is_some(), self.max_drop);
        let of = match whole.bundle.task {
            Task::Classification => "accuracy",
            Task::Segmentation { .. } => "mean IoU",
        };
        QuantizeError::Drop { bits, merges, pictures, drop, of, how: how.to_owned(), max_drop }
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

    /// `graph` with the weights that the file holds, but for those in eight bits.
    fn written<'g>(&self, graph: &'g Graph) -> Result<Cow<'g, Graph>, EngineError> {
        Ok(match self.bits {
            Bits::F16 | Bits::F16Compute => Cow::Owned(quant::round_to_f16(graph)?),
            Bits::F32 | Bits::Int8 => Cow::Borrowed(graph),
        })
    }

    /// In which numbers the file's weights in float16 are multiplied.
    pub(crate) fn half_products(&self) -> HalfProducts {
        match self.bits {
            Bits::F16Compute => HalfProducts::WhereNative,
            Bits::F32 | Bits::F16 | Bits::Int8 => HalfProducts::Never,
        }
    }

    /// What processors with arithmetic in 16 bits will compute for `input` `[pictures, ...]`, if that is not what others do.
    pub(crate) fn logits_in_halves(&self, input: &[f32], pictures: usize) -> Result<Option<Vec<f32>>, QuantizeError> {
        let logits = self.in_halves.as_ref().map(|model| tolerance::each(model, input, pictures));
        Ok(logits.transpose()?)
    }

    /// What the file will compute for `input` `[pictures, ...]`: the logits of the same arithmetic on the CPU engine.
    pub(crate) fn logits(&self, graph: &Graph, input: &[f32], pictures: usize) -> Result<Vec<f32>, EngineError> {
        CpuEngine::<f32>::quantized(&*self.written(graph)?, &self.int8())?.forward(input, pictures)
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
        match self.bits {
            Bits::F32 | Bits::F16 if !self.merges => Ok(None),
            _ => {
                let (written, int8) = (self.written(graph)?, self.int8());
                let known = tolerance::Known { input, pictures, logits };
                known.tolerance(&written, &int8, self.in_halves.as_ref()).map(Some)
            }
        }
    }

    /// What the file says of it, `error` being the largest logit difference against float32; `None` where all stays in float32.
    pub(crate) fn record(&self, error: f64) -> Option<Quantization> {
        (self.bits != Bits::F32).then(|| Quantization {
            precision: self.bits.name().to_owned(),
            int8_layers: self.int8().len(),
            layers: self.layers.len(),
            error,
            measured: self.measured,
        })
    }
}
