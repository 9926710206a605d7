//! Batches that do not fit, and devices that allow little.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use edge_vit_models::{Graph, Op};

use super::{Batch, assert_agrees, assert_gradients, dense_vit, fill, gpu, open, relative, trainable, vit};
use crate::engine::{Engine, EngineError, Hyper, Noise};
use crate::gpu::engine::GpuEngine;
use crate::gpu::forward::{Model, Walk};
use crate::gpu::pool::Pool;
use crate::gpu::recorder::Recorder;
use crate::gpu::weights::Weights;

#[test]
fn a_small_budget_gives_the_same_gradients() {
    let Some(gpu) = gpu() else { return };
    let graph = vit(24, 3, 2, 8);
    let chosen = trainable(&graph, &["head"]);
    let batch = Batch::new(&graph, 7);
    let noise = Noise { seed: 2, dropout: 0.2, drop_path: vec![0.2; 4] };
    let mut whole = GpuEngine::on(Arc::clone(&gpu), &graph, &chosen).unwrap();
    let (loss, expected) = whole.gradients(&batch.step(&noise, Hyper::default())).unwrap();
    let budget = whole.peak_bytes() / 3;
    let mut cut = GpuEngine::on(gpu, &graph, &chosen).unwrap();
    cut.set_memory_budget(budget);
    let (cut_loss, gradients) = cut.gradients(&batch.step(&noise, Hyper::default())).unwrap();
    assert!(cut.peak_bytes() <= budget && cut.peak_bytes() > 0, "{} of {budget}", cut.peak_bytes());
    assert!((loss - cut_loss).abs() < 1e-6 * loss);
    assert_gradients(&gradients, &expected, 1e-6);
    let (output, expected) = (cut.forward(&batch.input, 7).unwrap(), whole.forward(&batch.input, 7).unwrap());
    assert!(relative(&output, &expected) < 1e-6);
}

#[test]
fn a_budget_below_one_picture_is_an_error_that_says_so() {
    let Some(gpu) = gpu() else { return };
    let graph = vit(24, 3, 1, 8);
    let mut engine = GpuEngine::on(gpu, &graph, &trainable(&graph, &["head"])).unwrap();
    engine.set_memory_budget(2_000);
    let batch = Batch::new(&graph, 4);
    let error = engine.train_step(&batch.step(&Noise::default(), Hyper::default())).unwrap_err();
    assert!(error.to_string().contains("memory budget of 2000 bytes"), "{error}");
    engine.set_memory_budget(1 << 24);
    engine.train_step(&batch.step(&Noise::default(), Hyper::default())).unwrap();
}

/// Limits far below WebGPU's own: 16 invocations a workgroup, 16 KiB a binding, 3 workgroups a dimension.
#[test]
fn a_device_with_small_limits_trains() {
    let tight = |limits: wgpu::Limits| wgpu::Limits {
        max_storage_buffer_binding_size: 16 << 10,
        max_buffer_size: 64 << 10,
        max_compute_invocations_per_workgroup: 16,
        max_compute_workgroup_size_x: 16,
        max_compute_workgroups_per_dimension: 200,
        ..limits
    };
    let Some(gpu) = open(tight) else { return };
    let gpu = Arc::new(gpu);
    let graph = vit(24, 3, 1, 8);
    let chosen = trainable(&graph, &["head"]);
    assert_agrees(&gpu, &graph, &chosen, 20, &Noise::default());
    let dense = dense_vit(24, 3, 1, 8);
    assert_agrees(&gpu, &dense, &trainable(&dense, &["head"]), 20, &Noise::default());
    let mut engine = GpuEngine::on(gpu, &graph, &chosen).unwrap();
    let batch = Batch::new(&graph, 20);
    let mut losses = Vec::new();
    for _ in 0..8 {
        let hyper = Hyper { lr: 1e-2, ..Hyper::default() };
        losses.push(engine.train_step(&batch.step(&Noise::default(), hyper)).unwrap());
    }
    assert!(losses[7] < losses[0], "{losses:?}");
}

#[test]
fn a_weight_larger_than_a_binding_is_refused_by_name() {
    let Some(gpu) = open(|limits| wgpu::Limits { max_storage_buffer_binding_size: 1 << 12, ..limits }) else { return };
    let mut graph = Graph::default();
    let input = graph.push("features", Op::Input { shape: vec![64] }, &[]);
    graph.push("head", Op::Linear { out_features: 32, bias: false }, &[input]);
    fill(&mut graph);
    match GpuEngine::on(Arc::new(gpu), &graph, &trainable(&graph, &["head"])) {
        Err(EngineError::Device(message)) => assert!(message.contains("`head.weight` takes 8192 bytes"), "{message}"),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("a weight of 8 KiB was bound where 4 KiB are allowed"),
    }
}

#[test]
fn only_what_the_backward_reads_outlives_the_forward() {
    let Some(gpu) = gpu() else { return };
    let graph = vit(24, 3, 2, 8);
    let chosen = trainable(&graph, &["head"]);
    let plan = crate::engine::Plan::new(&graph, &chosen).unwrap();
    let used = graph.weights.keys().cloned().collect();
    let weights = Weights::new(&gpu, &graph, &used, &chosen, &BTreeSet::new()).unwrap();
    let pool = Pool::new(Arc::clone(&gpu), u64::MAX);
    let rec = Recorder::new(&gpu, &pool);
    let input = rec.upload(&Batch::new(&graph, 2).input).unwrap();
    let model = Model { nodes: graph.nodes.clone(), plan, weights, fixed: BTreeMap::new() };
    let noise = Noise::default();
    let mut walk = Walk { model: &model, rec, pictures: 2, first_picture: 0, noise: Some(&noise) };
    let kept = walk.forward(input).unwrap();
    for (id, value) in kept.iter().enumerate() {
        let expected = model.plan.saved[id] || id + 1 == graph.nodes.len();
        assert_eq!(value.is_some(), expected, "`{}`", graph.nodes[id].name);
    }
    walk.noise = None;
    let rec = Recorder::new(&gpu, &pool);
    let input = rec.upload(&Batch::new(&graph, 2).input).unwrap();
    walk.rec = rec;
    assert_eq!(walk.forward(input).unwrap().iter().flatten().count(), 1, "without a backward the output alone is kept");
}
