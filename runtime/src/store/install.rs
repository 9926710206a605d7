//! A model's way into the folder.

use std::fs;
use std::path::{Path, PathBuf};

use super::state::State;
use super::{EXTENSION, Store, StoreError, check_model, check_signature, digest, disk, file_name, read_signature};
use crate::Classifier;
use crate::signature::{self, PublicKey, SignatureError};

/// The longest name in an identifier, in bytes.
const NAME: usize = 64;

/// What came of an installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// The identifier of the model, which is in use now.
    pub id: String,
    /// Its file in the folder.
    pub path: PathBuf,
    /// The model that was in use before; `None` if there was none, or this one.
    pub replaced: Option<String>,
}

impl Store {
    /// Checks the signature beside `file` if there are `keys`, has the model prove itself on its golden cases, copies it
    /// into the folder, with the signature if there is one, and puts it in use. A file that is there is not copied
    /// again. Of the models that are not kept, the oldest are removed.
    ///
    /// A model that was given up is refused unless `force` is on.
    ///
    /// # Errors
    /// [`StoreError::Read`], [`StoreError::Signature`], [`StoreError::Model`], [`StoreError::SelfTest`],
    /// [`StoreError::GivenUp`], [`StoreError::Busy`], [`StoreError::Write`]: the model in use is then the one that was.
    pub fn install(&self, file: &Path, keys: &[PublicKey], force: bool) -> Result<Installed, StoreError> {
        let bytes = fs::read(file).map_err(|source| StoreError::Read { path: file.to_owned(), source })?;
        let signature = match read_signature(file) {
            Err(StoreError::Signature { source: SignatureError::Missing { .. }, .. }) if keys.is_empty() => None,
            signature => Some(signature?),
        };
        // What is checked is what is copied: the file beside the model may change in between.
        if let Some(signature) = signature.as_deref().filter(|_| !keys.is_empty()) {
            check_signature(file, &bytes, signature, keys)?;
        }
        check_model(file, || Classifier::from_bytes(&bytes))?;

        let _lock = self.lock()?;
        disk::sweep(&self.folder);
        disk::sweep(&self.models());
        let id = self.id_for(file, &bytes)?;
        let mut state = State::read(&self.state())?;
        if state.is_given_up(&id) && !force {
            return Err(StoreError::GivenUp { id });
        }
        let path = self.path(&id);
        if self.read(&id).is_err() {
            disk::write(&path, &bytes)?;
        }
        if let Some(signature) = signature {
            disk::write(&signature::signature_path(&path), signature.as_bytes())?;
        }
        if force {
            state.begin_anew(&id);
            state.write(&self.state())?;
        }
        let replaced = self.current().ok().filter(|current| *current != id);
        self.switch(&id)?;
        self.remove_old(&state, &id);
        Ok(Installed { id, path, replaced })
    }

    /// The identifier of the file's content in this folder: the one that it has, or a new one after the file's name.
    fn id_for(&self, file: &Path, bytes: &[u8]) -> Result<String, StoreError> {
        let digest = digest(bytes);
        let same = |id: &String| id.split('-').next() == Some(&digest);
        if let Some(id) = self.list()?.into_iter().map(|entry| entry.id).find(same) {
            return Ok(id);
        }
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let name = name.strip_suffix(EXTENSION).unwrap_or(&name);
        let plain = |letter: char| if letter.is_ascii_alphanumeric() || "._-".contains(letter) { letter } else { '_' };
        let name: String = name.chars().map(plain).take(NAME).collect();
        Ok(format!("{digest}-{}", if name.is_empty() { "model" } else { &name }))
    }

    /// Removes the oldest models beyond those that are kept. What cannot be removed costs room and nothing else. The
    /// lock is held.
    fn remove_old(&self, state: &State, current: &str) {
        let removed = self.list().map(|entries| {
            let last_good = self.last_good(state, current);
            let spare = |id: &str| id != current && Some(id) != last_good.as_deref();
            let held = entries.iter().filter(|entry| !spare(&entry.id)).count();
            let old = entries.into_iter().filter(|entry| spare(&entry.id)).skip(self.kept.saturating_sub(held));
            old.map(|entry| entry.id).collect::<Vec<_>>()
        });
        for id in removed.unwrap_or_default() {
            let path = self.models().join(file_name(&id));
            for path in [signature::signature_path(&path), path] {
                match fs::remove_file(&path) {
                    Ok(()) => log::info!("removed {}, which is no longer kept", path.display()),
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                    Err(error) => log::warn!("cannot remove {}: {error}", path.display()),
                }
            }
        }
    }
}
