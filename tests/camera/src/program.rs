//! `edge-vit` as a child process, its lines as they come.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// The program and its model, as they lie in the virtual machine.
const PROGRAM: &str = "/bin/edge-vit";
const MODEL: &str = "/chart/chart.onnx";
/// Where the program serves when it is told to with `--serve`.
pub(crate) const ADDRESS: &str = "127.0.0.1:8080";

/// What `/healthz` at [`ADDRESS`] says: whether all is well, and the report.
///
/// # Errors
/// If it does not answer.
pub(crate) fn health() -> Result<(bool, String), String> {
    let mut answer = String::new();
    TcpStream::connect(ADDRESS)
        .and_then(|mut stream| {
            stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")?;
            stream.read_to_string(&mut answer)
        })
        .map_err(|error| format!("/healthz does not answer: {error}"))?;
    let (head, report) = answer.split_once("\r\n\r\n").ok_or_else(|| format!("/healthz: {answer}"))?;
    Ok((head.starts_with("HTTP/1.1 200"), report.to_owned()))
}

/// One line of the program.
enum Line {
    /// An answer, on stdout.
    Answer(Value),
    /// Of the log, on stderr.
    Log(String),
}

/// An answer: one picture's line of `--json`.
#[derive(Debug, Clone)]
pub(crate) struct Answer(Value);

impl Answer {
    pub(crate) fn label(&self) -> &str {
        self.0["label"].as_str().unwrap_or_default()
    }

    pub(crate) fn score(&self) -> f64 {
        self.0["score"].as_f64().unwrap_or_default()
    }

    /// A number of `counts`.
    ///
    /// # Errors
    /// If there is none of this name.
    pub(crate) fn count(&self, name: &str) -> Result<u64, String> {
        self.0["counts"][name].as_u64().ok_or_else(|| format!("no count `{name}` in {}", self.0))
    }
}

/// The running program. It is stopped when this is dropped.
pub(crate) struct Program {
    child: Child,
    lines: Receiver<Line>,
    log: Vec<String>,
}

impl Program {
    /// Starts the program before camera 0 with further `arguments`.
    ///
    /// # Errors
    /// If it cannot be started.
    pub(crate) fn start(arguments: &[&str]) -> Result<Self, String> {
        let mut child = Command::new(PROGRAM)
            .args(["--model", MODEL, "--camera", "0", "--json"])
            .args(arguments)
            .env("RUST_LOG", "info")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot start {PROGRAM}: {error}"))?;
        let (sender, lines) = mpsc::channel();
        if let Some(stdout) = child.stdout.take() {
            forward(stdout, sender.clone(), |line| match serde_json::from_str(&line) {
                Ok(value) => Line::Answer(value),
                Err(_) => Line::Log(format!("not JSON: {line}")),
            });
        }
        if let Some(stderr) = child.stderr.take() {
            forward(stderr, sender, Line::Log);
        }
        Ok(Self { child, lines, log: Vec::new() })
    }

    /// Reads on until an answer for which `wanted` holds, and gives it.
    ///
    /// # Errors
    /// If none came within `limit`, or the program ended: with the end of the log.
    pub(crate) fn answer(&mut self, limit: Duration, wanted: impl Fn(&Answer) -> bool) -> Result<Answer, String> {
        let mut last = None;
        let end = Instant::now() + limit;
        while let Some(line) = self.line(end)? {
            if let Line::Answer(value) = line {
                let answer = Answer(value);
                if wanted(&answer) {
                    return Ok(answer);
                }
                last = Some(answer);
            }
        }
        let seen = last.map_or("no answer came".to_owned(), |answer| format!("the last answer was {}", answer.0));
        Err(self.complaint(&format!("{seen} within {:.1} s", limit.as_secs_f64())))
    }

    /// Reads on until a line of the log for which `wanted` holds, and gives it.
    ///
    /// # Errors
    /// As [`answer`](Self::answer).
    pub(crate) fn logged(&mut self, limit: Duration, wanted: impl Fn(&str) -> bool) -> Result<String, String> {
        let end = Instant::now() + limit;
        while let Some(line) = self.line(end)? {
            if let Line::Log(text) = line
                && wanted(&text)
            {
                return Ok(text);
            }
        }
        Err(self.complaint(&format!("the log did not tell within {:.1} s", limit.as_secs_f64())))
    }

    /// The next line, or nothing at `end`.
    fn line(&mut self, end: Instant) -> Result<Option<Line>, String> {
        match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                self.keep(&line);
                Ok(Some(line))
            }
            Err(mpsc::RecvTimeoutError::Timeout) => Ok(None),
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                let status = self.child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
                Err(self.complaint(&format!("edge-vit ended: {status}")))
            }
        }
    }

    fn keep(&mut self, line: &Line) {
        if let Line::Log(text) = line {
            self.log.push(text.clone());
        }
    }

    fn complaint(&self, what: &str) -> String {
        let from = self.log.len().saturating_sub(12);
        format!("{what}; the end of the log:\n        {}", self.log[from..].join("\n        "))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // A program that has ended already is what this is for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends each line of `from`, made a [`Line`] of, until either side ends.
fn forward(from: impl Read + Send + 'static, to: Sender<Line>, make: impl Fn(String) -> Line + Send + 'static) {
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            if to.send(make(line)).is_err() {
                break;
            }
        }
    });
}
