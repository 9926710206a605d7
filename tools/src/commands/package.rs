//! `edge-vit-tools package`.

use std::io::{Write as _, stdout};
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
    let mut options = options(args.binary.clone(), args.model.clone())?;
    if let Some(version) = &args.version {
        options.version.clone_from(version);
    }
    writeln!(stdout(), "{}", package::package(&board, &options, &args.out)?.display())?;
    Ok(())
}

/// A package of this version, with the program and the model.
///
/// # Errors
/// If the environment names a time that is none.
pub(super) fn options(binary: PathBuf, model: Option<PathBuf>) -> anyhow::Result<package::Options> {
    // What distributions say when a build is to give the same bytes again.
    let time = match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(time) => {
            time.parse().with_context(|| format!("SOURCE_DATE_EPOCH is {time}, expected seconds since 1970"))?
        }
        Err(_) => package::TIME,
    };
    // Debian takes `~` for what comes before a release.
    let version = env!("CARGO_PKG_VERSION").replace('-', "~");
    Ok(package::Options { binary, model, version, time })
}
