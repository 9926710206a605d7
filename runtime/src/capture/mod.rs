//! Frames from anywhere, newest first, for months.
//!
//! A [`Source`] blocks until its next [`Shot`]; what it runs on (a camera, a child process, a file) is its own. Around
//! it stand a thread that owns it, a mailbox of one place in which the newest shot replaces an older one, and a
//! supervisor that notices when no shot comes and opens the source anew.

mod clock;
mod consumer;
mod driver;
mod error;
mod mailbox;
mod options;
mod shared;
pub mod sources;
mod state;
mod supervisor;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

pub use clock::{Bell, Clock, SystemClock};
pub use consumer::{Capture, Next};
pub use error::SourceError;
pub use options::{Backoff, Options};

use crate::frame::FrameLayout;

/// The pixels of a shot, not decoded yet: most shots of a live source are dropped.
#[derive(Debug, Clone)]
pub enum Payload {
    /// The bytes of a picture file: JPEG from cameras, any format that [`decode_picture`](crate::decode_picture) reads
    /// from files.
    Encoded(Vec<u8>),
    /// Raw pixels.
    Raw {
        /// How they lie in `bytes`.
        layout: FrameLayout,
        /// At least as many as the layout needs.
        bytes: Vec<u8>,
    },
}

/// One picture that a source gave.
#[derive(Debug, Clone)]
pub struct Shot {
    /// The pixels.
    pub payload: Payload,
    /// Where it came from: the source's name, or the file's.
    pub name: Arc<str>,
    /// When it was taken: the wall clock at its arrival, or for a film its place from the film's beginning after the
    /// Unix epoch.
    pub time: SystemTime,
}

/// A shot that was taken out of the mailbox.
#[derive(Debug, Clone)]
pub struct Taken {
    /// The shot.
    pub shot: Shot,
    /// Its number since the capture began, from 0.
    pub sequence: u64,
    /// When it was complete in this process, on the clock of the capture.
    pub arrived: Duration,
}

/// A stream of shots. The thread that calls it is the only one that touches it.
pub trait Source: Send {
    /// Blocks until the next shot, or gives `None` when the source has come to its end.
    ///
    /// # Errors
    /// [`SourceError::Damaged`] if this shot is lost and the next may come; any other error ends the stream.
    fn next(&mut self) -> Result<Option<Shot>, SourceError>;

    /// What makes a blocked [`next`](Self::next) return, called from another thread, if there is a way: a child
    /// process is killed; a driver cannot be interrupted. It must not block, and may be called once the source is gone.
    fn interrupter(&self) -> Option<Box<dyn Fn() + Send>> {
        None
    }
}

/// Opens a source, and opens it again when it was lost.
pub trait Open: Send + Sync {
    /// Opens the source anew, wherever the same device is now.
    ///
    /// # Errors
    /// Those of the source; nothing stays open.
    fn open(&self) -> Result<Box<dyn Source>, SourceError>;

    /// What people call it: `camera 0`, `/dev/v4l/by-id/...`, `pipe`.
    fn name(&self) -> Arc<str>;
}

/// What has happened since the start. Sums add up: `captured = taken + dropped + waiting in the mailbox`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counts {
    /// Whole shots that the source gave.
    pub captured: u64,
    /// Shots that were taken for classification.
    pub taken: u64,
    /// Shots that a newer one replaced before they were taken.
    pub dropped: u64,
    /// Shots that could not be decoded: cut, empty or corrupted.
    pub damaged: u64,
    /// Times that no shot came for longer than the limit.
    pub stalls: u64,
    /// Times that the source was opened again.
    pub reopened: u64,
    /// Threads that hang in a driver and were left behind.
    pub abandoned: u64,
}

/// Whether shots come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// The source is being opened for the first time, or has given nothing yet.
    Starting,
    /// Shots come.
    Live,
    /// No shots come, and the source is being opened again: why.
    Waiting(String),
    /// The source has ended or was given up: why.
    Ended(String),
}
