//! What a training step costs: a backbone at random weights with its adapters, and the share of the step that its matrix
//! products alone take on the processor.
//! `cargo bench -p edge-vit-tools --bench train_step [-- DEVICE [SIDE [BATCH [STEPS [ARCHITECTURE [PRECISION]]]]]]`; DEVICE is `cpu`,
//! `gpu` or what `--gpu` takes, PRECISION `f32` or `f16`.

use std::error::Error;
use std::time::Instant;

use edge_vit_models::backbone::{self, Architecture};
use edge_vit_models::{Graph, Op, Tensor, adapter};
use edge_vit_tools::cpu::CpuEngine;
use edge_vit_tools::engine::{Engine, Hyper, Noise, Precision, Step, targets, uniform};
use edge_vit_tools::gpu::GpuEngine;
use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, Par};

const CLASSES: usize = 10;
/// As many pictures as the CPU engine gives a thread at a time.
const CHUNK: usize = 4;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let arg = |at: usize| args.get(at).map(String::as_str);
    let number = |at, default| arg(at).map_or(Ok(default), str::parse::<usize>);
    let device = arg(0).unwrap_or("cpu");
    let (side, batch, steps) = (number(1, 112)?, number(2, 32)?, number(3, 7)?.max(1));
    let name = arg(4).unwrap_or("vit_small_patch14_dinov2");

    let graph = backbone(name, side)?;
    let trainable = adapter::trainable(&graph);
    let precision = match arg(5) {
        None | Some("f32") => Precision::F32,
        Some("f16") => Precision::F16,
        Some(other) => return Err(format!("`{other}` is no precision: f32 or f16").into()),
    };
    let mut weight_bytes = None;
    let mut engine: Box<dyn Engine> = match device {
        "cpu" => Box::new(CpuEngine::<f32>::new(&graph, &trainable)?),
        _ => {
            let selection = (device != "gpu").then_some(device);
            let engine = GpuEngine::in_precision(selection, &graph, &trainable, precision)?;
            weight_bytes = Some(engine.weight_bytes());
            Box::new(engine)
        }
    };
    let len = 3 * side * side;
    let input: Vec<f32> = (0..batch * len).map(|index| uniform(1, 0, index as u32) * 2.0 - 1.0).collect();
    let labels: Vec<u32> = (0..batch as u32).map(|picture| picture % CLASSES as u32).collect();
    let targets = targets(&labels, CLASSES, 0.0);
    let residuals = graph.nodes.iter().filter(|node| node.op == Op::Add).count();
    let noise = Noise { seed: 1, dropout: 0.1, drop_path: vec![0.1; residuals] };
    let step = Step { input: &input, targets: &targets, hyper: Hyper::default(), noise: &noise };

    engine.train_step(&step)?;
    let seconds = fastest(steps, || engine.train_step(&step).map(drop))?;
    engine.forward(&input, batch)?;
    let forward = fastest(steps, || engine.forward(&input, batch).map(drop))?;
    let shapes = products(&graph)?;
    let flops: f64 = shapes.iter().map(|&[m, n, k]| 2.0 * (m * n * k) as f64).sum::<f64>() * batch as f64;

    println!("device            {}", engine.device());
    println!("model             {name}, {side} x {side}, batch {batch}, fastest of {steps}");
    println!("step              {:.2} ms, {:.1} pictures/s", 1e3 * seconds, batch as f64 / seconds);
    println!("forward           {:.2} ms, {:.1} pictures/s", 1e3 * forward, batch as f64 / forward);
    println!("products          {:.1} GFLOP a step, {:.1} GFLOP/s over the step", flops / 1e9, flops / 1e9 / seconds);
    if device == "cpu" {
        let alone = fastest(steps, || multiply(&shapes, batch))?;
        println!("products alone    {:.2} ms, {:.0} % of the step", 1e3 * alone, 100.0 * alone / seconds);
    }
    println!("peak              {:.1} MiB", engine.peak_bytes() as f64 / 1_048_576.0);
    if let Some(bytes) = weight_bytes {
        println!("weights           {:.1} MiB", bytes as f64 / 1_048_576.0);
    }
    Ok(())
}

/// The adapted backbone and a head at random weights small enough for float32.
fn backbone(name: &str, side: usize) -> Result<Graph, Box<dyn Error>> {
    let config = Architecture::named(name)?.config([side, side]);
    let mut graph = backbone::with_head(&config.graph(), CLASSES)?;
    for (seed, param) in graph.params()?.into_iter().flatten().enumerate() {
        let len: usize = param.shape.iter().product();
        let values = (0..len).map(|index| (uniform(seed as u32, 1, index as u32) - 0.5) * 0.1).collect();
        graph.weights.insert(param.name, Tensor::new(param.shape, values)?);
    }
    Ok(adapter::insert(&graph, &adapter::Spec::default(), 1)?)
}

/// The shapes `[m, n, k]` of a picture's products with frozen weights, forward and backward. The attention's products
/// and the adapters' are left out: they are a small part.
fn products(graph: &Graph) -> Result<Vec<[usize; 3]>, Box<dyn Error>> {
    let shapes = graph.shapes()?;
    let linear = graph.nodes.iter().zip(&shapes).filter(|(node, _)| matches!(node.op, Op::Linear { .. }));
    Ok(linear
        .filter_map(|(node, output)| match (shapes[node.inputs[0]].as_slice(), output.as_slice()) {
            (&[rows, inputs], &[_, outputs]) => Some([[rows, outputs, inputs], [rows, inputs, outputs]]),
            _ => None,
        })
        .flatten()
        .collect())
}

/// The products of a batch, cut over the threads as the engine cuts them.
fn multiply(shapes: &[[usize; 3]], batch: usize) -> Result<(), Box<dyn Error>> {
    let operands: Vec<_> = shapes.iter().map(|&[_, n, k]| Mat::<f32>::full(n, k, 0.5)).collect();
    let next = std::sync::atomic::AtomicUsize::new(0);
    rayon::scope(|scope| {
        for _ in 0..rayon::current_num_threads() {
            scope.spawn(|_| {
                while next.fetch_add(CHUNK, std::sync::atomic::Ordering::Relaxed) < batch {
                    for (&[m, n, k], weight) in shapes.iter().zip(&operands) {
                        let (x, mut y) = (Mat::<f32>::full(k, CHUNK * m, 0.5), Mat::<f32>::zeros(n, CHUNK * m));
                        matmul(&mut y, Accum::Replace, weight, &x, 1.0, Par::Seq);
                        std::hint::black_box(&y);
                    }
                }
            });
        }
    });
    Ok(())
}

/// The seconds that the fastest of `runs` takes.
fn fastest<E: Into<Box<dyn Error>>>(
    runs: usize,
    mut run: impl FnMut() -> Result<(), E>,
) -> Result<f64, Box<dyn Error>> {
    let mut fastest = f64::INFINITY;
    for _ in 0..runs {
        let start = Instant::now();
        run().map_err(Into::into)?;
        fastest = fastest.min(start.elapsed().as_secs_f64());
    }
    Ok(fastest)
}
