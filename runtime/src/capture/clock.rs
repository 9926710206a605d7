//! Time, waiting and threads, so that a simulation can stand in for all three.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Where a capture gets its time, its waits and its threads from.
///
/// Whatever lasts in a capture goes through its clock. A simulated one therefore knows when all of its threads wait,
/// and may let time jump to the earliest moment for which one of them waits.
pub trait Clock: Send + Sync {
    /// The time since a moment that stays the same; it never runs backwards.
    fn now(&self) -> Duration;

    /// A new bell that has not rung yet.
    fn bell(&self) -> Arc<dyn Bell>;

    /// Starts a thread that nobody joins.
    ///
    /// # Errors
    /// What the operating system says where it gives no further thread.
    fn spawn(&self, name: String, body: Box<dyn FnOnce() + Send>) -> io::Result<()>;
}

/// What a thread waits for.
///
/// The one who waits reads [`rings`](Self::rings) first, then looks whether what it waits for is there, and if not,
/// waits for a later ring: a ring in between is not missed, and no lock is held while waiting.
pub trait Bell: Send + Sync {
    /// How often it has rung.
    fn rings(&self) -> u64;

    /// Wakes whoever waits.
    fn ring(&self);

    /// Blocks until it has rung more often than `heard`, or the clock has reached `until`.
    fn wait(&self, heard: u64, until: Option<Duration>);
}

/// The time, the waits and the threads of the operating system.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    origin: Instant,
}

impl SystemClock {
    /// A clock that starts at zero now.
    pub fn new() -> Self {
        Self { origin: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    fn bell(&self) -> Arc<dyn Bell> {
        Arc::new(SystemBell { clock: *self, rings: Mutex::new(0), rung: Condvar::new() })
    }

    fn spawn(&self, name: String, body: Box<dyn FnOnce() + Send>) -> io::Result<()> {
        thread::Builder::new().name(name).spawn(body).map(drop)
    }
}

struct SystemBell {
    clock: SystemClock,
    rings: Mutex<u64>,
    rung: Condvar,
}

impl SystemBell {
    fn lock(&self) -> MutexGuard<'_, u64> {
        self.rings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bell for SystemBell {
    fn rings(&self) -> u64 {
        *self.lock()
    }

    fn ring(&self) {
        *self.lock() += 1;
        self.rung.notify_all();
    }

    fn wait(&self, heard: u64, until: Option<Duration>) {
        let mut rings = self.lock();
        while *rings == heard {
            rings = match until {
                None => self.rung.wait(rings).unwrap_or_else(PoisonError::into_inner),
                Some(until) => match until.saturating_sub(self.clock.now()) {
                    Duration::ZERO => return,
                    left => self.rung.wait_timeout(rings, left).unwrap_or_else(PoisonError::into_inner).0,
                },
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_at_its_time_without_a_ring() {
        let clock = SystemClock::new();
        let bell = clock.bell();
        let until = clock.now() + Duration::from_millis(5);
        bell.wait(bell.rings(), Some(until));
        assert!(clock.now() >= until);
        assert_eq!(bell.rings(), 0);
    }

    #[test]
    fn a_ring_before_the_wait_is_not_missed() {
        let bell = SystemClock::new().bell();
        let heard = bell.rings();
        bell.ring();
        bell.wait(heard, None);
        assert_eq!(bell.rings(), 1);
    }

    #[test]
    fn a_ring_from_another_thread_ends_a_wait_without_limit() {
        let clock = SystemClock::new();
        let [there, back] = [clock.bell(), clock.bell()];
        let (rung, answered) = (Arc::clone(&there), Arc::clone(&back));
        let body = move || {
            rung.wait(0, None);
            assert_eq!(thread::current().name(), Some("echo"));
            answered.ring();
        };
        clock.spawn("echo".to_owned(), Box::new(body)).unwrap();
        there.ring();
        back.wait(0, None);
        assert_eq!(back.rings(), 1);
    }
}
