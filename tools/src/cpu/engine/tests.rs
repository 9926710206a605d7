//! Gradients against central differences in float64, and the laws of the engine.

use edge_vit_models::op::Windows;
use edge_vit_models::{Activation, Op, adapter, vit};

use super::*;
use crate::engine::{Hyper, Noise, targets, uniform};

/// Step of the central differences in float64; the truncation is of its square.
const H: f64 = 1e-5;
/// Central differences in float64, of gradients about 1e-2.
const DIFFERENCE_TOLERANCE: f64 = 1e-8;
/// float32 against float64, relative to the largest value.
const FLOAT32_TOLERANCE: f32 = 2e-5;

fn random(seed: u32, len: usize) -> Vec<f32> {
    (0..len).map(|index| uniform(seed, 0, index as u32) * 2.0 - 1.0).collect()
}

/// Fills every weight with numbers in -0.7..0.7, those of a LayerNorm in 0.3..1.7.
fn with_weights(mut graph: Graph) -> Graph {
    for (seed, param) in graph.params().unwrap().into_iter().flatten().enumerate() {
        let shift = if param.name.contains("norm") { 1.0 } else { 0.0 };
        let len = param.shape.iter().product();
        let values = random(seed as u32 + 1, len).into_iter().map(|value| value * 0.7 + shift).collect();
        graph.weights.insert(param.name, Tensor::new(param.shape, values).unwrap());
    }
    graph
}

const ADAPTER: Op = Op::RepAdapter { hidden: 4, groups: 2, scale: 0.5 };

fn linear(out_features: usize) -> Op {
    Op::Linear { out_features, bias: true }
}

/// Tokens of `shape` through an adapter, then `ops`, then a head of three classes.
fn chain(shape: &[usize], ops: &[(&str, Op)]) -> Graph {
    let mut graph = Graph::default();
    let mut last = graph.push("input", Op::Input { shape: shape.to_vec() }, &[]);
    last = graph.push("adapter", ADAPTER, &[last]);
    for (name, op) in ops {
        last = graph.push(*name, op.clone(), &[last]);
    }
    graph.push("head", linear(3), &[last]);
    with_weights(graph)
}

/// A transformer block of two adapters over tokens `[5, 4]`, and a head.
fn block() -> Graph {
    let mut graph = Graph::default();
    let input = graph.push("input", Op::Input { shape: vec![5, 4] }, &[]);
    let norm1 = graph.push("norm1", Op::LayerNorm { eps: 1e-6 }, &[input]);
    let adapter1 = graph.push("attn.adapter", ADAPTER, &[norm1]);
    let qkv = graph.push("attn.qkv", linear(12), &[adapter1]);
    let attention = graph.push("attn", Op::Attention { num_heads: 2, scale: 0.7 }, &[qkv]);
    let proj = graph.push("attn.proj", linear(4), &[attention]);
    let scaled = graph.push("ls1", Op::LayerScale, &[proj]);
    let add1 = graph.push("add1", Op::Add, &[input, scaled]);
    let norm2 = graph.push("norm2", Op::LayerNorm { eps: 1e-6 }, &[add1]);
    let adapter2 = graph.push("mlp.adapter", ADAPTER, &[norm2]);
    let fc1 = graph.push("mlp.fc1", linear(8), &[adapter2]);
    let act = graph.push("mlp.act", Op::Act(Activation::Gelu), &[fc1]);
    let fc2 = graph.push("mlp.fc2", linear(4), &[act]);
    let add2 = graph.push("add2", Op::Add, &[add1, fc2]);
    let pool = graph.push("pool", Op::TakeClassToken, &[add2]);
    graph.push("head", linear(3), &[pool]);
    with_weights(graph)
}

fn weights_of(graph: &Graph, parts: &[&str]) -> BTreeSet<String> {
    graph.weights.keys().filter(|name| parts.iter().any(|part| name.contains(part))).cloned().collect()
}

fn adapters_and_head(graph: &Graph) -> BTreeSet<String> {
    weights_of(graph, &["adapter", "head"])
}

struct Batch {
    input: Vec<f32>,
    targets: Vec<f32>,
    hyper: Hyper,
    noise: Noise,
}

