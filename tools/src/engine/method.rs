//! Trains the parameters of a method that changes weights, on any engine.

use std::collections::BTreeMap;

use edge_vit_models::adapter::Attached;
use edge_vit_models::method::{self, Theta};
use edge_vit_models::{Graph, Tensor};

use super::{Average, Engine, EngineError, State, Step, Trained, check_average, check_weights};
use crate::cpu::Moments;

/// An engine whose trained weights are a method's parameters and the head's.
///
/// The inner engine holds the merged weights and gives their gradients; the method turns those into gradients of its
/// parameters. The optimiser's step and the merge run on the processor, the merge in float64.
pub struct MethodEngine {
    inner: Box<dyn Engine>,
    /// The backbone, unmerged.
    graph: Graph,
    attached: Attached,
    trained: BTreeMap<String, Trained>,
    steps: u64,
    average: Option<Average>,
}

impl MethodEngine {
    /// Takes over `inner`, whose trained weights are those of the hosts of `attached` and others (the head's), which are
    /// trained as they are. `graph` holds the hosts' weights unmerged.
    ///
    /// # Errors
    /// When the method and the graph do not fit each other, or the device fails.
    pub fn new(inner: Box<dyn Engine>, graph: &Graph, attached: Attached) -> Result<Self, EngineError> {
        let (graph, trained) = (graph.clone(), BTreeMap::new());
        let mut engine = Self { inner, graph, attached, trained, steps: 0, average: None };
        let of_hosts: Vec<String> = engine.attached.hosts.iter().flat_map(|host| host.weights()).collect();
        for (name, trained) in engine.inner.state()?.trained {
            if !of_hosts.contains(&name) {
                engine.trained.insert(name, trained);
            }
        }
        for (name, value) in &engine.attached.theta {
            engine.trained.insert(name.clone(), Trained::fresh(value.clone())?);
        }
        engine.merge()?;
        Ok(engine)
    }

    fn theta(&self) -> Theta {
        let own = self.trained.iter().filter(|(name, _)| self.attached.theta.contains_key(*name));
        Theta::from_tensors(own.map(|(name, trained)| (name, &trained.value)))
    }

    /// Hands the inner engine the weights with the method in them.
    fn merge(&mut self) -> Result<(), EngineError> {
        let Attached { method, hosts, theta } = &self.attached;
        let mut weights = method::merged(method.as_ref(), &self.graph, hosts, &self.theta(), 1.0)?;
        let others = self.trained.iter().filter(|(name, _)| !theta.contains_key(*name));
        weights.extend(others.map(|(name, trained)| (name.clone(), trained.value.clone())));
        self.inner.set_weights(&weights)
    }
}

impl Engine for MethodEngine {
    fn device(&self) -> String {
        self.inner.device()
    }

    fn forward(&mut self, input: &[f32], pictures: usize) -> Result<Vec<f32>, EngineError> {
        self.inner.forward(input, pictures)
    }

    fn gradients(&mut self, step: &Step<'_>) -> Result<(f32, BTreeMap<String, Tensor>), EngineError> {
        let (loss, merged) = self.inner.gradients(step)?;
        let Attached { method, hosts, theta } = &self.attached;
        let mut gradients = method::pulled_back(method.as_ref(), &self.graph, hosts, &self.theta(), &merged)?;
        let others = merged.into_iter().filter(|(name, _)| !theta.contains_key(name));
        gradients.extend(others.filter(|(name, _)| self.trained.contains_key(name)));
        Ok((loss, gradients))
    }

    fn train_step(&mut self, step: &Step<'_>) -> Result<f32, EngineError> {
        let (loss, gradients) = self.gradients(step)?;
        self.steps += 1;
        for (name, trained) in &mut self.trained {
            let gradient = gradients.get(name).ok_or_else(|| EngineError::UnknownTrainable { name: name.clone() })?;
            let Trained { value, m, v } = trained;
            let mut moments = Moments { m: m.values().to_vec(), v: v.values().to_vec() };
            moments.step(value.values_mut(), gradient.values(), &step.hyper, self.steps);
            m.values_mut().copy_from_slice(&moments.m);
            v.values_mut().copy_from_slice(&moments.v);
        }
        self.merge()?;
        if let Some(average) = &mut self.average {
            let weights = self.trained.iter();
            let weights = weights.map(|(name, trained)| (name.as_str(), trained.value.values().iter().copied()));
            average.update(self.steps, weights);
        }
        Ok(loss)
    }

