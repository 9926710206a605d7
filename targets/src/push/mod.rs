//! A new model onto a board that runs, through ssh.
//!
//! The model is proved here, sent with its signature, proved on the board by the board's own program, and switched to by
//! renaming a link ([`edge_vit::store`]). The program that runs there takes it over, and returns to the old one if the new one
//! cannot be used; [`push`] waits until one or the other is known.

mod error;
mod remote;

use std::path::Path;
use std::time::Duration;

use edge_vit::signature::signature_path;

pub use error::PushError;

use crate::model::Model;
use remote::{Connection, State};

/// How a board is reached, and what is done there.
#[derive(Debug, Clone)]
pub struct Options {
    /// The command that runs another one on a host, before the host's name; split into words as a shell does.
    pub ssh: String,
    /// The folder of models on the board.
    pub store: String,
    /// Whether a model that the board gave up before is tried again.
    pub force: bool,
    /// How long to wait, in whole seconds, for the running program to prove the model. None: not at all.
    pub patience: Option<Duration>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            ssh: "ssh".to_owned(),
            store: "/var/lib/edge-vit/models".to_owned(),
            force: false,
            patience: Some(Duration::from_secs(90)),
        }
    }
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// The model's identifier on the board, where it is in use.
    pub id: String,
    /// Whether a program on the board has classified with it for a while. Without one that runs, nobody does.
    pub proved: bool,
}

/// Sends `model`, and its signature if one lies beside it, to `host`, and has it installed there. `taken` is called with its
/// identifier once the board has switched to it.
///
/// # Errors
/// [`PushError`]. Before `taken` is called the board goes on with the model that it had.
pub fn push(host: &str, model: &Path, options: &Options, taken: impl FnOnce(&str)) -> Result<Pushed, PushError> {
    let archive = archive(model)?;
    let mut connection = Connection::open(host, options)?;
    let id = connection.install(&archive)?;
    taken(&id);
    while let Some(states) = connection.next_states(&id)? {
        match states {
            State::Waiting => {}
            State::Proved => return Ok(Pushed { id, proved: true }),
            State::GivenUp { to } => return Err(PushError::GivenUp { host: host.to_owned(), id, to }),
        }
    }
    Ok(Pushed { id, proved: false })
}

/// The model, which has proved itself here, and its signature, as a tar archive.
fn archive(model: &Path) -> Result<Vec<u8>, PushError> {
    let name = model.file_name().filter(|_| model.extension().is_some_and(|extension| extension == "onnx"));
    let name = name.ok_or_else(|| PushError::Name { path: model.to_owned() })?;
    let proved = Model::read(model)?;
    let failed = |source| PushError::Pack { path: model.to_owned(), source };

    let mut archive = tar::Builder::new(Vec::new());
    let mut add = |name: &Path, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(bytes.len() as u64);
        archive.append_data(&mut header, name, bytes).map_err(failed)
    };
    add(Path::new(name), &proved.bytes)?;
    if let Some(signature) = &proved.signature {
        add(&signature_path(Path::new(name)), signature.as_bytes())?;
    }
    archive.into_inner().map_err(failed)
}
