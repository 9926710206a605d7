//! `edge-vit-tools build`.

use std::io::{Write as _, stdout};
use std::path::PathBuf;

use edge_vit_targets::build::{self, BuildOptions, Built};
use edge_vit_targets::profile;
use serde_json::json;

/// Arguments of `build`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The board; `edge-vit-tools boards` lists them
    #[arg(long, value_name = "BOARD")]
    board: String,
    /// The folder to write `edge-vit` to [default: boards/BOARD in cargo's target folder]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// A checkout of edge-vit
    #[arg(long, value_name = "DIR", default_value = ".")]
    source: PathBuf,
    /// Write what was built as JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// What stopped it, with the remedy.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let board = profile::find(&args.board, &profile::folders())?;
    let options = BuildOptions { source: args.source.clone(), out: args.out.clone(), target: None };
    let built = build::build(&board, &options)?;
    let Built { binary, bytes, sha256, glibc, fp16, dot_products, rustc } = &built;
    if args.json {
        let board = &board.id;
        writeln!(
            stdout(),
            "{}",
            json!({ "board": board, "binary": binary, "bytes": bytes, "sha256": sha256, "glibc": glibc, "fp16": fp16,
                    "dot_products": dot_products, "rustc": rustc })
        )?;
        return Ok(());
    }
    writeln!(stdout(), "{}", binary.display())?;
    writeln!(stdout(), "{:.1} MiB, SHA-256 {sha256}, by {rustc}", *bytes as f64 / f64::from(1 << 20))?;
    writeln!(stdout(), "needs glibc {glibc}; {} has {} or later", board.name, board.glibc)?;
    if board.debian_arch == "arm64" {
        writeln!(stdout(), "holds {fp16} half-precision multiply-adds and {dot_products} dot products of bytes")?;
    }
    Ok(())
}