    fn state(&mut self) -> Result<State, EngineError> {
        Ok(State { steps: self.steps, trained: self.trained.clone(), loss_scale: None })
    }

    fn restore(&mut self, state: &State) -> Result<(), EngineError> {
        let shapes = |trained: &BTreeMap<String, Trained>| -> Vec<(String, Vec<usize>)> {
            trained.iter().map(|(name, trained)| (name.clone(), trained.value.shape().to_vec())).collect()
        };
        let (expected, got) = (shapes(&self.trained), shapes(&state.trained));
        if expected != got {
            let (expected, got) = (format!("{expected:?}"), format!("{got:?}"));
            return Err(EngineError::Mismatch { what: "state", expected, got });
        }
        self.trained = state.trained.clone();
        self.steps = state.steps;
        self.merge()
    }

    fn set_weights(&mut self, weights: &BTreeMap<String, Tensor>) -> Result<(), EngineError> {
        check_weights(|name| self.trained.get(name).map(|trained| trained.value.shape()), weights)?;
        for (name, trained) in &mut self.trained {
            if let Some(value) = weights.get(name) {
                trained.value = value.clone();
            }
        }
        self.merge()
    }

    fn keep_average(&mut self, average: Average) -> Result<(), EngineError> {
        check_average(self.trained.iter().map(|(name, trained)| (name.as_str(), trained.value.shape())), &average)?;
        self.average = Some(average);
        Ok(())
    }

    fn average(&mut self) -> Result<Option<BTreeMap<String, Tensor>>, EngineError> {
        Ok(self.average.as_ref().map(|average| average.weights().clone()))
    }

    fn checkpoint_activations(&mut self) {
        self.inner.checkpoint_activations();
    }

    fn peak_bytes(&self) -> u64 {
        self.inner.peak_bytes()
    }
}

#[cfg(test)]
mod tests {
    use edge_vit_models::adapter::{Adaptation, Placement, Spec};
    use edge_vit_models::method::{MethodSpec, Site};
    use edge_vit_models::vit;

    use super::*;
    use crate::cpu::CpuEngine;
    use crate::engine::{Hyper, Noise, targets, uniform};

    /// Both sum in float64, and hand gradients and weights on in float32.
    const TOLERANCE: f32 = 1e-5;

    fn backbone() -> Graph {
        let config = vit::Config {
            image_size: [8, 8],
            patch_size: 4,
            embed_dim: 16,
            depth: 2,
            num_heads: 2,
            num_classes: Some(3),
            ..vit::Config::default()
        };
        let mut graph = vit::graph(&config);
        for (stream, param) in graph.params().unwrap().into_iter().flatten().enumerate() {
            let len = param.shape.iter().product::<usize>();
            let values = (0..len).map(|index| uniform(1, stream as u32, index as u32) - 0.5).collect();
            graph.weights.insert(param.name, Tensor::new(param.shape, values).unwrap());
        }
        graph
    }

    fn engine(adaptation: &Adaptation, graph: &Graph) -> Box<dyn Engine> {
        let adapted = adaptation.begin(graph, 5).unwrap();
        let inner: Box<dyn Engine> = Box::new(CpuEngine::<f64>::new(&adapted.graph, &adapted.trainable).unwrap());
        match adapted.attached {
            Some(attached) => Box::new(MethodEngine::new(inner, &adapted.graph, attached).unwrap()),
            None => inner,
        }
    }

    /// Five pictures, and their targets.
    fn batch() -> (Vec<f32>, Vec<f32>) {
        ((0..5 * 3 * 64).map(|index| uniform(2, 0, index)).collect(), targets(&[0, 2, 1, 1, 0], 3, 0.0))
    }

