//! The project's engine.

use std::collections::BTreeMap;

use edge_vit_models::Tensor;
use edge_vit_tools::engine::{Engine, Noise, Step};
use edge_vit_tools::gpu::{AdapterInfo, GpuEngine};

use crate::Side;
use crate::case::Case;

pub(crate) struct Ours {
    engine: GpuEngine,
    /// None: burn's random numbers are others.
    noise: Noise,
}

impl Ours {
    /// # Errors
    /// When the adapter cannot be opened, or does not hold the model.
    pub(crate) fn new(adapter: &AdapterInfo, case: &Case) -> anyhow::Result<Self> {
        let engine = GpuEngine::new(Some(&adapter.index.to_string()), &case.graph, &case.trainable)?;
        Ok(Self { engine, noise: Noise::default() })
    }
}

fn step<'a>(case: &'a Case, noise: &'a Noise) -> Step<'a> {
    Step { input: &case.input, targets: &case.targets, hyper: case.hyper, noise }
}

impl Side for Ours {
    fn name(&self) -> &'static str {
        "edge-vit"
    }

    fn gradients(&mut self, case: &Case) -> anyhow::Result<(f32, BTreeMap<String, Tensor>)> {
        Ok(self.engine.gradients(&step(case, &self.noise))?)
    }

    fn step(&mut self, case: &Case) -> anyhow::Result<f32> {
        Ok(self.engine.train_step(&step(case, &self.noise))?)
    }
}
