//! Training with frozen matrices in float16.

use std::collections::BTreeSet;
use std::sync::Arc;

use edge_vit_models::Graph;

use super::{Batch, gpu, has_float16, open, relative, trainable, vit};
use crate::cpu::CpuEngine;
use crate::engine::{Engine, EngineError, Hyper, LossScale, Noise, Precision, State};
use crate::gpu::device::Gpu;
use crate::gpu::engine::GpuEngine;

/// float16 has 11 bits; some twenty roundings of that size stand behind a gradient here.
const TOLERANCE: f64 = 1e-2;

fn noise() -> Noise {
    Noise { seed: 11, dropout: 0.2, drop_path: vec![0.1, 0.2, 0.3, 0.4] }
}

/// The device, a graph, and the names of what is trained.
fn setup() -> Option<(Arc<Gpu>, Graph, BTreeSet<String>)> {
    let gpu = gpu().filter(|gpu| has_float16(gpu))?;
    let graph = vit(24, 3, 2, 8);
    let chosen = trainable(&graph, &["head"]);
    Some((gpu, graph, chosen))
}

fn engine(gpu: &Arc<Gpu>, graph: &Graph, chosen: &BTreeSet<String>) -> GpuEngine {
    GpuEngine::on_in(Arc::clone(gpu), graph, chosen, Precision::F16).unwrap()
}

/// `engine`, going on with this loss scale.
fn with_scale(engine: &mut GpuEngine, loss_scale: LossScale) -> State {
    let state = State { loss_scale: Some(loss_scale), ..engine.state().unwrap() };
    engine.restore(&state).unwrap();
    state
}

#[test]
fn gradients_are_those_of_float64_within_half_precision() {
    let Some((gpu, graph, chosen)) = setup() else { return };
    let batch = Batch::new(&graph, 5);
    let noise = noise();
    let step = batch.step(&noise, Hyper::default());
    let mut reference = CpuEngine::<f64>::new(&graph, &chosen).unwrap();
    let (expected_loss, expected) = reference.gradients(&step).unwrap();
    let (loss, got) = engine(&gpu, &graph, &chosen).gradients(&step).unwrap();
    assert!((loss - expected_loss).abs() < 1e-3 * expected_loss, "{loss}, expected {expected_loss}");
    let errors: Vec<(f64, &String)> =
        expected.iter().map(|(name, expected)| (relative(got[name].values(), expected.values()), name)).collect();
    let (worst, name) = errors.iter().max_by(|a, b| a.0.total_cmp(&b.0)).unwrap();
    assert!(*worst < TOLERANCE, "gradient of `{name}` is off by {worst:.2e}");
    assert!(*worst > 1e-5, "an error of {worst:.2e} is float32's: nothing was rounded");
}

#[test]
fn an_overflow_skips_the_step_and_halves_the_scale() {
    let Some((gpu, graph, chosen)) = setup() else { return };
    let batch = Batch::new(&graph, 4);
    let noise = Noise::default();
    let step = batch.step(&noise, Hyper { lr: 1e-2, ..Hyper::default() });
    let mut ours = engine(&gpu, &graph, &chosen);
    let before = with_scale(&mut ours, LossScale { scale: 2f32.powi(40), good: 5, skipped: 0 });
    let loss = ours.train_step(&step).unwrap();
    let skipped = ours.state().unwrap();
    assert!(loss.is_finite());
    assert_eq!(skipped.loss_scale, Some(LossScale { scale: 2f32.powi(39), good: 0, skipped: 1 }));
    assert_eq!((skipped.steps, &skipped.trained), (1, &before.trained));
    while ours.state().unwrap().loss_scale.unwrap().good == 0 {
        assert_eq!(ours.train_step(&step).unwrap(), loss, "nothing was learned yet");
    }
    // The first step that is taken is AdamW's first, however many were skipped.
    let after = ours.state().unwrap();
    let LossScale { scale, skipped, .. } = after.loss_scale.unwrap();
    assert!(scale < 2f32.powi(39) && skipped > 1);
    let mut other = engine(&gpu, &graph, &chosen);
    with_scale(&mut other, LossScale { scale, good: 0, skipped: 0 });
    other.train_step(&step).unwrap();
    assert_eq!(other.state().unwrap().trained, after.trained);
}

