//! `edge-vit-tools export`: the plain backbone as an ONNX file that takes normalised pictures.

use std::collections::BTreeMap;
use std::io::{Write as _, stdout};
use std::path::PathBuf;

use anyhow::Context as _;
use edge_vit_models::backbone::{self, Architecture};
use edge_vit_models::file::write_atomic;
use edge_vit_models::onnx::{self, Batch};

/// Arguments of `export`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The backbone
    #[arg(long, value_name = "FILE")]
    backbone: PathBuf,
    /// Refuse the backbone unless it is this architecture, by timm's name: `vit_small_patch14_dinov2`
    #[arg(long, value_name = "NAME")]
    arch: Option<String>,
    /// Where to write the model
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Side of the square pictures it takes, a multiple of the patch, for Swin and ConvNeXt of what their maps need [default: the checkpoint's own]
    #[arg(long, value_name = "PIXELS")]
    image_size: Option<usize>,
    /// Leave the batch free instead of fixing it at one picture
    #[arg(long)]
    free_batch: bool,
}

/// Writes the backbone with its own head, if it has one; without one the output is the features.
///
/// # Errors
/// When the checkpoint cannot be read or the file not be written.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let backbone = backbone::load(&args.backbone, args.image_size.map(|side| [side, side]))
        .with_context(|| format!("backbone {}", args.backbone.display()))?;
    if let Some(name) = &args.arch {
        Architecture::named(name)?.check(&backbone.config)?;
    }
    let batch = if args.free_batch { Batch::Free } else { Batch::One };
    let bytes = onnx::to_bytes(&backbone.graph, batch, &BTreeMap::new())?;
    write_atomic(&args.out, &bytes).with_context(|| format!("cannot write {}", args.out.display()))?;
    let [height, width] = backbone.config.image_size();
    let input = match backbone.config.num_frames() {
        1 => format!("{height}x{width} pictures"),
        frames => format!("clips of {frames} frames of {height}x{width}"),
    };
    let output = if backbone.config.num_classes().is_some() { "logits" } else { "features" };
    writeln!(stdout(), "{} ({:.1} MB): {input} to {output}", args.out.display(), bytes.len() as f64 / 1e6)?;
    Ok(())
}
