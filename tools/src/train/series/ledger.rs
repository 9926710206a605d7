//! The file of a series: what it was asked for, and the runs that ended, so that it can be gone on with.

use std::fs;
use std::path::{Path, PathBuf};

use edge_vit_models::file::write_atomic;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Trial;
use crate::train::options::differences;
use crate::train::{Options, TrainError};

/// The runs of a series that ended, as they lie in its file.
#[derive(Debug)]
pub(super) struct Ledger {
    path: PathBuf,
    contents: Contents,
}

#[derive(Debug, Serialize, Deserialize)]
struct Contents {
    /// The recipe that the runs have in common.
    recipe: Value,
    trials: Vec<Trial>,
    /// What follows from the trials.
    #[serde(flatten)]
    summary: Map<String, Value>,
}

impl Ledger {
    /// The ledger `name` in the folder of `options`: a new one, or with [`Options::resume`] the one that is there.
    ///
    /// # Errors
    /// When the folder holds a series or a run, or one of another recipe, or the file cannot be read.
    pub(super) fn open(options: &Options, name: &str) -> Result<Self, TrainError> {
        let (out, path) = (&options.out, options.out.join(name));
        let text = serde_json::to_string(&options.recipe).map_err(TrainError::Json)?;
        let recipe: Value = serde_json::from_str(&text).map_err(TrainError::Json)?;
        match (options.resume, path.exists()) {
            (false, false) if out.join("last.safetensors").exists() => Err(TrainError::RunThere { path: out.clone() }),
            (false, true) => Err(TrainError::RunThere { path: out.clone() }),
            (true, false) => Err(TrainError::NothingToResume { path: out.clone() }),
            (true, true) => Self::read(path, out, &recipe),
            (false, false) => {
                fs::create_dir_all(out).map_err(|source| TrainError::Write { path: out.clone(), source })?;
                let ledger = Self { path, contents: Contents { recipe, trials: Vec::new(), summary: Map::new() } };
                ledger.write()?;
                Ok(ledger)
            }
        }
    }

    fn read(path: PathBuf, out: &Path, recipe: &Value) -> Result<Self, TrainError> {
        let text = fs::read_to_string(&path).map_err(|source| TrainError::Read { path: path.clone(), source })?;
        let contents: Contents = serde_json::from_str(&text)
            .map_err(|error| TrainError::State { path: path.clone(), reason: error.to_string() })?;
        let differences = differences(&contents.recipe, recipe);
        match differences.is_empty() {
            true => Ok(Self { path, contents }),
            false => Err(TrainError::Differs { path: out.to_owned(), differences }),
        }
    }

    /// The run in `folder`, where it has ended.
    pub(super) fn find(&self, folder: &str) -> Option<&Trial> {
        self.contents.trials.iter().find(|trial| trial.folder == folder)
    }

    /// Adds a run that has ended.
    pub(super) fn add(&mut self, trial: Trial) -> Result<(), TrainError> {
        self.contents.trials.push(trial);
        self.write()
    }

    /// Puts in what follows from the runs.
    pub(super) fn conclude(&mut self, summary: Map<String, Value>) -> Result<(), TrainError> {
        self.contents.summary = summary;
        self.write()
    }

    fn write(&self) -> Result<(), TrainError> {
        let text = serde_json::to_string_pretty(&self.contents).map_err(TrainError::Json)?;
        write_atomic(&self.path, text.as_bytes())
            .map_err(|source| TrainError::Write { path: self.path.clone(), source })
    }
}
