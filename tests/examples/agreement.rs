//! Trains the same steps on wgpu and on the CPU and says how far losses and weights lie apart.
//! `cargo run --release -p edge-vit-tests --example agreement -- BACKBONE DATA [STEPS]`

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use edge_vit_models::{Tensor, checkpoint};
use edge_vit_tools::train::record::Record;
use edge_vit_tools::train::{self, DeviceChoice, Options, Recipe};

/// What one device made of the steps.
struct Trained {
    losses: Vec<f32>,
    weights: BTreeMap<String, Tensor>,
}

fn train_on(device: DeviceChoice, backbone: &str, data: &str, steps: u64) -> Result<Trained, Box<dyn Error>> {
    let out = tempfile::tempdir()?;
    let stop = Arc::new(AtomicBool::new(false));
    let options = Options {
        backbone: backbone.into(),
        data: data.into(),
        out: out.path().join("run"),
        recipe: Recipe { image_size: Some(112), batch_size: 16, ..Recipe::default() },
        device,
        cache_limit: 1 << 31,
        checkpoint_activations: false,
        probe: false,
        resume: false,
        stop: Arc::clone(&stop),
    };
    let mut losses = Vec::new();
    let mut first = None;
    let outcome = train::run(&options, &mut |record| {
        if let Record::Step { step, loss, .. } = record {
            first.get_or_insert_with(Instant::now);
            losses.push(loss);
            if step >= steps {
                stop.store(true, Ordering::Relaxed);
            }
        }
    })?;
    let seconds = first.map_or(0.0, |first| first.elapsed().as_secs_f64()) / losses.len().saturating_sub(1) as f64;
    println!("{}: {seconds:.2} s a step, peak {:.1} MB", outcome.device, outcome.peak_bytes as f64 / 1e6);
    let weights = trained_weights(&options.out.join("last.safetensors"))?;
    Ok(Trained { losses, weights })
}

fn trained_weights(path: &Path) -> Result<BTreeMap<String, Tensor>, Box<dyn Error>> {
    let tensors = checkpoint::read(path)?.tensors;
    Ok(tensors.into_iter().filter(|(name, _)| name.starts_with("value/")).collect())
}

/// The largest difference, relative to the largest value of `b`.
fn relative(a: &[f32], b: &[f32]) -> f32 {
    let largest = b.iter().fold(f32::MIN_POSITIVE, |largest, value| largest.max(value.abs()));
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / largest
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [backbone, data, rest @ ..] = args.as_slice() else {
        return Err("usage: agreement BACKBONE DATA [STEPS]".into());
    };
    let steps = rest.first().map_or(Ok(30), |steps| steps.parse())?;
    let cpu = train_on(DeviceChoice::Cpu, backbone, data, steps)?;
    let wgpu = train_on(DeviceChoice::Gpu(None), backbone, data, steps)?;
    println!("| step | loss, CPU | loss, wgpu | relative |\n|---|---|---|---|");
    let mut worst = 0f32;
    for (step, (a, b)) in cpu.losses.iter().zip(&wgpu.losses).enumerate() {
        let difference = (a - b).abs() / a.abs();
        worst = worst.max(difference);
        println!("| {} | {a:.6} | {b:.6} | {difference:.1e} |", step + 1);
    }
    println!("losses apart by at most {worst:.2e} of their value, over {} steps", cpu.losses.len());
    let mut apart = (0f32, "");
    for (name, weight) in &cpu.weights {
        let other = wgpu.weights.get(name).ok_or("the devices trained different weights")?;
        let difference = relative(other.values(), weight.values());
        if difference > apart.0 {
            apart = (difference, name);
        }
    }
    println!("weights apart by at most {:.2e} of their tensor's largest value ({})", apart.0, apart.1);
    Ok(())
}
