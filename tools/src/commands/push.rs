//! `edge-vit-tools push`.

use std::io::{Write as _, stdout};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::ensure;
use edge_vit_targets::push::{self, Options};

/// Arguments of `push`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The board, as ssh knows it: NAME or USER@NAME. The user owns the folder of models, is root, or is one whom sudo asks no
    /// password
    #[arg(value_name = "HOST")]
    host: String,
    /// The model; a signature beside it goes with it
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// The folder of models on the board
    #[arg(long, value_name = "FOLDER", default_value = "/var/lib/edge-vit/models")]
    store: String,
    /// Install it even if the board returned from it before
    #[arg(long)]
    force: bool,
    /// How many seconds to wait until the board's program has proved the model at its work; 0: not at all
    #[arg(long, value_name = "SECONDS", default_value_t = 90)]
    wait: u64,
    /// How the board is reached, with options: 'ssh -p 2222 -i key'
    #[arg(long, value_name = "COMMAND", default_value = "ssh")]
    ssh: String,
}

/// Runs the command.
///
/// # Errors
/// What stopped it, with the remedy.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let patience = (args.wait > 0).then(|| Duration::from_secs(args.wait));
    let options = Options { ssh: args.ssh.clone(), store: args.store.clone(), force: args.force, patience };
    let taken = |id: &str| {
        if patience.is_some() {
            log::info!("{} has switched to {id}; waiting until it has proved itself there", args.host);
        }
    };
    let pushed = push::push(&args.host, &args.model, &options, taken)?;
    writeln!(stdout(), "{}", pushed.id)?;
    ensure!(
        pushed.proved || patience.is_none(),
        "{} has the model, but no program there proved it within {} s: is the service up (`systemctl status edge-vit`), and is \
         {} its folder of models?",
        args.host,
        args.wait,
        args.store
    );
    Ok(())
}
