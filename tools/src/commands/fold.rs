//! `edge-vit-tools fold`: adapters into the backbone's weights, checked, then one ONNX file.

use std::fs;
use std::io::{Write as _, stdout};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use edge_vit::{LOGIT_TOLERANCE, Measured, Task, TokenMerging};
use edge_vit_models::file::write_atomic;
use serde_json::{Value, json};

use crate::merge::{self, Merge, Merged, Quantized};
use crate::quantize::{Bits, Layer, MAX_DROP, Quantize};

/// Arguments of `fold`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The backbone that the adapters were trained on
    #[arg(long, value_name = "FILE")]
    backbone: PathBuf,
    /// The trained adapters and head: `adapters.safetensors` of a run; several make a model each
    #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
    adapters: Vec<PathBuf>,
    /// Where to write the merged model; with several files of adapters the folder of the models, each called as its
    /// run's folder is
    #[arg(long, value_name = "FILE|DIR")]
    out: PathBuf,
    /// Pictures to check the fold on, in a folder or as train takes them [default: the pictures that the adapters were trained with]
    #[arg(long, value_name = "DIR")]
    pictures: Option<PathBuf>,
    /// How much of the adapters to fold in: 0 is the plain backbone, 1 the adapted one
    #[arg(long, default_value_t = 1.0)]
    strength: f64,
    /// Leave the batch free instead of fixing it at one picture
    #[arg(long)]
    free_batch: bool,
    /// In which numbers the weights are written: f16 halves the file, int8 quarters it and multiplies integers
    #[arg(long, value_enum, default_value_t = Precision::F32)]
    precision: Precision,
    /// Merge the N tokens of each block that are most like others into those, so that the blocks behind have fewer
    #[arg(long, value_name = "N")]
    merge_tokens: Option<usize>,
    /// Labelled pictures, as train takes them, on which the accuracy that precision and merged tokens cost is measured; never the
    /// test pictures [default with f16-compute, int8 or merged tokens: the validation pictures of the training]
    #[arg(long, value_name = "DIR")]
    calibrate: Option<PathBuf>,
    /// Points of accuracy, in segmentation of mean IoU, that may be lost: with int8 as few layers as will do stay in float32 [default: 0.5]
    #[arg(long, value_name = "POINTS")]
    max_drop: Option<f64>,
    /// Print one JSON object in place of the text
    #[arg(long)]
    json: bool,
}

/// In which numbers weights are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Precision {
    /// 32-bit floats
    F32,
    /// 16-bit floats, multiplied as 32-bit floats
    F16,
    /// 16-bit floats, multiplied as such on processors that can (Raspberry Pi 5, Jetson Orin)
    F16Compute,
    /// 8-bit integers in linear layers
    Int8,
}

/// Folds, checks on pictures and on the device's own code, and writes the file, or one for each file of adapters.
///
/// # Errors
/// What stopped it, with the remedy; the file that was to be written is then untouched, those before it are whole.
pub fn run(args: &Args) -> anyhow::Result<()> {
    for (adapters, out) in args.pairs()? {
        let fold = || {
            let merged = args.merge(adapters)?.run()?;
            write_atomic(&out, &merged.bytes).with_context(|| format!("cannot write {}", out.display()))?;
            anyhow::Ok(merged)
        };
        let merged = match args.adapters.len() {
            1 => fold()?,
            _ => fold().with_context(|| format!("cannot fold {}", adapters.display()))?,
        };
        match args.json {
            true => writeln!(stdout(), "{}", to_json(&merged, adapters, &out))?,
            false => writeln!(stdout(), "{}{} ({:.1} MB)", to_text(&merged), out.display(), megabytes(&merged))?,
        }
    }
    Ok(())
}

impl Args {
    fn merge<'a>(&'a self, adapters: &'a Path) -> anyhow::Result<Merge<'a>> {
        Ok(Merge {
            backbone: &self.backbone,
            adapters,
            pictures: self.pictures.as_deref(),
            strength: self.strength,
            free_batch: self.free_batch,
            merge_tokens: self.merge_tokens,
            quantize: self.quantize()?,
        })
    }

