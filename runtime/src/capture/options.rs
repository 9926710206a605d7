//! What a capture bears, and for how long.

use std::time::Duration;

/// How long is waited before a source is opened again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// Before the first opening after shots came.
    pub first: Duration,
    /// The longest wait. Each failure doubles the wait until then.
    pub last: Duration,
}

/// What a capture bears, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// For how long a source that gave shots may give none before it is taken for stalled.
    pub stall_limit: Duration,
    /// For how long a source may open, and give no shot after it was opened.
    pub opening_limit: Duration,
    /// Whether every shot is handed out: the source waits until its shot was taken. For files and films. Such a source
    /// would begin again if it were opened again: it has no limits once it is open, and its loss is the end.
    pub every_frame: bool,
    /// How many threads may hang in a driver at once. When there are more, the capture is given up.
    pub abandoned_limit: usize,
    /// The waits before a source is opened again.
    pub backoff: Backoff,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            stall_limit: Duration::from_millis(1500),
            opening_limit: Duration::from_secs(10),
            every_frame: false,
            abandoned_limit: 3,
            backoff: Backoff { first: Duration::from_millis(250), last: Duration::from_secs(5) },
        }
    }
}
