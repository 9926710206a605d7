//! The engine on whatever adapter there is, against the CPU engine in float64. Without an adapter the tests skip.

mod batches;
mod half_precision;
mod kernels;
mod operators;
mod steps;
mod vit;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use edge_vit_models::{Activation, Graph, Op, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::device::{Gpu, adapters};
use super::engine::GpuEngine;
use crate::cpu::CpuEngine;
use crate::engine::{Engine, Hyper, Noise, Step, targets};

/// float32 against float64, relative to the largest value of the tensor.
const F32_TOLERANCE: f64 = 1e-4;

/// The first adapter, opened once for all tests; `None`, with the reason on stderr, where there is none.
fn gpu() -> Option<Arc<Gpu>> {
    static GPU: OnceLock<Option<Arc<Gpu>>> = OnceLock::new();
    GPU.get_or_init(|| open(|limits| limits).map(Arc::new)).clone()
}

fn open(restrict: impl FnOnce(wgpu::Limits) -> wgpu::Limits) -> Option<Gpu> {
    if adapters().is_empty() {
        eprintln!("skipped: there is no graphics adapter on this machine");
        return None;
    }
    Some(Gpu::open(None, restrict).unwrap())
}

/// Whether kernels on `gpu` can use float16; says so where they cannot.
fn has_float16(gpu: &Gpu) -> bool {
    if !gpu.info.float16 {
        eprintln!("skipped: `{}` has no float16 in its kernels", gpu.info.name);
    }
    gpu.info.float16
}

/// Values in [-1, 1), the same for a seed.
fn values(seed: u64, count: usize) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..count).map(|_| rng.random_range(-1.0..1.0)).collect()
}

/// Gives every parameter of `graph` values that depend on its place among them.
fn fill(graph: &mut Graph) {
    for (seed, param) in graph.params().unwrap().into_iter().flatten().enumerate() {
        let count = param.shape.iter().product();
        let fan_in = param.shape.get(1).copied().unwrap_or(1).max(1);
        let scale = 1.0 / (fan_in as f32).sqrt();
        let values = values(100 + seed as u64, count).into_iter().map(|value| value * scale).collect();
        graph.weights.insert(param.name, Tensor::new(param.shape, values).unwrap());
    }
}

/// The weights of all adapters and of the layers named here.
fn trainable(graph: &Graph, layers: &[&str]) -> BTreeSet<String> {
    let chosen = |name: &&String| {
        name.contains("adapter_")
            || layers.iter().any(|layer| name.strip_prefix(layer).is_some_and(|rest| rest.starts_with('.')))
    };
    graph.weights.keys().filter(chosen).cloned().collect()
}

/// A picture-sized ViT of `width` with `heads` and `depth` blocks, LayerScale, adapters before qkv and fc1, and a head.
fn vit(width: usize, heads: usize, depth: usize, hidden: usize) -> Graph {
    let mut graph = Graph::default();
    let adapter = Op::RepAdapter { hidden, groups: 2, scale: 0.7 };
    let linear = |out_features| Op::Linear { out_features, bias: true };
    let pixels = graph.push("pixels", Op::Input { shape: vec![3, 6, 9] }, &[]);
    let patches =
        graph.push("patch_embed.proj", Op::PatchEmbed { patch_size: 3, embed_dim: width, tubelets: 1 }, &[pixels]);
    let class = graph.push("cls_token", Op::InsertTokens { count: 1, at: 0 }, &[patches]);
    let mut trunk = graph.push("pos_embed", Op::PosEmbed, &[class]);
    for i in 0..depth {
        let name = |suffix: &str| format!("blocks.{i}.{suffix}");
        let norm = graph.push(name("norm1"), Op::LayerNorm { eps: 1e-6 }, &[trunk]);
        let adapted = graph.push(name("attn.adapter"), adapter.clone(), &[norm]);
        let qkv = graph.push(name("attn.qkv"), linear(3 * width), &[adapted]);
        let scale = ((width / heads) as f32).powf(-0.5);
        let attn = graph.push(name("attn"), Op::Attention { num_heads: heads, scale }, &[qkv]);
        let proj = graph.push(name("attn.proj"), linear(width), &[attn]);
        let scaled = graph.push(name("ls1"), Op::LayerScale, &[proj]);
        trunk = graph.push(name("add1"), Op::Add, &[trunk, scaled]);
        let norm = graph.push(name("norm2"), Op::LayerNorm { eps: 1e-6 }, &[trunk]);
        let adapted = graph.push(name("mlp.adapter"), adapter.clone(), &[norm]);
        let fc1 = graph.push(name("mlp.fc1"), linear(2 * width + 1), &[adapted]);
        let act = graph.push(name("mlp.act"), Op::Act(Activation::Gelu), &[fc1]);
        let fc2 = graph.push(name("mlp.fc2"), linear(width), &[act]);
        let scaled = graph.push(name("ls2"), Op::LayerScale, &[fc2]);
        trunk = graph.push(name("add2"), Op::Add, &[trunk, scaled]);
    }
    let norm = graph.push("norm", Op::LayerNorm { eps: 1e-6 }, &[trunk]);
    let pool = graph.push("pool", Op::TakeClassToken, &[norm]);
    graph.push("head", linear(5), &[pool]);
    fill(&mut graph);
    graph
}