impl Batch {
    fn new(graph: &Graph, pictures: usize) -> Self {
        let len: usize = graph.shapes().unwrap()[0].iter().product();
        let of = |factor: u32| (0..pictures as u32).map(|picture| factor * picture % 3).collect::<Vec<_>>();
        let (first, second) = (targets(&of(1), 3, 0.1), targets(&of(2), 3, 0.1));
        let targets = first.iter().zip(second).map(|(a, b)| 0.75 * a + 0.25 * b).collect();
        Self { input: random(99, len * pictures), targets, hyper: Hyper::default(), noise: Noise::default() }
    }

    fn noisy(mut self, residuals: usize) -> Self {
        self.noise = Noise { seed: 3, dropout: 0.3, drop_path: vec![0.4; residuals] };
        self
    }

    fn step(&self) -> Step<'_> {
        Step { input: &self.input, targets: &self.targets, hyper: self.hyper, noise: &self.noise }
    }
}

/// Compares every gradient of `trainable` with central differences.
fn check_gradients(graph: &Graph, trainable: &BTreeSet<String>, batch: &Batch) {
    let mut engine = CpuEngine::<f64>::new(graph, trainable).unwrap();
    let (_, gradients) = engine.learn(&batch.step()).unwrap();
    let trained: Vec<_> = engine.model.trained().collect();
    assert_eq!(trained.len(), gradients.len());
    for ((id, param), gradient) in trained.into_iter().zip(&gradients) {
        let name = engine.model.plan.params[id][param].name.clone();
        for (index, &gradient) in gradient.iter().enumerate() {
            let value = engine.model.weights[id][param][index];
            let [above, below] = [H, -H].map(|shift| {
                engine.model.weights[id][param][index] = value + shift;
                engine.learn(&batch.step()).unwrap().0
            });
            engine.model.weights[id][param][index] = value;
            let expected = (above - below) / (2.0 * H);
            assert!((gradient - expected).abs() < DIFFERENCE_TOLERANCE, "{name}[{index}]: {gradient} {expected}");
        }
        let largest = gradient.iter().fold(0.0, |largest: f64, value| largest.max(value.abs()));
        assert!(largest > 1e-4, "the gradient of {name} is too small to be checked: {largest}");
    }
}

#[test]
fn the_gradient_of_every_operator_is_that_of_its_forward() {
    let patch_embed = |tubelets| Op::PatchEmbed { patch_size: 2, embed_dim: 3, tubelets };
    let cases: Vec<(&str, Graph)> = vec![
        ("adapter and head", chain(&[4], &[])),
        ("linear", chain(&[3, 4], &[("fc", linear(5)), ("pool", Op::TakeClassToken)])),
        ("layer_norm", chain(&[3, 4], &[("norm", Op::LayerNorm { eps: 1e-3 }), ("pool", Op::TakeClassToken)])),
        ("gelu", chain(&[4], &[("act", Op::Act(Activation::Gelu))])),
        ("quick_gelu", chain(&[4], &[("act", Op::Act(Activation::QuickGelu))])),
        ("gelu_tanh", chain(&[4], &[("act", Op::Act(Activation::GeluTanh))])),
        ("silu", chain(&[4], &[("act", Op::Act(Activation::Silu))])),
        (
            "attention pool",
            chain(&[3, 4], &[("kv", linear(12)), ("pool", Op::AttentionPool { num_heads: 2, scale: 0.7 })]),
        ),
        (
            "inserted tokens",
            chain(&[3, 4], &[("tokens", Op::InsertTokens { count: 2, at: 1 }), ("pool", Op::MeanTokens { skip: 1 })]),
        ),
        ("layer_scale", chain(&[4], &[("ls", Op::LayerScale)])),
        ("patch_embed", chain(&[2, 4, 4], &[("patch_embed", patch_embed(1)), ("pool", Op::MeanTokens { skip: 1 })])),
        ("tubelets", chain(&[6, 4, 4], &[("patch_embed", patch_embed(3)), ("pool", Op::MeanTokens { skip: 1 })])),
        (
            "attention",
            chain(
                &[4, 4],
                &[
                    ("qkv", linear(12)),
                    ("attn", Op::Attention { num_heads: 2, scale: 0.7 }),
                    ("pool", Op::MeanTokens { skip: 0 }),
                ],
            ),
        ),
        (
            "tokens",
            chain(
                &[3, 4],
                &[
                    ("cls_token", Op::InsertTokens { count: 1, at: 0 }),
                    ("pos_embed", Op::PosEmbed),
                    ("pool", Op::MeanTokens { skip: 1 }),
                ],
            ),
        ),
    ];
    for (name, graph) in cases {
        println!("{name}");
        check_gradients(&graph, &adapters_and_head(&graph), &Batch::new(&graph, 5));
    }
}

