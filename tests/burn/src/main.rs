//! How long a training step of RepAdapter takes: the project's engine against the same model written with burn, both through
//! wgpu on the same adapter.
//!
//! In this folder, which is a workspace of its own:
//! `cargo run -- --architecture vit_small_patch14_dinov2 --image-size 112 --batch-size 8 --steps 5`.
//!
//! First both compute the loss and the gradient of every trained weight; where one is farther apart than
//! [`agreement::TOLERANCE`], nothing is timed. Then they take steps in turns, the pictures' way to the device, forward, loss,
//! backward, AdamW and the wait for all of it, and the table on stdout has the medians. `CUBECL_WGPU_MAX_TASKS` and the like
//! are burn's own settings; `--features autotune,fusion` adds what burn leaves out without default features.

mod agreement;
mod case;
mod ours;
mod theirs;

use std::collections::BTreeMap;
use std::time::Instant;

use clap::Parser;
use clap::builder::RangedU64ValueParser;
use edge_vit_models::Tensor;

use crate::case::Case;
use crate::ours::Ours;
use crate::theirs::Theirs;

/// Times a training step of RepAdapter, the project's engine and burn in turns.
#[derive(Debug, Parser)]
struct Args {
    /// A vision transformer by its name in `edge-vit-tools models`, at random weights
    #[arg(long, value_name = "NAME", default_value = "vit_small_patch14_dinov2")]
    architecture: String,
    /// Side of the pictures
    #[arg(long, value_name = "PIXELS", default_value_t = 112)]
    image_size: usize,
    /// Keep the first blocks alone
    #[arg(long, value_name = "BLOCKS", value_parser = at_least_1())]
    depth: Option<usize>,
    /// Pictures of a step
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = at_least_1())]
    batch_size: usize,
    /// Steps of each side that are timed
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = at_least_1())]
    steps: usize,
    /// The adapter: its index in `edge-vit-tools --list-gpus`, or a part of its name
    #[arg(long, value_name = "ADAPTER")]
    adapter: Option<String>,
}

fn at_least_1() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..)
}

/// One that trains a case.
trait Side {
    fn name(&self) -> &'static str;

    /// The mean cross-entropy and the gradient of every trained weight, by name, in the shapes of the graph; nothing is changed.
    fn gradients(&mut self, case: &Case) -> anyhow::Result<(f32, BTreeMap<String, Tensor>)>;

    /// Takes one step and gives the loss before it, with nothing left for the device to do.
    fn step(&mut self, case: &Case) -> anyhow::Result<f32>;
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let case = Case::new(&args.architecture, args.image_size, args.depth, args.batch_size)?;
    let adapter = case::adapter(args.adapter.as_deref())?;
    eprintln!("{}: {}, {} trained parameters", adapter.name, case.name, case.trained_parameters());
    let mut sides: [Box<dyn Side>; 2] =
        [Box::new(Ours::new(&adapter, &case)?), Box::new(Theirs::new(&adapter, &case)?)];
    let agreement = agreement::check(&mut sides, &case)?;
    let seconds = turns(&mut sides, &case, args.steps)?;
    print!("{}", table(&sides, &case, &adapter.name, &agreement, &seconds));
    Ok(())
}

/// The seconds of `steps` steps of each side, one of each side at a time.
fn turns(sides: &mut [Box<dyn Side>; 2], case: &Case, steps: usize) -> anyhow::Result<[Vec<f64>; 2]> {
    let mut seconds = [Vec::new(), Vec::new()];
    for turn in 0..steps {
        for (side, seconds) in sides.iter_mut().zip(&mut seconds) {
            let start = Instant::now();
            let loss = side.step(case)?;
            seconds.push(start.elapsed().as_secs_f64());
            let took = seconds.last().copied().unwrap_or_default();
            eprintln!("turn {turn}: {} {took:.3} s, loss {loss:.6}", side.name());
        }
    }
    Ok(seconds)
}

fn table(
    sides: &[Box<dyn Side>; 2],
    case: &Case,
    adapter: &str,
    agreement: &agreement::Agreement,
    seconds: &[Vec<f64>; 2],
) -> String {
    let mut text =
        format!("{}, {} trained parameters, {adapter}\n\n{agreement}\n\n", case.name, case.trained_parameters());
    text.push_str("| | s a step, median | fastest | slowest | to ours |\n|---|---:|---:|---:|---:|\n");
    let sorted = seconds.each_ref().map(|seconds| {
        let mut sorted = seconds.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    });
    let medians = sorted.each_ref().map(|sorted| median(sorted));
    for ((side, sorted), own) in sides.iter().zip(&sorted).zip(medians) {
        let [fastest, slowest] = [sorted.first(), sorted.last()].map(|end| end.copied().unwrap_or(f64::NAN));
        let ratio = own / medians[0];
        text.push_str(&format!("| {} | {own:.3} | {fastest:.3} | {slowest:.3} | {ratio:.2} |\n", side.name()));
    }
    text
}

/// The middle of values in order, the mean of both where there are two.
fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    match (sorted.len() % 2, sorted.get(middle)) {
        (_, None) => f64::NAN,
        (0, Some(upper)) => (sorted[middle - 1] + upper) / 2.0,
        (_, Some(&middle)) => middle,
    }
}
