//! The consumer's side of a capture.

use std::sync::Arc;
use std::time::Duration;

use super::shared::Shared;
use super::state::End;
use super::{Clock, Counts, Health, Open, Options, SourceError, Taken, driver, supervisor};

/// For how long the end of a capture waits for threads that do not hang, so that a device is free and a child process
/// gone when it returns.
const STOP_LIMIT: Duration = Duration::from_secs(1);

/// What [`Capture::take`] gives.
#[derive(Debug, Clone)]
pub enum Next {
    /// The newest shot, or with [`Options::every_frame`] the next.
    Shot(Taken),
    /// No shot came in time; one may come later.
    Nothing,
    /// The source came to its end and its last shot was taken: why.
    Ended(String),
    /// The source was given up and its last shot was taken: why, and what to do.
    Failed(String),
}

/// A source that is read and watched by threads of its own, until this is dropped.
///
/// Dropping it interrupts the source and waits a second at most: a thread that hangs in a driver is left behind.
pub struct Capture {
    shared: Arc<Shared>,
}

impl Capture {
    /// Opens the source and starts to read it.
    ///
    /// # Errors
    /// That of the first opening; [`SourceError::Open`] if it takes longer than [`Options::opening_limit`] or if there
    /// are no threads to be had. Later failures are told by [`take`](Self::take) and [`health`](Self::health).
    pub fn start(open: Arc<dyn Open>, options: Options, clock: Arc<dyn Clock>) -> Result<Self, SourceError> {
        let name = open.name();
        let capture = Self { shared: Arc::new(Shared::new(&name, options, clock)) };
        let shared = &capture.shared;
        driver::start(shared, &open, 0);
        let until = shared.now().saturating_add(options.opening_limit);
        let opened = shared.wait_for(until, || shared.state().first_opening());
        opened.unwrap_or_else(|| {
            let limit = options.opening_limit.as_secs_f64();
            let advice = "its driver hangs; unplug it and plug it in again, or restart the board";
            Err(SourceError::Open(format!("{name} does not open within {limit:.1} s: {advice}")))
        })?;
        supervisor::start(shared, Arc::clone(&open))
            .map_err(|error| SourceError::Open(format!("no thread can be started to watch {name}: {error}")))?;
        Ok(capture)
    }

    /// Waits for a shot, for `limit` at most, and takes it.
    pub fn take(&self, limit: Duration) -> Next {
        let shared = &self.shared;
        let until = shared.now().saturating_add(limit);
        match shared.wait_for(until, || shared.state().take()) {
            Some(Ok(taken)) => {
                shared.driver.ring();
                Next::Shot(taken)
            }
            Some(Err(End::Exhausted(reason))) => Next::Ended(reason),
            Some(Err(End::GivenUp(reason))) => Next::Failed(reason),
            None => Next::Nothing,
        }
    }

    /// Counts the shot that was taken last as damaged: it could not be decoded. A source of which no shot can be
    /// decoded for [`Options::stall_limit`] is opened again.
    pub fn count_damaged(&self) {
        let now = self.shared.now();
        if self.shared.state().undecodable(now) {
            self.shared.supervisor.ring();
        }
    }

    /// What has happened so far.
    pub fn counts(&self) -> Counts {
        self.shared.state().counts()
    }

    /// Whether shots come.
    pub fn health(&self) -> Health {
        self.shared.state().health()
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        let shared = &self.shared;
        shared.state().stop();
        shared.supervisor.ring();
        shared.driver.ring();
        let until = shared.now().saturating_add(STOP_LIMIT);
        let _ = shared.wait_for(until, || shared.state().idle().then_some(()));
    }
}
