//! A run beside an earlier one.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::report::Report;

/// How the medians of two runs compare.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Compared {
    /// How many times the earlier median a stage may take.
    pub(super) factor: f64,
    /// Of each stage, this run's median divided by the earlier one's.
    pub(super) ratios: BTreeMap<String, f64>,
    /// The stages that take longer than that.
    pub(super) slower: Vec<String>,
}

/// An earlier run.
pub(super) struct Earlier {
    path: PathBuf,
    report: Report,
}

impl Earlier {
    /// The run that the last line of the file tells of.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let line = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
        let report = serde_json::from_str(line)
            .with_context(|| format!("{} holds no line of `edge-vit bench --json`", path.display()))?;
        Ok(Self { path: path.to_owned(), report })
    }

    /// Compares `report` with it.
    ///
    /// # Errors
    /// If they are runs of different things: the error names the first difference.
    pub(super) fn compare(&self, report: &Report, factor: f64) -> Result<Compared> {
        let earlier = &self.report;
        let differing = [
            ("model", earlier.model.sha256 != report.model.sha256),
            ("kind of machine", earlier.machine != report.machine),
            ("number of threads", earlier.threads != report.threads),
            ("pictures", earlier.pictures != report.pictures),
        ];
        if let Some((what, _)) = differing.iter().find(|(_, differs)| *differs) {
            bail!("{} cannot be compared with: its {what} is another", self.path.display());
        }
        let (mut ratios, mut slower) = (BTreeMap::new(), Vec::new());
        for ((name, now), (_, before)) in report.stages.named().zip(earlier.stages.named()) {
            ensure!(before.p50_ms > 0.0, "{} says that `{name}` took no time", self.path.display());
            let ratio = now.p50_ms / before.p50_ms;
            ratios.insert(name.to_owned(), ratio);
            if ratio > factor {
                slower.push(name.to_owned());
            }
        }
        Ok(Compared { factor, ratios, slower })
    }
}