#[test]
fn the_gradient_of_a_whole_block_is_that_of_its_forward() {
    let graph = block();
    check_gradients(&graph, &adapters_and_head(&graph), &Batch::new(&graph, 6));
    check_gradients(&graph, &adapters_and_head(&graph), &Batch::new(&graph, 6).noisy(2));
    let linears = weights_of(&graph, &["adapter", "qkv", "proj", "fc", "head"]);
    check_gradients(&graph, &linears, &Batch::new(&graph, 3).noisy(2));
}

#[test]
fn every_weight_of_a_backbone_has_its_gradient() {
    let mut graph = Graph::default();
    let mut x = graph.push("input", Op::Input { shape: vec![2, 4, 4] }, &[]);
    for (name, op) in [
        ("patch_embed", Op::PatchEmbed { patch_size: 2, embed_dim: 4, tubelets: 1 }),
        ("cls_token", Op::InsertTokens { count: 1, at: 0 }),
        ("pos_embed", Op::PosEmbed),
        ("reg_token", Op::InsertTokens { count: 2, at: 1 }),
        ("norm", Op::LayerNorm { eps: 1e-3 }),
        ("ls", Op::LayerScale),
        ("fc", linear(4)),
        ("pool", Op::MeanTokens { skip: 1 }),
        ("head", linear(3)),
    ] {
        x = graph.push(name, op, &[x]);
    }
    let graph = with_weights(graph);
    let all: BTreeSet<String> = graph.weights.keys().filter(|name| *name != "cls_token").cloned().collect();
    check_gradients(&graph, &all, &Batch::new(&graph, 5));
    for some in [&["norm.bias", "fc.bias"][..], &["norm.weight", "patch_embed.bias"], &["pos_embed"]] {
        let some = some.iter().map(|&name| name.to_owned()).collect();
        check_gradients(&graph, &some, &Batch::new(&graph, 5));
    }
}

#[test]
fn a_node_read_twice_receives_both_gradients() {
    let mut graph = Graph::default();
    let input = graph.push("input", Op::Input { shape: vec![4] }, &[]);
    let adapter = graph.push("adapter", ADAPTER, &[input]);
    let twice = graph.push("add", Op::Add, &[adapter, adapter]);
    graph.push("head", linear(3), &[twice]);
    let graph = with_weights(graph);
    check_gradients(&graph, &adapters_and_head(&graph), &Batch::new(&graph, 4).noisy(1));
}

fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |largest, value| largest.max(value.abs()))
}

fn assert_close(got: &[f32], expected: &[f32], what: &str) {
    assert_eq!(got.len(), expected.len(), "{what}");
    let differences: Vec<f32> = got.iter().zip(expected).map(|(got, expected)| got - expected).collect();
    let (difference, scale) = (largest(&differences), largest(expected));
    assert!(difference <= FLOAT32_TOLERANCE * scale, "{what}: off by {difference} of {scale}");
}

#[test]
fn float32_follows_float64() {
    let graph = block();
    let (trainable, batch) = (adapters_and_head(&graph), Batch::new(&graph, 7).noisy(2));
    let mut single = CpuEngine::<f32>::new(&graph, &trainable).unwrap();
    let mut double = CpuEngine::<f64>::new(&graph, &trainable).unwrap();
    let outputs = [single.forward(&batch.input, 7).unwrap(), double.forward(&batch.input, 7).unwrap()];
    assert_close(&outputs[0], &outputs[1], "logits");
    let (loss, gradients) = single.gradients(&batch.step()).unwrap();
    let (expected_loss, expected) = double.gradients(&batch.step()).unwrap();
    assert_close(&[loss], &[expected_loss], "loss");
    for (name, gradient) in &gradients {
        assert_close(gradient.values(), expected[name].values(), name);
    }
}

