//! Steps that nobody waits for, averaged weights, and activations that are computed again.

use std::collections::BTreeSet;
use std::sync::Arc;

use edge_vit_models::Graph;

use super::{Batch, F32_TOLERANCE, dense_vit, gpu, relative, trainable, vit};
use crate::cpu::CpuEngine;
use crate::engine::{Average, Engine, EngineError, Hyper, Noise};
use crate::gpu::device::Gpu;
use crate::gpu::engine::GpuEngine;
use crate::gpu::flight::IN_FLIGHT;

const STEPS: u32 = 7;

fn noise(seed: u32) -> Noise {
    Noise { seed, dropout: 0.2, drop_path: vec![0.1, 0.2] }
}

fn hyper() -> Hyper {
    Hyper { lr: 1e-2, ..Hyper::default() }
}

fn engine(gpu: &Arc<Gpu>, graph: &Graph) -> GpuEngine {
    GpuEngine::on(Arc::clone(gpu), graph, &trainable(graph, &["head"])).unwrap()
}

#[test]
fn losses_that_nobody_waits_for_are_the_same_to_the_bit() {
    let Some(gpu) = gpu() else { return };
    let graph = vit(24, 3, 1, 8);
    let batch = Batch::new(&graph, 7);
    let whole = {
        let mut engine = engine(&gpu, &graph);
        engine.train_step(&batch.step(&noise(0), hyper())).unwrap();
        engine.peak_bytes()
    };
    // A batch in one micro-batch, and in several.
    for budget in [u64::MAX, whole / 3] {
        let [mut waited, mut late] = [(); 2].map(|()| {
            let mut engine = engine(&gpu, &graph);
            engine.set_memory_budget(budget);
            engine
        });
        let (mut expected, mut losses) = (Vec::new(), Vec::new());
        for seed in 0..STEPS {
            let noise = noise(seed);
            expected.push(waited.train_step(&batch.step(&noise, hyper())).unwrap());
            losses.extend(late.submit_step(&batch.step(&noise, hyper())).unwrap());
            assert_eq!(expected.len() - losses.len(), expected.len().min(IN_FLIGHT), "the newest alone are owed");
        }
        losses.extend(late.late_losses().unwrap());
        assert_eq!(losses, expected);
        assert!(late.late_losses().unwrap().is_empty(), "each is told once");
        assert_eq!(late.state().unwrap(), waited.state().unwrap());
    }
}

#[test]
fn a_step_that_is_waited_for_leaves_the_losses_of_others_to_come() {
    let Some(gpu) = gpu() else { return };
    let graph = vit(24, 3, 1, 8);
    let batch = Batch::new(&graph, 2);
    let [mut waited, mut mixed] = [(); 2].map(|()| engine(&gpu, &graph));
    let noise = noise(1);
    let step = batch.step(&noise, hyper());
    let expected = [(); 3].map(|()| waited.train_step(&step).unwrap());
    assert!(mixed.submit_step(&step).unwrap().is_empty());
    assert_eq!(mixed.train_step(&step).unwrap(), expected[1]);
    assert!(mixed.submit_step(&step).unwrap().is_empty());
    assert_eq!(mixed.late_losses().unwrap(), [expected[0], expected[2]]);
}

#[test]
fn a_loss_that_is_not_finite_comes_back_as_such() {
    let Some(gpu) = gpu() else { return };
    let graph = vit(24, 3, 1, 8);
    let mut engine = engine(&gpu, &graph);
    let mut batch = Batch::new(&graph, 2);
    batch.input[5] = f32::NAN;
    engine.submit_step(&batch.step(&noise(1), hyper())).unwrap();
    assert!(engine.late_losses().unwrap()[0].is_nan());
}

