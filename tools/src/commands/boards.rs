//! `edge-vit-tools boards`.

use std::io::{Write as _, stdout};

use edge_vit_targets::profile::{self, Estimate, Profile};
use serde::Serialize;

/// Arguments of `boards`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Write one JSON object a board: its profile and the estimates
    #[arg(long)]
    json: bool,
}

/// A board with the estimates of its models, as `--json` writes it.
#[derive(Serialize)]
struct Board {
    #[serde(flatten)]
    profile: Profile,
    estimates: Vec<Cost>,
}

/// The estimate of a model.
#[derive(Serialize)]
struct Cost {
    architecture: String,
    size: u32,
    gflop: f64,
    milliseconds: f64,
    memory_mib: f64,
}

/// Runs the command.
///
/// # Errors
/// What stopped it, with the remedy.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let boards = profile::all(&profile::folders())?.into_iter().map(board).collect::<anyhow::Result<Vec<_>>>()?;
    let mut out = stdout().lock();
    if args.json {
        for board in &boards {
            serde_json::to_writer(&mut out, board)?;
            writeln!(out)?;
        }
    } else {
        write!(out, "{}", table(&boards))?;
    }
    Ok(())
}

fn board(profile: Profile) -> anyhow::Result<Board> {
    let cost = |model: &profile::Model| {
        let Estimate { gflop, milliseconds, memory_mib } = Estimate::new(model, &profile.cpu)?;
        anyhow::Ok(Cost { architecture: model.architecture.clone(), size: model.size, gflop, milliseconds, memory_mib })
    };
    let estimates = profile.models.iter().map(cost).collect::<anyhow::Result<_>>()?;
    Ok(Board { profile, estimates })
}

fn table(boards: &[Board]) -> String {
    let mut text = format!(
        "{:<22} {:<33} {:<13} {:>5} {:>6} {:>6}  {:<31} {:>6} {:>6}\n",
        "board", "", "cpu", "cores", "MiB", "glibc", "model", "~ms", "~MiB"
    );
    for Board { profile, estimates } in boards {
        let about = format!(
            "{:<22} {:<33} {:<13} {:>5} {:>6} {:>6}",
            profile.id, profile.name, profile.cpu.target, profile.cores, profile.memory_mib, profile.glibc
        );
        for (row, cost) in estimates.iter().enumerate() {
            let about = if row == 0 { about.as_str() } else { "" };
            let model = format!("{} at {}", cost.architecture, cost.size);
            text += &format!("{about:<90}  {model:<31} {:>6.0} {:>6.0}\n", cost.milliseconds, cost.memory_mib);
        }
    }
    text + "~: estimates, not measured. Time: the model's operations at half of one core's peak. Memory: the program's \
            most, while it loads the model.\n"
}
