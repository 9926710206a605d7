//! Commands that are run when the label changes.

use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result, ensure};

use super::config::OnLabel;
use crate::Observation;

/// The label that stands for any.
const ANY: &str = "*";

/// All commands that wait for a label.
pub(crate) struct Hooks(Vec<Hook>);

/// One command with the thread that runs it. While it runs, only the newest change waits for it.
struct Hook {
    label: String,
    waiting: Arc<Waiting>,
}

#[derive(Default)]
struct Waiting {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    next: Option<Values>,
    closed: bool,
}

/// What a command is told.
struct Values {
    label: String,
    score: String,
    source: String,
}

impl Hooks {
    /// Splits the commands into words and starts a thread for each.
    pub(crate) fn start(commands: &[OnLabel]) -> Result<Self> {
        commands.iter().map(Hook::start).collect::<Result<_>>().map(Self)
    }

    /// Runs what waits for the label of `observation`, if it is a new one. Does not wait.
    pub(crate) fn observe(&self, observation: &Observation) {
        if !observation.changed {
            return;
        }
        for hook in self.0.iter().filter(|hook| hook.label == ANY || *hook.label == *observation.label) {
            let values = Values {
                label: observation.label.to_string(),
                score: format!("{:.4}", observation.score),
                source: observation.source.to_string(),
            };
            hook.waiting.state.lock().unwrap_or_else(PoisonError::into_inner).next = Some(values);
            hook.waiting.changed.notify_one();
        }
    }
}

impl Hook {
    fn start(OnLabel { label, command }: &OnLabel) -> Result<Self> {
        let words = words(command)?;
        let waiting = Arc::new(Waiting::default());
        let shared = Arc::clone(&waiting);
        thread::Builder::new()
            .name(format!("on {label}").chars().take(15).collect())
            .spawn(move || {
                while let Some(values) = shared.take() {
                    run(&words, &values);
                }
            })
            .context("cannot start a thread for --on-label")?;
        Ok(Self { label: label.clone(), waiting })
    }
}

impl Drop for Hook {
    fn drop(&mut self) {
        self.waiting.state.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.waiting.changed.notify_one();
    }
}

impl Waiting {
    fn take(&self) -> Option<Values> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(values) = state.next.take() {
                return Some(values);
            }
            if state.closed {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// The words of a command, at least one. No shell sees them, so nothing that a label holds can become a command.
pub(crate) fn words(command: &str) -> Result<Vec<String>> {
    let words = shell_words::split(command).with_context(|| format!("`{command}` cannot be split into words"))?;
    ensure!(!words.is_empty(), "a command of --on-label is empty");
    Ok(words)
}

fn run(words: &[String], values: &Values) {
    let mut filled = words.iter().map(|word| fill(word, values));
    let Some(program) = filled.next() else { return };
    let status = Command::new(&program)
        .args(filled)
        .env("EDGE_VIT_LABEL", &values.label)
        .env("EDGE_VIT_SCORE", &values.score)
        .env("EDGE_VIT_SOURCE", &values.source)
        .stdin(Stdio::null())
        // Our stdout is for results alone.
        .stdout(Stdio::null())
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => log::warn!("--on-label: `{program}` ended with {status}"),
        Err(error) => log::error!("--on-label: cannot run `{program}`: {error}"),
    }
}

/// `word` with the values for their names, in one pass: what a value holds is not looked at again.
fn fill(word: &str, values: &Values) -> String {
    let mut filled = String::with_capacity(word.len());
    let mut rest = word;
    while let Some(start) = rest.find('{') {
        filled.push_str(&rest[..start]);
        rest = &rest[start..];
        let named = [("{label}", &values.label), ("{score}", &values.score), ("{source}", &values.source)];
        match named.into_iter().find(|(name, _)| rest.starts_with(name)) {
            Some((name, value)) => {
                filled.push_str(value);
                rest = &rest[name.len()..];
            }
            None => {
                filled.push('{');
                rest = &rest[1..];
            }
        }
    }
    filled + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_stays_within_its_word_and_is_not_read_again() {
        let values =
            Values { label: "a b; rm {score} $(x)".to_owned(), score: "0.9".to_owned(), source: "camera 0".to_owned() };
        assert_eq!(fill("say={label}", &values), "say=a b; rm {score} $(x)");
        assert_eq!(fill("{score}/{source}/{other}{", &values), "0.9/camera 0/{other}{");
        assert_eq!(words("notify-send 'it is {label}'").unwrap(), ["notify-send", "it is {label}"]);
        assert!(words("  ").is_err() && words("a 'b").is_err());
    }
}
