//! `edge-vit-tools report`.

use std::io::{Write as _, stdout};
use std::path::PathBuf;

use super::eval::progress_bar;
use crate::report::{Report, Sources};

/// Arguments of `report`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The folder that `train --out` wrote
    #[arg(long, value_name = "DIR")]
    run: PathBuf,
    /// The merged model, as `fold` writes it
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    /// The plain backbone, as `export` writes it, to time the merged model against
    #[arg(long, value_name = "FILE")]
    plain: PathBuf,
    /// The pictures to measure on, as for `eval` [default: those that the run was trained with]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Show what merging tokens would cost and save (`fold --merge-tokens N` for up to five N), which takes some minutes
    #[arg(long)]
    token_curve: bool,
    /// The page to write
    #[arg(long, value_name = "FILE", default_value = "report.html")]
    out: PathBuf,
    /// Write a model card too, as Markdown
    #[arg(long, value_name = "FILE")]
    card: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// What stopped it, with the remedy.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let bar = progress_bar(0);
    let (data, token_curve) = (args.data.as_deref(), args.token_curve);
    let sources = Sources { run: &args.run, model: &args.model, plain: &args.plain, data, token_curve };
    let report = Report::gather(sources, &|done, all| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
    })?;
    bar.finish_and_clear();
    report.write(&args.out)?;
    writeln!(stdout(), "{}", args.out.display())?;
    if let Some(card) = &args.card {
        report.write_card(card)?;
        writeln!(stdout(), "{}", card.display())?;
    }
    Ok(())
}
