//! `edge-vit-tools train`: adapts a frozen backbone to a folder of pictures.

mod device;
mod display;
mod method;
mod recipe;
mod split;

use std::io::{self, Write as _, stdout};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::ValueEnum;
use edge_vit_models::Task;

use super::interrupt;
use crate::train::series::{self, Series, Spread, Trial};
use crate::train::{self, Options, Outcome, Recipe, Validated};
pub(super) use device::{DeviceArgs, PrecisionName};
pub(super) use display::Display;
use display::accuracy;
pub(super) use method::MethodArgs;
pub(super) use recipe::RecipeArgs;
pub(super) use split::SplitArgs;

/// Arguments of `train`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The backbone's weights: safetensors, PyTorch (.pth), NumPy (.npz) or ONNX, with timm's, Hugging Face's or Google's
    /// names
    #[arg(long, value_name = "FILE")]
    backbone: PathBuf,
    /// The pictures or films: a folder that holds one for each class, or such as train/ and val/; or a CSV file, VTAB's lists,
    /// Parquet or tar files, see docs/data.md
    #[arg(long, value_name = "DATA")]
    data: PathBuf,
    /// The run's folder
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Go on with the run in --out from its last saved state
    #[arg(long)]
    resume: bool,

    /// What is to be learned: a class for each picture, or for each pixel of it, from pictures in images/ and their masks in
    /// masks/, see docs/segmentation.md
    #[arg(long, value_enum, default_value_t = TaskName::Classification)]
    task: TaskName,
    /// How many times finer than the model's patches masks are: 1, 2 or 4, by an up-convolution as the head
    #[arg(long, value_name = "N", default_value_t = 1)]
    mask_scale: usize,

    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    method: MethodArgs,
    /// Begin with the head of this file of adapters, such as `zero-shot` writes, instead of zeros
    #[arg(long, value_name = "FILE", help_heading = "Adapters")]
    head: Option<PathBuf>,

    /// Side of the square that pictures are resized to [default: the multiple of the patch that covers the median
    /// picture's shorter side, within 112 to 224]
    #[arg(long, value_name = "PIXELS", help_heading = "Pictures")]
    image_size: Option<usize>,
    #[command(flatten)]
    split: SplitArgs,
    /// Train on N pictures of each class, and choose the epoch by N others, or by DIR/val
    #[arg(long, value_name = "N", help_heading = "Pictures")]
    shots: Option<usize>,
    /// Mebibytes of pictures kept in memory; the rest is read again in every epoch
    #[arg(long, value_name = "MIB", default_value_t = 2048, help_heading = "Pictures")]
    cache_limit: u64,

    /// Activation checkpointing: keep of each block its input alone and compute its activations again in the backward, for less
    /// memory and more time; the result stays the same
    #[arg(long, help_heading = "Optimisation")]
    activation_checkpointing: bool,
    #[command(flatten)]
    recipe: RecipeArgs,
    /// Share of the validation pictures that the threshold for `unknown`, fitted at the kept epoch, may give up
    #[arg(long, value_name = "SHARE", default_value_t = 0.05, help_heading = "Optimisation")]
    false_rejection_rate: f64,
    /// Decides first weights, split, order, augmentation and what is dropped
    #[arg(long, default_value_t = 0, help_heading = "Optimisation")]
    seed: u64,

    /// Train once for each of these seeds, in a folder seed-N below --out; mean and spread go to stdout and seeds.json
    #[arg(long, value_name = "N,...", value_delimiter = ',', conflicts_with_all = ["seed", "search"], help_heading = "Several runs")]
    seeds: Vec<u64>,
    /// Try the scales 0.1, 0.5, 1, 5 and 10, then half and twice the hidden units or rank at the best of them, in folders
    /// trial-N below --out; the lowest validation loss is the result, and search.json holds all trials
    #[arg(long, help_heading = "Several runs")]
    search: bool,
    /// Leave out the linear probe: a head on the frozen backbone's features, which tells what adapting is worth
    #[arg(long)]
    no_probe: bool,

    /// Write the log's records to stdout, one JSON object a line
    #[arg(long)]
    json: bool,
    /// No progress bar and no line an epoch
    #[arg(long, short)]
    quiet: bool,
}

/// [`Task`] on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TaskName {
    Classification,
    Segmentation,
}

impl Args {
    fn options(&self, stop: Arc<AtomicBool>) -> Options {
        Options {
            backbone: self.backbone.clone(),
            data: self.data.clone(),
            out: self.out.clone(),
            recipe: Recipe {
                task: match self.task {
                    TaskName::Classification => Task::Classification,
                    TaskName::Segmentation => Task::Segmentation,
                },
                mask_scale: self.mask_scale,
                head: self.head.clone(),
                image_size: self.image_size,
                val_fraction: self.split.val_fraction,
                group: self.split.group(),
                shots: self.shots,
                false_rejection_rate: self.false_rejection_rate,
                seed: self.seed,
                ..self.recipe.resolve(self.method.checked())
            },
            device: self.device.checked(),
            cache_limit: self.cache_limit.saturating_mul(1 << 20),
            checkpoint_activations: self.activation_checkpointing,
            probe: !self.no_probe,
            resume: self.resume,
            stop,
        }
    }
}

