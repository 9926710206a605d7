//! Answers on stdout, as lines of text or of JSON.

use std::io::{self, Write};

use serde::Serialize;

use crate::{CaseReport, Observation, SelfTestReport};

/// One golden case.
#[derive(Serialize)]
struct Case<'a> {
    case: usize,
    passed: bool,
    tensor_equal: bool,
    logit_difference: f32,
    tolerance: f32,
    kernels: &'a [String],
    instructions: &'a [&'static str],
}

/// Writes answers to stdout, each as soon as it is there.
pub(crate) struct Output {
    json: bool,
    changes_only: bool,
}

impl Output {
    pub(crate) fn new(json: bool, changes_only: bool) -> Self {
        Self { json, changes_only }
    }

    /// Writes the answer for one picture.
    pub(crate) fn observe(&self, observation: &Observation) -> io::Result<()> {
        if self.changes_only && !observation.changed {
            return Ok(());
        }
        if self.json {
            return json(observation);
        }
        // The decision is not always the best class of this one frame.
        let best = observation.top.first().is_some_and(|best| best.label == observation.label);
        let decided = (!best).then(|| observation.label.to_string());
        let classes = observation.top.iter().map(|class| format!("{} {:.1} %", class.label, 100.0 * class.score));
        let words: Vec<_> = std::iter::once(observation.source.to_string()).chain(decided).chain(classes).collect();
        line(&words.join("  "))
    }

    /// Writes how each golden case came out, and with which of the engine's kernels.
    pub(crate) fn self_test(&self, report: &SelfTestReport) -> io::Result<()> {
        let SelfTestReport { cases, kernels, instructions } = report;
        if !self.json {
            line(&format!("kernels {} of {}", kernels.join(", "), instructions.join(", ")))?;
        }
        for (index, report) in cases.iter().enumerate() {
            let (case, passed) = (index + 1, report.passed());
            let CaseReport { tensor_equal, logit_difference, tolerance } = *report;
            if self.json {
                json(&Case { case, passed, tensor_equal, logit_difference, tolerance, kernels, instructions })?;
            } else {
                let verdict = if passed { "ok" } else { "FAILED" };
                let tensor = if tensor_equal { "equal" } else { "differs" };
                line(&format!(
                    "golden case {case}: {verdict}, tensor {tensor}, logits within {logit_difference:.1e} (limit {tolerance:.1e})"
                ))?;
            }
        }
        Ok(())
    }
}

/// Writes `value` as one line of JSON.
pub(super) fn json(value: &impl Serialize) -> io::Result<()> {
    line(&serde_json::to_string(value)?)
}

/// Writes a line. It is one write, so that lines of several programs do not mix and a reader sees each at once.
pub(super) fn line(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(format!("{text}\n").as_bytes())?;
    stdout.flush()
}
