//! `edge-vit-tools info`.

use std::io::{Write as _, stdout};
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::evaluate::printable;
use crate::inspect;
use crate::report::run::flatten;

/// Longest value printed, in characters; `--json` gives all.
const SHOWN: usize = 160;

/// Arguments of `info`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A backbone, trained adapters, the state of a run, or an ONNX model
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// What stopped it, with the remedy.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let description = inspect::inspect(&args.file)?;
    if args.json {
        writeln!(stdout(), "{}", serde_json::to_string_pretty(&description.to_json())?)?;
        return Ok(());
    }
    writeln!(stdout(), "{}: {}", args.file.display(), description.what)?;
    let named = |(name, value): &(&str, Value)| flatten(&json!({ *name: value }));
    let rows: Vec<(String, String)> = description.facts.iter().flat_map(named).collect();
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    for (name, value) in rows {
        let (name, value) = (printable(&name), printable(&value));
        if value.chars().count() > SHOWN {
            writeln!(stdout(), "  {name:width$}  {}…", value.chars().take(SHOWN).collect::<String>())?;
        } else {
            writeln!(stdout(), "  {name:width$}  {value}")?;
        }
    }
    Ok(())
}
