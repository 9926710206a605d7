//! Runs a model on a picture whenever a line comes in, and prints the seconds that it took: one of the engines that
//! `tests/peers/engines.py` lets take turns. `turns ENGINE THREADS FILE`, ENGINE being `ours` or `tract`, which has one thread.

use std::error::Error;
use std::hint::black_box;
use std::io::{BufRead, stdin};
use std::time::Instant;

use edge_vit::Model;
use edge_vit_tests::{plain_tract, ramp};

type Run = Box<dyn Fn(&[f32]) -> Result<Vec<f32>, Box<dyn Error>>>;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [engine, threads, file] = arguments.as_slice() else { return Err("usage: turns ENGINE THREADS FILE".into()) };
    let model = Model::open(file)?.with_threads(threads.parse()?)?;
    let shape = model.input_shape();
    let picture = ramp(shape.iter().product());
    let run: Run = match engine.as_str() {
        "ours" => Box::new(move |picture| Ok(model.run(picture)?)),
        "tract" => {
            drop(model);
            let run = plain_tract(&std::fs::read(file)?, shape)?;
            Box::new(move |picture| Ok(run(picture)?))
        }
        _ => return Err(format!("there is no engine {engine}").into()),
    };
    for _ in stdin().lock().lines() {
        let start = Instant::now();
        black_box(run(&picture)?);
        println!("{}", start.elapsed().as_secs_f64());
    }
    Ok(())
}
