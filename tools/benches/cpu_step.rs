//! What a training step costs on the processor: DINOv2-S at random weights with its adapters, and the share of the step
//! that its matrix products alone take. `cargo bench -p edge-vit-tools --bench cpu_step [-- SIDE [BATCH [STEPS]]]`

use std::error::Error;
use std::time::Instant;

use edge_vit_models::{Graph, Op, Tensor, adapter, vit};
use edge_vit_tools::cpu::CpuEngine;
use edge_vit_tools::engine::{Engine, Hyper, Noise, Step, uniform};
use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, Par};

const CLASSES: usize = 10;
/// As many pictures as the engine gives a thread at a time.
const CHUNK: usize = 4;

fn main() -> Result<(), Box<dyn Error>> {
    let mut numbers = std::env::args().skip(1).filter_map(|arg| arg.parse::<usize>().ok());
    let side = numbers.next().unwrap_or(112);
    let batch = numbers.next().unwrap_or(32);
    let steps = numbers.next().unwrap_or(7).max(1);

    let graph = backbone(side)?;
    let mut engine = CpuEngine::<f32>::new(&graph, &adapter::trainable(&graph))?;
    let len = 3 * side * side;
    let input: Vec<f32> = (0..batch * len).map(|index| uniform(1, 0, index as u32) * 2.0 - 1.0).collect();
    let labels: Vec<u32> = (0..batch as u32).map(|picture| picture % CLASSES as u32).collect();
    let residuals = graph.nodes.iter().filter(|node| node.op == Op::Add).count();
    let noise = Noise { seed: 1, dropout: 0.1, drop_path: vec![0.1; residuals] };
    let step = Step { input: &input, labels: &labels, hyper: Hyper::default(), noise: &noise };

    engine.train_step(&step)?;
    let seconds = fastest(steps, || engine.train_step(&step).map(drop))?;
    let forward = fastest(steps, || engine.forward(&input, batch).map(drop))?;
    let shapes = products(&graph)?;
    let flops: f64 = shapes.iter().map(|&[m, n, k]| 2.0 * (m * n * k) as f64).sum::<f64>() * batch as f64;
    let alone = fastest(steps, || multiply(&shapes, batch))?;

    println!("device            {}", engine.device());
    println!("model             DINOv2-S, {side} x {side}, batch {batch}, fastest of {steps}");
    println!("step              {seconds:.3} s, {:.1} pictures/s", batch as f64 / seconds);
    println!("forward           {forward:.3} s, {:.1} pictures/s", batch as f64 / forward);
    println!("products          {:.1} GFLOP a step, {:.1} GFLOP/s over the step", flops / 1e9, flops / 1e9 / seconds);
    println!("products alone    {alone:.3} s, {:.0} % of the step", 100.0 * alone / seconds);
    println!("peak              {:.1} MiB", engine.peak_bytes() as f64 / 1_048_576.0);
    Ok(())
}

/// The adapted backbone and a head at random weights small enough for float32.
fn backbone(side: usize) -> Result<Graph, Box<dyn Error>> {
    let small = vit::Architecture::named("vit_small_patch14_dinov2")?;
    let config = vit::Config { num_classes: Some(CLASSES), ..small.config([side, side]) };
    let mut graph = vit::graph(&config);
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
