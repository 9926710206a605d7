//! Why a folder of models does not do what it was asked to.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::signature::SignatureError;

/// An error of this module; the message says what was expected, what came, what to do.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A file or folder cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file or folder cannot be written; what was in use before still is.
    #[error("cannot write {}; the model in use is untouched", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process is changing the folder, and goes on for long.
    #[error("{} is locked: another process is changing the models; try again when it has ended", path.display())]
    Busy {
        /// The lock.
        path: PathBuf,
    },
    /// No model is in use.
    #[error("no model is installed in {}; `edge-vit model install FILE` does that", folder.display())]
    Empty {
        /// The folder.
        folder: PathBuf,
    },
    /// The symbolic link `current` leads to something that was not installed here.
    #[error("{} leads to {}, which is no model of this folder; remove the link and install the model", path.display(), target.display())]
    Foreign {
        /// The link.
        path: PathBuf,
        /// Where it leads.
        target: PathBuf,
    },
    /// The file is not signed by a trusted key.
    #[error("the signature of {} is not accepted", path.display())]
    Signature {
        /// The model.
        path: PathBuf,
        /// Why.
        source: SignatureError,
    },
    /// The file is no model that this program can run, or its golden cases cannot be run.
    #[error("{} cannot be used", path.display())]
    Model {
        /// The file.
        path: PathBuf,
        /// Why.
        source: crate::Error,
    },
    /// This machine computes something else than the desktop did.
    #[error("{} fails its self-test: {failed} of {cases} golden cases come out differently on this machine", path.display())]
    SelfTest {
        /// The file.
        path: PathBuf,
        /// How many cases did not pass.
        failed: usize,
        /// How many cases there are.
        cases: usize,
    },
    /// The file's content is not the one that it was installed with.
    #[error("{} was changed after it was installed: its SHA-256 begins with {found}; install it again", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// What its SHA-256 begins with.
        found: String,
    },
    /// The model was in use and was given up.
    #[error("{id} was given up after it had been installed; install it with force to try it again")]
    GivenUp {
        /// The model.
        id: String,
    },
    /// There is no other model that has proved itself.
    #[error("there is no other model in {} that has run well before; install one", folder.display())]
    NothingToReturnTo {
        /// The folder.
        folder: PathBuf,
    },
}
