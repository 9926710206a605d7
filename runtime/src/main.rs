//! `edge-vit`: classifies pictures with one model file.

use std::process::ExitCode;

fn main() -> ExitCode {
    edge_vit::cli::main()
}
