//! Frames from anywhere, newest first, for months.
//!
//! A [`Source`] blocks until its next [`Shot`]; what it runs on (a camera, a child process, a file) is its own. Around
//! it stand a thread that owns it, a mailbox of one place in which the newest shot replaces an older one, and a
//! supervisor that notices when no shot comes and opens the source anew.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

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
    /// Its number in its source, from 0, damaged ones counted.
    pub sequence: u64,
    /// When it was complete in this process, on the clock of the capture.
    pub arrived: Duration,
    /// When it was taken: the wall clock at its arrival, or for a film its place from the film's beginning after the
    /// Unix epoch.
    pub time: SystemTime,
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
