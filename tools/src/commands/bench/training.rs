//! What all protocols ask of a training.

use std::path::{Path, PathBuf};

use crate::commands::interrupt;
use crate::commands::train::{DeviceArgs, Display, MethodArgs, RecipeArgs, SplitArgs};
use crate::train::record::Record;
use crate::train::{Options, Recipe};

/// The arguments of the trainings.
#[derive(Debug, clap::Args)]
pub(super) struct TrainingArgs {
    /// The backbone's weights, as train takes them
    #[arg(long, value_name = "FILE")]
    backbone: PathBuf,
    /// The folder of results
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Go on with the protocol in --out: what was measured is not run again
    #[arg(long)]
    resume: bool,

    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    method: MethodArgs,
    /// Search scale and width anew in each training, as train --search does
    #[arg(long, help_heading = "Adapters")]
    pub(super) search: bool,

    /// Side of the square that pictures are resized to [default: as train's]
    #[arg(long, value_name = "PIXELS", help_heading = "Pictures")]
    image_size: Option<usize>,
    /// Mebibytes of pictures kept in memory; the rest is read again in every epoch
    #[arg(long, value_name = "MIB", default_value_t = 2048, help_heading = "Pictures")]
    cache_limit: u64,

    #[command(flatten)]
    pub(super) recipe: RecipeArgs,

    /// Print one JSON object a line in place of the table
    #[arg(long)]
    pub(super) json: bool,
    /// No progress bar and no line an epoch
    #[arg(long, short)]
    quiet: bool,
}

impl TrainingArgs {
    /// The options of a training on `data`; Ctrl-C stops it from now on.
    pub(super) fn options(&self, data: &Path, split: Option<&SplitArgs>, seed: u64) -> anyhow::Result<Options> {
        let base = self.recipe.resolve(self.method.checked());
        let (val_fraction, group) = match split {
            Some(split) => (split.val_fraction, split.group()),
            None => (base.val_fraction, None),
        };
        let recipe = Recipe { image_size: self.image_size, val_fraction, group, seed, ..base };
        Ok(Options {
            backbone: self.backbone.clone(),
            data: data.to_owned(),
            out: self.out.clone(),
            recipe,
            device: self.device.checked(),
            cache_limit: self.cache_limit.saturating_mul(1 << 20),
            checkpoint_activations: false,
            probe: false,
            resume: self.resume,
            stop: interrupt::flag()?,
        })
    }

    /// Shows the records of the trainings; stdout is for what comes of them.
    pub(super) fn display(&self, options: &Options) -> impl FnMut(&str, Record) {
        let mut display = Display::new(&options.recipe, false, self.quiet);
        move |folder: &str, record| {
            display.turn_to(folder);
            display.show(&record);
        }
    }
}
