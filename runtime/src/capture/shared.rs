//! What the threads of a capture hold in common.
//!
//! There is one lock, around [`State`]. No thread takes another lock while it holds it, and none waits, logs, frees a
//! buffer or calls a source: each transition gives back what is to be done after it. A bell has a lock of its own
//! inside, which is taken only while the state's is free. A lock that a panic poisoned is used as it is: every
//! transition leaves the state whole.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::state::{Delivery, Interrupter, Outcome, Remark, State, Wanted};
use super::{Bell, Clock, Options, Shot};

/// The state, and a bell for each that waits for it to change.
pub(super) struct Shared {
    pub(super) clock: Arc<dyn Clock>,
    state: Mutex<State>,
    /// Waits for a shot, and for the threads to end.
    pub(super) consumer: Arc<dyn Bell>,
    /// Waits for its shot to be taken.
    pub(super) driver: Arc<dyn Bell>,
    /// Waits for a thread to end, and for a limit to pass.
    pub(super) supervisor: Arc<dyn Bell>,
}

impl Shared {
    pub(super) fn new(name: &str, options: Options, clock: Arc<dyn Clock>) -> Self {
        let state = Mutex::new(State::new(name, options, clock.now()));
        let [consumer, driver, supervisor] = [clock.bell(), clock.bell(), clock.bell()];
        Self { clock, state, consumer, driver, supervisor }
    }

    /// The state, for a moment.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn now(&self) -> Duration {
        self.clock.now()
    }

    /// Whether the next shot of thread `run` is wanted; blocks while it is not wanted yet.
    pub(super) fn wanted(&self, run: u64) -> bool {
        loop {
            let heard = self.driver.rings();
            let wanted = self.state().wanted(run);
            match wanted {
                Wanted::Now => return true,
                Wanted::Never => return false,
                Wanted::Later => self.driver.wait(heard, None),
            }
        }
    }

    /// What `look` finds, now or after a ring of the consumer's bell, until a moment.
    pub(super) fn wait_for<T>(&self, until: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
        loop {
            let heard = self.consumer.rings();
            match look() {
                None if self.now() < until => self.consumer.wait(heard, Some(until)),
                found => return found,
            }
        }
    }

    /// Thread `run` has opened its source.
    pub(super) fn opened(&self, run: u64, interrupter: Option<Interrupter>) {
        let now = self.now();
        self.state().opened(run, interrupter, now);
        self.consumer.ring();
    }

    /// Thread `run` has a whole shot.
    pub(super) fn deliver(&self, run: u64, shot: Shot) {
        let now = self.now();
        let Delivery { accepted, discarded, live } = self.state().deliver(run, shot, now);
        if accepted {
            self.consumer.ring();
        }
        if live.is_some() {
            // From now on a shorter limit holds.
            self.supervisor.ring();
        }
        drop(discarded);
        say(live);
    }

    /// Thread `run` has a damaged shot.
    pub(super) fn damaged(&self, run: u64, reason: &str) {
        let remark = self.state().damaged(run, reason);
        say(remark);
    }

    /// Thread `run` ends.
    pub(super) fn finished(&self, run: u64, outcome: Outcome) {
        let now = self.now();
        let remark = self.state().finished(run, outcome, now);
        self.consumer.ring();
        self.supervisor.ring();
        say(remark);
    }
}

/// Writes to the log.
pub(super) fn say(remark: Option<Remark>) {
    if let Some(Remark(level, sentence)) = remark {
        log::log!(level, "{sentence}");
    }
}
