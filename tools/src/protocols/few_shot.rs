//! Trainings on K pictures of each class.

use std::path::{Path, PathBuf};

use edge_vit::Bundle;
use serde_json::{Map, Value, json};

use super::name::{distinct, name_of, once};
use super::table::markdown;
use super::training::{begin, fold, train, whole};
use super::{Figures, Measured, Measurement, ProtocolError};
use crate::data::{Listing, Part};
use crate::evaluate::{EvaluateError, Samples};
use crate::train::series::{Ledger, Records, Spread};
use crate::train::{Options, Recipe};

/// What is trained: each number of shots with each seed on each data set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FewShot {
    /// The data sets by name.
    sets: Vec<(String, PathBuf)>,
    shots: Vec<usize>,
    seeds: Vec<u64>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq)]
pub struct FewShots {
    asked: FewShot,
    /// The trainings that were measured, and those that failed.
    pub measured: Measured,
}

/// The trainings on one data set with one number of shots.
#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    /// The data set.
    pub data: String,
    /// Pictures of each class.
    pub shots: usize,
    /// Top-1 in percent over the seeds; none where no training ended.
    pub top1: Option<Spread>,
    /// How many trainings ended.
    pub runs: usize,
}

impl FewShot {
    /// Of the data sets `data`, called as their folders are.
    ///
    /// # Errors
    /// When two have one name, or a number is given twice.
    pub fn new(data: &[PathBuf], shots: &[usize], seeds: &[u64]) -> Result<Self, ProtocolError> {
        let sets: Vec<(String, PathBuf)> =
            data.iter().map(|path| Ok((name_of(path)?, path.clone()))).collect::<Result<_, ProtocolError>>()?;
        distinct(sets.iter().map(|(name, _)| name))?;
        once("--shots", shots)?;
        once("--seeds", seeds)?;
        Ok(Self { sets, shots: shots.to_vec(), seeds: seeds.to_vec() })
    }

    /// Trains each on the pictures that its seed takes, chooses the epoch by others (`val`, where the data set has it), and measures
    /// once on the test part. Of `options`, data, shots and seed are set for each training; results lie in `few-shot.json` and in
    /// the folders `NAME/shots-K/seed-S` below their out.
    ///
    /// # Errors
    /// When nothing can begin. What fails in one training stands in [`Measured::failed`].
    pub fn run(self, options: &Options, search: bool, records: Records<'_>) -> Result<FewShots, ProtocolError> {
        let data: Map<String, Value> =
            self.sets.iter().map(|(name, path)| (name.clone(), json!(whole(path)))).collect();
        let asked = begin(options, json!({ "data": data, "search": search }))?;
        let mut ledger = Ledger::open(&options.out, options.resume, "few-shot.json", &asked)?;
        let mut ended = FewShots { asked: self, measured: Measured::default() };
        let FewShot { sets, shots, seeds } = ended.asked.clone();
        'all: for (name, path) in &sets {
            for &shots in &shots {
                for &seed in &seeds {
                    let recipe = Recipe { shots: Some(shots), seed, ..options.recipe.clone() };
                    let own = Options { recipe, ..options.clone() };
                    let folder = folder(name, shots, seed);
                    let settings = [("data", json!(name)), ("shots", json!(shots)), ("seed", json!(seed))];
                    let settings = settings.map(|(key, value)| (key.to_owned(), value));
                    let one = || training(&own, search, path, &folder, settings.into_iter().collect(), &mut *records);
                    if !ended.measured.part(&mut ledger, &folder, one)? {
                        break 'all;
                    }
                }
            }
        }
        ledger.conclude(ended.summary())?;
        Ok(ended)
    }
}

fn folder(name: &str, shots: usize, seed: u64) -> String {
    format!("{name}/shots-{shots}/seed-{seed}")
}

fn training(
    options: &Options,
    search: bool,
    data: &Path,
    name: &str,
    settings: Map<String, Value>,
    records: Records<'_>,
) -> Result<Option<Measurement>, ProtocolError> {
    if !Listing::read(data)?.parts.contains_key(&Part::Test) {
        return Err(EvaluateError::NoTest { path: data.to_owned() }.into());
    }
    let Some(trained) = train(options, search, data, name, records)? else { return Ok(None) };
    let classifier = fold(&options.backbone, &trained.adapters, 1.0)?;
    let Bundle { labels, preprocessing, .. } = classifier.bundle();
    let samples = Samples::test(data, labels)?.filmstrips(preprocessing.frames)?;
    log::info!("{name}: measuring on {} test pictures", samples.pictures.len());
    let figures = Figures::of(&classifier, &samples)?;
    Ok(Some(Measurement { name: name.to_owned(), settings, kept: trained.kept, figures }))
}

impl FewShots {
    /// A cell for each data set and number of shots, in their order.
    pub fn cells(&self) -> Vec<Cell> {
        let FewShot { sets, shots, seeds } = &self.asked;
        let cell = |name: &String, shots: usize| {
            let runs = seeds.iter().filter_map(|&seed| self.measured.find(&folder(name, shots, seed)));
            let top1: Vec<f64> = runs.map(|run| run.figures.percent()).collect();
            Cell { data: name.clone(), shots, top1: Spread::of_figures(&top1), runs: top1.len() }
        };
        sets.iter().flat_map(|(name, _)| shots.iter().map(move |&shots| cell(name, shots))).collect()
    }

    /// A table with a row for each data set: mean and standard deviation over the seeds.
    pub fn to_markdown(&self) -> String {
        let FewShot { sets, shots, seeds } = &self.asked;
        let header = std::iter::once("top-1 %".to_owned()).chain(shots.iter().map(|shots| match shots {
            1 => "1 shot".to_owned(),
            shots => format!("{shots} shots"),
        }));
        let header: Vec<String> = header.collect();
        let cells = self.cells();
        let cell = |cell: &Cell| match cell.top1 {
            None => "-".to_owned(),
            Some(Spread { mean, .. }) if cell.runs == 1 => format!("{mean:.1} (1 run)"),
            Some(Spread { mean, deviation }) if cell.runs == seeds.len() => format!("{mean:.1} ± {deviation:.1}"),
            Some(Spread { mean, deviation }) => format!("{mean:.1} ± {deviation:.1} ({} runs)", cell.runs),
        };
        let rows = sets.iter().map(|(name, _)| {
            let own = cells.iter().filter(|cell| cell.data == *name).map(cell);
            std::iter::once(name.clone()).chain(own).collect::<Vec<_>>()
        });
        markdown(&header, &rows.collect::<Vec<_>>())
    }

    /// A line of JSON for each training that was measured, and one for the whole.
    pub fn lines(&self) -> Vec<Value> {
        let training = |run: &Measurement| json!({ "kind": "training", "training": run });
        let mut whole = Map::from_iter([("kind".to_owned(), json!("whole"))]);
        whole.extend(self.summary());
        self.measured.measurements.iter().map(training).chain([Value::Object(whole)]).collect()
    }

    fn summary(&self) -> Map<String, Value> {
        let cell = |Cell { data, shots, top1, runs }: Cell| json!({ "data": data, "shots": shots, "top1": top1, "runs": runs });
        Map::from_iter([
            ("cells".to_owned(), self.cells().into_iter().map(cell).collect()),
            ("failed".to_owned(), json!(self.measured.failed)),
        ])
    }
}
