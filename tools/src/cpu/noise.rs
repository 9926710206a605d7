//! What eight bits do to a graph's Linears, each by itself.

use std::collections::BTreeMap;

use edge_vit_models::quant::Int8Matrix;

use super::{CpuEngine, int8};
use crate::engine::{EngineError, check_input};

/// A layer's outputs over some pictures, and what eight bits change of them.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Noise {
    /// The sum of the outputs' squares.
    pub signal: f64,
    /// The sum of the differences' squares.
    pub noise: f64,
}

impl Noise {
    /// How far the signal is above the noise, in decibels; infinite where there is no noise.
    pub fn decibels(&self) -> f64 {
        match self.noise {
            0.0 => f64::INFINITY,
            noise => 10.0 * (self.signal / noise).log10(),
        }
    }
}

impl CpuEngine<f32> {
    /// How much noise eight bits put onto the output of each Linear of `layers`, given what it reads for `input`
    /// `[pictures, ...]` while every other layer computes in float32; in the order of `layers`.
    ///
    /// # Errors
    /// When the input does not fit the graph, or a layer is no Linear of it or has weights that are not finite.
    pub fn int8_noise(&self, layers: &[String], input: &[f32], pictures: usize) -> Result<Vec<Noise>, EngineError> {
        check_input(&self.model.plan, input, pictures)?;
        let quantized = self.model.int8(layers)?;
        let len = self.model.plan.input_len();
        let mut total = vec![Noise::default(); self.model.nodes.len()];
        self.in_order(
            pictures,
            |first, count, pool| {
                let mut noise = vec![Noise::default(); self.model.nodes.len()];
                let mut see = |id: usize, x: &[f32], y: &[f32]| {
                    if let Some(matrix) = quantized.get(&id) {
                        noise[id] = of_layer(matrix, self.model.bias(id), count, x, y);
                    }
                };
                self.walk(first, count, pool, &input[first * len..][..count * len], &mut see);
                noise
            },
            |noise, _| {
                for (total, noise) in total.iter_mut().zip(noise) {
                    total.signal += noise.signal;
                    total.noise += noise.noise;
                }
            },
        );
        let by_name: BTreeMap<&str, Noise> =
            quantized.keys().map(|&id| (self.model.nodes[id].name.as_str(), total[id])).collect();
        Ok(layers.iter().map(|name| by_name.get(name.as_str()).copied().unwrap_or_default()).collect())
    }
}

fn of_layer(matrix: &Int8Matrix, bias: Option<&[f32]>, pictures: usize, x: &[f32], y: &[f32]) -> Noise {
    let mut changed = vec![0.0; y.len()];
    int8::forward(x, pictures, matrix, bias, &mut changed);
    y.iter().zip(&changed).fold(Noise::default(), |sum, (&y, &changed)| Noise {
        signal: sum.signal + f64::from(y) * f64::from(y),
        noise: sum.noise + (f64::from(changed) - f64::from(y)).powi(2),
    })
}
