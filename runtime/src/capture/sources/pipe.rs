//! Frames from a child process.

use std::ffi::OsString;
use std::sync::Arc;
use std::time::SystemTime;

use super::child::{Output, Running};
use super::format::PipeFormat;
use super::stream::{FrameReader, StreamError};
use crate::capture::{Open, Shot, Source, SourceError};

/// The standard output of a command, read live: whatever a program can grab, this can classify.
///
/// The command is split into words by the rules of a POSIX shell and run without one: no variable, no wildcard, no
/// pipeline (`sh -c '...'` has them). Its standard error goes to the log line by line. A command that ends is a source
/// that was lost, whatever its exit code, and is started again by whoever opens the source again. A dropped source
/// ends the command and what that has started in its process group: first asked, half a second later forced.
#[derive(Debug, Clone)]
pub struct Pipe {
    name: Arc<str>,
    /// Each a program and its arguments; the first whose program exists is run.
    alternatives: Vec<Vec<OsString>>,
    format: PipeFormat,
    remedy: &'static str,
}

impl Pipe {
    /// Runs `command` when it is opened, and reads `format` from it.
    ///
    /// # Errors
    /// [`SourceError::Open`] if `command` is empty or leaves a quote open.
    pub fn new(command: &str, format: PipeFormat) -> Result<Self, SourceError> {
        let words = shell_words::split(command)
            .map_err(|error| SourceError::Open(format!("the command `{command}` cannot be read: {error}")))?;
        if words.is_empty() {
            return Err(SourceError::Open("the command is empty: write a program and its arguments".to_owned()));
        }
        let words = words.into_iter().map(OsString::from).collect();
        Ok(Self::preset("pipe", vec![words], format, "install it, or write its whole path"))
    }

    /// A command that is known to this crate, under a name of its own.
    pub(super) fn preset(
        name: &str,
        alternatives: Vec<Vec<OsString>>,
        format: PipeFormat,
        remedy: &'static str,
    ) -> Self {
        Self { name: name.into(), alternatives, format, remedy }
    }
}

impl Open for Pipe {
    fn open(&self) -> Result<Box<dyn Source>, SourceError> {
        let (running, output) = Running::start(&self.alternatives, self.remedy)?;
        let frames = FrameReader::new(output, self.format)?;
        Ok(Box::new(PipeSource { name: Arc::clone(&self.name), running, frames }))
    }

    fn name(&self) -> Arc<str> {
        Arc::clone(&self.name)
    }
}

struct PipeSource {
    name: Arc<str>,
    // Dropped before the reading end of its output is closed: a program that is asked to end closes its camera.
    running: Running,
    frames: FrameReader<Output>,
}

impl Source for PipeSource {
    fn next(&mut self) -> Result<Option<Shot>, SourceError> {
        let reason = match self.frames.next_frame() {
            Ok(Some(payload)) => {
                return Ok(Some(Shot { payload, name: Arc::clone(&self.name), time: SystemTime::now() }));
            }
            Err(StreamError::Damaged(reason)) => return Err(SourceError::Damaged(reason)),
            Ok(None) => self.running.end().to_string(),
            Err(error) => {
                // Nothing further is read: what the program would still say of itself is the pipe's end.
                self.running.interrupt().set();
                format!("{error}; {}", self.running.end())
            }
        };
        Err(SourceError::Lost { source_name: self.name.to_string(), reason })
    }

