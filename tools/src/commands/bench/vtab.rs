//! `edge-vit-tools bench vtab`.

use std::path::PathBuf;

use super::conclude;
use super::training::TrainingArgs;
use crate::protocols::vtab::{self, TASKS, Task};

/// Arguments of `bench vtab`.
#[derive(Debug, clap::Args)]
#[command(mut_arg("recipe", |recipe| recipe.default_value("vtab")))]
pub(super) struct Args {
    /// The folder that holds one for each task, with its lists, as the authors' archive has them: cifar/train800.txt ...
    #[arg(long, value_name = "ROOT")]
    data: PathBuf,
    /// Only these tasks, by the names of their folders, with commas [default: all 19]
    #[arg(long, value_name = "TASK,...", value_delimiter = ',', value_parser = parse_task)]
    tasks: Vec<Task>,
    #[command(flatten)]
    training: TrainingArgs,
    /// Decides first weights, order, augmentation and what is dropped
    #[arg(long, default_value_t = 0, help_heading = "Optimisation")]
    seed: u64,
}

fn parse_task(text: &str) -> Result<Task, String> {
    let names = || TASKS.map(|(name, _)| name).join(", ");
    TASKS.into_iter().find(|(name, _)| *name == text).ok_or_else(|| format!("give some of {}", names()))
}

/// Runs the protocol and prints its table.
///
/// # Errors
/// What stopped it, or the tasks that failed.
pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let options = args.training.options(&args.data, None, args.seed)?;
    // In the order of the tables, and each once.
    let asked = |task: &Task| args.tasks.is_empty() || args.tasks.contains(task);
    let tasks: Vec<Task> = TASKS.into_iter().filter(asked).collect();
    let vtab = vtab::run(&options, &tasks, args.training.search, &mut args.training.display(&options))?;
    if !vtab.missing.is_empty() {
        log::warn!("not in {}, and skipped: {}", args.data.display(), vtab.missing.join(", "));
    }
    let table = vtab.to_markdown(options.recipe.adapters.method());
    conclude(&vtab.measured, args.training.json, &vtab.lines(), &table)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::train::{Preset, Recipe};

    #[derive(Debug, clap::Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn parse(more: &[&str]) -> Result<Args, clap::Error> {
        let required = ["vtab", "--backbone", "b", "--data", "d", "--out", "o"];
        Cli::try_parse_from(required.iter().chain(more)).map(|cli| cli.args)
    }

    #[test]
    fn the_recipe_is_that_of_the_authors_where_none_is_named() {
        let epochs = |more: &[&str]| parse(more).unwrap().training.recipe.resolve(Recipe::default().adapters).epochs;
        assert_eq!(epochs(&[]), Preset::Vtab.recipe().epochs);
        assert_eq!(epochs(&["--recipe", "default"]), Preset::Default.recipe().epochs);
    }

    #[test]
    fn tasks_are_known_by_their_folders() {
        assert_eq!(parse(&["--tasks", "svhn,cifar"]).unwrap().tasks.len(), 2);
        let error = parse(&["--tasks", "svhm"]).unwrap_err().to_string();
        assert!(error.contains("oxford_iiit_pet"), "{error}");
    }
}
