//! `edge-vit-tools import`: adapters that another program trained.

use std::io::{Write as _, stdout};
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use edge_vit_models::adapter::import;
use edge_vit_models::backbone;
use serde_json::json;

use crate::preprocessing;

/// Arguments of `import`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The backbone that the adapters were trained on
    #[arg(long, value_name = "FILE")]
    backbone: PathBuf,
    /// The folder that peft's `save_pretrained` wrote, a LoRA with its classifier; or a file of RepAdapter's authors' code
    #[arg(long, value_name = "DIR|FILE")]
    adapters: PathBuf,
    /// The factor on the branch of RepAdapters, which their authors' files do not hold
    #[arg(long)]
    scale: Option<f32>,
    /// A file with the name of each class, one a line, in the order of the classifier
    #[arg(long, value_name = "FILE")]
    labels: PathBuf,
    /// Side of the square that pictures are resized to [default: the backbone's own]
    #[arg(long, value_name = "PIXELS")]
    image_size: Option<usize>,
    /// Where to write the adapters, for `fold`
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Writes the adapters as a file that `fold` takes, after merging them once.
///
/// # Errors
/// What stopped it, with the remedy; the file that stood at `--out` is then untouched.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let imported = import(&args.adapters, args.scale)?;
    let text =
        std::fs::read_to_string(&args.labels).with_context(|| format!("cannot read {}", args.labels.display()))?;
    let labels: Vec<String> = text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
    let rows = imported.tensors.get("head.weight").and_then(|head| head.shape().first().copied()).unwrap_or(0);
    if rows != labels.len() {
        bail!(
            "{} names {} classes, the classifier has {rows}; write one name a line, in the classifier's order",
            args.labels.display(),
            labels.len()
        );
    }
    let backbone = backbone::load(&args.backbone, args.image_size.map(|side| [side, side]))
        .with_context(|| format!("backbone {}", args.backbone.display()))?;
    let preprocessing = serde_json::to_value(preprocessing::of(&backbone))?;
    let file = imported.into_file(&backbone, labels, preprocessing, json!({ "imported": args.adapters }));
    // What does not fit this backbone is refused here, and not by the command that reads the file next.
    let merged = file.merged(&backbone.graph, &file.meta.backbone_sha256, 1.0)?;
    file.write(&args.out)?;
    writeln!(
        stdout(),
        "{}: {} on {} layers, {} classes; `fold --pictures DIR` makes a model of it",
        args.out.display(),
        file.meta.method,
        merged.adapters,
        file.meta.labels.len()
    )?;
    Ok(())
}
