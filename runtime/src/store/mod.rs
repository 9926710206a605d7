//! A folder of models of which one is in use: install, switch, return to the last good one.
//!
//! ```text
//! FOLDER/models/<16 digits of SHA-256>-<name>.onnx    every model that is kept, never changed
//! FOLDER/models/<the same>.onnx.minisig               its signature, if it came with one
//! FOLDER/current -> models/<...>.onnx                 the model in use: switched by renaming a link over it
//! FOLDER/state.json                                   which models ran well, which were given up, starts since
//! FOLDER/lock                                         held while any of these is changed
//! ```
//!
//! A model is known by its identifier, its file's name without `.onnx`. A process that is killed between two steps
//! leaves the old model in use or the new one, and both whole.
//!
//! The program calls [`starting`](Store::starting) before it loads a model, [`healthy`](Store::healthy) when it has
//! classified with it for a while, and asks now and then whether the model in use has [`changed`](Store::changed). A
//! model that was started twice and never proved itself, cannot be loaded, or computes something else on this machine,
//! is given up for the last one that did, and is not installed again unless that is forced.
//!
//! Only Unix has such links.

mod disk;
mod error;
mod install;
mod state;

use std::path::{Path, PathBuf};
use std::time::SystemTime;
use std::{fs, io};

use serde::Serialize;
use sha2::{Digest, Sha256};

pub use error::StoreError;
pub use install::Installed;

use crate::golden::hex;
use crate::signature::{self, PublicKey};
use crate::{Classifier, Error};
use disk::Lock;
use state::{STARTS, State};

/// How many models are kept unless [`Store::keep`] says otherwise.
const KEPT: usize = 3;
/// Hexadecimal digits of the SHA-256 in an identifier.
const DIGITS: usize = 16;
/// How the names of models end.
const EXTENSION: &str = ".onnx";

/// A folder of models.
#[derive(Debug, Clone)]
pub struct Store {
    folder: PathBuf,
    kept: usize,
}

/// A model out of the folder, ready to run.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The model, which has passed its self-test.
    pub classifier: Classifier,
    /// Its identifier.
    pub id: String,
    /// Its file.
    pub path: PathBuf,
    /// The model that was in use and was given up for this one, with the reason in words.
    pub instead_of: Option<(String, String)>,
}

/// A change of the model in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Returned {
    /// The model that was given up.
    pub from: String,
    /// The one that is in use now.
    pub to: String,
}

/// A model of the folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Its identifier.
    pub id: String,
    /// Its file.
    pub path: PathBuf,
    /// The file's size.
    pub bytes: u64,
    /// When it was installed.
    #[serde(skip)]
    pub installed: SystemTime,
    /// Whether it is in use.
    pub current: bool,
    /// Whether it has run well.
    pub good: bool,
    /// Whether it was given up.
    pub given_up: bool,
    /// Whether a signature lies beside it; who made it is checked when it is loaded.
    pub signed: bool,
}

impl Store {
    /// The store in `folder`, which is made if it is not there.
    ///
    /// # Errors
    /// [`StoreError::Write`] if it cannot be made.
    pub fn open(folder: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let store = Self { folder: folder.into(), kept: KEPT };
        let models = store.models();
        fs::create_dir_all(&models).map_err(|source| StoreError::Write { path: models, source })?;
        Ok(store)
    }

    /// The same store, keeping `models` models when one is installed, the one in use counted; 3 without this. Neither
    /// the model in use nor the last good one is ever removed.
    #[must_use]
    pub fn keep(mut self, models: usize) -> Self {
        self.kept = models;
        self
    }