    /// Each file of adapters with the model that becomes of it. Where there are several, the models' folder is made.
    fn pairs(&self) -> anyhow::Result<Vec<(&Path, PathBuf)>> {
        if let [adapters] = self.adapters.as_slice() {
            return Ok(vec![(adapters, self.out.clone())]);
        }
        let mut pairs: Vec<(&Path, PathBuf)> = Vec::new();
        for adapters in &self.adapters {
            let out = self.out.join(model_name(adapters)?);
            if let Some((other, _)) = pairs.iter().find(|(_, known)| *known == out) {
                bail!(
                    "{} and {} would both be written to {}; fold one of them by itself",
                    other.display(),
                    adapters.display(),
                    out.display()
                );
            }
            pairs.push((adapters, out));
        }
        fs::create_dir_all(&self.out)
            .with_context(|| format!("several models need a folder; cannot make {}", self.out.display()))?;
        Ok(pairs)
    }

    fn quantize(&self) -> anyhow::Result<Option<Quantize<'_>>> {
        let merges = self.merge_tokens.is_some();
        let bits = match self.precision {
            Precision::F32 if merges => Bits::F32,
            Precision::F32 if self.calibrate.is_some() || self.max_drop.is_some() => {
                bail!(
                    "--calibrate and --max-drop measure what --precision f16 or int8 or --merge-tokens costs; float32 with all \
                     tokens costs nothing"
                )
            }
            Precision::F32 => return Ok(None),
            Precision::F16 if self.max_drop.is_some() && self.calibrate.is_none() && !merges => {
                bail!(
                    "--max-drop needs pictures to measure on with --precision f16: name labelled ones with --calibrate DIR"
                )
            }
            Precision::F16 => Bits::F16,
            Precision::F16Compute => Bits::F16Compute,
            Precision::Int8 => Bits::Int8,
        };
        let max_drop = self.max_drop.unwrap_or(MAX_DROP);
        Ok(Some(Quantize { bits, calibrate: self.calibrate.as_deref(), max_drop }))
    }
}

/// What the model of these adapters is called among others: as its run's folder, or, where the file has a name of its own,
/// as the file.
fn model_name(adapters: &Path) -> anyhow::Result<PathBuf> {
    let whole = std::path::absolute(adapters).with_context(|| format!("cannot find {}", adapters.display()))?;
    let named = match whole.file_stem() {
        Some(stem) if stem != "adapters" => Some(stem),
        _ => whole.parent().and_then(Path::file_name),
    };
    let mut name = named.with_context(|| format!("{} lies in no folder with a name", adapters.display()))?.to_owned();
    name.push(".onnx");
    Ok(name.into())
}

fn megabytes(merged: &Merged) -> f64 {
    merged.bytes.len() as f64 / 1e6
}

fn to_text(merged: &Merged) -> String {
    let mut lines = vec![format!(
        "folded {} adapters; largest logit difference on {} pictures: {:.3e} (relative {:.3e}, limit {:.0e})",
        merged.adapters,
        merged.pictures,
        merged.difference.absolute,
        merged.difference.relative,
        merge::LIMIT
    )];
    if merged.departure > 0.0 {
        lines.push(format!("layers within {:.3e} of the method's definition", merged.departure));
    }
    let simplified = &merged.simplifications;
    lines.push(format!(
        "simplified: {} LayerScales, {} attention scales, the weights of {} LayerNorms and the biases of {} response norms \
         are part of linear layers; {} learned tokens hold their positions{}",
        simplified.layer_scales,
        simplified.attention_scales,
        simplified.layer_norms,
        simplified.response_norms,
        simplified.positions,
        if simplified.normalization { "; the patch embedding holds the pictures' mean and deviation" } else { "" }
    ));
    lines.extend(merged.token_merging.iter().map(token_line));
    lines.extend(merged.quantized.iter().flat_map(quantized_lines));
    // Where tokens are merged and there are fewer bits, both were measured at once.
    let measured = match (&merged.token_merging, &merged.quantized) {
        (Some(merging), None) => Some(("merged tokens", merging.measured)),
        (_, Some(Quantized { record, .. })) => record.measured.map(|measured| (record.precision.as_str(), measured)),
        (None, None) => None,
    };
    let whole = if merged.token_merging.is_some() { "float32 with all tokens" } else { "float32" };
    lines.extend(measured.map(|(what, measured)| measured_line(what, merged.task, whole, &measured)));
    let limit = merged.tolerance.unwrap_or(LOGIT_TOLERANCE);
    lines.push(format!(
        "self-test through the device's code: logits within {:.3e} relative (limit {limit:.1e})",
        merged.self_test
    ));
    lines.iter().map(|line| format!("{line}\n")).collect()
}