/// [`block`] with the head on each of its last four tokens, and targets of which the rows count 1, a quarter and nothing.
fn dense() -> (Graph, Batch) {
    let mut graph = block();
    let pool = graph.find("pool").unwrap();
    graph.nodes[pool].op = Op::DropTokens { count: 1, at: 0 };
    let mut batch = Batch::new(&graph, 9);
    batch.targets = (0..4).flat_map(|shift| Batch::new(&graph, 9 + shift).targets[3 * shift..].to_vec()).collect();
    for (row, targets) in batch.targets.chunks_mut(3).enumerate() {
        targets.iter_mut().for_each(|target| *target *= [1.0, 0.25, 0.0][row % 3]);
    }
    (graph, batch)
}

#[test]
fn the_gradient_of_patches_that_count_differently_is_that_of_their_mean() {
    let (graph, batch) = dense();
    check_gradients(&graph, &adapters_and_head(&graph), &batch);
    check_gradients(&graph, &adapters_and_head(&graph), &dense().1.noisy(2));
}

#[test]
fn the_loss_of_patches_is_their_mean_by_how_much_each_counts() {
    let (graph, batch) = dense();
    let mut engine = CpuEngine::<f64>::new(&graph, &adapters_and_head(&graph)).unwrap();
    let logits = engine.forward(&batch.input, 9).unwrap();
    let (mut losses, mut weight) = (0.0, 0.0);
    for (logits, targets) in logits.chunks(3).zip(batch.targets.chunks(3)) {
        let log_sum = logits.iter().map(|&logit| f64::from(logit).exp()).sum::<f64>().ln();
        let pairs = || logits.iter().zip(targets).map(|(&logit, &target)| (f64::from(logit), f64::from(target)));
        losses += pairs().map(|(logit, target)| target * (log_sum - logit)).sum::<f64>();
        weight += pairs().map(|(_, target)| target).sum::<f64>();
    }
    let (loss, _) = engine.learn(&batch.step()).unwrap();
    // The logits were rounded to float32.
    assert!((loss - losses / weight).abs() < 1e-6, "{loss} {}", losses / weight);
    assert!((weight - 36.0 * 1.25 / 3.0).abs() < 1e-5, "{weight}");
}

#[test]
fn patches_of_which_none_counts_teach_nothing() {
    let (graph, mut batch) = dense();
    batch.targets.fill(0.0);
    let engine = CpuEngine::<f64>::new(&graph, &adapters_and_head(&graph)).unwrap();
    let (loss, gradients) = engine.learn(&batch.step()).unwrap();
    assert_eq!(loss, 0.0);
    assert!(gradients.iter().flatten().all(|&gradient| gradient == 0.0));
}

#[test]
fn rows_that_add_up_to_too_much_or_for_pictures_to_too_little_are_refused() {
    let refused = |graph: &Graph, batch: &Batch| {
        CpuEngine::<f64>::new(graph, &adapters_and_head(graph)).unwrap().learn(&batch.step()).unwrap_err().to_string()
    };
    let (graph, mut batch) = dense();
    batch.targets[0] += 0.5;
    assert!(refused(&graph, &batch).contains("add up to at most 1"));
    batch.targets.truncate(35 * 3);
    assert!(refused(&graph, &batch).contains("8 pictures"));
    let graph = block();
    let mut batch = Batch::new(&graph, 2);
    batch.targets[..3].fill(0.0);
    assert!(refused(&graph, &batch).contains("add up to 1"));
}