    /// RepAdapters as nodes and RepAdapters as a change of weights are two programs for one model.
    #[test]
    fn rep_adapters_over_weights_learn_what_rep_adapters_in_the_graph_do() {
        let graph = backbone();
        let (hidden, groups) = (4, 2);
        let spec = Spec { placement: Placement::RepAttn, hidden, groups, scale: 0.5, blocks: None };
        let site = Site::BeforeAttention;
        let method = MethodSpec::RepAdapter { hidden, groups, scale: 0.5, site };
        let mut nodes = engine(&Adaptation::Adapters(spec), &graph);
        let mut weights = engine(&Adaptation::Method(method), &graph);
        let (input, targets) = batch();
        let (hyper, noise) = (Hyper { lr: 0.03, ..Hyper::default() }, Noise::default());
        let step = Step { input: &input, targets: &targets, hyper, noise: &noise };
        for _ in 0..6 {
            let losses = [nodes.train_step(&step).unwrap(), weights.train_step(&step).unwrap()];
            assert!((losses[0] - losses[1]).abs() < TOLERANCE * losses[0].abs(), "{losses:?}");
        }
        let (nodes, weights) = (nodes.state().unwrap(), weights.state().unwrap());
        assert_eq!((nodes.steps, nodes.trained.len()), (weights.steps, weights.trained.len()));
        for (name, expected) in &nodes.trained {
            let got = &weights.trained[&name.replace("attn.adapter.", "attn.qkv.")];
            let pairs = got.value.values().iter().zip(expected.value.values());
            for (got, expected) in pairs {
                assert!((got - expected).abs() < 20.0 * TOLERANCE, "{name}: {got} {expected}");
            }
        }
    }

    /// float32 on the device against float64.
    #[test]
    fn a_gpus_gradients_are_pulled_back_alike() {
        if crate::gpu::adapters().is_empty() {
            eprintln!("skipped: there is no graphics adapter on this machine");
            return;
        }
        let graph = backbone();
        let (input, targets) = batch();
        let (hyper, noise) = (Hyper::default(), Noise::default());
        let step = Step { input: &input, targets: &targets, hyper, noise: &noise };
        let adaptation = Adaptation::Method(MethodSpec::Ssf);
        let adapted = adaptation.begin(&graph, 5).unwrap();
        let inner = Box::new(crate::gpu::GpuEngine::new(None, &adapted.graph, &adapted.trainable).unwrap());
        let mut on_gpu = MethodEngine::new(inner, &adapted.graph, adapted.attached.unwrap()).unwrap();
        let mut reference = engine(&adaptation, &graph);
        for _ in 0..2 {
            let (loss, gradients) = on_gpu.gradients(&step).unwrap();
            let (expected_loss, expected) = reference.gradients(&step).unwrap();
            assert!((loss - expected_loss).abs() < 1e-4 * expected_loss, "{loss} {expected_loss}");
            assert_eq!(gradients.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
            let largest = |tensor: &Tensor| tensor.values().iter().fold(1e-3f32, |most, value| most.max(value.abs()));
            for (name, expected) in &expected {
                let pairs = gradients[name].values().iter().zip(expected.values());
                let worst = pairs.map(|(got, expected)| (got - expected).abs()).fold(0.0, f32::max);
                assert!(worst < 1e-4 * largest(expected), "{name}: {worst}");
            }
            on_gpu.train_step(&step).unwrap();
            reference.train_step(&step).unwrap();
        }
    }

    #[test]
    fn a_restored_method_goes_on_to_the_bit() {
        let graph = backbone();
        let (input, targets) = batch();
        let (hyper, noise) = (Hyper { lr: 0.02, ..Hyper::default() }, Noise::default());
        let step = Step { input: &input, targets: &targets, hyper, noise: &noise };
        for method in [MethodSpec::Ssf, MethodSpec::Fact { rank: 2, scale: 1.0 }, MethodSpec::Oft { block_size: 4 }] {
            let adaptation = Adaptation::Method(method);
            let mut whole = engine(&adaptation, &graph);
            let first = whole.train_step(&step).unwrap();
            let saved = whole.state().unwrap();
            let second = whole.train_step(&step).unwrap();
            assert!(second < first, "{adaptation:?}: {first} {second}");
            let mut resumed = engine(&adaptation, &graph);
            resumed.restore(&saved).unwrap();
            assert_eq!(resumed.train_step(&step).unwrap(), second);
            assert_eq!(resumed.state().unwrap(), whole.state().unwrap());
            assert!(resumed.restore(&State::default()).is_err());
        }
    }
}
