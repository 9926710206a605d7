//! How far two processors may differ that compute a model in eight or sixteen bits, or one that merges tokens, as they should.
//!
//! float32 sums differ from processor to processor by some rounding errors. Before a value becomes an integer such a difference
//! decides now and then whether it is rounded up or down; the next layer sees a whole step there and rounds more values the other
//! way, until, some layers on, two processors round independently of each other. However small the cause, their logits then
//! differ by as much as eight bits change them at all. Where tokens are merged, such a difference decides between two that are as
//! good as equally alike. How much that is, is measured here: in another arithmetic (float64, or products in float16 where some
//! processors compute those) and on pictures changed by less than anyone could see.

use edge_vit::{LARGEST_GOLDEN_TOLERANCE, LOGIT_TOLERANCE, Model};
use edge_vit_models::Graph;

use super::QuantizeError;
use crate::cpu::CpuEngine;
use crate::engine::{Engine as _, uniform};
use crate::merge::{largest, largest_difference};

/// How many other processors are taken.
const PROCESSORS: u32 = 8;
/// What the pixels are changed by at most, relative: far more than float32's rounding, so that roundings turn in small models
/// too, and far less than what would move the logits of a float32 model by its tolerance.
const CHANGE: f32 = 1.0 / (1 << 16) as f32;
/// Among the hundreds of differences that are looked at, the largest is about three standard deviations; twice that is met by a
/// sound processor once in many millions.
const SAFETY: f64 = 2.0;

/// Pictures whose logits are known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known<'a> {
    /// `[pictures, ...]`.
    pub(super) input: &'a [f32],
    pub(super) pictures: usize,
    pub(super) logits: &'a [f32],
}

impl Known<'_> {
    /// The largest difference to allow from the logits, those of `graph` with the layers `int8` in eight bits, relative to a picture's
    /// largest logit: twice the largest that other processors show, among them those that compute what the model `in_halves`
    /// does, and not below float32's own.
    ///
    /// # Errors
    /// When it is wider than a file may ask for, or a graph cannot be run.
    pub(super) fn tolerance(
        self,
        graph: &Graph,
        int8: &[String],
        in_halves: Option<&Model>,
    ) -> Result<f32, QuantizeError> {
        let mut engine = CpuEngine::<f64>::quantized(graph, int8)?;
        let mut spread = self.spread(|input| engine.forward(input, self.pictures))?;
        if let Some(model) = in_halves {
            spread = largest(spread, self.spread(|input| each(model, input, self.pictures))?);
        }
        let relative = SAFETY * spread;
        if relative.is_nan() || relative > f64::from(LARGEST_GOLDEN_TOLERANCE) {
            return Err(QuantizeError::Unstable { relative });
        }
        Ok((relative as f32).max(LOGIT_TOLERANCE))
    }

    /// The largest difference that other processors show, whose logits `forward` gives, relative to a picture's largest logit.
    fn spread<E>(self, mut forward: impl FnMut(&[f32]) -> Result<Vec<f32>, E>) -> Result<f64, E> {
        let mut worst = 0f64;
        for processor in 0..PROCESSORS {
            let change = |(index, &value): (usize, &f32)| {
                value * (1.0 + CHANGE * (2.0 * uniform(processor, 0, index as u32) - 1.0))
            };
            let changed: Vec<f32> = self.input.iter().enumerate().map(change).collect();
            let others = forward(&changed)?;
            let classes = (self.logits.len() / self.pictures.max(1)).max(1);
            for (others, logits) in others.chunks(classes).zip(self.logits.chunks(classes)) {
                worst = largest(worst, largest_difference(others, logits).relative);
            }
        }
        Ok(worst)
    }
}

/// The device's logits of `input` `[pictures, ...]`.
pub(super) fn each(model: &Model, input: &[f32], pictures: usize) -> Result<Vec<f32>, edge_vit::Error> {
    let one = (input.len() / pictures.max(1)).max(1);
    let logits = input.chunks(one).map(|picture| model.run(picture)).collect::<Result<Vec<_>, _>>()?;
    Ok(logits.concat())
}
