//! What is remembered of the models between starts.

use std::path::Path;
use std::{fs, io};

use serde::{Deserialize, Serialize};

use super::{StoreError, disk};

/// How many models that were given up are remembered.
const REMEMBERED: usize = 100;
/// How many starts in a row may end without the model having proved itself.
pub(super) const STARTS: u32 = 2;

/// The content of `state.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct State {
    /// Models that ran well, the latest last.
    pub(super) good: Vec<String>,
    /// Starts since a model ran well.
    pub(super) starts: Starts,
    /// Models that were given up, and are not installed again unless that is forced.
    pub(super) given_up: Vec<String>,
}

/// Starts of one model, the last that was started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Starts {
    /// The model.
    pub(super) id: String,
    /// How often it was started without running well since.
    pub(super) count: u32,
}

impl State {
    /// Reads the state at `path`. None is an empty one, and so is a damaged one: it must not keep a device from
    /// running.
    pub(super) fn read(path: &Path) -> Result<Self, StoreError> {
        match fs::read(path) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                log::warn!("{} is damaged and is begun anew: {error}", path.display());
                Self::default()
            })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(StoreError::Read { path: path.to_owned(), source }),
        }
    }

    /// Writes the state.
    pub(super) fn write(&self, path: &Path) -> Result<(), StoreError> {
        let json = serde_json::to_vec_pretty(self)
            .map_err(|error| StoreError::Write { path: path.to_owned(), source: error.into() })?;
        disk::write(path, &json)
    }

    /// How often the model was started without running well since.
    pub(super) fn starts_of(&self, id: &str) -> u32 {
        if self.starts.id == id { self.starts.count } else { 0 }
    }

    /// Counts a start of the model.
    pub(super) fn count_start(&mut self, id: &str) {
        self.starts = Starts { id: id.to_owned(), count: self.starts_of(id).saturating_add(1) };
    }

    /// Remembers that the model runs well.
    pub(super) fn prove(&mut self, id: &str) {
        self.good.retain(|good| good != id);
        self.good.push(id.to_owned());
        self.begin_anew(id);
    }

    /// Remembers that the model is not to be used.
    pub(super) fn give_up(&mut self, id: &str) {
        self.good.retain(|good| good != id);
        self.given_up.retain(|given_up| !same_content(given_up, id));
        self.given_up.push(id.to_owned());
        let forgotten = self.given_up.len().saturating_sub(REMEMBERED);
        self.given_up.drain(..forgotten);
    }

    /// Forgets what speaks against the model.
    pub(super) fn begin_anew(&mut self, id: &str) {
        self.given_up.retain(|given_up| !same_content(given_up, id));
        if self.starts.id == id {
            self.starts.count = 0;
        }
    }

    /// Whether the model was given up, under whatever name.
    pub(super) fn is_given_up(&self, id: &str) -> bool {
        self.given_up.iter().any(|given_up| same_content(given_up, id))
    }

    /// The models that ran well, the latest first, without `id`.
    pub(super) fn good_besides<'a>(&'a self, id: &'a str) -> impl Iterator<Item = &'a str> {
        self.good.iter().rev().map(String::as_str).filter(move |good| *good != id)
    }
}

/// Whether two models have the same content: their identifiers begin with its hash.
fn same_content(a: &str, b: &str) -> bool {
    a.split('-').next() == b.split('-').next()
}
