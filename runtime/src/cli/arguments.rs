//! The arguments.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{ArgGroup, Parser};

/// Classifies pictures with one model file, as `edge-vit-tools fold` writes it.
///
/// Results go to stdout, a line a picture. Exit code 0: all done; 1: something failed; 2: wrong arguments.
#[derive(Debug, Parser)]
#[command(name = "edge-vit", version, group = ArgGroup::new("task").required(true))]
pub(crate) struct Arguments {
    /// The model file
    #[arg(long, value_name = "FILE")]
    pub(crate) model: PathBuf,

    /// Classify these pictures
    #[arg(long, value_name = "FILE", num_args = 1.., group = "task")]
    pub(crate) image: Vec<PathBuf>,

    /// Classify every picture in this folder and the folders in it
    #[arg(long, value_name = "FOLDER", group = "task")]
    pub(crate) dir: Option<PathBuf>,

    /// Classify what camera /dev/videoN sees, until stopped
    #[cfg(all(feature = "camera", target_os = "linux"))]
    #[arg(long, value_name = "N", group = "task")]
    pub(crate) camera: Option<u32>,

    /// Prove that this machine computes what the desktop computed, on pictures that the model file carries
    #[arg(long, group = "task")]
    pub(crate) self_test: bool,

    /// How many classes to name, best first
    #[arg(long, value_name = "K", default_value = "3")]
    pub(crate) top_k: NonZeroUsize,

    /// Write one JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }
}
