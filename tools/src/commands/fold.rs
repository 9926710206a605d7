//! `edge-vit-tools fold`: adapters into the backbone's weights, checked, then one ONNX file.

use std::io::{Write as _, stdout};
use std::path::PathBuf;

use anyhow::Context as _;
use edge_vit_models::file::write_atomic;

use crate::merge::{self, Merge};

/// Arguments of `fold`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The backbone that the adapters were trained on
    #[arg(long, value_name = "FILE")]
    backbone: PathBuf,
    /// The trained adapters and head: `adapters.safetensors` of a run
    #[arg(long, value_name = "FILE")]
    adapters: PathBuf,
    /// Where to write the merged model
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Folder of pictures to check the fold on [default: the pictures that the adapters were trained with]
    #[arg(long, value_name = "DIR")]
    pictures: Option<PathBuf>,
    /// How much of the adapters to fold in: 0 is the plain backbone, 1 the adapted one
    #[arg(long, default_value_t = 1.0)]
    strength: f64,
    /// Leave the batch free instead of fixing it at one picture
    #[arg(long)]
    free_batch: bool,
}

/// Folds, checks on pictures and on the device's own code, and writes the file.
///
/// # Errors
/// What stopped it, with the remedy; the file that stood at `--out` is then untouched.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let merged = Merge {
        backbone: &args.backbone,
        adapters: &args.adapters,
        pictures: args.pictures.as_deref(),
        strength: args.strength,
        free_batch: args.free_batch,
    }
    .run()?;
    write_atomic(&args.out, &merged.bytes).with_context(|| format!("cannot write {}", args.out.display()))?;
    writeln!(
        stdout(),
        "folded {} adapters; largest logit difference on {} pictures: {:.3e} (relative {:.3e}, limit {:.0e})",
        merged.adapters,
        merged.pictures,
        merged.difference.absolute,
        merged.difference.relative,
        merge::LIMIT
    )?;
    if merged.departure > 0.0 {
        writeln!(stdout(), "layers within {:.3e} of the method's definition", merged.departure)?;
    }
    let simplified = &merged.simplifications;
    writeln!(
        stdout(),
        "simplified: {} LayerScales, {} attention scales, the weights of {} LayerNorms and the biases of {} response norms \
         are part of linear layers; {} learned tokens hold their positions{}",
        simplified.layer_scales,
        simplified.attention_scales,
        simplified.layer_norms,
        simplified.response_norms,
        simplified.positions,
        if simplified.normalization { "; the patch embedding holds the pictures' mean and deviation" } else { "" }
    )?;
    writeln!(stdout(), "self-test through the device's code: logits within {:.3e} relative", merged.self_test)?;
    writeln!(stdout(), "{} ({:.1} MB)", args.out.display(), merged.bytes.len() as f64 / 1e6)?;
    Ok(())
}
