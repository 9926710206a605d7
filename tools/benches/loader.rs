//! How many pictures a second the loader gives a training step: decoded and prepared, and augmented as the recipe `few-shot`
//! does it, on one thread and on all.
//! `cargo bench -p edge-vit-tools --bench loader -- DATA [SIDE [ROUNDS]]`

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use edge_vit::{Preprocessing, open_picture};
use edge_vit_tools::data::Dataset;
use edge_vit_tools::train::Preset;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

/// The most pictures that are taken of a data set.
const PICTURES: usize = 512;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let Some(data) = args.first() else { return Err("name a data set: -- DATA [SIDE [ROUNDS]]".into()) };
    let number = |at: usize, default| args.get(at).map_or(Ok(default), |text| text.parse::<usize>());
    let (side, rounds) = (number(1, 224)?, number(2, 5)?.max(1));
    let pictures = Dataset::read(Path::new(data))?.train.pictures;
    let stride = pictures.len().div_ceil(PICTURES).max(1);
    let paths: Vec<&Path> = pictures.iter().step_by(stride).map(|picture| picture.path.as_path()).collect();
    let preprocessing = Preprocessing::imagenet([side, side]);
    let augment = Preset::FewShot.recipe().augment;
    let decoded: Vec<_> = paths.iter().map(open_picture).collect::<Result<_, _>>()?;

    let read = |at: usize| open_picture(paths[at]).map_or(0, |picture| preprocessing.apply(&picture).len());
    let change =
        |at: usize| augment.apply(&decoded[at], &preprocessing, &mut ChaCha8Rng::seed_from_u64(at as u64)).pixels.len();
    let threads = rayon::current_num_threads();
    println!("{} pictures, {side} x {side}, median of {rounds} rounds, pictures/s", paths.len());
    println!("| | one thread | {threads} threads |\n|---|---:|---:|");
    let works: [(&str, &(dyn Fn(usize) -> usize + Sync)); 2] =
        [("decoded and prepared", &read), ("augmented from memory (few-shot)", &change)];
    for (what, work) in works {
        let one = per_second(rounds, paths.len(), || (0..paths.len()).map(work).sum());
        let all = per_second(rounds, paths.len(), || (0..paths.len()).into_par_iter().map(work).sum());
        println!("| {what} | {one:.0} | {all:.0} |");
    }
    Ok(())
}

fn per_second(rounds: usize, pictures: usize, work: impl Fn() -> usize) -> f64 {
    let mut seconds: Vec<f64> = (0..rounds)
        .map(|_| {
            let start = Instant::now();
            assert!(work() > 0, "no picture gave a value");
            start.elapsed().as_secs_f64()
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    pictures as f64 / seconds[rounds / 2]
}