/// Trains until the last epoch or Ctrl-C, after which the process ends with status 130.
///
/// # Errors
/// What stopped it, with the remedy.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let stop = interrupt::flag()?;
    let options = args.options(stop);
    let mut display = Display::new(&options.recipe, args.json, args.quiet);
    if args.search || !args.seeds.is_empty() {
        let mut records = |folder: &str, record| {
            display.turn_to(folder);
            display.show(&record);
        };
        let series = match args.search {
            true => series::search(&options, &mut records)?,
            false => series::seeds(&options, &args.seeds, &mut records)?,
        };
        display.bar.finish_and_clear();
        if series.interrupted {
            interrupt::exit("the runs that ended are kept");
        }
        if !args.json {
            series_summary(args, &series)?;
        }
        return Ok(());
    }
    let outcome = train::run(&options, &mut |record| display.show(&record))?;
    display.bar.finish_and_clear();
    if outcome.interrupted {
        interrupt::exit(&format!("stopped after step {}; the state is saved", outcome.steps));
    }
    if !args.json {
        summary(args, &outcome)?;
    }
    Ok(())
}

/// A line for each run, then what follows from all of them.
fn series_summary(args: &Args, series: &Series) -> io::Result<()> {
    for Trial { folder, settings, kept, failed } in &series.trials {
        let settings: Vec<String> = settings.iter().map(|(name, value)| format!("{name} {value}")).collect();
        write!(stdout(), "{folder} ({}): ", settings.join(", "))?;
        match (kept, failed) {
            (Some(Validated { epoch, val_top1, val_miou, val_loss }), _) => {
                writeln!(stdout(), "epoch {epoch}, validation {}, loss {val_loss:.4}", accuracy(*val_top1, *val_miou))?
            }
            (None, failed) => writeln!(stdout(), "{}", failed.as_deref().unwrap_or("no epoch ended"))?,
        }
    }
    if args.search {
        let Some(best) = series.best() else { return writeln!(stdout(), "no trial ended well") };
        writeln!(stdout(), "lowest validation loss: {}", best.folder)?;
        writeln!(stdout(), "adapters: {}", args.out.join("adapters.safetensors").display())?;
        return writeln!(stdout(), "trials: {}", args.out.join("search.json").display());
    }
    if let Some(Spread { mean, deviation }) = Spread::of(series, |kept| kept.val_top1) {
        writeln!(stdout(), "validation top-1: mean {:.2} %, deviation {:.2}", 100.0 * mean, 100.0 * deviation)?;
    }
    if let Some(Spread { mean, deviation }) = Spread::of(series, |kept| kept.val_loss) {
        writeln!(stdout(), "validation loss: mean {mean:.4}, deviation {deviation:.4}")?;
    }
    writeln!(stdout(), "runs: {}", args.out.join("seeds.json").display())
}

