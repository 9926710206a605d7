//! `edge-vit-tools data`: what a data set holds, and what in it would spoil a training.

use std::collections::{HashMap, HashSet};
use std::io::{Write as _, stdout};
use std::path::PathBuf;

use anyhow::bail;
use serde_json::{Map, Value, json};

use super::eval::progress_bar;
use crate::data::Listing;
use crate::data::check::{self, Finding, Weight};
use crate::evaluate::printable;

/// Arguments of `data`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Say how a data set is laid out, and how many pictures each class has
    Show(Show),
    /// Look at every picture for what would spoil a training; nothing is changed
    Check(Check),
}

#[derive(Debug, clap::Args)]
struct Show {
    /// The pictures, as train takes them
    #[arg(value_name = "DATA")]
    data: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Check {
    /// The pictures, as train takes them
    #[arg(value_name = "DATA")]
    data: PathBuf,
    /// Also look for wrong labels, by this frozen backbone's features
    #[arg(long, value_name = "FILE")]
    backbone: Option<PathBuf>,
    /// Print one JSON object a finding, and a summary behind them
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// What stopped it, with the remedy; of `check`, also that something spoils a training.
pub fn run(args: &Args) -> anyhow::Result<()> {
    match &args.action {
        Action::Show(args) => show(args),
        Action::Check(args) => check(args),
    }
}

fn show(args: &Show) -> anyhow::Result<()> {
    let listing = Listing::read(&args.data)?;
    let mut out = stdout().lock();
    if args.json {
        writeln!(out, "{}", summary(&listing))?;
        return Ok(());
    }
    writeln!(out, "{}: {}", printable(&args.data.display().to_string()), listing.layout)?;
    let counts: Vec<HashMap<&str, usize>> =
        (listing.parts.values()).map(|set| set.labels.iter().map(String::as_str).zip(set.counts()).collect()).collect();
    // Every class once, in the order in which the parts have them.
    let mut known = HashSet::new();
    let labels = listing.parts.values().flat_map(|set| &set.labels).filter(|label| known.insert(*label));
    let rows: Vec<(&String, String)> = labels.map(|label| (label, printable(label))).collect();
    let names = rows.iter().map(|(_, shown)| shown.chars().count());
    let width = names.chain(["pictures".len()]).max().unwrap_or_default();
    let heads: String = listing.parts.keys().map(|part| format!("{:>8}", part.name())).collect();
    writeln!(out, "{:width$} {heads}", "class")?;
    for (label, shown) in &rows {
        let of_part = |counts: &HashMap<&str, usize>| format!("{:>8}", counts.get(label.as_str()).unwrap_or(&0));
        writeln!(out, "{shown:width$} {}", counts.iter().map(of_part).collect::<String>())?;
    }
    let totals: String = listing.parts.values().map(|set| format!("{:>8}", set.pictures.len())).collect();
    writeln!(out, "{:width$} {totals}", "pictures")?;
    Ok(())
}

/// Layout, and the classes' counts part by part.
fn summary(listing: &Listing) -> Value {
    let mut parts = Map::new();
    for (part, set) in &listing.parts {
        let classes: Vec<Value> = (set.labels.iter().zip(set.counts()))
            .map(|(label, pictures)| json!({ "label": label, "pictures": pictures }))
            .collect();
        parts.insert(part.name().to_owned(), json!({ "pictures": set.pictures.len(), "classes": classes }));
    }
    json!({ "data": listing.path, "layout": listing.layout, "parts": parts })
}

fn check(args: &Check) -> anyhow::Result<()> {
    let listing = Listing::read(&args.data)?;
    let pictures = listing.parts.values().map(|set| set.pictures.len()).sum();
    let bar = progress_bar(pictures);
    let seen = check::look(&listing, &|| bar.inc(1));
    bar.finish_and_clear();
    let mut findings = check::findings(&listing, &seen);
    if let Some(backbone) = &args.backbone {
        let bar = progress_bar(pictures);
        findings.extend(check::suspects(&listing, &seen, backbone, &|done| bar.set_position(done as u64))?);
        bar.finish_and_clear();
    }
    let spoils = findings.iter().filter(|finding| finding.weight == Weight::Spoils).count();
    if args.json {
        print_json(&findings, pictures, spoils)?;
    } else {
        write!(stdout(), "{}", check::to_text(&findings))?;
    }
    match spoils {
        0 => Ok(()),
        _ => bail!("{spoils} finding(s) in {} spoil a training", args.data.display()),
    }
}

fn print_json(findings: &[Finding], pictures: usize, spoils: usize) -> anyhow::Result<()> {
    let mut out = stdout().lock();
    for finding in findings {
        writeln!(out, "{}", serde_json::to_string(finding)?)?;
    }
    let warns = findings.len() - spoils;
    writeln!(out, "{}", json!({ "finding": "summary", "pictures": pictures, "spoils": spoils, "warns": warns }))?;
    Ok(())
}
