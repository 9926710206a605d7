//! A child process whose standard output is a stream of frames.
//!
//! It runs in a process group of its own, so that what it has started itself ends with it.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::interrupt::{Interrupt, Interruptible};
use crate::capture::SourceError;

/// How long a child may take to end once it is told to: a camera's program closes the camera meanwhile.
const GRACE: Duration = Duration::from_millis(500);
/// How long a child that has closed its output may take to end by itself, and its last words to arrive.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often is looked whether that has happened.
const STEP: Duration = Duration::from_millis(5);
/// The longest line of its standard error that is kept, in bytes.
const MAX_LINE: u64 = 4096;

/// A running child; ended and reaped when it is dropped.
#[derive(Debug)]
pub(super) struct Running {
    child: Child,
    program: String,
    status: Option<ExitStatus>,
    last_line: Arc<Mutex<String>>,
    listener: Option<JoinHandle<()>>,
    interrupt: Interrupt,
}

/// What a child writes to its standard output.
pub(super) type Output = Interruptible<ChildStdout>;

impl Running {
    /// Starts the first of `alternatives`, each a program and its arguments, whose program exists.
    ///
    /// # Errors
    /// [`SourceError::NoProgram`] with `remedy` if none exists, [`SourceError::Open`] if the first that does cannot be started.
    pub(super) fn start(alternatives: &[Vec<OsString>], remedy: &str) -> Result<(Self, Output), SourceError> {
        let none_left = |error| SourceError::Open(format!("no child process can be watched: {error}"));
        let interrupt = Interrupt::new().map_err(none_left)?;
        for words in alternatives {
            let Some((program, arguments)) = words.split_first() else { continue };
            let started = Command::new(program)
                .args(arguments)
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .process_group(0)
                .spawn();
            match started {
                Ok(child) => return Self::attend(child, program.to_string_lossy().into_owned(), interrupt),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    return Err(SourceError::Open(format!("cannot start `{}`: {error}", program.to_string_lossy())));
                }
            }
        }
        let programs: Vec<_> = alternatives.iter().filter_map(|words| words.first()).collect();
        let names: Vec<_> = programs.iter().map(|program| format!("`{}`", program.to_string_lossy())).collect();
        Err(SourceError::NoProgram(format!("there is no program {} here: {remedy}", names.join(" and no "))))
    }

    fn attend(child: Child, program: String, interrupt: Interrupt) -> Result<(Self, Output), SourceError> {
        let failed = |error| SourceError::Open(format!("cannot read from `{program}`: {error}"));
        // From here on the child ends with `running`.
        let mut running = Self {
            child,
            program: program.clone(),
            status: None,
            last_line: Arc::default(),
            listener: None,
            interrupt,
        };
        let (Some(output), Some(errors)) = (running.child.stdout.take(), running.child.stderr.take()) else {
            return Err(failed(io::Error::from(io::ErrorKind::BrokenPipe)));
        };
        let errors = Interruptible::new(errors, running.interrupt.clone());
        let last_line = Arc::clone(&running.last_line);
        let listener = thread::Builder::new().name("pipe-errors".to_owned());
        let heard = program.clone();
        running.listener = Some(listener.spawn(move || listen(errors, &heard, &last_line)).map_err(failed)?);
        let output = Interruptible::new(output, running.interrupt.clone());
        Ok((running, output))
    }

    pub(super) fn interrupt(&self) -> &Interrupt {
        &self.interrupt
    }

    /// Ends the child if it has not ended by itself, and says how it ended and what it said last.
    pub(super) fn end(&mut self) -> Ending {
        // A child that has closed its output is about to end: its exit code says more than a signal from here.
        if self.interrupt.is_set() || !self.exits_within(PATIENCE) {
            self.stop();
        }
        self.hush();
        let said = self.last_line.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ending { program: self.program.clone(), status: self.status, said }
    }

    /// Tells the child's group to end, then makes it, and reaps the child.
    fn stop(&mut self) {
        if self.status.is_some() {
            return;
        }
        self.signal(Signal::SIGTERM);
        if !self.exits_within(GRACE) {
            self.signal(Signal::SIGKILL);
            self.status = self.child.wait().ok();
        }
    }

    /// Whether the child ends within `limit`; then it is reaped, and what it has left behind is ended.
    fn exits_within(&mut self, limit: Duration) -> bool {
        let start = Instant::now();
        while self.status.is_none() {
            self.status = self.child.try_wait().unwrap_or_default();
            if self.status.is_some() {
                // The number of the group is taken as long as it has members, and is not given away at once if not.
                self.signal(Signal::SIGKILL);
            } else if start.elapsed() >= limit {
                return false;
            } else {
                thread::sleep(STEP);
            }
        }
        true
    }

    /// Sends `signal` to the child's group, which has the child's number.
    fn signal(&self, signal: Signal) {
        if let Ok(id) = i32::try_from(self.child.id()) {
            // An error says that nobody is left.
            let _ = killpg(Pid::from_raw(id), signal);
        }
    }

    /// Lets the listener hear the child's last words, and ends it.
    fn hush(&mut self) {
        let Some(listener) = self.listener.take() else { return };
        let start = Instant::now();
        // A process that the child has left behind may hold its standard error open for ever.
        while !listener.is_finished() && start.elapsed() < PATIENCE {
            thread::sleep(STEP);
        }
        self.interrupt.set();
        if listener.join().is_err() {
            log::warn!(target: "pipe", "{}: its standard error is not read any more", self.program);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.interrupt.set();
        self.stop();
        self.hush();
    }
}