#[test]
fn a_batch_is_the_mean_of_its_pictures() {
    let graph = block();
    let mut engine = CpuEngine::<f64>::new(&graph, &adapters_and_head(&graph)).unwrap();
    let batch = Batch::new(&graph, 9);
    let (loss, gradients) = engine.learn(&batch.step()).unwrap();
    let mut mean_loss = 0.0;
    let mut mean: Vec<Vec<f64>> = gradients.iter().map(|gradient| vec![0.0; gradient.len()]).collect();
    for picture in 0..9 {
        let step = Step {
            input: &batch.input[picture * 20..][..20],
            targets: &batch.targets[3 * picture..][..3],
            ..batch.step()
        };
        let (loss, gradients) = engine.learn(&step).unwrap();
        mean_loss += loss / 9.0;
        for (mean, gradient) in mean.iter_mut().flatten().zip(gradients.iter().flatten()) {
            *mean += gradient / 9.0;
        }
    }
    assert!((loss - mean_loss).abs() < 1e-14);
    for (mean, gradient) in mean.iter().flatten().zip(gradients.iter().flatten()) {
        assert!((mean - gradient).abs() < 1e-14, "{mean} {gradient}");
    }
    let outputs = engine.forward(&batch.input, 9).unwrap();
    let last = engine.forward(&batch.input[160..], 1).unwrap();
    assert_eq!(outputs[24..], last);
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let graph = block();
    let batch = Batch::new(&graph, 23).noisy(2);
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut engine = CpuEngine::<f32>::new(&graph, &adapters_and_head(&graph)).unwrap();
            let losses: Vec<f32> = (0..3).map(|_| engine.train_step(&batch.step()).unwrap()).collect();
            (losses, engine.state().unwrap())
        })
    };
    assert_eq!(run(1), run(3));
}

#[test]
fn checkpoints_give_the_same_bits_in_less_memory() {
    let config = vit::Config {
        image_size: [8, 8],
        patch_size: 2,
        embed_dim: 16,
        depth: 6,
        num_heads: 2,
        num_classes: Some(3),
        ..vit::Config::default()
    };
    let graph = with_weights(adapter::insert(&vit::graph(&config), &adapter::Spec::default(), 1).unwrap());
    let batch = Batch::new(&graph, 4).noisy(12);
    let all = graph.weights.keys().cloned().collect();
    for chosen in [adapters_and_head(&graph), all] {
        let run = |checkpointed: bool| {
            let mut engine = CpuEngine::<f32>::new(&graph, &chosen).unwrap();
            if checkpointed {
                engine.checkpoint_activations();
            }
            (engine.gradients(&batch.step()).unwrap(), engine.peak_bytes())
        };
        let ((expected, kept), (got, peak)) = (run(false), run(true));
        assert_eq!(got, expected);
        assert!(5 * peak < 4 * kept, "{peak} of {kept} bytes");
    }
}

#[test]
fn gradients_change_nothing_and_a_step_lowers_the_loss() {
    let graph = block();
    let mut engine = CpuEngine::<f32>::new(&graph, &adapters_and_head(&graph)).unwrap();
    let batch = Batch::new(&graph, 6);
    let before = engine.state().unwrap();
    let (loss, gradients) = engine.gradients(&batch.step()).unwrap();
    assert_eq!(engine.gradients(&batch.step()).unwrap(), (loss, gradients));
    assert_eq!(engine.state().unwrap(), before);
    assert_eq!(engine.train_step(&batch.step()).unwrap(), loss);
    for _ in 0..20 {
        engine.train_step(&batch.step()).unwrap();
    }
    let after = engine.gradients(&batch.step()).unwrap().0;
    assert!(after < loss - 0.01, "{loss} {after}");
}

#[test]
fn a_restored_engine_goes_on_bit_exactly() {
    let graph = block();
    let trainable = adapters_and_head(&graph);
    let batch = Batch::new(&graph, 6).noisy(2);
    let mut engine = CpuEngine::<f32>::new(&graph, &trainable).unwrap();
    for _ in 0..3 {
        engine.train_step(&batch.step()).unwrap();
    }
    let state = engine.state().unwrap();
    let mut resumed = CpuEngine::<f32>::new(&graph, &trainable).unwrap();
    resumed.restore(&state).unwrap();
    assert_eq!(resumed.state().unwrap(), state);
    for _ in 0..2 {
        assert_eq!(engine.train_step(&batch.step()).unwrap(), resumed.train_step(&batch.step()).unwrap());
    }
    assert_eq!(engine.state().unwrap(), resumed.state().unwrap());
}

