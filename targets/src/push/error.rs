//! Why a model did not get onto a board.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::ModelError;

/// Why a model is not in use on the board.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PushError {
    /// The file's name does not say that it is a model.
    #[error("{} is no name of a model: expected NAME.onnx, as `edge-vit-tools fold` writes it", path.display())]
    Name {
        /// The file.
        path: PathBuf,
    },
    /// The model cannot be read, or does not compute here what it computed when it was written.
    #[error("the model is not sent")]
    Model(#[from] ModelError),
    /// The model cannot be put into an archive.
    #[error("cannot pack {} for the board", path.display())]
    Pack {
        /// The model.
        path: PathBuf,
        /// What is wrong.
        source: io::Error,
    },
    /// The command that reaches the board is no words.
    #[error("cannot read {command:?} as a command: {source}")]
    Command {
        /// The command.
        command: String,
        /// What is wrong with it.
        source: shell_words::ParseError,
    },
    /// The command that reaches the board cannot be run.
    #[error("cannot run {program}: install OpenSSH's client, or name another with --ssh")]
    Ssh {
        /// The program.
        program: String,
        /// What the system said.
        source: io::Error,
    },
    /// Nobody answers.
    #[error("cannot reach {host}: {reason}; does `ssh {host} true` work?")]
    Unreachable {
        /// The board.
        host: String,
        /// What ssh said.
        reason: String,
    },
    /// The board did not take the model; the one in use is the one that was.
    #[error("{host} did not take the model, and goes on with the one that it had: {reason}")]
    Refused {
        /// The board.
        host: String,
        /// What it said.
        reason: String,
    },
    /// The board took the model, and returned to another.
    #[error("{host} gave up {id} and returned to {to}; its journal says why (`journalctl -u edge-vit`)")]
    GivenUp {
        /// The board.
        host: String,
        /// The model.
        id: String,
        /// The model in use.
        to: String,
    },
    /// The connection broke after the board had taken the model.
    #[error("lost {host} after it had taken {id}: {reason}; `edge-vit model list` on the board says what is in use")]
    Lost {
        /// The board.
        host: String,
        /// The model.
        id: String,
        /// What ssh said.
        reason: String,
    },
}
