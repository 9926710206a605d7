//! The program `edge-vit`: what is asked for, where pictures come from, and who is told.
//!
//! It stands here and not in the binary so that others can make its man page and its completions from [`command`], and
//! feed its configuration to [`check_config`]. Firmware needs none of it.

mod arguments;
mod bench;
mod classify;
mod config;
mod eye;
mod hooks;
mod masks;
mod model;
mod output;
mod outputs;
mod segment;
#[cfg(feature = "serve")]
mod segment_page;
mod service;
mod settings;
mod watch;

use std::io::{self, Write as _, stdout};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, anyhow};
use clap::{CommandFactory as _, Parser as _};

use arguments::{Arguments, Classify, Command};
use config::Config;
use model::Model;
use output::Output;
use settings::Settings;

use crate::ModelFile;

/// A configuration or an argument that cannot be followed: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("the configuration cannot be followed")]
struct Usage;

/// Why a configuration cannot be followed, in words that name the option.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

/// The program's arguments, with their help.
pub fn command() -> clap::Command {
    Arguments::command()
}

/// Checks the text of a configuration file, without a look at the pictures and devices that it names.
///
/// # Errors
/// The first option that cannot be followed.
pub fn check_config(text: &str) -> Result<(), ConfigError> {
    let settings = Config::parse(text).and_then(Settings::new);
    settings.and_then(|settings| settings.has_source()).map_err(|error| ConfigError(format!("{error:#}")))
}

/// Does what the process's arguments ask for. Results go to stdout, logs to stderr; the exit code is 0 if all succeeded,
/// 1 if something failed, and 2 if arguments or configuration cannot be followed.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn")).init();
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        // Whoever read the results has read enough.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            log::error!("{error:#}");
            if error.downcast_ref::<Usage>().is_some() { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
    }
}

/// Gives whether all of it succeeded.
fn run(arguments: &Arguments) -> Result<bool> {
    match &arguments.command {
        Some(Command::CheckConfig(classify)) => say_whether_sound(classify),
        Some(Command::Bench(arguments)) => bench::run(arguments),
        Some(Command::Model(arguments)) => model::manage(arguments),
        None => classify(&arguments.classify),
    }
}

fn classify(arguments: &Classify) -> Result<bool> {
    let settings = settings(arguments).context(Usage)?;
    if arguments.self_test {
        let (model, file) = Model::open(&settings.model, settings.keys)?;
        let report = file.self_test().with_context(|| settings.model.display().to_string())?;
        model.stopping();
        Output::new(settings.output.json, false).self_test(&report)?;
        return Ok(report.passed());
    }
    settings.has_source().context(Usage)?;
    let stop = Arc::new(AtomicBool::new(false));
    let set = Arc::clone(&stop);
    // A second signal ends the program at once, should something hang.
    ctrlc::set_handler(move || {
        if set.swap(true, Ordering::Relaxed) {
            std::process::exit(1);
        }
    })
    .context("cannot handle signals")?;
    let pictures = settings.pictures()?;
    let (model, file) = Model::open(&settings.model, settings.keys.clone())?;
    match file {
        ModelFile::Classifier(_) if settings.output.mask_out.is_some() => {
            Err(anyhow!("`mask_out` writes the masks of a file of segmentation, and this one classifies")
                .context(Usage))
        }
        ModelFile::Classifier(classifier) => classify::run(&settings, pictures, model, &classifier, &stop),
        ModelFile::Segmenter(segmenter) => {
            segment::run(&settings, pictures, settings.segmenter(segmenter).context(Usage)?, &stop)
        }
    }
}

fn say_whether_sound(arguments: &Classify) -> Result<bool> {
    let settings = settings(arguments).context(Usage)?;
    settings.has_source().context(Usage)?;
    let source = settings.pictures()?;
    writeln!(stdout(), "sound: {} with the model {}", source.open.name(), settings.model.display())?;
    Ok(true)
}

fn settings(arguments: &Classify) -> Result<Settings> {
    let file = arguments.config.as_deref().map_or_else(|| Ok(Config::default()), Config::read)?;
    Settings::new(arguments.overlay().over(file))
}

/// Whether `error` only says that nobody reads stdout any more.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let broken = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    error.chain().any(|cause| cause.downcast_ref::<io::Error>().is_some_and(broken))
}
