//! What a service manager is told: readiness, state, and that the program still does its work.
//!
//! Without `NOTIFY_SOCKET` in the environment nothing is told, and nothing fails.

use std::time::{Duration, Instant};

use sd_notify::NotifyState;

/// The line to systemd.
pub(crate) struct Service {
    /// How often it wants to be told, if it does.
    watchdog: Option<Duration>,
    told: Instant,
    ready: bool,
    status: String,
}

impl Service {
    pub(crate) fn new() -> Self {
        let mut usec = 0;
        // Told twice within its limit, so that one late answer is no death.
        let watchdog = sd_notify::watchdog_enabled(false, &mut usec).then(|| Duration::from_micros(usec) / 2);
        Self { watchdog, told: Instant::now(), ready: false, status: String::new() }
    }

    /// The model is prepared and the source is open. Told once.
    pub(crate) fn ready(&mut self) {
        if !std::mem::replace(&mut self.ready, true) {
            tell(&[NotifyState::Ready]);
        }
    }

    /// The program works: it has just classified, or knows why it cannot. To be called only where that is so.
    pub(crate) fn alive(&mut self) {
        if self.watchdog.is_some_and(|interval| self.told.elapsed() >= interval) {
            self.told = Instant::now();
            tell(&[NotifyState::Watchdog]);
        }
    }

    /// What `systemctl status` shows.
    pub(crate) fn status(&mut self, status: &str) {
        if self.status != status {
            status.clone_into(&mut self.status);
            tell(&[NotifyState::Status(status)]);
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        tell(&[NotifyState::Stopping]);
    }
}

fn tell(state: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(false, state) {
        log::debug!("the service manager cannot be told: {error}");
    }
}