#[test]
fn averages_follow_the_processors() {
    let Some(gpu) = gpu() else { return };
    let graph = vit(24, 3, 1, 8);
    let batch = Batch::new(&graph, 3);
    let mut ours = engine(&gpu, &graph);
    let mut reference = CpuEngine::<f64>::new(&graph, &trainable(&graph, &["head"])).unwrap();
    assert_eq!(ours.average().unwrap(), None);
    let first = ours.weights().unwrap();
    for engine in [&mut ours as &mut dyn Engine, &mut reference] {
        engine.keep_average(Average::new(0.9, first.clone())).unwrap();
        assert_eq!(engine.average().unwrap().as_ref(), Some(&first));
        for seed in 0..STEPS {
            engine.submit_step(&batch.step(&noise(seed), hyper())).unwrap();
        }
        engine.late_losses().unwrap();
    }
    let (averages, expected) = (ours.average().unwrap().unwrap(), reference.average().unwrap().unwrap());
    assert_eq!(averages.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    let own = ours.weights().unwrap();
    for (name, expected) in &expected {
        let error = relative(averages[name].values(), expected.values());
        assert!(error < 10.0 * F32_TOLERANCE, "the average of `{name}` is off by {error:.2e}");
        assert_ne!(averages[name], own[name], "`{name}` is no average");
        assert_ne!(averages[name], first[name], "`{name}` stands still");
    }
}

#[test]
fn averages_go_on_to_the_bit_and_stay_where_weights_are_set() {
    let Some(gpu) = gpu() else { return };
    let graph = vit(24, 3, 1, 8);
    let batch = Batch::new(&graph, 3);
    let [mut whole, mut resumed] = [(); 2].map(|()| engine(&gpu, &graph));
    let first = whole.weights().unwrap();
    whole.keep_average(Average::new(0.9, first)).unwrap();
    whole.train_step(&batch.step(&noise(1), hyper())).unwrap();
    let (state, average) = (whole.state().unwrap(), whole.average().unwrap().unwrap());
    let own = whole.weights().unwrap();
    whole.set_weights(&average).unwrap();
    assert_eq!(whole.average().unwrap().as_ref(), Some(&average));
    whole.set_weights(&own).unwrap();
    resumed.restore(&state).unwrap();
    resumed.keep_average(Average::new(0.9, average)).unwrap();
    for engine in [&mut whole, &mut resumed] {
        engine.train_step(&batch.step(&noise(2), hyper())).unwrap();
    }
    assert_eq!(resumed.average().unwrap(), whole.average().unwrap());

    let mut part = own;
    part.remove("head.bias");
    let error = whole.keep_average(Average::new(0.9, part)).unwrap_err();
    assert!(matches!(&error, EngineError::Mismatch { expected, .. } if expected.contains("head.bias")), "{error}");
}

/// The gradients of one step and the most memory that it took.
fn measured(engine: &mut dyn Engine, batch: &Batch, noise: &Noise) -> (Vec<f32>, u64) {
    let (loss, gradients) = engine.gradients(&batch.step(noise, Hyper::default())).unwrap();
    let values = gradients.values().flat_map(|gradient| gradient.values().iter().copied());
    (values.chain([loss]).collect(), engine.peak_bytes())
}

#[test]
fn checkpoints_give_the_same_bits_in_less_memory() {
    let Some(gpu) = gpu() else { return };
    let depth = 6;
    for graph in [vit(24, 3, depth, 8), dense_vit(24, 3, depth, 8)] {
        let all: BTreeSet<String> = graph.weights.keys().cloned().collect();
        let batch = Batch::new(&graph, 5);
        let noise = Noise { seed: 9, dropout: 0.2, drop_path: vec![0.2; 2 * depth] };
        for chosen in [trainable(&graph, &["head"]), trainable(&graph, &["head", "blocks.3.mlp.fc1"]), all] {
            let run = |checkpointed: bool| {
                let mut engine = GpuEngine::on(Arc::clone(&gpu), &graph, &chosen).unwrap();
                if checkpointed {
                    engine.checkpoint_activations();
                }
                measured(&mut engine, &batch, &noise)
            };
            let ((expected, kept), (values, peak)) = (run(false), run(true));
            assert_eq!(values, expected);
            assert!(3 * peak < 2 * kept, "{peak} of {kept} bytes");
        }
    }
}
