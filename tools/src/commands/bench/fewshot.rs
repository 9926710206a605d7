//! `edge-vit-tools bench fewshot`.

use std::path::PathBuf;

use super::conclude;
use super::training::TrainingArgs;
use crate::commands::train::SplitArgs;
use crate::protocols::few_shot::FewShot;

/// Arguments of `bench fewshot`.
#[derive(Debug, clap::Args)]
#[command(mut_arg("recipe", |recipe| recipe.default_value("few-shot")))]
pub(super) struct Args {
    /// A data set with a test part, as train takes it; several by several --data
    #[arg(long, value_name = "DATA", required = true)]
    data: Vec<PathBuf>,
    /// Pictures of each class to train on, with commas
    #[arg(long, value_name = "K,...", value_delimiter = ',', default_value = "1,2,4,8,16")]
    shots: Vec<usize>,
    /// A training for each of these seeds, which decide the pictures too
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "0,1,2")]
    seeds: Vec<u64>,
    #[command(flatten)]
    training: TrainingArgs,
    #[command(flatten)]
    split: SplitArgs,
}

/// Runs the protocol and prints its table.
///
/// # Errors
/// What stopped it, or the trainings that failed.
pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let asked = FewShot::new(&args.data, &args.shots, &args.seeds)?;
    // The data set and the seed are set for each training.
    let options = args.training.options(&args.data[0], Some(&args.split), 0)?;
    let ended = asked.run(&options, args.training.search, &mut args.training.display(&options))?;
    conclude(&ended.measured, args.training.json, &ended.lines(), &ended.to_markdown())
}