    fn interrupter(&self) -> Option<Box<dyn Fn() + Send>> {
        let interrupt = self.running.interrupt().clone();
        Some(Box::new(move || interrupt.set()))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::capture::{Backoff, Capture, Next, Options, Payload, SystemClock};

    const FORMAT: &str = "rgb:2x1";

    fn pipe(command: &str) -> Pipe {
        Pipe::new(command, FORMAT.parse().unwrap()).unwrap()
    }

    fn raw(shot: Option<Shot>) -> Vec<u8> {
        match shot.unwrap().payload {
            Payload::Raw { bytes, .. } => bytes,
            Payload::Encoded(_) => panic!("raw frames were declared"),
        }
    }

    #[test]
    fn a_file_is_read_without_a_shell_and_its_end_is_the_loss_of_the_source() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a $(name) with 'quotes' and *");
        fs::write(&file, b"abcdefghijkl-").unwrap();
        let pipe = pipe(&shell_words::join(["cat", file.to_str().unwrap()]));
        for _ in 0..2 {
            let mut source = pipe.open().unwrap();
            assert_eq!(raw(source.next().unwrap()), b"abcdef");
            assert_eq!(raw(source.next().unwrap()), b"ghijkl");
            assert!(matches!(source.next(), Err(SourceError::Damaged(_))), "a cut frame is told");
            let message = source.next().unwrap_err().to_string();
            assert_eq!(message, "pipe is gone: `cat` ended with exit code 0");
        }
    }

    #[test]
    fn a_failing_command_says_why() {
        let mut source = pipe("cat /there/is/no/such/file").open().unwrap();
        let error = source.next().unwrap_err();
        assert!(matches!(error, SourceError::Lost { .. }), "{error}");
        assert!(error.to_string().contains("exit code 1, saying: cat: /there/is/no/such/file"), "{error}");
        let Err(error) = pipe("edge-vit-has-no-such-program").open() else { panic!("it exists") };
        assert!(error.to_string().contains("install it"), "{error}");
        for (command, part) in [("", "empty"), ("  ", "empty"), ("cat 'x", "`cat 'x`")] {
            let message = Pipe::new(command, PipeFormat::Mjpeg).unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn a_stalled_command_is_interrupted_ended_and_reaped() {
        let mut source = pipe("sh -c 'printf abcdef; sleep 1000'").open().unwrap();
        assert_eq!(raw(source.next().unwrap()), b"abcdef");
        let interrupt = source.interrupter().unwrap();
        let thread = thread::spawn(move || {
            thread::sleep(Duration::from_millis(50));
            interrupt();
        });
        let message = source.next().unwrap_err().to_string();
        assert!(message.contains("interrupted; `sh` ended by signal"), "{message}");
        thread.join().unwrap();
    }

    #[test]
    fn a_stream_that_is_not_of_its_format_ends_the_command() {
        let pipe = Pipe::new("sh -c 'echo no film; sleep 1000'", PipeFormat::Y4m).unwrap();
        let message = pipe.open().unwrap().next().unwrap_err().to_string();
        assert!(message.contains("begins with `no film`") && message.contains("by signal"), "{message}");
    }

    #[test]
    fn a_command_that_dies_is_started_again_by_the_capture() {
        let folder = tempfile::tempdir().unwrap();
        let marks = folder.path().join("marks");
        // A frame that counts the starts, then a death.
        let script =
            format!("printf x >> '{0}'; printf '%06d' $(wc -c < '{0}'); echo broken >&2; exit 3", marks.display());
        let pipe = pipe(&shell_words::join(["sh", "-c", &script]));
        let backoff = Backoff { first: Duration::from_millis(10), last: Duration::from_millis(20) };
        let options = Options { backoff, ..Options::default() };
        let capture = Capture::start(Arc::new(pipe), options, Arc::new(SystemClock::new())).unwrap();
        let mut seen = Vec::new();
        while seen.len() < 3 {
            match capture.take(Duration::from_secs(60)) {
                Next::Shot(taken) => seen.push(String::from_utf8(raw(Some(taken.shot))).unwrap()),
                next => panic!("{next:?} after {seen:?}"),
            }
        }
        assert!(seen.is_sorted() && seen.first().is_some_and(|first| first == "000001"), "{seen:?}");
        assert!(capture.counts().reopened >= 2, "{:?}", capture.counts());
    }
}
