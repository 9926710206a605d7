//! The model in use: one file, or the current one of a folder of models that may change while the program runs.

use std::io::{self, Write as _, stdout};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::arguments::{ModelAction, ModelArguments};
use super::settings;
use crate::signature::{self, PublicKey};
use crate::store::{Entry, Loaded, Returned, Store};
use crate::{Classifier, ModelFile};

/// Where the model comes from.
pub(crate) struct Model {
    place: Place,
    keys: Vec<PublicKey>,
}

enum Place {
    File(PathBuf),
    Folder {
        store: Store,
        /// The model that is loaded, and where it lies.
        id: String,
        path: PathBuf,
    },
}

impl Model {
    /// The model at `path`, read and prepared. A folder that was started twice in vain returns to its last good model;
    /// it holds classifiers.
    pub(crate) fn open(path: &Path, keys: Vec<PublicKey>) -> Result<(Self, ModelFile)> {
        if path.is_dir() {
            let store = Store::open(path)?;
            store.starting()?.iter().for_each(returned_from);
            let loaded = store.load(&keys)?;
            told(&loaded);
            let place = Place::Folder { store, id: loaded.id, path: loaded.path };
            return Ok((Self { place, keys }, ModelFile::Classifier(loaded.classifier)));
        }
        let file = open(path, &keys).with_context(|| path.display().to_string())?;
        Ok((Self { place: Place::File(path.to_owned()), keys }, file))
    }

    /// What people call it.
    pub(crate) fn name(&self) -> String {
        match &self.place {
            Place::File(path) => path.display().to_string(),
            Place::Folder { id, .. } => id.clone(),
        }
    }

    /// Where the model in use lies.
    pub(crate) fn path(&self) -> &Path {
        match &self.place {
            Place::File(path) | Place::Folder { path, .. } => path,
        }
    }

    /// Another model, if the folder was switched to one. One that cannot be used is returned from, and the old one
    /// stays in use.
    pub(crate) fn switched(&mut self) -> Option<Classifier> {
        let Place::Folder { store, id, path } = &mut self.place else { return None };
        if !store.changed(id) {
            return None;
        }
        // From here on a crash is one of the new model.
        let loaded = store.starting().and_then(|returned| {
            returned.iter().for_each(returned_from);
            store.load(&self.keys)
        });
        match loaded {
            Ok(loaded) if loaded.id == *id => None,
            Ok(loaded) => {
                told(&loaded);
                log::info!("switched from {id} to {}", loaded.id);
                (*id, *path) = (loaded.id, loaded.path);
                Some(loaded.classifier)
            }
            Err(error) => {
                log::error!("{:#}", anyhow::Error::from(error));
                None
            }
        }
    }

    /// The model has done its work for a while.
    pub(crate) fn healthy(&self) {
        if let Place::Folder { store, id, .. } = &self.place
            && let Err(error) = store.healthy(id)
        {
            log::warn!("{:#}", anyhow::Error::from(error));
        }
    }

    /// The program ends because it was asked to.
    pub(crate) fn stopping(&self) {
        if let Place::Folder { store, .. } = &self.place
            && let Err(error) = store.stopping()
        {
            log::warn!("{:#}", anyhow::Error::from(error));
        }
    }
}

/// Logs that a model was given up for dying.
fn returned_from(returned: &Returned) {
    log::warn!("returned from {} to {}: it was started twice in vain", returned.from, returned.to);
}

/// Logs that another model was given up for what it is.
fn told(loaded: &Loaded) {
    if let Some((given_up, reason)) = &loaded.instead_of {
        log::error!("gave up {given_up} for {}: {reason}", loaded.id);
    }
}

fn open(path: &Path, keys: &[PublicKey]) -> Result<ModelFile> {
    if keys.is_empty() {
        return Ok(ModelFile::open(path)?);
    }
    // The bytes that were verified are those that are prepared: the file may change in between.
    let (bytes, _) = signature::verify_file(keys, path)?;
    Ok(ModelFile::from_vec(bytes)?)
}

/// Does what `edge-vit model` was asked for.
pub(crate) fn manage(arguments: &ModelArguments) -> Result<bool> {
    let store = Store::open(&arguments.store)?;
    let keys = settings::keys(&arguments.require_key)?;
    match &arguments.action {
        ModelAction::Install { file, force } => {
            let installed = store.install(file, &keys, *force)?;
            writeln!(stdout(), "{}", installed.id)?;
        }
        ModelAction::List { json: true } => {
            for model in store.list()? {
                writeln!(stdout(), "{}", serde_json::to_string(&model)?)?;
            }
        }
        ModelAction::List { json: false } => {
            let models = store.list()?;
            ensure!(!models.is_empty(), "{} holds no model; `edge-vit model install FILE`", arguments.store.display());
            models.iter().try_for_each(list)?;
        }
        ModelAction::Rollback => writeln!(stdout(), "{}", store.rollback()?.to)?,
    }
    Ok(true)
}

fn list(model: &Entry) -> io::Result<()> {
    let marks =
        [(model.current, "in use"), (model.good, "good"), (model.given_up, "given up"), (model.signed, "signed")];
    let marks: Vec<_> = marks.into_iter().filter_map(|(set, mark)| set.then_some(mark)).collect();
    writeln!(stdout(), "{}  {}", model.id, marks.join(", "))
}
