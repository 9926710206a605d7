//! Runs a model on a picture whenever a line comes in, and prints the seconds that it took: one of the engines that
//! `tests/peers/engines.py` lets take turns. `turns ENGINE THREADS FILE`, ENGINE being `ours` or `tract`, which has one thread.

use std::error::Error;
use std::hint::black_box;
use std::io::{BufRead, stdin};
use std::time::Instant;

use edge_vit::Model;
use tract_onnx::prelude::*;

type Run = Box<dyn FnMut(&[f32]) -> Result<(), Box<dyn Error>>>;

/// The file in plain tract.
fn tract(file: &str, [channels, height, width]: [usize; 3]) -> TractResult<Run> {
    let shape = [1, channels, height, width];
    let model = tract_onnx::onnx().model_for_path(file)?;
    let model = model.with_input_fact(0, InferenceFact::dt_shape(f32::datum_type(), shape))?;
    let plan = model.into_optimized()?.into_runnable()?;
    Ok(Box::new(move |picture| {
        black_box(plan.run(tvec!(Tensor::from_shape(&shape, picture)?.into_tvalue()))?);
        Ok(())
    }))
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [engine, threads, file] = arguments.as_slice() else { return Err("usage: turns ENGINE THREADS FILE".into()) };
    let model = Model::open(file)?.with_threads(threads.parse()?)?;
    let [channels, height, width] = model.input_shape();
    let picture: Vec<f32> = (0..channels * height * width).map(|index| (index % 251) as f32 / 125.5 - 1.0).collect();
    let mut run: Run = match engine.as_str() {
        "ours" => Box::new(move |picture| {
            black_box(model.run(picture)?);
            Ok(())
        }),
        "tract" => tract(file, model.input_shape())?,
        _ => return Err(format!("there is no engine {engine}").into()),
    };
    for _ in stdin().lock().lines() {
        let start = Instant::now();
        run(&picture)?;
        println!("{}", start.elapsed().as_secs_f64());
    }
    Ok(())
}
