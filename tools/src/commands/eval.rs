//! `edge-vit-tools eval`.

use std::io::{Write as _, stdout};
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use edge_vit::ModelFile;
use edge_vit_models::file::write_atomic;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::evaluate::{self, Samples};
use crate::segmentation::{self, MaskedListing};

/// Arguments of `eval`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The merged model, as `fold` writes it
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    /// The pictures, as train takes them; of those with parts, the test part is taken first, then that for validation
    #[arg(long, value_name = "DATA")]
    data: PathBuf,
    /// Judge clips, by the mean of their frames' logits: films, the folders CLASS/CLIP, or the groups of a CSV file
    #[arg(long)]
    clip: bool,
    /// Also write every figure to this file as JSON
    #[arg(long, value_name = "FILE")]
    json_out: Option<PathBuf>,
    /// Print JSON in place of the table
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// What stopped it, with the remedy.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let model =
        ModelFile::open(&args.model).with_context(|| format!("cannot open the model {}", args.model.display()))?;
    match model {
        ModelFile::Classifier(classifier) => {
            let frames = classifier.bundle().preprocessing.frames;
            if args.clip && frames > 1 {
                bail!(
                    "this model sees {frames} frames of a clip at a time and judges whole clips by itself; leave --clip out"
                );
            }
            let samples = Samples::find(&args.data, &classifier.bundle().labels)?.filmstrips(frames)?;
            let bar = progress_bar(samples.pictures.len());
            let measure = if args.clip { evaluate::evaluate_clips } else { evaluate::evaluate };
            let evaluation = measure(&classifier, &samples, &|done| bar.set_position(done as u64))?;
            bar.finish_and_clear();
            args.tell(&evaluation, evaluate::to_text)
        }
        ModelFile::Segmenter(_) if args.clip => {
            bail!("--clip judges clips by the classes of their frames, and this model segments; leave it out")
        }
        ModelFile::Segmenter(segmenter) => {
            let (part, set) = MaskedListing::read(&args.data)?.to_measure(&segmenter.bundle().labels)?;
            let bar = progress_bar(set.pictures.len());
            let figures = segmentation::evaluate(&segmenter, part, &set, &|done| bar.set_position(done as u64))?;
            bar.finish_and_clear();
            args.tell(&figures, segmentation::to_text)
        }
    }
}

impl Args {
    /// Writes the figures where they are wanted.
    fn tell<F: Serialize>(&self, figures: &F, to_text: impl FnOnce(&F) -> String) -> anyhow::Result<()> {
        let json = || serde_json::to_string_pretty(figures);
        if let Some(path) = &self.json_out {
            write_atomic(path, json()?.as_bytes()).with_context(|| format!("cannot write {}", path.display()))?;
        }
        if self.json {
            writeln!(stdout(), "{}", json()?)?;
        } else {
            write!(stdout(), "{}", to_text(figures))?;
        }
        Ok(())
    }
}

/// A bar over `pictures`, on stderr and only where that is a terminal.
pub(super) fn progress_bar(pictures: usize) -> ProgressBar {
    let bar = ProgressBar::new(pictures as u64);
    match ProgressStyle::with_template("{bar:40} {pos}/{len} pictures, {eta} left") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
