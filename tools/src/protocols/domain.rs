//! One training that is measured on other data sets, with more or less of the adapters folded in.

use std::collections::HashSet;
use std::path::PathBuf;

use edge_vit::Classifier;
use edge_vit_models::adapter;
use serde_json::{Map, Value, json};

use super::name::{checked, distinct, once};
use super::table::{markdown, percent};
use super::training::{Trained, begin, fold, train, whole};
use super::{Figures, Measured, Measurement, ProtocolError};
use crate::data::Dataset;
use crate::evaluate::Samples;
use crate::merge::MergeError;
use crate::preprocessing::frames_of;
use crate::quantize::validation_pictures;
use crate::train::Options;
use crate::train::series::{Ledger, Records};

/// What the validation pictures of the training are called among the data sets.
const VALIDATION: &str = "validation";
/// The folder of the training.
const TRAINING: &str = "training";

/// What is measured: each strength on each data set.
#[derive(Debug, Clone, PartialEq)]
pub struct Domain {
    tests: Vec<(String, PathBuf)>,
    strengths: Vec<f64>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Domains {
    asked: Domain,
    /// The measurements that ended, and what failed.
    pub measured: Measured,
    /// The strength that is best on the validation pictures of the training; none where not all of them were measured.
    pub chosen: Option<f64>,
}

/// A data set to measure on.
struct Target<'a> {
    name: &'a str,
    samples: Samples,
}

impl Domain {
    /// Of the data sets `tests` by name and `strengths` between 0 and 1.
    ///
    /// # Errors
    /// When a name is not one for a folder, or comes twice, or a strength comes twice.
    pub fn new(tests: &[(String, PathBuf)], strengths: &[f64]) -> Result<Self, ProtocolError> {
        for (name, path) in tests {
            checked(name.clone(), path)?;
        }
        let own = VALIDATION.to_owned();
        distinct(tests.iter().map(|(name, _)| name).chain([&own]))?;
        once("--strength", strengths)?;
        Ok(Self { tests: tests.to_vec(), strengths: strengths.to_vec() })
    }

    /// Trains on the data of `options`, folds with each strength, chooses one by the validation pictures of the training, and
    /// measures all on the data sets: on the test part of each, else the validation part, else all of it. Results lie in
    /// `domain.json` and the folder `training` below their out.
    ///
    /// # Errors
    /// When nothing can begin, or the training fails. What fails on one data set stands in [`Measured::failed`].
    pub fn run(self, options: &Options, search: bool, records: Records<'_>) -> Result<Domains, ProtocolError> {
        let tests: Map<String, Value> =
            self.tests.iter().map(|(name, path)| (name.clone(), json!(whole(path)))).collect();
        let asked = begin(options, json!({ "data": whole(&options.data), "tests": tests, "search": search }))?;
        let mut ledger = Ledger::open(&options.out, options.resume, "domain.json", &asked)?;
        let mut ended = Domains { asked: self, measured: Measured::default(), chosen: None };
        match train(options, search, &options.data, TRAINING, records)? {
            Some(trained) => ended.measure(options, &trained, &mut ledger)?,
            None => ended.measured.interrupted = true,
        }
        ended.choose();
        ledger.conclude(ended.summary())?;
        Ok(ended)
    }

    /// The data sets that can be measured on, the validation pictures of the training first; the others are kept as failed.
    fn targets(
        &self,
        options: &Options,
        trained: &Trained,
        measured: &mut Measured,
    ) -> Result<Vec<Target<'_>>, ProtocolError> {
        let read = adapter::File::read(&trained.adapters);
        let file = read.map_err(|source| MergeError::Adapters { path: trained.adapters.clone(), source })?;
        let mut targets = vec![Target { name: VALIDATION, samples: validation_pictures(&file.meta)? }];
        let Dataset { train, val } = Dataset::read(&options.data)?;
        let own = train.pictures.iter().chain(val.iter().flat_map(|val| &val.pictures));
        let own: HashSet<PathBuf> = own.map(|picture| whole(&picture.path)).collect();
        for (name, path) in &self.tests {
            let samples = Samples::find(path, &file.meta.labels).map_err(ProtocolError::from).and_then(|samples| {
                match samples.pictures.iter().any(|sample| own.contains(&whole(&sample.path))) {
                    true => Err(ProtocolError::TrainedOn { name: name.clone() }),
                    false => Ok(samples.filmstrips(frames_of(&file.meta))?),
                }
            });
            match samples {
                Ok(samples) => targets.push(Target { name, samples }),
                Err(error) => measured.fail(name, &error),
            }
        }
        Ok(targets)
    }
}