    /// The identifier of the model in use.
    ///
    /// # Errors
    /// [`StoreError::Empty`] if there is none, [`StoreError::Foreign`] if the link leads elsewhere,
    /// [`StoreError::Read`].
    pub fn current(&self) -> Result<String, StoreError> {
        let path = self.link();
        let target = match fs::read_link(&path) {
            Ok(target) => target,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StoreError::Empty { folder: self.folder.clone() });
            }
            Err(source) => return Err(StoreError::Read { path, source }),
        };
        let id = target.strip_prefix("models").ok().and_then(id_of);
        id.ok_or(StoreError::Foreign { path, target })
    }

    /// Whether another model than `id` is in use now. It costs one look at a link; if that cannot be read, there is
    /// nothing to change to.
    pub fn changed(&self, id: &str) -> bool {
        self.current().is_ok_and(|current| current != id)
    }

    /// Reads the model in use, compares it with its name and, if there are `keys`, with its signature, prepares it and
    /// runs its golden cases. If any of that fails, the latest good model that passes the same takes its place, and the
    /// failed one is given up.
    ///
    /// # Errors
    /// [`StoreError::Empty`], [`StoreError::Foreign`]; if no good model passes either, what was wrong with the model in
    /// use, which then stays in use.
    pub fn load(&self, keys: &[PublicKey]) -> Result<Loaded, StoreError> {
        let id = self.current()?;
        let reason = match self.load_one(&id, keys) {
            Ok(loaded) => return Ok(loaded),
            Err(reason) => reason,
        };
        let good = State::read(&self.state())?;
        let Some(mut loaded) = good.good_besides(&id).find_map(|good| self.load_one(good, keys).ok()) else {
            return Err(reason);
        };
        let _lock = self.lock()?;
        // Whoever switched meanwhile has said what is to be used; the caller sees it as a change.
        if self.current()? == id {
            self.replace(&id, &loaded.id)?;
        }
        loaded.instead_of = Some((id, in_words(&reason)));
        Ok(loaded)
    }

    /// Counts a start of the model in use, and returns to the last good one if this one was started twice and never
    /// called [`healthy`](Self::healthy). To be called before each [`load`](Self::load).
    ///
    /// # Errors
    /// [`StoreError::Empty`], [`StoreError::Foreign`], [`StoreError::Busy`], and those of the disk.
    pub fn starting(&self) -> Result<Option<Returned>, StoreError> {
        let _lock = self.lock()?;
        let current = self.current()?;
        let mut state = State::read(&self.state())?;
        let mut returned = None;
        let proved = state.good.contains(&current);
        if !proved
            && state.starts_of(&current) >= STARTS
            && let Some(to) = self.last_good(&state, &current)
        {
            self.replace(&current, &to)?;
            state = State::read(&self.state())?;
            returned = Some(Returned { from: current.clone(), to });
        }
        state.count_start(returned.as_ref().map_or(&current, |returned| &returned.to));
        state.write(&self.state())?;
        Ok(returned)
    }

    /// Remembers that the model `id` runs well. It costs a look at a file if that is known.
    ///
    /// # Errors
    /// [`StoreError::Busy`], and those of the disk.
    pub fn healthy(&self, id: &str) -> Result<(), StoreError> {
        let known = |state: &State| state.good.last().is_some_and(|good| good == id) && state.starts_of(id) == 0;
        if known(&State::read(&self.state())?) {
            return Ok(());
        }
        let _lock = self.lock()?;
        let mut state = State::read(&self.state())?;
        state.prove(id);
        state.good.retain(|good| self.path(good).is_file());
        state.write(&self.state())
    }

    /// Takes back the count of the last start: the program is ended by request, which says nothing about its model.
    ///
    /// # Errors
    /// [`StoreError::Busy`], and those of the disk.
    pub fn stopping(&self) -> Result<(), StoreError> {
        let _lock = self.lock()?;
        let mut state = State::read(&self.state())?;
        state.starts.count = state.starts.count.saturating_sub(1);
        state.write(&self.state())
    }

    /// Gives up the model in use for the last good one.
    ///
    /// # Errors
    /// [`StoreError::NothingToReturnTo`] if no other model has run well, [`StoreError::Changed`] if its file is not
    /// what it was, [`StoreError::Empty`], [`StoreError::Foreign`], [`StoreError::Busy`], and those of the disk.
    pub fn rollback(&self) -> Result<Returned, StoreError> {
        let _lock = self.lock()?;
        let from = self.current()?;
        let state = State::read(&self.state())?;
        let Some(to) = self.last_good(&state, &from) else {
            return Err(StoreError::NothingToReturnTo { folder: self.folder.clone() });
        };
        self.read(&to)?;
        self.replace(&from, &to)?;
        Ok(Returned { from, to })
    }

    /// The models of the folder, the latest installed first.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn list(&self) -> Result<Vec<Entry>, StoreError> {
        let state = State::read(&self.state())?;
        let current = self.current().ok();
        let folder = self.models();
        let failed = |source| StoreError::Read { path: folder.clone(), source };
        let mut entries = Vec::new();
        for entry in fs::read_dir(&folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let Some(id) = id_of(Path::new(&entry.file_name())) else { continue };
            let metadata = entry.metadata().map_err(failed)?;
            entries.push(Entry {
                path: entry.path(),
                bytes: metadata.len(),
                installed: metadata.modified().map_err(failed)?,
                current: current.as_ref() == Some(&id),
                good: state.good.contains(&id),
                given_up: state.is_given_up(&id),
                signed: signature::signature_path(&entry.path()).exists(),
                id,
            });
        }
        entries.sort_by(|a, b| b.installed.cmp(&a.installed).then_with(|| a.id.cmp(&b.id)));
        Ok(entries)
    }

    /// Switches from `from` to `to` and remembers that `from` was given up. The lock is held.
    fn replace(&self, from: &str, to: &str) -> Result<(), StoreError> {
        // The link first: a process killed in between has returned, and gives up the other one another time at worst.
        self.switch(to)?;
        let mut state = State::read(&self.state())?;
        state.give_up(from);
        state.begin_anew(to);
        state.write(&self.state())
    }

    fn switch(&self, id: &str) -> Result<(), StoreError> {
        disk::link(&self.link(), &Path::new("models").join(file_name(id)))
    }

    /// The latest model beside `id` that has run well and is there.
    fn last_good(&self, state: &State, id: &str) -> Option<String> {
        state.good_besides(id).find(|good| self.path(good).is_file()).map(str::to_owned)
    }

    fn load_one(&self, id: &str, keys: &[PublicKey]) -> Result<Loaded, StoreError> {
        let path = self.path(id);
        let bytes = self.read(id)?;
        if !keys.is_empty() {
            check_signature(&path, &bytes, &read_signature(&path)?, keys)?;
        }
        let classifier = check_model(&path, || Classifier::from_vec(bytes))?;
        Ok(Loaded { classifier, id: id.to_owned(), path, instead_of: None })
    }

    /// The bytes of the model, which are those that it was installed with.
    fn read(&self, id: &str) -> Result<Vec<u8>, StoreError> {
        let path = self.path(id);
        let bytes = fs::read(&path).map_err(|source| StoreError::Read { path: path.clone(), source })?;
        let found = digest(&bytes);
        if id.split('-').next() == Some(found.as_str()) { Ok(bytes) } else { Err(StoreError::Changed { path, found }) }
    }

    fn lock(&self) -> Result<Lock, StoreError> {
        Lock::wait(&self.folder.join("lock"))
    }

    fn link(&self) -> PathBuf {
        self.folder.join("current")
    }

    fn state(&self) -> PathBuf {
        self.folder.join("state.json")
    }

    fn models(&self) -> PathBuf {
        self.folder.join("models")
    }

    fn path(&self, id: &str) -> PathBuf {
        self.models().join(file_name(id))
    }
}

