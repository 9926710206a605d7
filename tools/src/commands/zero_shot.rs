//! `edge-vit-tools zero-shot`: a head out of the names of classes, by a CLIP's text tower.

use std::io::{Write as _, stdout};
use std::path::PathBuf;

use crate::zero_shot::{self, Options};

/// Arguments of `zero-shot`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A whole CLIP, by OpenAI's, OpenCLIP's or Hugging Face's names
    #[arg(long, value_name = "FILE")]
    backbone: PathBuf,
    /// The pictures, as train takes them, with the names of their classes; a few dozen are looked at
    #[arg(long, value_name = "DATA")]
    data: PathBuf,
    /// Where to write the head, as a file of adapters for `fold` and for `train --head`
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// The CLIP's tokenizer.json [default: the one beside the backbone]
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,
    /// A sentence with {} in place of the class's name; give several to take their mean
    #[arg(long = "template", value_name = "TEXT", default_value = "a photo of a {}.")]
    templates: Vec<String>,
    /// Side of the square that pictures are resized to [default: the CLIP's own]
    #[arg(long, value_name = "PIXELS")]
    image_size: Option<usize>,
}

/// Writes the head and says what it was made of.
///
/// # Errors
/// What stopped it, with the remedy.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let outcome = zero_shot::run(&Options {
        backbone: args.backbone.clone(),
        tokenizer: args.tokenizer.clone(),
        data: args.data.clone(),
        templates: args.templates.clone(),
        image_size: args.image_size,
        out: args.out.clone(),
    })?;
    writeln!(
        stdout(),
        "{}: {} classes from {} sentences; projections of {} pictures are {:.2} long",
        args.out.display(),
        outcome.labels.len(),
        outcome.texts,
        outcome.pictures,
        outcome.length
    )?;
    Ok(())
}