/// How a child ended.
#[derive(Debug)]
pub(super) struct Ending {
    program: String,
    status: Option<ExitStatus>,
    /// The last line of its standard error that is not empty.
    said: String,
}

impl Ending {
    pub(super) fn succeeded(&self) -> bool {
        self.status.is_some_and(|status| status.success())
    }

    /// The last line that it wrote to its standard error, or how it ended if it wrote none.
    pub(super) fn last_words(&self) -> String {
        if self.said.is_empty() { self.to_string() } else { self.said.clone() }
    }
}

impl std::fmt::Display for Ending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}` ended", self.program)?;
        if let Some(code) = self.status.and_then(|status| status.code()) {
            write!(f, " with exit code {code}")?;
        } else if let Some(signal) = self.status.and_then(|status| status.signal()) {
            write!(f, " by signal {signal}")?;
        }
        if self.said.is_empty() { Ok(()) } else { write!(f, ", saying: {}", self.said) }
    }
}

/// Passes the child's standard error to the log, line by line, and keeps the last line.
fn listen(errors: Interruptible<ChildStderr>, program: &str, last: &Mutex<String>) {
    let mut errors = BufReader::new(errors);
    let mut line = Vec::new();
    while let Ok(1..) = next_line(&mut errors, &mut line) {
        let text = String::from_utf8_lossy(&line);
        let text = text.trim();
        if !text.is_empty() {
            log::info!(target: "pipe", "{program}: {text}");
            text.clone_into(&mut last.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }
}

/// Reads a line, or as much of it as is kept; gives how many bytes were read.
fn next_line<R: Read + AsFd>(input: &mut BufReader<Interruptible<R>>, line: &mut Vec<u8>) -> io::Result<usize> {
    line.clear();
    input.by_ref().take(MAX_LINE).read_until(b'\n', line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    /// Whether a process of this number exists, dead or alive, and is a child of this one.
    fn is_child(id: u32) -> bool {
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{id}/stat")) else { return false };
        // The command, in brackets, may hold anything; after it come the state and the parent.
        let parent = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1).map(str::to_owned));
        parent.is_some_and(|parent| parent == std::process::id().to_string())
    }

    fn shell(script: &str) -> (Running, Output) {
        Running::start(&[words(&["sh", "-c", script])], "").unwrap()
    }

    #[test]
    fn the_exit_code_and_the_last_words_are_told() {
        let (mut running, mut output) = shell("echo one; echo first >&2; printf 'the end\n\n' >&2; exit 7");
        let mut text = String::new();
        output.read_to_string(&mut text).unwrap();
        assert_eq!(text, "one\n");
        let ending = running.end();
        assert_eq!(ending.to_string(), "`sh` ended with exit code 7, saying: the end");
        assert!(!ending.succeeded());
        assert_eq!(ending.last_words(), "the end");
        let (mut running, _output) = shell("exit 0");
        let ending = running.end();
        assert!(ending.succeeded());
        assert_eq!(ending.last_words(), "`sh` ended with exit code 0");
    }

    #[test]
    fn the_next_alternative_is_taken_where_a_program_is_absent() {
        let absent = words(&["edge-vit-has-no-such-program", "-x"]);
        let (mut running, _output) = Running::start(&[absent.clone(), words(&["true"])], "").unwrap();
        assert!(running.end().succeeded());
        let error = Running::start(&[absent.clone(), absent], "install it").unwrap_err().to_string();
        assert!(error.contains("no program `edge-vit-has-no-such-program` and no"), "{error}");
        let error = Running::start(&[words(&["/"])], "").unwrap_err().to_string();
        assert!(error.contains("cannot start `/`"), "{error}");
    }

    #[test]
    fn a_dropped_child_is_reaped_with_what_it_has_started() {
        let (running, mut output) = shell("sleep 1000 & echo $!; trap '' TERM; wait; sleep 1000");
        let mut grandchild = [0; 32];
        let count = output.read(&mut grandchild).unwrap();
        let grandchild: u32 = std::str::from_utf8(&grandchild[..count]).unwrap().trim().parse().unwrap();
        let id = running.child.id();
        assert!(is_child(id));
        drop(running);
        assert!(!is_child(id), "process {id} is left behind");
        let state = |id| std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        // Whoever adopts it reaps it, maybe later.
        let gone = |id| state(id).is_empty() || state(id).contains(") Z ");
        let start = Instant::now();
        while !gone(grandchild) && start.elapsed() < Duration::from_secs(20) {
            thread::sleep(STEP);
        }
        assert!(gone(grandchild), "{}", state(grandchild));
        assert!(output.read(&mut [0; 8]).is_err(), "an interrupted output gives nothing more");
    }

    #[test]
    fn an_endless_line_of_errors_takes_no_memory() {
        let (mut running, mut output) = shell("head -c 3000000 /dev/zero | tr '\\0' x >&2; echo done");
        let mut text = String::new();
        output.read_to_string(&mut text).unwrap();
        let said = running.end().last_words();
        assert!(said.starts_with("xxx") && said.len() as u64 <= MAX_LINE, "{}", said.len());
    }
}