fn key(strength: f64, set: &str) -> String {
    format!("strength-{strength}/{set}")
}

impl Domains {
    fn measure(
        &mut self,
        options: &Options,
        trained: &Trained,
        ledger: &mut Ledger<Measurement>,
    ) -> Result<(), ProtocolError> {
        let asked = self.asked.clone();
        let targets = asked.targets(options, trained, &mut self.measured)?;
        for &strength in &asked.strengths {
            let mut folded: Option<Classifier> = None;
            for Target { name: set, samples } in &targets {
                let name = key(strength, set);
                let measure = || {
                    let classifier = match folded.take() {
                        Some(classifier) => classifier,
                        None => fold(&options.backbone, &trained.adapters, strength)?,
                    };
                    let classifier = folded.insert(classifier);
                    log::info!("{name}: measuring on {} pictures", samples.pictures.len());
                    let figures = Figures::of_those_there(classifier, samples)?;
                    let settings = [("strength", json!(strength)), ("data", json!(set))];
                    let settings = settings.map(|(key, value)| (key.to_owned(), value)).into_iter().collect();
                    Ok(Some(Measurement { name: name.clone(), settings, kept: trained.kept, figures }))
                };
                if !self.measured.part(ledger, &name, measure)? {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Takes the strength with the most validation pictures right, of equal ones that of the lowest cross-entropy.
    fn choose(&mut self) {
        let validated = |&strength: &f64| Some((strength, &self.measured.find(&key(strength, VALIDATION))?.figures));
        let all: Option<Vec<(f64, &Figures)>> = self.asked.strengths.iter().map(validated).collect();
        let best = all.into_iter().flatten().min_by(|(_, a), (_, b)| {
            b.top1.correct.cmp(&a.top1.correct).then(a.cross_entropy.total_cmp(&b.cross_entropy))
        });
        self.chosen = best.map(|(strength, _)| strength);
    }

    fn sets(&self) -> impl Iterator<Item = &str> {
        std::iter::once(VALIDATION).chain(self.asked.tests.iter().map(|(name, _)| name.as_str()))
    }

    /// A table with a row for each strength and a column for each data set, and what was left out of them.
    pub fn to_markdown(&self) -> String {
        let header: Vec<String> =
            std::iter::once("top-1 % at strength").chain(self.sets()).map(str::to_owned).collect();
        let row = |&strength: &f64| {
            let chosen = if self.chosen == Some(strength) { " (chosen)" } else { "" };
            let figures = self.sets().map(|set| self.measured.find(&key(strength, set)));
            let figures = figures.map(|found| percent(found.map(|one| one.figures.percent())));
            std::iter::once(format!("{strength}{chosen}")).chain(figures).collect()
        };
        let mut text = markdown(&header, &self.asked.strengths.iter().map(row).collect::<Vec<_>>());
        let first = |set| self.asked.strengths.iter().find_map(|&strength| self.measured.find(&key(strength, set)));
        let lines = self.sets().filter_map(|set| Some((set, &first(set)?.figures))).map(|(set, figures)| {
            let (missing, unknown) = (figures.missing_classes.len(), figures.unknown_classes.len());
            let strange: usize = figures.unknown_classes.iter().map(|class| class.pictures).sum();
            let mut line = format!("- {set}: {} pictures of {} classes", figures.top1.of, figures.classes);
            if missing > 0 {
                line += &format!("; {missing} classes of the model are missing there and were no answers");
            }
            if unknown > 0 {
                line +=
                    &format!("; {unknown} classes with {strange} pictures are unknown to the model and were left out");
            }
            line + "\n"
        });
        text.push('\n');
        text.extend(lines);
        text
    }

    /// A line of JSON for each measurement, and one for the whole.
    pub fn lines(&self) -> Vec<Value> {
        let one = |one: &Measurement| json!({ "kind": "measurement", "measurement": one });
        let mut whole = Map::from_iter([("kind".to_owned(), json!("whole"))]);
        whole.extend(self.summary());
        self.measured.measurements.iter().map(one).chain([Value::Object(whole)]).collect()
    }

    fn summary(&self) -> Map<String, Value> {
        let chosen = self.chosen.map(|strength| {
            let top1 = self.sets().map(|set| (set, self.measured.find(&key(strength, set))));
            let top1 = top1.filter_map(|(set, found)| Some((set.to_owned(), json!(found?.figures.percent()))));
            json!({ "strength": strength, "top1": top1.collect::<Map<_, _>>() })
        });
        Map::from_iter([("chosen".to_owned(), json!(chosen)), ("failed".to_owned(), json!(self.measured.failed))])
    }
}
