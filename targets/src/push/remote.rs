//! The connection to a board, and the script that it runs there.

use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::thread::{self, JoinHandle};

use serde::Deserialize;

use super::{Options, PushError};

const SCRIPT: &str = include_str!("remote.sh");
/// The exit code by which ssh says that it is ssh that failed.
const SSH_FAILED: i32 = 255;

/// What is known of a model on the board.
pub(super) enum State {
    /// In use, or about to be, and not proved yet.
    Waiting,
    /// A program has classified with it for a while.
    Proved,
    /// It was given up.
    GivenUp { to: String },
}

/// A line of `edge-vit model list --json`.
#[derive(Deserialize)]
struct Entry {
    id: String,
    current: bool,
    good: bool,
    given_up: bool,
}

/// The script while it runs on the board.
pub(super) struct Connection {
    host: String,
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    complaints: Option<JoinHandle<Option<String>>>,
    /// Whether the board has said that the model was given up.
    given_up: bool,
}

impl Connection {
    /// Starts the script on `host`.
    pub(super) fn open(host: &str, options: &Options) -> Result<Self, PushError> {
        let words = shell_words::split(&options.ssh)
            .map_err(|source| PushError::Command { command: options.ssh.clone(), source })?;
        let program = words.first().cloned().unwrap_or_else(|| "ssh".to_owned());
        let seconds = options.patience.unwrap_or_default().as_secs().to_string();
        // The board's shell, whichever it is, sees one quoted word after another.
        let mut remote = vec!["sh", "-c", SCRIPT, "edge-vit-push", &options.store, &seconds];
        remote.extend(options.force.then_some("--force"));
        let failed = |source| PushError::Ssh { program: program.clone(), source };
        let mut child = Command::new(&program)
            .args(words.get(1..).unwrap_or_default())
            .args(["--", host])
            .arg(shell_words::join(remote))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(failed(std::io::ErrorKind::BrokenPipe.into()));
        };
        let complaints = Some(thread::spawn(move || listen(stderr)));
        let lines = BufReader::new(stdout).lines();
        Ok(Self { host: host.to_owned(), child, lines, complaints, given_up: false })
    }

    /// Sends the archive; the answer is the identifier of the model, which is in use now.
    pub(super) fn install(&mut self, archive: &[u8]) -> Result<String, PushError> {
        // A board that refuses stops reading: what it says on the way counts, not the broken pipe.
        if let Some(mut stdin) = self.child.stdin.take()
            && let Err(error) = stdin.write_all(archive)
        {
            log::debug!("{}: {error}", self.host);
        }
        match self.lines.next() {
            Some(Ok(id)) => Ok(id),
            _ => {
                let (code, reason) = self.end();
                let host = self.host.clone();
                Err(match code {
                    Some(SSH_FAILED) => PushError::Unreachable { host, reason },
                    _ => PushError::Refused { host, reason },
                })
            }
        }
    }

    /// What the board says next of the model `id`; `None` when it has no more to say.
    pub(super) fn next_states(&mut self, id: &str) -> Result<Option<State>, PushError> {
        let Some(Ok(line)) = self.lines.next() else {
            return match self.end() {
                (Some(0), _) => Ok(None),
                (_, reason) => Err(PushError::Lost { host: self.host.clone(), id: id.to_owned(), reason }),
            };
        };
        let Ok(entry) = serde_json::from_str::<Entry>(&line) else {
            log::debug!("{}: {line}", self.host);
            return Ok(Some(State::Waiting));
        };
        let sent = entry.id == id;
        self.given_up |= sent && entry.given_up;
        let state = match (entry.current, sent) {
            (true, true) if entry.good => State::Proved,
            (true, false) if self.given_up => State::GivenUp { to: entry.id },
            _ => State::Waiting,
        };
        Ok(Some(state))
    }

    /// The exit code, and the last that was said on the way.
    fn end(&mut self) -> (Option<i32>, String) {
        let code = self.child.wait().ok().and_then(|status| status.code());
        let last = self.complaints.take().and_then(|listener| listener.join().ok()).flatten();
        (code, last.unwrap_or_else(|| "it gives no reason".to_owned()))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // The script on the board ends with its next line, which nobody takes.
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait().map(drop)) {
            log::debug!("{}: {error}", self.host);
        }
    }
}

/// The last that is said on stderr; the log gets all of it as it comes.
fn listen(stderr: ChildStderr) -> Option<String> {
    let mut last = None;
    for line in BufReader::new(stderr).lines().map_while(Result::ok).filter(|line| !line.trim().is_empty()) {
        log::info!("board: {line}");
        // The board's program begins its lines with `[time level module] `.
        let logged = line.strip_prefix('[').and_then(|line| line.split_once("] "));
        last = Some(logged.map_or(line.trim(), |(_, message)| message).to_owned());
    }
    last
}