/// [`vit`] with the head on each patch.
fn dense_vit(width: usize, heads: usize, depth: usize, hidden: usize) -> Graph {
    let mut graph = vit(width, heads, depth, hidden);
    if let Some(pool) = graph.find("pool") {
        graph.nodes[pool].op = Op::DropTokens { count: 1, at: 0 };
    }
    graph
}

/// A batch for a graph: pictures, and targets as mixing makes them, for patches as masks do.
struct Batch {
    input: Vec<f32>,
    targets: Vec<f32>,
}

impl Batch {
    fn new(graph: &Graph, pictures: usize) -> Self {
        let shapes = graph.shapes().unwrap();
        let classes = *shapes.last().unwrap().last().unwrap();
        let input = values(7, pictures * shapes[0].iter().product::<usize>());
        let output = shapes.last().unwrap();
        let rows = pictures * output[..output.len() - 1].iter().product::<usize>();
        let of = |factor: u32| (0..rows as u32).map(|i| (factor * i + 1) % classes as u32).collect::<Vec<_>>();
        let (first, second) = (targets(&of(3), classes, 0.1), targets(&of(2), classes, 0.1));
        let mut targets: Vec<f32> = first.iter().zip(second).map(|(a, b)| 0.75 * a + 0.25 * b).collect();
        if output.len() == 2 {
            // Patches count differently, and some nothing.
            for (row, targets) in targets.chunks_mut(classes).enumerate() {
                targets.iter_mut().for_each(|target| *target *= [1.0, 0.25, 0.0][row % 3]);
            }
        }
        Self { input, targets }
    }

    fn step<'a>(&'a self, noise: &'a Noise, hyper: Hyper) -> Step<'a> {
        Step { input: &self.input, targets: &self.targets, hyper, noise }
    }
}

/// The largest difference over the largest magnitude of `expected`.
fn relative(got: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(got.len(), expected.len());
    let largest = expected.iter().fold(0.0, |largest: f64, value| largest.max(f64::from(value.abs())));
    let difference = |(got, expected): (&f32, &f32)| (f64::from(*got) - f64::from(*expected)).abs();
    got.iter().zip(expected).map(difference).fold(0.0, f64::max) / largest.max(1e-12)
}

fn assert_gradients(got: &BTreeMap<String, Tensor>, expected: &BTreeMap<String, Tensor>, tolerance: f64) {
    assert_eq!(got.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (name, expected) in expected {
        let error = relative(got[name].values(), expected.values());
        assert!(error < tolerance, "gradient of `{name}` is off by {error:.2e}");
    }
}

/// Forward, loss and all gradients of `graph` on `gpu` against float64 on the CPU.
fn assert_agrees(gpu: &Arc<Gpu>, graph: &Graph, trainable: &BTreeSet<String>, pictures: usize, noise: &Noise) {
    let batch = Batch::new(graph, pictures);
    let mut ours = GpuEngine::on(Arc::clone(gpu), graph, trainable).unwrap();
    let mut reference = CpuEngine::<f64>::new(graph, trainable).unwrap();
    let output = ours.forward(&batch.input, pictures).unwrap();
    let error = relative(&output, &reference.forward(&batch.input, pictures).unwrap());
    assert!(error < F32_TOLERANCE, "the output is off by {error:.2e}");
    let step = batch.step(noise, Hyper::default());
    let (loss, gradients) = ours.gradients(&step).unwrap();
    let (expected_loss, expected) = reference.gradients(&step).unwrap();
    let error = f64::from((loss - expected_loss).abs() / expected_loss);
    assert!(error < 1e-5, "loss {loss}, expected {expected_loss}");
    assert_gradients(&gradients, &expected, F32_TOLERANCE);
}