#[test]
fn weights_that_are_set_leave_moments_and_steps_alone() {
    let graph = block();
    let mut engine = CpuEngine::<f32>::new(&graph, &weights_of(&graph, &["head"])).unwrap();
    engine.train_step(&Batch::new(&graph, 6).step()).unwrap();
    let mut expected = engine.state().unwrap();
    let bias = Tensor::full(expected.trained["head.bias"].value.shape(), 0.25).unwrap();
    engine.set_weights(&BTreeMap::from([("head.bias".to_owned(), bias.clone())])).unwrap();
    expected.trained.get_mut("head.bias").unwrap().value = bias.clone();
    assert_eq!(engine.state().unwrap(), expected);
    let error = engine.set_weights(&BTreeMap::from([("other".to_owned(), bias)])).unwrap_err();
    assert!(error.to_string().contains("`other`"), "{error}");
    let wide = Tensor::full([7, 7], 0.0).unwrap();
    let error = engine.set_weights(&BTreeMap::from([("head.bias".to_owned(), wide)])).unwrap_err();
    assert!(error.to_string().contains("[7, 7]"), "{error}");
}

#[test]
fn a_state_of_another_graph_is_refused() {
    let graph = block();
    let mut engine = CpuEngine::<f32>::new(&graph, &weights_of(&graph, &["head"])).unwrap();
    let good = engine.state().unwrap();
    let mut missing = good.clone();
    missing.trained.remove("head.bias");
    assert!(engine.restore(&missing).unwrap_err().to_string().contains("`head.bias`"));
    let mut wide = good.clone();
    wide.trained.get_mut("head.bias").unwrap().m = Tensor::full([4], 0.0).unwrap();
    assert!(engine.restore(&wide).unwrap_err().to_string().contains("[4]"));
    let mut more = good.clone();
    more.trained.insert("other".into(), good.trained["head.bias"].clone());
    assert!(engine.restore(&more).unwrap_err().to_string().contains("`other`"));
    assert_eq!(engine.state().unwrap(), good);
}

#[test]
fn a_head_alone_keeps_nothing_of_the_backbone() {
    let graph = block();
    let batch = Batch::new(&graph, 4);
    let peak = |trainable| {
        let mut engine = CpuEngine::<f32>::new(&graph, &trainable).unwrap();
        engine.train_step(&batch.step()).unwrap();
        engine.peak_bytes()
    };
    let (head, all) = (peak(weights_of(&graph, &["head"])), peak(adapters_and_head(&graph)));
    assert!(head > 0 && head * 3 < all * 2, "{head} {all}");
}

#[test]
fn a_batch_that_does_not_fit_is_refused() {
    let graph = block();
    let mut engine = CpuEngine::<f32>::new(&graph, &adapters_and_head(&graph)).unwrap();
    let batch = Batch::new(&graph, 2);
    assert!(engine.forward(&batch.input[1..], 2).is_err());
    let refused = |engine: &mut CpuEngine<f32>, targets: Vec<f32>| {
        let batch = Batch { targets, ..Batch::new(&graph, 2) };
        engine.train_step(&batch.step()).unwrap_err().to_string()
    };
    for wrong in [targets(&[1, 3], 3, 0.0), vec![0.5, 0.5, 0.0, 2.0, -1.0, 0.0], vec![f32::NAN; 6]] {
        assert!(refused(&mut engine, wrong).contains("probabilities that add up to 1"));
    }
    assert!(refused(&mut engine, vec![1.0, 0.0, 0.0, 1.0]).contains("input"));
    assert!(refused(&mut engine, vec![1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0]).contains("2 rows of 3 classes"));
    let mut empty = Graph::default();
    let input = empty.push("input", Op::Input { shape: vec![4] }, &[]);
    empty.push("head", linear(0), &[input]);
    let error = CpuEngine::<f32>::new(&with_weights(empty), &BTreeSet::new()).unwrap_err();
    assert!(error.to_string().contains("`head`"), "{error}");
}

/// A map `[4, 6, 4]` through `ops`, from an adapter to a head over the mean.
fn map(ops: &[(&str, Op)]) -> Graph {
    let ops: Vec<(&str, Op)> = ops.iter().cloned().chain([("pool", Op::MeanTokens { skip: 0 })]).collect();
    chain(&[4, 6, 4], &ops)
}