/// Checks that one of `keys` signed the model at `path`, whose bytes and signature are given.
fn check_signature(path: &Path, bytes: &[u8], signature: &str, keys: &[PublicKey]) -> Result<(), StoreError> {
    let signed = signature::verify(keys, bytes, signature);
    signed.map(drop).map_err(|source| StoreError::Signature { path: path.to_owned(), source })
}

/// The text of the signature beside the model at `path`.
fn read_signature(path: &Path) -> Result<String, StoreError> {
    signature::read_signature(path).map_err(|source| StoreError::Signature { path: path.to_owned(), source })
}

/// Prepares the model at `path`, as `open` does it, and has it prove that it computes here what it computed on the desktop.
fn check_model(path: &Path, open: impl FnOnce() -> Result<Classifier, Error>) -> Result<Classifier, StoreError> {
    let failed = |source| StoreError::Model { path: path.to_owned(), source };
    let classifier = open().map_err(failed)?;
    let report = classifier.self_test().map_err(failed)?;
    match report.failed() {
        0 => Ok(classifier),
        failed => Err(StoreError::SelfTest { path: path.to_owned(), failed, cases: report.cases.len() }),
    }
}

fn file_name(id: &str) -> String {
    format!("{id}{EXTENSION}")
}

/// The identifier of the model whose file has this name and no folder before it.
fn id_of(name: &Path) -> Option<String> {
    let id = name.to_str()?.strip_suffix(EXTENSION)?;
    let (digest, name) = id.split_once('-')?;
    let sound = digest.len() == DIGITS && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
    (sound && !name.is_empty() && !name.contains('/')).then(|| id.to_owned())
}

/// What an identifier begins with: 16 hexadecimal digits of the content's SHA-256.
fn digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes)[..DIGITS / 2])
}

/// An error with its causes, in one line.
fn in_words(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests;