fn summary(args: &Args, outcome: &Outcome) -> io::Result<()> {
    if let Some(kept) = outcome.kept {
        writeln!(
            stdout(),
            "kept epoch {} of {}: validation {}, loss {:.4}",
            kept.epoch,
            outcome.epochs,
            accuracy(kept.val_top1, kept.val_miou),
            kept.val_loss
        )?;
    }
    if outcome.skipped > 0 {
        writeln!(stdout(), "pictures left out because they could not be read: {}", outcome.skipped)?;
    }
    writeln!(stdout(), "trained on {}", outcome.device)?;
    writeln!(stdout(), "adapters: {}", outcome.adapters.display())?;
    writeln!(stdout(), "log: {}", args.out.join("log.jsonl").display())
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use edge_vit_models::adapter::{Adaptation, Spec};
    use edge_vit_models::method::{LoraTarget, MethodSpec};

    use super::*;
    use crate::data::Group;
    use crate::train::augment::RandAugment;
    use crate::train::{DeviceChoice, Preset};

    #[derive(Debug, clap::Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn parse(more: &[&str]) -> Result<Options, clap::Error> {
        let required = ["train", "--backbone", "b", "--data", "d", "--out", "o"];
        let cli = Cli::try_parse_from(required.iter().chain(more))?;
        Ok(cli.args.options(Arc::default()))
    }

    #[test]
    fn without_flags_the_recipe_is_the_default_one() {
        assert_eq!(parse(&[]).unwrap().recipe, Recipe::default());
    }

    #[test]
    fn a_flag_goes_before_the_recipe_that_is_named() {
        assert_eq!(parse(&["--recipe", "vtab"]).unwrap().recipe, Preset::Vtab.recipe());
        assert_eq!(parse(&["--recipe", "few-shot"]).unwrap().recipe, Preset::FewShot.recipe());
        let flags =
            "--recipe few-shot --epochs 7 --min-lr 0 --crop 1 --rand-augment none --mixup 0 --cutmix 0.5 --ema 0.9";
        let flags: Vec<&str> = flags.split(' ').collect();
        let recipe = parse(&flags).unwrap().recipe;
        let mut expected = Preset::FewShot.recipe();
        (expected.epochs, expected.min_lr, expected.ema) = (7, Some(0.0), Some(0.9));
        (expected.augment.crop, expected.augment.rand_augment) = (None, None);
        (expected.augment.mix.mixup, expected.augment.mix.cutmix) = (0.0, 0.5);
        assert_eq!(recipe, expected);
        recipe.check().unwrap();
        assert!(parse(&["--rand-augment", "rand-m12"]).unwrap_err().to_string().contains("rand-m9-mstd0.5-inc1"));
        assert_eq!(parse(&["--rand-augment"]).unwrap().recipe.augment.rand_augment, Some(RandAugment::default()));
    }

    /// What the help says a flag stands at is what it stands at.
    #[test]
    fn the_help_tells_the_values_of_every_recipe() {
        let help = Cli::command().render_long_help().to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        let [default, vtab, few] = [Preset::Default, Preset::Vtab, Preset::FewShot].map(Preset::recipe);
        for (values, line) in [
            (vec![default.epochs.into(), vtab.epochs.into(), few.epochs.into()], "[default: 30; vtab, few-shot 100]"),
            (vec![default.batch_size as f64, vtab.batch_size as f64], "[default: 32; vtab, few-shot 64]"),
            (
                [MethodSpec::LayerNorm, MethodSpec::Linear, MethodSpec::Full, MethodSpec::Ssf]
                    .map(|method| {
                        Preset::Default.recipe_for(Adaptation::Method(method)).lr.to_string().parse().unwrap()
                    })
                    .to_vec(),
                "[default: 0.002, where --method says layernorm 0.02, linear 0.01, lastblocks 0.0002, full 0.00002;",
            ),
            (vec![default.augment.flip, few.augment.flip], "[default: 0; few-shot 0.5]"),
            (vec![default.augment.erase, few.augment.erase], "[default: 0; few-shot 0.25]"),
            (vec![default.augment.mix.mixup, few.augment.mix.mixup], "[default: 0; few-shot 0.8]"),
            (vec![default.augment.mix.cutmix, few.augment.mix.cutmix], "[default: 0; few-shot 1]"),
        ] {
            assert!(help.contains(line), "{line} is not in {help}");
            assert!(values.iter().all(|value| line.contains(&value.to_string())), "{line}: {values:?}");
        }
    }

    #[test]
    fn several_runs_are_asked_for_in_one_way_at_a_time() {
        assert!(parse(&["--seeds", "0,1", "--search"]).is_err());
        assert!(parse(&["--seeds", "0,1", "--seed", "3"]).is_err());
        assert!(parse(&["--seeds", "0,a"]).is_err());
        assert!(parse(&["--search", "--seed", "3"]).is_ok());
    }

    #[test]
    fn a_named_gpu_is_taken_without_device() {
        assert_eq!(parse(&[]).unwrap().device, DeviceChoice::Auto);
        assert_eq!(parse(&["--device", "cpu"]).unwrap().device, DeviceChoice::Cpu);
        assert_eq!(parse(&["--device", "gpu"]).unwrap().device, DeviceChoice::Gpu(None));
        assert_eq!(parse(&["--gpu", "1"]).unwrap().device, DeviceChoice::Gpu(Some("1".to_owned())));
    }

    #[test]
    fn ranges_and_groups_are_read() {
        let options = parse(&["--blocks", "6..12", "--group-prefix", "3"]).unwrap();
        let spec = Spec { blocks: Some(6..12), ..Spec::default() };
        assert_eq!(options.recipe.adapters, Adaptation::Adapters(spec));
        assert_eq!(options.recipe.group, Some(Group::Prefix(3)));
        for wrong in ["6", "12..6", "a..b"] {
            assert!(parse(&["--blocks", wrong]).is_err());
        }
        assert!(parse(&["--group-prefix", "3", "--group-before", "_"]).is_err());
    }

    #[test]
    fn a_loras_layers_are_read() {
        let adapters =
            |flags: &[&str]| parse(&[&["--method", "lora", "--scale", "0.5"], flags].concat()).unwrap().recipe.adapters;
        let lora = |targets| Adaptation::Method(MethodSpec::Lora { rank: 8, alpha: 4.0, targets });
        assert_eq!(adapters(&[]), lora(LoraTarget::queries_and_values()));
        assert_eq!(adapters(&["--targets", "fc1,qkv"]), lora([LoraTarget::Qkv, LoraTarget::Fc1].into()));
        assert!(parse(&["--targets", "q,fc3"]).is_err());
    }
}
