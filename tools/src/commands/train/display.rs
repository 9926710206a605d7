//! What a person, or a program, sees of a run while it goes on.

use std::io::{self, Write as _, stdout};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressFinish, ProgressStyle};
use serde::Serialize;
use serde_json::json;

use crate::train::record::Record;
use crate::train::{Probe, Recipe};

/// How right a model is, in words.
pub(super) fn accuracy(top1: f32, miou: Option<f32>) -> String {
    match miou {
        None => format!("top-1 {:.2} %", 100.0 * top1),
        Some(miou) => format!("mean IoU {:.2} %, pixels {:.2} %", 100.0 * miou, 100.0 * top1),
    }
}

fn print_line(line: &impl Serialize) -> io::Result<()> {
    writeln!(stdout(), "{}", serde_json::to_string(line)?)
}

/// What a person sees of the records.
pub(in crate::commands) struct Display {
    pub(in crate::commands) bar: ProgressBar,
    json: bool,
    quiet: bool,
    epochs: u32,
    batch_size: usize,
    /// The run of a series that the records are of.
    folder: String,
}

impl Display {
    pub(in crate::commands) fn new(recipe: &Recipe, json: bool, quiet: bool) -> Self {
        // indicatif draws nothing where stderr is no terminal.
        let target = if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(Some(0), target).with_finish(ProgressFinish::AndClear);
        let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} steps, {eta} left");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self { bar, json, quiet, epochs: recipe.epochs, batch_size: recipe.batch_size, folder: String::new() }
    }

    /// The next records are of the run in `folder` of a series.
    pub(in crate::commands) fn turn_to(&mut self, folder: &str) {
        if self.folder != folder {
            folder.clone_into(&mut self.folder);
            self.bar.set_position(0);
            self.print(&json!({ "kind": "trial", "folder": folder }));
            self.line(&format!("{folder}:"));
        }
    }

    /// Writes a line of JSON, where that is wanted.
    fn print(&mut self, line: &impl Serialize) {
        if self.json
            && let Err(error) = print_line(line)
        {
            // Whoever reads may stop; the run goes on.
            self.json = false;
            log::warn!("records are no longer written to stdout ({error}); log.jsonl in the run's folder has them all");
        }
    }

    pub(in crate::commands) fn show(&mut self, record: &Record) {
        self.print(record);
        match record {
            Record::Run { device, train, val, classes, trained_parameters, .. } => {
                let steps = train.div_ceil(self.batch_size.max(1)) as u64 * u64::from(self.epochs);
                self.bar.set_length(steps);
                self.line(&format!(
                    "{train} pictures to train on, {val} to choose the epoch by, {classes} classes, \
                     {trained_parameters} trained parameters, on {device}"
                ));
            }
            Record::Probe(Probe { val_top1, val_loss, seconds }) => self.line(&format!(
                "the frozen backbone with a new head alone: validation loss {val_loss:.4}, top-1 {:.2} %, {seconds:.1} s",
                100.0 * val_top1
            )),
            Record::Skipped { .. } => {}
            Record::Step { epoch, step, loss, .. } => {
                if self.bar.position() == 0 {
                    // The rate behind the time left counts from here, also in a resumed run.
                    self.bar.set_position(step - 1);
                    self.bar.reset_eta();
                }
                self.bar.set_message(format!("epoch {epoch} loss {loss:.4}"));
                self.bar.set_position(*step);
            }
            Record::Epoch { epoch, train_loss, val_loss, val_top1, val_miou, kept, seconds } => self.line(&format!(
                "epoch {epoch}/{}: train loss {train_loss:.4}, validation loss {val_loss:.4}, {}, {seconds:.1} s{}",
                self.epochs,
                accuracy(*val_top1, *val_miou),
                if *kept { ", kept" } else { "" }
            )),
        }
    }

    fn line(&self, text: &str) {
        if !self.quiet {
            self.bar.suspend(|| eprintln!("{text}"));
        }
    }
}
