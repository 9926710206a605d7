//! `edge-vit-tools models`.

use std::io::{Write as _, stdout};

use anyhow::Context as _;
use edge_vit_models::backbone::{ARCHITECTURES, Architecture, Config, Normalization};
use edge_vit_models::cost::Cost;
use serde_json::{Value, json};

/// Arguments of `models`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Write one JSON object a model
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// When stdout cannot be written.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let mut out = stdout().lock();
    if !args.json {
        let head = ["name", "pixels", "parameters", "GFLOP", "normalisation", "licence", "weights on Hugging Face"];
        writeln!(
            out,
            "{:<36} {:>6} {:>10} {:>7}  {:<13}  {:<10}  {}",
            head[0], head[1], head[2], head[3], head[4], head[5], head[6]
        )?;
    }
    for architecture in ARCHITECTURES {
        let side = architecture.image_size;
        let cost = Cost::of(&architecture.config([side, side]).graph())
            .with_context(|| format!("the architecture {}", architecture.name))?;
        if args.json {
            writeln!(out, "{}", as_json(&architecture, &cost))?;
        } else {
            writeln!(
                out,
                "{:<36} {:>6} {:>9.1}M {:>7.1}  {:<13}  {:<10}  {}",
                architecture.name,
                side,
                cost.parameters as f64 / 1e6,
                cost.gflop(),
                normalization(&architecture),
                architecture.licence,
                architecture.source
            )?;
        }
    }
    if !args.json {
        writeln!(
            out,
            "Any checkpoint of these families works as --backbone; a family's other sizes are told from the weights. Pictures \
             may be of any size of whole patches, for a ConvNeXt of multiples of 32, for a MobileViT of 64, for a \
             Swin of those of its own size. GFLOP \
             (two operations a multiplication) are those of the size given."
        )?;
    }
    Ok(())
}

fn as_json(architecture: &Architecture, cost: &Cost) -> Value {
    let normalization = architecture.normalization();
    let config = architecture.config([architecture.image_size; 2]);
    json!({
        "name": architecture.name,
        "architecture": match config {
            Config::Vit(_) => "vit",
            Config::Swin(_) => "swin",
            Config::ConvNext(_) => "convnext",
            Config::MobileVit(_) => "mobilevit",
        },
        "image_size": architecture.image_size,
        "image_step": config.image_step(),
        "parameters": cost.parameters,
        "gflop": cost.gflop(),
        "mean": normalization.mean,
        "std": normalization.std,
        "source": architecture.source,
        "licence": architecture.licence,
    })
}

fn normalization(architecture: &Architecture) -> &'static str {
    match architecture.normalization() {
        Normalization::IMAGENET => "ImageNet",
        Normalization::CLIP => "CLIP",
        Normalization::NONE => "0 to 1",
        _ => "-1 to 1",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_says_what_it_takes_and_costs() {
        let architecture = Architecture::named("vit_small_patch14_dinov2").unwrap();
        let cost = Cost::of(&architecture.config([224, 224]).graph()).unwrap();
        let value = as_json(&architecture, &cost);
        assert_eq!(value["source"], "timm/vit_small_patch14_dinov2.lvd142m");
        assert!((value["gflop"].as_f64().unwrap() - 12.2).abs() < 0.1, "{value}");
        assert_eq!(normalization(&architecture), "ImageNet");
    }
}
