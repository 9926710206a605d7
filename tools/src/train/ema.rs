//! A moving average of the trained weights (Polyak and Juditsky 1992), which often judges better than the last step's.

use std::collections::BTreeMap;

use edge_vit_models::Tensor;

/// `average += (1 - decay) * (weight - average)` after each step.
///
/// The decay of the step `n`, counted from 1, is at most `(1 + n) / (10 + n)`, as in TensorFlow's
/// `ExponentialMovingAverage`: a short run is not held back by its first weights.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Ema {
    decay: f32,
    weights: BTreeMap<String, Tensor>,
}

impl Ema {
    /// An average that stands at `weights`.
    pub(super) fn new(decay: f32, weights: BTreeMap<String, Tensor>) -> Self {
        Self { decay, weights }
    }

    /// Takes in the weights after `steps` steps.
    pub(super) fn update(&mut self, weights: &BTreeMap<String, Tensor>, steps: u64) {
        let early = (1.0 + steps as f64) / (10.0 + steps as f64);
        let share = 1.0 - self.decay.min(early as f32);
        for (name, average) in &mut self.weights {
            let Some(weight) = weights.get(name) else { continue };
            for (average, &weight) in average.values_mut().iter_mut().zip(weight.values()) {
                *average += share * (weight - *average);
            }
        }
    }

    /// The averages, by the weight's name.
    pub(super) fn weights(&self) -> &BTreeMap<String, Tensor> {
        &self.weights
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights(value: f32) -> BTreeMap<String, Tensor> {
        BTreeMap::from([("w".to_owned(), Tensor::new([2], vec![value, -value]).unwrap())])
    }

    #[test]
    fn the_average_follows_quickly_at_first_and_by_its_decay_later() {
        let mut ema = Ema::new(0.9, weights(0.0));
        ema.update(&weights(11.0), 1);
        // The decay of the first step is 2/11.
        assert!((ema.weights()["w"].values()[0] - 9.0).abs() < 1e-5);
        let mut ema = Ema::new(0.9, weights(0.0));
        ema.update(&weights(1.0), 1000);
        ema.update(&weights(1.0), 1001);
        let expected = 1.0 - 0.9f32 * 0.9;
        assert!((ema.weights()["w"].values()[0] - expected).abs() < 1e-6);
        assert!((ema.weights()["w"].values()[1] + expected).abs() < 1e-6);
    }
}
