//! Results on stdout, as lines of text or of JSON.

use std::io::{self, Write};
use std::num::NonZeroUsize;

use edge_vit::{CaseReport, Prediction, SelfTestReport};
use serde::Serialize;

/// One classified picture.
#[derive(Serialize)]
struct Line<'a> {
    source: &'a str,
    label: &'a str,
    score: f32,
    top: Vec<Top<'a>>,
    /// Milliseconds of preprocessing and model.
    ms: f64,
}

/// One class of several.
#[derive(Serialize)]
struct Top<'a> {
    label: &'a str,
    score: f32,
}

/// One golden case.
#[derive(Serialize)]
struct Case {
    case: usize,
    passed: bool,
    tensor_equal: bool,
    logit_difference: f32,
}

/// Writes results to stdout, each as soon as it is there.
pub(crate) struct Output {
    top_k: NonZeroUsize,
    json: bool,
}

impl Output {
    pub(crate) fn new(top_k: NonZeroUsize, json: bool) -> Self {
        Self { top_k, json }
    }

    /// Writes the first of `predictions` (all classes, best first) for the picture named `source`.
    pub(crate) fn predictions(&mut self, source: &str, predictions: &[Prediction], ms: f64) -> io::Result<()> {
        let top = predictions.iter().take(self.top_k.get());
        if self.json {
            let top: Vec<_> = top.map(|p| Top { label: &p.label, score: p.score }).collect();
            let (label, score) = top.first().map_or(("", 0.0), |best| (best.label, best.score));
            json(&Line { source, label, score, top, ms })
        } else {
            let classes: Vec<_> = top.map(|p| format!("{} {:.1} %", p.label, 100.0 * p.score)).collect();
            line(&format!("{source}  {}", classes.join("  ")))
        }
    }

    /// Writes how each golden case came out.
    pub(crate) fn self_test(&mut self, report: &SelfTestReport) -> io::Result<()> {
        for (index, report) in report.cases.iter().enumerate() {
            let (case, passed) = (index + 1, report.passed());
            let CaseReport { tensor_equal, logit_difference } = *report;
            if self.json {
                json(&Case { case, passed, tensor_equal, logit_difference })?;
            } else {
                let verdict = if passed { "ok" } else { "FAILED" };
                let tensor = if tensor_equal { "equal" } else { "differs" };
                line(&format!("golden case {case}: {verdict}, tensor {tensor}, logits within {logit_difference:.1e}"))?;
            }
        }
        Ok(())
    }
}

fn json(value: &impl Serialize) -> io::Result<()> {
    line(&serde_json::to_string(value)?)
}

/// One write a line, so that lines of several programs do not mix and a reader sees each at once.
fn line(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(format!("{text}\n").as_bytes())?;
    stdout.flush()
}
