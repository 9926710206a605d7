//! The program, as a person calls it.

use std::path::Path;
use std::process::{Command, Output};

/// Runs the program in `folder`, with its cache there.
pub(crate) fn run(folder: &Path, arguments: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_edge-vit-tools"));
    command.current_dir(folder).env("XDG_CACHE_HOME", folder.join("cache")).args(arguments.split(' '));
    command.output().unwrap()
}

/// What it wrote, results before the rest.
pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}
