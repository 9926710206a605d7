//! What a training step costs on a device: how long it takes, what it computes, and what the device's own matrix product could.

mod peak;
mod work;

use std::time::Instant;

use edge_vit_models::{Graph, Op, Tensor};

pub(crate) use peak::product_rate;
pub use work::Work;

use crate::engine::{Engine, EngineError, Hyper, Noise, Step, targets, uniform};
use crate::train::Recipe;
use crate::train::schedule::drop_path_rates;

/// The most values of a batch's pictures, 4 GiB of them.
const MOST_VALUES: usize = 1 << 30;

/// Gives `graph` random weights for all parameters: a linear layer's are uniform with variance `1 / inputs`, those of norms and
/// LayerScale lie around 1, so that activations keep their size from layer to layer.
///
/// # Errors
/// When the graph is not valid, or a weight cannot be held.
pub fn fill(graph: &mut Graph) -> Result<(), EngineError> {
    for (seed, param) in graph.params()?.into_iter().flatten().enumerate() {
        let len: usize = param.shape.iter().product();
        let fan_in: usize = param.shape.iter().skip(1).product();
        let scales = param.name.ends_with(".gamma") || (param.shape.len() == 1 && param.name.ends_with(".weight"));
        let (centre, spread) = match param.shape.len() {
            _ if scales => (1.0, 0.1),
            1 => (0.0, 0.1),
            _ => (0.0, (3.0 / fan_in.max(1) as f32).sqrt()),
        };
        let value = |index: usize| centre + spread * (2.0 * uniform(seed as u32, 1, index as u32) - 1.0);
        let weight = Tensor::new(param.shape, (0..len).map(value).collect());
        graph.weights.insert(param.name, weight.map_err(|error| EngineError::Device(error.to_string()))?);
    }
    Ok(())
}

/// A batch of noise with a class for each picture, as `train` hands it to an engine.
#[derive(Debug)]
pub struct Batch {
    /// `[pictures, C, H, W]`, in -1 to 1.
    pub input: Vec<f32>,
    /// `[pictures]`: each less than the number of classes.
    pub labels: Vec<u32>,
}

impl Batch {
    /// `pictures` pictures of `shape` (`[C, H, W]`), of `classes` classes in turns.
    ///
    /// # Errors
    /// When that is none, or more than the memory of a desktop holds.
    pub fn new(pictures: usize, shape: &[usize], classes: usize) -> Result<Self, EngineError> {
        let len = shape.iter().try_fold(pictures, |len, &dim| len.checked_mul(dim));
        let Some(len) = len.filter(|len| (1..=MOST_VALUES).contains(len)) else {
            let (expected, got) = (format!("1 to {MOST_VALUES} values"), format!("{pictures} pictures of {shape:?}"));
            return Err(EngineError::Mismatch { what: "a batch's pictures", expected, got });
        };
        let input = (0..len).map(|index| uniform(1, 0, index as u32) * 2.0 - 1.0).collect();
        Ok(Self { input, labels: (0..pictures).map(|picture| (picture % classes.max(1)) as u32).collect() })
    }
}

/// The seconds that each of `steps` training steps of `engine` takes, the shortest first, behind one that is not counted. Dropout and
/// stochastic depth are those of `recipe`; the pictures' way to the device is part of a step.
///
/// # Errors
/// When the device fails.
pub fn steps(
    engine: &mut dyn Engine,
    graph: &Graph,
    batch: &Batch,
    classes: usize,
    recipe: &Recipe,
    steps: usize,
) -> Result<Vec<f64>, EngineError> {
    let residuals = graph.nodes.iter().filter(|node| node.op == Op::Add).count();
    let drop_path = drop_path_rates(recipe.drop_path, residuals);
    let noise = Noise { seed: 1, dropout: recipe.dropout, drop_path };
    let targets = targets(&batch.labels, classes, 0.0);
    let step = Step { input: &batch.input, targets: &targets, hyper: Hyper::default(), noise: &noise };
    engine.train_step(&step)?;
    let mut seconds = Vec::with_capacity(steps);
    for _ in 0..steps {
        let start = Instant::now();
        engine.train_step(&step)?;
        seconds.push(start.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    Ok(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_that_no_memory_holds_is_refused() {
        assert_eq!(Batch::new(3, &[3, 2, 2], 2).unwrap().labels, [0, 1, 0]);
        for (pictures, side) in [(0, 2), (1 << 30, 2), (usize::MAX, 8)] {
            let error = Batch::new(pictures, &[3, side, side], 2).unwrap_err().to_string();
            assert!(error.contains(&format!("{pictures} pictures of [3, {side}, {side}]")), "{error}");
        }
    }
}
