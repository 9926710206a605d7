//! `edge-vit-tools fetch`: a backbone by name, checked, in one file.

use std::io::{Write as _, stdout};
use std::path::PathBuf;

use crate::fetch::{self, Outcome, REGISTRY, Settings};

/// Arguments of `fetch`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The backbone; `--list` shows the names
    #[arg(required_unless_present = "list")]
    name: Option<String>,
    /// Where to write it [default: edge-vit/NAME.safetensors in $XDG_CACHE_HOME or ~/.cache]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// List the backbones that can be fetched, and stop
    #[arg(long)]
    list: bool,
}

/// Brings the backbone and prints the path of its file.
///
/// # Errors
/// What stopped it, with the remedy.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let Some(name) = args.name.as_ref().filter(|_| !args.list) else {
        for entry in REGISTRY {
            writeln!(stdout(), "{:<14} {} ({})", entry.name, entry.about, entry.licence)?;
        }
        return Ok(());
    };
    let entry = fetch::entry(name)?;
    let out = match &args.out {
        Some(out) => out.clone(),
        None => fetch::default_path(entry.name)?,
    };
    match fetch::fetch(entry, &out, &Settings::from_env())? {
        Outcome::Kept => log::info!("{} is there already, and verified", entry.name),
        Outcome::Fetched => log::info!("{} is verified and written", entry.name),
    }
    writeln!(stdout(), "{}", out.display())?;
    Ok(())
}