#[test]
fn enough_good_steps_double_the_scale() {
    let Some((gpu, graph, chosen)) = setup() else { return };
    let batch = Batch::new(&graph, 2);
    let noise = Noise::default();
    let mut ours = engine(&gpu, &graph, &chosen);
    with_scale(&mut ours, LossScale { scale: 1024.0, good: LossScale::PATIENCE - 2, skipped: 3 });
    let mut scale = || {
        ours.train_step(&batch.step(&noise, Hyper::default())).unwrap();
        ours.state().unwrap().loss_scale.unwrap()
    };
    assert_eq!(scale(), LossScale { scale: 1024.0, good: LossScale::PATIENCE - 1, skipped: 3 });
    assert_eq!(scale(), LossScale { scale: 2048.0, good: 0, skipped: 3 });
}

#[test]
fn steps_are_those_of_float32_within_half_precision() {
    let Some((gpu, graph, chosen)) = setup() else { return };
    let batch = Batch::new(&graph, 6);
    let noise = noise();
    let step = batch.step(&noise, Hyper { lr: 1e-3, ..Hyper::default() });
    let mut single = GpuEngine::on(Arc::clone(&gpu), &graph, &chosen).unwrap();
    let mut half = engine(&gpu, &graph, &chosen);
    for _ in 0..4 {
        let (expected, got) = (single.train_step(&step).unwrap(), half.train_step(&step).unwrap());
        assert!((expected - got).abs() < 1e-3 * expected, "{got}, expected {expected}");
    }
    assert_eq!(half.state().unwrap().loss_scale, Some(LossScale { good: 4, ..LossScale::default() }));
    assert!(half.weight_bytes() < single.weight_bytes());
}

#[test]
fn a_state_goes_on_to_the_bit() {
    let Some((gpu, graph, chosen)) = setup() else { return };
    let batch = Batch::new(&graph, 3);
    let noise = noise();
    let step = batch.step(&noise, Hyper::default());
    let mut whole = engine(&gpu, &graph, &chosen);
    with_scale(&mut whole, LossScale { scale: 2f32.powi(28), good: 0, skipped: 0 });
    let mut halfway = State::default();
    for number in 0..30 {
        if number == 15 {
            halfway = whole.state().unwrap();
        }
        whole.train_step(&step).unwrap();
    }
    let mut resumed = engine(&gpu, &graph, &chosen);
    resumed.restore(&halfway).unwrap();
    for _ in 15..30 {
        resumed.train_step(&step).unwrap();
    }
    assert_eq!(resumed.state().unwrap(), whole.state().unwrap());
    assert!(whole.state().unwrap().loss_scale.unwrap().skipped > 0);
}

#[test]
fn a_device_without_float16_refuses_it_with_the_remedy() {
    let Some(mut gpu) = open(|limits| limits) else { return };
    gpu.info.float16 = false;
    let graph = vit(24, 3, 1, 8);
    match GpuEngine::on_in(Arc::new(gpu), &graph, &trainable(&graph, &["head"]), Precision::F16) {
        Err(EngineError::Device(message)) => assert!(message.contains("train in float32"), "{message}"),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("float16 was used where there is none"),
    }
}

#[test]
fn a_weight_beyond_float16_is_named() {
    let Some((gpu, mut graph, chosen)) = setup() else { return };
    if let Some(weight) = graph.weights.get_mut("blocks.0.attn.qkv.weight") {
        weight.values_mut()[3] = 7e4;
    }
    let error = GpuEngine::on_in(gpu, &graph, &chosen, Precision::F16).err().unwrap().to_string();
    assert!(error.contains("`blocks.0.attn.qkv.weight` holds 70000"), "{error}");
}
