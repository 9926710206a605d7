//! A whole ViT with adapters.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use edge_vit_models::{Graph, Tensor, tokens};

use super::{Batch, F32_TOLERANCE, assert_agrees, assert_gradients, dense_vit, gpu, open, relative, trainable, vit};
use crate::cpu::CpuEngine;
use crate::engine::{Engine, EngineError, Hyper, Noise};
use crate::gpu::engine::GpuEngine;
use crate::gpu::kernels::Tuning;

fn noise() -> Noise {
    Noise { seed: 11, dropout: 0.2, drop_path: vec![0.1, 0.2, 0.3, 0.4] }
}

#[test]
fn logits_and_gradients_are_those_of_float64() {
    let Some(gpu) = gpu() else { return };
    for (width, heads, hidden) in [(24, 3, 8), (14, 2, 6)] {
        let graph = vit(width, heads, 2, hidden);
        assert_agrees(&gpu, &graph, &trainable(&graph, &["head"]), 5, &noise());
        let dense = dense_vit(width, heads, 2, hidden);
        assert_agrees(&gpu, &dense, &trainable(&dense, &["head"]), 5, &noise());
    }
}

/// The cut that a GPU gets, on whatever adapter there is.
#[test]
fn the_cut_for_a_gpu_computes_the_same() {
    let Some(mut gpu) = open(|limits| limits) else { return };
    let mut info = gpu.info.clone();
    info.software = false;
    gpu.tuning = Tuning::of(&info, &gpu.limits);
    let gpu = Arc::new(gpu);
    for (width, heads, hidden) in [(24, 3, 8), (14, 2, 6)] {
        let graph = vit(width, heads, 1, hidden);
        let noise = Noise { drop_path: Vec::new(), ..noise() };
        assert_agrees(&gpu, &graph, &trainable(&graph, &["head"]), 5, &noise);
    }
}

#[test]
fn a_graph_that_merges_tokens_is_refused() {
    let Some(gpu) = gpu() else { return };
    let merged = tokens::merge(&vit(24, 3, 2, 8), 1).unwrap().graph;
    let error = GpuEngine::on(gpu, &merged, &BTreeSet::new()).err().unwrap();
    assert!(matches!(&error, EngineError::MergedTokens { op: "MatchTokens", .. }), "{error}");
}

#[test]
fn engines_that_share_a_device_do_not_disturb_each_other() {
    let Some(gpu) = gpu() else { return };
    let graphs = [vit(24, 3, 1, 8), vit(14, 2, 1, 6)];
    let outputs = |graph: &Graph, runs: usize| {
        let mut engine = GpuEngine::on(Arc::clone(&gpu), graph, &trainable(graph, &[])).unwrap();
        let batch = Batch::new(graph, 2);
        (0..runs).map(|_| engine.forward(&batch.input, 2).unwrap()).collect::<Vec<_>>()
    };
    let alone = graphs.each_ref().map(|graph| outputs(graph, 1));
    std::thread::scope(|scope| {
        for (graph, alone) in graphs.iter().zip(&alone) {
            scope.spawn(|| assert!(outputs(graph, 30).iter().all(|output| *output == alone[0])));
        }
    });
}

#[test]
fn steps_follow_float64() {
    let Some(gpu) = gpu() else { return };
    let graph = vit(24, 3, 1, 8);
    let chosen = trainable(&graph, &["head"]);
    let mut ours = GpuEngine::on(gpu, &graph, &chosen).unwrap();
    let mut reference = CpuEngine::<f64>::new(&graph, &chosen).unwrap();
    let batch = Batch::new(&graph, 6);
    let hyper = Hyper { lr: 1e-2, weight_decay: 0.1, ..Hyper::default() };
    for seed in 0..5 {
        let noise = Noise { seed, dropout: 0.1, drop_path: vec![0.1; 2] };
        let loss = ours.train_step(&batch.step(&noise, hyper)).unwrap();
        let expected = reference.train_step(&batch.step(&noise, hyper)).unwrap();
        assert!((loss - expected).abs() < 1e-4 * expected, "step {seed}: {loss}, expected {expected}");
    }
    let (state, expected) = (ours.state().unwrap(), reference.state().unwrap());
    assert_eq!(state.steps, 5);
    for (name, trained) in &expected.trained {
        let ours = &state.trained[name];
        for (got, expected) in [(&ours.value, &trained.value), (&ours.m, &trained.m), (&ours.v, &trained.v)] {
            // AdamW divides by the root of the second moment: where a gradient is close to zero, its error grows.
            let error = relative(got.values(), expected.values());
            assert!(error < 10.0 * F32_TOLERANCE, "`{name}` is off by {error:.2e}");
        }
    }
}

#[test]
fn a_restored_run_goes_on_bit_exactly() {
    let Some(gpu) = gpu() else { return };
    let graph = vit(24, 3, 1, 8);
    let chosen = trainable(&graph, &["head"]);
    let mut first = GpuEngine::on(Arc::clone(&gpu), &graph, &chosen).unwrap();
    let batch = Batch::new(&graph, 4);
    let noise = Noise { seed: 3, dropout: 0.3, drop_path: vec![0.2; 2] };
    first.train_step(&batch.step(&noise, Hyper::default())).unwrap();
    let state = first.state().unwrap();
    let mut second = GpuEngine::on(gpu, &graph, &chosen).unwrap();
    second.restore(&state).unwrap();
    for engine in [&mut first, &mut second] {
        engine.train_step(&batch.step(&noise, Hyper::default())).unwrap();
    }
    assert_eq!(first.state().unwrap(), second.state().unwrap());
    assert_ne!(first.state().unwrap().trained, state.trained, "the step changed something");
    let weights = first.state().unwrap().trained.into_iter().map(|(name, trained)| (name, trained.value));
    assert_eq!(first.weights().unwrap(), weights.collect());

    let mut expected = first.state().unwrap();
    let bias = Tensor::full(expected.trained["head.bias"].value.shape(), 0.25).unwrap();
    first.set_weights(&BTreeMap::from([("head.bias".to_owned(), bias.clone())])).unwrap();
    expected.trained.get_mut("head.bias").unwrap().value = bias;
    assert_eq!(first.state().unwrap(), expected, "moments and steps stay");

    let mut foreign = state.clone();
    foreign.trained.remove("head.bias");
    assert!(second.restore(&foreign).unwrap_err().to_string().contains("head.bias"));
}

#[test]
fn gradients_change_nothing() {
    let Some(gpu) = gpu() else { return };
    let graph = vit(24, 3, 1, 8);
    let mut engine = GpuEngine::on(gpu, &graph, &trainable(&graph, &["head"])).unwrap();
    let batch = Batch::new(&graph, 3);
    let noise = Noise::default();
    let (_, first) = engine.gradients(&batch.step(&noise, Hyper::default())).unwrap();
    let (_, second) = engine.gradients(&batch.step(&noise, Hyper::default())).unwrap();
    assert_gradients(&first, &second, f64::MIN_POSITIVE);
}
