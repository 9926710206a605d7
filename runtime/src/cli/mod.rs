//! The command line: what is asked for, where pictures come from, and who is told.

mod arguments;
mod classify;
mod config;
mod eye;
mod hooks;
mod model;
mod output;
mod outputs;
mod service;
mod settings;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};

pub(crate) use arguments::Arguments;
use arguments::{Classify, Command};
use config::Config;
use model::Model;
use output::Output;
use settings::Settings;

/// A configuration or an argument that cannot be followed: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("the configuration cannot be followed")]
pub(crate) struct Usage;

/// Does what was asked for. Gives whether all of it succeeded; results are on stdout, what failed on stderr.
pub(crate) fn run(arguments: &Arguments) -> Result<bool> {
    match &arguments.command {
        Some(Command::CheckConfig(classify)) => check_config(classify),
        Some(Command::Model(arguments)) => model::manage(arguments),
        None => classify(&arguments.classify),
    }
}

fn classify(arguments: &Classify) -> Result<bool> {
    let settings = settings(arguments).context(Usage)?;
    if arguments.self_test {
        let (_, classifier) = Model::open(&settings.model, settings.keys)?;
        let report = classifier.self_test().with_context(|| settings.model.display().to_string())?;
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
    classify::run(&settings, &stop)
}

fn check_config(arguments: &Classify) -> Result<bool> {
    let settings = settings(arguments).context(Usage)?;
    settings.has_source().context(Usage)?;
    let source = settings.pictures()?;
    println!("sound: {} with the model {}", source.open.name(), settings.model.display());
    Ok(true)
}

fn settings(arguments: &Classify) -> Result<Settings> {
    let file = arguments.config.as_deref().map_or_else(|| Ok(Config::default()), Config::read)?;
    Settings::new(arguments.overlay().over(file))
}

/// Whether `error` only says that nobody reads stdout any more.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let broken = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    error.chain().any(|cause| cause.downcast_ref::<io::Error>().is_some_and(broken))
}
