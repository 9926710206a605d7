//! `edge-vit-tools bench`: protocols of the literature, and what a training step costs.

mod domain;
mod fewshot;
mod train;
mod training;
mod vtab;

use std::io::{Write as _, stdout};

use anyhow::bail;
use clap::Subcommand;
use serde_json::Value;

use super::interrupt;
use crate::protocols::Measured;

/// Arguments of `bench`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    measurement: Measurement,
}

#[derive(Debug, Subcommand)]
enum Measurement {
    /// VTAB-1k: train on the 800 pictures of each task, choose by its 200, measure once on its test pictures
    Vtab(Box<vtab::Args>),
    /// Train on few pictures of each class, with several seeds, and measure once on the test part
    Fewshot(Box<fewshot::Args>),
    /// Train on one data set and measure on others, with more or less of the adapters folded in
    Domain(Box<domain::Args>),
    /// What a training step costs on this machine: pictures a second, operations, memory
    Train(Box<train::Args>),
}

/// Runs the command. Where a part fails the others go on, and it is an error in the end.
///
/// # Errors
/// What stopped it, or the parts that failed.
pub fn run(args: &Args) -> anyhow::Result<()> {
    match &args.measurement {
        Measurement::Vtab(args) => vtab::run(args),
        Measurement::Fewshot(args) => fewshot::run(args),
        Measurement::Domain(args) => domain::run(args),
        Measurement::Train(args) => train::run(args),
    }
}

/// Prints what came of a protocol: the lines of JSON or the table, and fails if a part of it did. An interrupted one ends the process.
fn conclude(measured: &Measured, json: bool, lines: &[Value], table: &str) -> anyhow::Result<()> {
    if measured.interrupted {
        interrupt::exit("what was measured is kept");
    }
    match json {
        true => lines.iter().try_for_each(|line| writeln!(stdout(), "{line}"))?,
        false => write!(stdout(), "{table}")?,
    }
    let failed: Vec<String> = measured.failed.iter().map(|part| format!("{}: {}", part.name, part.reason)).collect();
    match failed.as_slice() {
        [] => Ok(()),
        [one] => bail!("one part failed: {one}; --resume tries it again"),
        more => bail!("{} parts failed: {}; --resume tries them again", more.len(), more.join("; ")),
    }
}
