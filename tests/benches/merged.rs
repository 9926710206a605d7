//! What a merged model costs on the device: the plain backbone, the merged, the simplified and the unmerged model through
//! the runtime, interleaved, medians. `cargo bench -p edge-vit-tests --bench merged [-- [NAME] SIDE [ROUNDS [FOLDER]]]`, NAME one
//! of `edge-vit-tools models`; with a FOLDER the files are left there for `tests/peers/interleaved.py`.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::time::Instant;

use edge_vit::Model;
use edge_vit_models::backbone::Architecture;
use edge_vit_models::onnx;
use edge_vit_tests::{median, ramp, variants};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let is_name = args.first().is_some_and(|arg| arg.parse::<usize>().is_err());
    let name = if is_name { args.remove(0) } else { "vit_small_patch14_dinov2".to_owned() };
    let number = |at: usize| args.get(at).and_then(|arg| arg.parse::<usize>().ok());
    let (side, rounds, folder) = (number(0).unwrap_or(224), number(1).unwrap_or(31), args.get(2));

    let mut models = Vec::new();
    let mut sizes = Vec::new();
    for (variant, graph) in variants(Architecture::named(&name)?.config([side, side]).graph(), 3)? {
        let bytes = onnx::to_bytes(&graph, onnx::Batch::One, &BTreeMap::new())?;
        let operators = onnx::to_text(&bytes)?.lines().filter(|line| line.contains(") -> (")).count();
        sizes.push((operators, bytes.len()));
        if let Some(folder) = folder {
            std::fs::write(Path::new(folder).join(format!("{variant}.onnx")), &bytes)?;
        }
        models.push((variant, Model::from_bytes(&bytes)?, Vec::with_capacity(rounds)));
    }
    let picture = ramp(3 * side * side);
    for round in 0..=rounds {
        for (_, model, seconds) in &mut models {
            let start = Instant::now();
            std::hint::black_box(model.run(&picture)?);
            // The first round warms caches and allocators.
            if round > 0 {
                seconds.push(start.elapsed().as_secs_f64());
            }
        }
    }
    let medians: Vec<(&str, f64)> = models.into_iter().map(|(name, _, seconds)| (name, median(seconds))).collect();
    println!("{name} at {side}x{side}, one picture, {rounds} interleaved rounds");
    println!("| model | operators | bytes | median ms | ratio to plain |\n|---|---:|---:|---:|---:|");
    for ((name, seconds), (operators, bytes)) in medians.iter().zip(sizes) {
        println!("| {name} | {operators} | {bytes} | {:.1} | {:.3} |", seconds * 1e3, seconds / medians[0].1);
    }
    Ok(())
}
