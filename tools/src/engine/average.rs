//! A moving average of the trained weights (Polyak and Juditsky 1992), which often judges better than the last step's.

use std::collections::BTreeMap;

use edge_vit_models::Tensor;

/// `average += (1 - decay) * (weight - average)` after each step.
///
/// The decay of the step `n`, counted from 1, is at most `(1 + n) / (10 + n)`, as in TensorFlow's
/// `ExponentialMovingAverage`: a short run is not held back by its first weights.
#[derive(Debug, Clone, PartialEq)]
pub struct Average {
    decay: f32,
    weights: BTreeMap<String, Tensor>,
}

impl Average {
    /// An average that stands at `weights`.
    pub fn new(decay: f32, weights: BTreeMap<String, Tensor>) -> Self {
        Self { decay, weights }
    }

    /// How much of the way to the weights the average goes behind the step `steps`, counted from 1.
    pub fn share(decay: f32, steps: u64) -> f32 {
        let early = (1.0 + steps as f64) / (10.0 + steps as f64);
        1.0 - decay.min(early as f32)
    }

    /// Takes in the weights after `steps` steps, by name.
    pub fn update<'a, V: IntoIterator<Item = f32>>(
        &mut self,
        steps: u64,
        weights: impl IntoIterator<Item = (&'a str, V)>,
    ) {
        let share = Self::share(self.decay, steps);
        for (name, values) in weights {
            let Some(average) = self.weights.get_mut(name) else { continue };
            for (average, weight) in average.values_mut().iter_mut().zip(values) {
                *average += share * (weight - *average);
            }
        }
    }

    /// The decay that it was given.
    pub fn decay(&self) -> f32 {
        self.decay
    }

    /// The averages, by the weight's name.
    pub fn weights(&self) -> &BTreeMap<String, Tensor> {
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
        let mut average = Average::new(0.9, weights(0.0));
        average.update(1, [("w", [11.0, -11.0])]);
        // The decay of the first step is 2/11.
        assert!((average.weights()["w"].values()[0] - 9.0).abs() < 1e-5);
        let mut average = Average::new(0.9, weights(0.0));
        average.update(1000, [("w", [1.0, -1.0])]);
        average.update(1001, [("w", [1.0, -1.0])]);
        let expected = 1.0 - 0.9f32 * 0.9;
        assert!((average.weights()["w"].values()[0] - expected).abs() < 1e-6);
        assert!((average.weights()["w"].values()[1] + expected).abs() < 1e-6);
    }
}
