//! `edge-vit-tools sign`.

use std::io::{Write as _, stdout};
use std::path::PathBuf;

use crate::sign::{self, Password};

/// Arguments of `sign`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The secret key, as `keygen` or minisign writes it
    #[arg(long, value_name = "KEY")]
    key: PathBuf,
    /// The model; its signature goes beside it, with `.minisig` behind
    #[arg(value_name = "MODEL")]
    model: PathBuf,
}

/// Runs the command.
///
/// # Errors
/// What stopped it, with the remedy.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let (path, signed) = sign::sign(&args.model, &args.key, Password::Ask)?;
    writeln!(stdout(), "{}: {}", path.display(), signed.comment)?;
    writeln!(stdout(), "signed with the key {}", signed.key)?;
    Ok(())
}
