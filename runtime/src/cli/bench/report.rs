//! What was measured, as one line of JSON and as a table.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};

use serde::{Deserialize, Serialize};

use super::compare::Compared;
use super::machine::{Kind, Power, Processor};

/// All of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Report {
    pub(super) version: String,
    pub(super) model: Identity,
    pub(super) machine: Kind,
    pub(super) threads: usize,
    pub(super) pictures: Pictures,
    /// How often each picture was classified.
    pub(super) rounds: usize,
    pub(super) stages: Stages,
    pub(super) pictures_per_second: f64,
    /// From the beginning until the model is ready.
    pub(super) open_ms: f64,
    /// From the beginning until the first picture is classified.
    pub(super) first_result_ms: f64,
    pub(super) memory: Memory,
    pub(super) kernels: Vec<String>,
    /// Names of operators, and how many of each a picture runs through.
    pub(super) operators: BTreeMap<String, usize>,
    pub(super) processor: Processor,
    pub(super) power: Vec<Power>,
    /// Beside an earlier run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) compared: Option<Compared>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Identity {
    pub(super) name: String,
    pub(super) sha256: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pictures {
    pub(super) count: usize,
    /// Of all their bytes, one file after another.
    pub(super) sha256: String,
}

/// Of whom nothing is known where the system does not tell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Memory {
    pub(super) resident_bytes: Option<u64>,
    pub(super) peak_bytes: Option<u64>,
}

/// How long each step takes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Stages {
    pub(super) decode: Stage,
    /// Convert, resize and normalise.
    pub(super) prepare: Stage,
    pub(super) model: Stage,
    /// The class of each pixel, where the model is of segmentation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) mask: Option<Stage>,
    /// From the picture's bytes to the model's outputs, and to the mask where there is one.
    pub(super) whole: Stage,
}

impl Stages {
    /// In their order.
    pub(super) fn named(&self) -> impl Iterator<Item = (&'static str, &Stage)> {
        let Self { decode, prepare, model, mask, whole } = self;
        let steps = [("decode", decode), ("prepare", prepare), ("model", model)].into_iter();
        steps.chain(mask.iter().map(|mask| ("mask", mask))).chain([("whole", whole)])
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Stage {
    pub(super) p50_ms: f64,
    pub(super) p90_ms: f64,
    pub(super) p99_ms: f64,
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { model, machine, threads, pictures, rounds, memory, .. } = self;
        writeln!(f, "model       {}, SHA-256 {:.16}...", model.name, model.sha256)?;
        writeln!(f, "machine     {}, {}, {} cores", machine.processor, machine.architecture, machine.cores)?;
        writeln!(f, "runs        {rounds} times {} pictures, on {threads} threads", pictures.count)?;
        writeln!(f, "opened      {:.1} ms, first result after {:.1} ms", self.open_ms, self.first_result_ms)?;
        writeln!(f, "\nstage        p50 ms    p90 ms    p99 ms")?;
        for (name, Stage { p50_ms, p90_ms, p99_ms }) in self.stages.named() {
            writeln!(f, "{name:<9}{p50_ms:>10.3}{p90_ms:>10.3}{p99_ms:>10.3}")?;
        }
        writeln!(f, "\nrate        {:.2} pictures a second", self.pictures_per_second)?;
        let mebibytes = |bytes: Option<u64>| bytes.map_or("?".to_owned(), |b| format!("{:.1}", b as f64 / 1048576.0));
        let (now, most) = (mebibytes(memory.resident_bytes), mebibytes(memory.peak_bytes));
        writeln!(f, "memory      {now} MiB, {most} MiB at most")?;
        writeln!(f, "kernels     {}", self.kernels.join(", "))?;
        let operators: Vec<_> = self.operators.iter().map(|(name, count)| format!("{name} {count}")).collect();
        writeln!(f, "operators   {}", operators.join(", "))?;
        writeln!(f, "processor   {}", self.processor)?;
        if self.power.is_empty() {
            writeln!(f, "power       no sensor tells it")?;
        }
        for Power { sensor, watts, joules_a_picture } in &self.power {
            writeln!(f, "power       {sensor}: {watts:.2} W, {joules_a_picture:.3} J a picture")?;
        }
        if let Some(Compared { factor, ratios, slower }) = &self.compared {
            let ratios: Vec<_> = ratios.iter().map(|(name, ratio)| format!("{name} {ratio:.3}")).collect();
            writeln!(f, "compared    {} of the earlier medians", ratios.join(", "))?;
            if !slower.is_empty() {
                writeln!(f, "SLOWER      {}, by more than {factor}", slower.join(", "))?;
            }
        }
        Ok(())
    }
}
