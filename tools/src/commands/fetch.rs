//! `edge-vit-tools fetch`: a backbone by name, checked, in one file.

use std::io::{Write as _, stdout};
use std::path::PathBuf;

use crate::fetch::any::{self, Id};
use crate::fetch::{self, Outcome, REGISTRY, Settings};

/// Arguments of `fetch`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The backbone; `--list` shows the names. Or a repository of the Hugging Face hub: OWNER/NAME, OWNER/NAME@REVISION
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
    let path = |stem: &str| args.out.clone().map_or_else(|| fetch::default_path(stem), Ok);
    let settings = Settings::from_env();
    let (out, outcome) = match Id::parse(name) {
        Some(id) => {
            let out = path(&id.file_stem())?;
            let outcome = any::fetch(&id, &out, &settings.hub)?;
            (out, outcome)
        }
        None => {
            let entry = fetch::entry(name)?;
            let out = path(entry.name)?;
            let outcome = fetch::fetch(entry, &out, &settings)?;
            (out, outcome)
        }
    };
    match outcome {
        Outcome::Kept => log::info!("{name} is there already, and whole"),
        Outcome::Fetched => log::info!("{name} is checked and written"),
    }
    writeln!(stdout(), "{}", out.display())?;
    Ok(())
}