#[test]
fn maps_have_their_gradients() {
    let windows = Windows { grid: [4, 6], window: [2, 3], shift: [1, 2], is_dilated: false };
    let attention = Op::WindowAttention { num_heads: 2, scale: 0.7, windows };
    for ops in [
        vec![("down", Op::SpaceToDepth { block: 2 }), ("fc", linear(4))],
        vec![("cut", Op::WindowPartition(windows)), ("qkv", linear(12)), ("attn", attention.clone())],
        vec![("conv", Op::DepthwiseConv { kernel_size: 3, stride: 1 })],
        vec![("conv", Op::DepthwiseConv { kernel_size: 3, stride: 2 })],
        vec![("patches", Op::Unfold { kernel_size: 3, stride: 2, from_pixels: false }), ("fc", linear(4))],
        vec![("patches", Op::Unfold { kernel_size: 3, stride: 1, from_pixels: true }), ("fc", linear(4))],
        vec![("conv", Op::DepthwiseConv { kernel_size: 5, stride: 1 }), ("grn", Op::GlobalResponseNorm)],
    ] {
        let mut ops = ops;
        if ops.last().is_some_and(|(name, _)| *name == "attn") {
            ops.insert(2, ("cosine", Op::NormalizeHeads { num_heads: 2 }));
            ops.push(("map", Op::WindowReverse(windows)));
        }
        let graph = map(&ops);
        check_gradients(&graph, &adapters_and_head(&graph), &Batch::new(&graph, 2));
        let weights = weights_of(&graph, &["adapter", "head", "conv.", "grn.", "fc."]);
        check_gradients(&graph, &weights, &Batch::new(&graph, 2));
    }
}

#[test]
fn finer_tokens_have_their_gradients() {
    let shuffle = Op::PixelShuffle { grid: [2, 3], factor: 2 };
    let ops = [("fc", linear(12)), ("finer", shuffle), ("pool", Op::TakeClassToken)];
    let graph = chain(&[6, 4], &ops);
    check_gradients(&graph, &adapters_and_head(&graph), &Batch::new(&graph, 2));
    let last = [
        ("fc", linear(12)),
        ("finer", Op::PixelShuffle { grid: [3, 2], factor: 2 }),
        ("pool", Op::MeanTokens { skip: 5 }),
    ];
    let graph = chain(&[6, 4], &last);
    check_gradients(&graph, &weights_of(&graph, &["adapter", "fc."]), &Batch::new(&graph, 2));
}

#[test]
fn both_halves_of_a_pair_have_their_gradients() {
    let mut graph = Graph::default();
    let input = graph.push("input", Op::Input { shape: vec![3, 4] }, &[]);
    let adapter = graph.push("adapter", ADAPTER, &[input]);
    let fc = graph.push("fc", linear(3), &[adapter]);
    let first = graph.push("cat", Op::Concat, &[adapter, fc]);
    let second = graph.push("cat2", Op::Concat, &[input, first]);
    let pool = graph.push("pool", Op::MeanTokens { skip: 1 }, &[second]);
    graph.push("head", linear(3), &[pool]);
    let graph = with_weights(graph);
    check_gradients(&graph, &weights_of(&graph, &["adapter", "fc.", "head"]), &Batch::new(&graph, 3));
}

#[test]
fn adamw_is_that_of_pytorch() {
    // Two steps of lr 0.1, weight decay 0.5 by the formulas of torch.optim.AdamW, written out.
    let hyper = Hyper { lr: 0.125, weight_decay: 0.5, beta1: 0.75, beta2: 0.5, eps: 0.25 };
    let (mut weight, mut moments) = ([2.0f64], Moments::zero(1));
    moments.step(&mut weight, &[4.0], &hyper, 1);
    // m = 1, v = 8; corrected: 4 and 16.
    let first = 2.0 * (1.0 - 0.0625) - 0.125 * 4.0 / (4.0 + 0.25);
    assert!((weight[0] - first).abs() < 1e-15, "{} {first}", weight[0]);
    moments.step(&mut weight, &[-2.0], &hyper, 2);
    // m = 0.25, v = 6; corrected by 1 - 0.75^2 and 1 - 0.5^2.
    let second = first * (1.0 - 0.0625) - 0.125 * (0.25 / 0.4375) / ((6.0f64 / 0.75).sqrt() + 0.25);
    assert!((weight[0] - second).abs() < 1e-15, "{} {second}", weight[0]);
    assert_eq!((moments.m[0], moments.v[0]), (0.25, 6.0));
}
