//! How long a training step of RepAdapter takes: the project's engine against the same model written with burn, both through
//! wgpu on the same adapter.
//!
//! In this folder, which is a workspace of its own:
//! `cargo run -- --architecture vit_small_patch14_dinov2 --image-size 112 --batch-size 8 --steps 5`.
//!
//! First both compute the loss and the gradient of every trained weight; where one is farther apart than
//! [`agreement::TOLERANCE`], nothing is timed. Then they take steps in turns, the pictures' way to the device, forward, loss,
//! backward, AdamW and the wait for all of it, and the table on stdout has the medians.
//! Where other work shares the machine and the adapter is software, the processor's seconds say more than the clock's. `CUBECL_WGPU_MAX_TASKS` and the like
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
    let took = turns(&mut sides, &case, args.steps)?;
    print!("{}", table(&sides, &case, &adapter.name, &agreement, &took));
    Ok(())
}

/// What steps took, each in seconds.
#[derive(Debug, Default)]
struct Took {
    /// By the clock.
    clock: Vec<f64>,
    /// Of all threads of the program, where the system tells: on software the device's work, whatever else the machine has to do.
    processor: Vec<f64>,
}

/// `steps` steps of each side, one of each side at a time.
fn turns(sides: &mut [Box<dyn Side>; 2], case: &Case, steps: usize) -> anyhow::Result<[Took; 2]> {
    let mut took: [Took; 2] = Default::default();
    for turn in 0..steps {
        for (side, took) in sides.iter_mut().zip(&mut took) {
            let (start, used) = (Instant::now(), processor_seconds());
            let loss = side.step(case)?;
            let clock = start.elapsed().as_secs_f64();
            let processor = processor_seconds().zip(used).map_or(f64::NAN, |(after, before)| after - before);
            eprintln!("turn {turn}: {} {clock:.3} s, processor {processor:.2} s, loss {loss:.6}", side.name());
            took.clock.push(clock);
            took.processor.push(processor);
        }
    }
    Ok(took)
}

/// The seconds that all threads of this program have computed so far: Linux counts them in hundredths.
fn processor_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The program's name, in parentheses, may hold spaces; behind it `utime` and `stime` are the 12th and 13th.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut seconds = || fields.next()?.parse::<u64>().ok().map(|ticks| ticks as f64 / 100.0);
    Some(seconds()? + seconds()?)
}

fn table(
    sides: &[Box<dyn Side>; 2],
    case: &Case,
    adapter: &str,
    agreement: &agreement::Agreement,
    took: &[Took; 2],
) -> String {
    let mut text = format!("{}, {} trained parameters, {adapter}\n\n", case.name, case.trained_parameters());
    text.push_str(&format!("{agreement}\n\nMedians of a step of {} in turns.\n\n", took[0].clock.len()));
    text.push_str("| | s | fastest | slowest | to ours | s of the processor | fastest | slowest | to ours |\n");
    text.push_str("|---|---:|---:|---:|---:|---:|---:|---:|---:|\n");
    let [ours, _] = took;
    for (side, took) in sides.iter().zip(took) {
        let cells = |own: &[f64], ours: &[f64]| {
            let ([low, middle, high], [_, base, _]) = (spread(own), spread(ours));
            format!("{middle:.2} | {low:.2} | {high:.2} | {:.2}", middle / base)
        };
        let (clock, processor) = (cells(&took.clock, &ours.clock), cells(&took.processor, &ours.processor));
        text.push_str(&format!("| {} | {clock} | {processor} |\n", side.name()));
    }
    text
}

/// The least, the median and the largest.
fn spread(values: &[f64]) -> [f64; 3] {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let [low, high] = [sorted.first(), sorted.last()].map(|end| end.copied().unwrap_or(f64::NAN));
    [low, median(&sorted), high]
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
