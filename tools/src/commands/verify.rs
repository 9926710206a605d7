//! `edge-vit-tools verify`.

use std::io::{Write as _, stdout};
use std::path::PathBuf;

use anyhow::Context as _;
use edge_vit::signature::{PublicKey, verify_file};

use crate::evaluate::printable;

/// Arguments of `verify`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The public key: its file, or the line in it; several may be given
    #[arg(long = "key", value_name = "PUB", required = true)]
    keys: Vec<String>,
    /// The model; its signature lies beside it, with `.minisig` behind
    #[arg(value_name = "MODEL")]
    model: PathBuf,
}

/// Runs the command.
///
/// # Errors
/// When no key fits, or what stopped it, with the remedy.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let keys = args.keys.iter().map(|key| PublicKey::from_text_or_file(key).with_context(|| format!("key {key}")));
    let keys: Vec<PublicKey> = keys.collect::<Result<_, _>>()?;
    let (_, signed) =
        verify_file(&keys, &args.model).with_context(|| format!("{} is not to be trusted", args.model.display()))?;
    writeln!(stdout(), "{}: signed with the key {}", args.model.display(), signed.key)?;
    writeln!(stdout(), "{}", printable(&signed.comment))?;
    Ok(())
}