fn quantized_lines(quantized: &Quantized) -> Vec<String> {
    let Quantized { record, layers, .. } = quantized;
    let mut lines = Vec::new();
    if !layers.is_empty() {
        let width = layers.iter().map(|layer| layer.name.len()).max().unwrap_or(0);
        lines.push("layers, the most sensitive to int8 first:".to_owned());
        lines.extend(layers.iter().map(|Layer { name, decibels, int8 }| {
            format!("  {name:width$}  {decibels:5.1} dB  {}", if *int8 { "int8" } else { "float32" })
        }));
        lines.push(format!("{} of {} layers in int8", record.int8_layers, record.layers));
    }
    lines.push(format!(
        "{}: logits within {:.3e} of float32 on the pictures of the check",
        record.precision, record.error
    ));
    lines
}

fn token_line(merging: &TokenMerging) -> String {
    let &TokenMerging { per_block, blocks, tokens, tokens_left, gflop_unmerged, gflop, error, .. } = merging;
    format!(
        "merged tokens: {per_block} in each of {blocks} blocks, {tokens} tokens at the start and {tokens_left} at the end; \
         {gflop_unmerged:.3} GFLOP a picture before, {gflop:.3} now; logits within {error:.3e} on the pictures of the check"
    )
}

fn measured_line(what: &str, task: Task, whole: &str, measured: &Measured) -> String {
    let (of, called) = match task {
        Task::Classification => ("right", ""),
        Task::Segmentation { .. } => ("mean IoU", " of patches"),
    };
    format!(
        "{what}: {:.2} % {of} on {} labelled pictures, {:.2} % in {whole}: {:.2} points lost; {:.2} %{called} are called the same",
        100.0 * measured.accuracy,
        measured.pictures,
        100.0 * measured.float32_accuracy,
        measured.drop,
        100.0 * measured.agreement
    )
}

fn to_json(merged: &Merged, adapters: &Path, out: &Path) -> Value {
    let simplified = &merged.simplifications;
    json!({
        "file": adapters,
        "out": out,
        "adapters": merged.adapters,
        "pictures": merged.pictures,
        "difference": { "absolute": merged.difference.absolute, "relative": merged.difference.relative },
        "departure": merged.departure,
        "simplified": {
            "layer_scales": simplified.layer_scales,
            "attention_scales": simplified.attention_scales,
            "layer_norms": simplified.layer_norms,
            "response_norms": simplified.response_norms,
            "positions": simplified.positions,
            "normalization": simplified.normalization,
        },
        "quantization": merged.quantized.as_ref().map(|quantized| json!({
            "record": quantized.record,
            "layers": quantized.layers.iter().map(|layer| json!({
                "name": layer.name,
                "decibels": layer.decibels,
                "int8": layer.int8,
            })).collect::<Vec<_>>(),
        })),
        "token_merging": merged.token_merging,
        "tolerance": merged.tolerance,
        "self_test": merged.self_test,
        "bytes": merged.bytes.len(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(adapters: &[&str], out: &Path) -> Args {
        Args {
            backbone: "b.safetensors".into(),
            adapters: adapters.iter().map(PathBuf::from).collect(),
            out: out.to_owned(),
            pictures: None,
            strength: 1.0,
            free_batch: false,
            precision: Precision::F32,
            merge_tokens: None,
            calibrate: None,
            max_drop: None,
            json: false,
        }
    }

    #[test]
    fn several_heads_become_a_model_each_called_as_its_run() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("models");
        let names = |adapters: &[&str]| -> Result<Vec<PathBuf>, String> {
            let args = args(adapters, &out);
            let pairs = args.pairs().map_err(|error| error.to_string())?;
            Ok(pairs.into_iter().map(|(_, model)| model).collect())
        };
        assert_eq!(names(&["runs/fruit/adapters.safetensors"]), Ok(vec![out.clone()]));
        assert!(!out.exists());
        let several = names(&["runs/fruit/adapters.safetensors", "runs/ripe.safetensors"]);
        assert_eq!(several, Ok(vec![out.join("fruit.onnx"), out.join("ripe.onnx")]));
        assert!(out.is_dir());
        let twice = names(&["a/fruit/adapters.safetensors", "b/fruit/adapters.safetensors"]).unwrap_err();
        assert!(twice.contains("a/fruit") && twice.contains("b/fruit"), "{twice}");
    }
}
