//! `edge-vit-tools keygen`.

use std::io::{Write as _, stdout};
use std::path::PathBuf;

use crate::sign::{self, Password};

/// Arguments of `keygen`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where to write the secret key; the public one goes beside it, with `.pub` behind
    #[arg(long, value_name = "KEY")]
    out: PathBuf,
    /// Do not ask for a password: whoever has the secret key's file can sign
    #[arg(long)]
    no_password: bool,
}

/// Runs the command.
///
/// # Errors
/// What stopped it, with the remedy.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let password = if args.no_password { Password::None } else { Password::Ask };
    let public = sign::keygen(&args.out, password)?;
    writeln!(stdout(), "secret key: {} (keep it from others)", args.out.display())?;
    writeln!(stdout(), "public key: {} (give it to devices)", sign::public_path(&args.out).display())?;
    writeln!(stdout(), "{public}")?;
    Ok(())
}
