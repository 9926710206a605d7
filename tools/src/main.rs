//! `edge-vit-tools`: adapt, fold, export, check.

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};
use edge_vit::cli::is_broken_pipe;
use edge_vit_tools::{commands, gpu};

/// Adapts a frozen vision transformer to your pictures and writes one file for your board.
#[derive(Debug, Parser)]
#[command(name = "edge-vit-tools", version)]
struct Cli {
    /// List the GPUs that can train, with their limits, and stop
    #[arg(long)]
    list_gpus: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Fetch a backbone by name and check it
    Fetch(commands::fetch::Args),
    /// Say what a data set holds, and what in it would spoil a training
    Data(commands::data::Args),
    /// Adapt a frozen backbone to labelled pictures
    Train(Box<commands::train::Args>),
    /// Train and measure by a protocol of the literature: VTAB-1k, few shots, other domains; or time a training step
    Bench(commands::bench::Args),
    /// Make a head out of the names of classes, by a CLIP's text tower
    ZeroShot(commands::zero_shot::Args),
    /// Take over a LoRA that Hugging Face's peft trained
    Import(commands::import::Args),
    /// Fold trained adapters into the backbone and write one ONNX file
    Fold(commands::fold::Args),
    /// Measure a model file on labelled pictures, through the device's own code
    Eval(commands::eval::Args),
    /// Write a plain backbone as an ONNX file
    Export(commands::export::Args),
    /// Say what a file is and holds
    Info(commands::info::Args),
    /// Write the report of a training run as one HTML page
    Report(commands::report::Args),
    /// Make a pair of keys to sign models with
    Keygen(commands::keygen::Args),
    /// Sign a model, so that devices can tell it from others
    Sign(commands::sign::Args),
    /// Say who signed a model
    Verify(commands::verify::Args),
    /// Write a Debian package for a board: program, service and model
    Package(commands::package::Args),
    /// Write the image of a card that boots into a classifier
    Flash(commands::flash::Args),
    /// Send a new model to a board that runs, and wait until it has proved itself there
    Push(commands::push::Args),
    /// List the boards, with what suits each
    Boards(commands::boards::Args),
    /// List the backbones by name, with what each costs and where its weights are
    Models(commands::models::Args),
    /// Build the program for a board
    Build(commands::build::Args),
}

fn run(cli: &Cli) -> anyhow::Result<()> {
    match &cli.command {
        _ if cli.list_gpus => gpu::list(),
        Some(Command::Fetch(args)) => commands::fetch::run(args),
        Some(Command::Data(args)) => commands::data::run(args),
        Some(Command::Train(args)) => commands::train::run(args),
        Some(Command::Bench(args)) => commands::bench::run(args),
        Some(Command::ZeroShot(args)) => commands::zero_shot::run(args),
        Some(Command::Import(args)) => commands::import::run(args),
        Some(Command::Fold(args)) => commands::fold::run(args),
        Some(Command::Eval(args)) => commands::eval::run(args),
        Some(Command::Export(args)) => commands::export::run(args),
        Some(Command::Info(args)) => commands::info::run(args),
        Some(Command::Report(args)) => commands::report::run(args),
        Some(Command::Keygen(args)) => commands::keygen::run(args),
        Some(Command::Sign(args)) => commands::sign::run(args),
        Some(Command::Verify(args)) => commands::verify::run(args),
        Some(Command::Package(args)) => commands::package::run(args),
        Some(Command::Flash(args)) => commands::flash::run(args),
        Some(Command::Push(args)) => commands::push::run(args),
        Some(Command::Models(args)) => commands::models::run(args),
        Some(Command::Boards(args)) => commands::boards::run(args),
        Some(Command::Build(args)) => commands::build::run(args),
        None => Cli::command()
            .error(clap::error::ErrorKind::MissingSubcommand, "name a command; `--help` lists them")
            .exit(),
    }
}

/// The error and its causes, without those that the text before them tells already.
fn sentence(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !text.contains(&cause) {
            text = if text.is_empty() { cause } else { format!("{text}: {cause}") };
        }
    }
    text
}

fn main() -> ExitCode {
    env_logger::Builder::from_env(
        env_logger::Env::default().default_filter_or("warn,edge_vit_tools=info,edge_vit_targets=info"),
    )
    .init();
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read the results has read enough.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", sentence(&error));
            ExitCode::FAILURE
        }
    }
}
