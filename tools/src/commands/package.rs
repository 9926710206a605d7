//! `edge-vit-tools package`.

use std::path::PathBuf;

use anyhow::Context as _;
use edge_vit_targets::{package, profile};

/// Arguments of `package`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The board, one of those that `boards` lists
    #[arg(long, value_name = "BOARD")]
    board: String,
    /// The program for it, as `build` writes it
    #[arg(long, value_name = "FILE")]
    binary: PathBuf,
    /// A model that is installed with the program
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// The package's version; without it the one of these tools
    #[arg(long, value_name = "VERSION")]
    version: Option<String>,
    /// The folder that the package is written to
    #[arg(long, value_name = "DIR", default_value = ".")]
    out: PathBuf,
}

/// Runs the command.
///
/// # Errors
/// What stopped it, with the remedy.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let board = profile::find(&args.board, &profile::folders())?;
    // What distributions say when a build is to give the same bytes again.
    let time = match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(time) => {
            time.parse().with_context(|| format!("SOURCE_DATE_EPOCH is {time}, expected seconds since 1970"))?
        }
        Err(_) => package::TIME,
    };
    // Debian takes `~` for what comes before a release.
    let version = args.version.clone().unwrap_or_else(|| env!("CARGO_PKG_VERSION").replace('-', "~"));
    let options = package::Options { binary: args.binary.clone(), model: args.model.clone(), version, time };
    println!("{}", package::package(&board, &options, &args.out)?.display());
    Ok(())
}
