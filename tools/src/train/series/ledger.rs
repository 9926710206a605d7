//! The file of many runs: what was asked for, and the trials that ended, so that it can be gone on with.

use std::fs;
use std::path::{Path, PathBuf};

use edge_vit_models::file::write_atomic;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::train::TrainError;
use crate::train::options::differences;

/// The trials that ended, as they lie in their file.
#[derive(Debug)]
pub(crate) struct Ledger<T> {
    path: PathBuf,
    contents: Contents<T>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Contents<T> {
    /// What the trials have in common.
    recipe: Value,
    trials: Vec<T>,
    /// What follows from the trials.
    #[serde(flatten)]
    summary: Map<String, Value>,
}

impl<T: Serialize + DeserializeOwned> Ledger<T> {
    /// The ledger `name` in the folder `out` of trials that have `recipe`, an object, in common: a new one, or with `resume` the one
    /// that is there.
    ///
    /// # Errors
    /// When the folder holds a ledger or a run, or one of another recipe, or the file cannot be read.
    pub(crate) fn open(out: &Path, resume: bool, name: &str, recipe: &impl Serialize) -> Result<Self, TrainError> {
        let path = out.join(name);
        let text = serde_json::to_string(recipe).map_err(TrainError::Json)?;
        let recipe: Value = serde_json::from_str(&text).map_err(TrainError::Json)?;
        match (resume, path.exists()) {
            (false, false) if out.join("last.safetensors").exists() => {
                Err(TrainError::RunThere { path: out.to_owned() })
            }
            (false, true) => Err(TrainError::RunThere { path: out.to_owned() }),
            (true, false) => Err(TrainError::NothingToResume { path: out.to_owned() }),
            (true, true) => Self::read(path, out, &recipe),
            (false, false) => {
                fs::create_dir_all(out).map_err(|source| TrainError::Write { path: out.to_owned(), source })?;
                let ledger = Self { path, contents: Contents { recipe, trials: Vec::new(), summary: Map::new() } };
                ledger.write()?;
                Ok(ledger)
            }
        }
    }

    fn read(path: PathBuf, out: &Path, recipe: &Value) -> Result<Self, TrainError> {
        let text = fs::read_to_string(&path).map_err(|source| TrainError::Read { path: path.clone(), source })?;
        let contents: Contents<T> = serde_json::from_str(&text)
            .map_err(|error| TrainError::State { path: path.clone(), reason: error.to_string() })?;
        let differences = differences(&contents.recipe, recipe);
        match differences.is_empty() {
            true => Ok(Self { path, contents }),
            false => Err(TrainError::Differs { path: out.to_owned(), differences }),
        }
    }

    /// The trials that have ended, in that order.
    pub(crate) fn trials(&self) -> &[T] {
        &self.contents.trials
    }

    /// Adds a trial that has ended.
    pub(crate) fn add(&mut self, trial: T) -> Result<(), TrainError> {
        self.contents.trials.push(trial);
        self.write()
    }

    /// Puts in what follows from the trials.
    pub(crate) fn conclude(&mut self, summary: Map<String, Value>) -> Result<(), TrainError> {
        self.contents.summary = summary;
        self.write()
    }

    fn write(&self) -> Result<(), TrainError> {
        let text = serde_json::to_string_pretty(&self.contents).map_err(TrainError::Json)?;
        write_atomic(&self.path, text.as_bytes())
            .map_err(|source| TrainError::Write { path: self.path.clone(), source })
    }
}
