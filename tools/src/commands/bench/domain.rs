//! `edge-vit-tools bench domain`.

use std::path::PathBuf;

use super::conclude;
use super::training::TrainingArgs;
use crate::commands::train::SplitArgs;
use crate::protocols::domain::Domain;

/// Arguments of `bench domain`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The data set to train on, as train takes it
    #[arg(long, value_name = "DATA")]
    train: PathBuf,
    /// Data sets to measure on, each with a name; classes are found by their names
    #[arg(long, value_name = "NAME=DATA", required = true, num_args = 1.., value_parser = parse_test)]
    test: Vec<(String, PathBuf)>,
    /// How much of the adapters to fold in, with commas: 0 is the plain backbone with the trained head, 1 the adapted one
    #[arg(long, value_name = "SHARE,...", value_delimiter = ',', value_parser = parse_strength, default_value = "0,0.25,0.5,0.75,1")]
    strength: Vec<f64>,
    #[command(flatten)]
    training: TrainingArgs,
    #[command(flatten)]
    split: SplitArgs,
    /// Decides first weights, split, order, augmentation and what is dropped
    #[arg(long, default_value_t = 0, help_heading = "Optimisation")]
    seed: u64,
}

fn parse_test(text: &str) -> Result<(String, PathBuf), String> {
    let named = text.split_once('=').filter(|(name, path)| !name.is_empty() && !path.is_empty());
    named
        .map(|(name, path)| (name.to_owned(), path.into()))
        .ok_or_else(|| "give a name and a data set, like sketch=pictures/sketch".to_owned())
}

fn parse_strength(text: &str) -> Result<f64, String> {
    let strength = text.parse().ok().filter(|strength| (0.0..=1.0).contains(strength));
    strength.ok_or_else(|| "give numbers between 0 and 1".to_owned())
}

/// Runs the protocol and prints its table.
///
/// # Errors
/// What stopped it, or the measurements that failed.
pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let asked = Domain::new(&args.test, &args.strength)?;
    let options = args.training.options(&args.train, Some(&args.split), args.seed)?;
    let ended = asked.run(&options, args.training.search, &mut args.training.display(&options))?;
    conclude(&ended.measured, args.training.json, &ended.lines(), &ended.to_markdown())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_set_has_a_name_and_a_strength_its_range() {
        assert_eq!(parse_test("sketch=a=b").unwrap(), ("sketch".to_owned(), PathBuf::from("a=b")));
        assert!(parse_test("pictures").unwrap_err().contains("sketch=pictures/sketch"));
        assert!(parse_test("=x").is_err());
        assert_eq!(parse_strength("0.25").unwrap(), 0.25);
        assert!(["1.5", "-0.1", "NaN", "x"].iter().all(|text| parse_strength(text).is_err()));
    }
}
