//! The place between the source's thread and the consumer.

use std::time::Duration;

use super::{Shot, Taken};

/// One place: a newer shot replaces one that was not taken.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    waiting: Option<Taken>,
    captured: u64,
    taken: u64,
    dropped: u64,
}

impl Mailbox {
    /// Puts a shot in, and gives the one that it replaces, for its buffer to be freed where no lock is held.
    pub(super) fn put(&mut self, shot: Shot, arrived: Duration) -> Option<Shot> {
        let replaced = self.waiting.replace(Taken { shot, sequence: self.captured, arrived });
        self.captured += 1;
        self.dropped += u64::from(replaced.is_some());
        replaced.map(|replaced| replaced.shot)
    }

    /// Takes the shot that waits.
    pub(super) fn take(&mut self) -> Option<Taken> {
        let taken = self.waiting.take();
        self.taken += u64::from(taken.is_some());
        taken
    }

    /// Whether no shot waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_none()
    }

    /// Shots that were put in, that were taken, and that were replaced.
    pub(super) fn counts(&self) -> [u64; 3] {
        [self.captured, self.taken, self.dropped]
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::capture::Payload;

    fn shot(name: &str) -> Shot {
        Shot { payload: Payload::Encoded(Vec::new()), name: name.into(), time: SystemTime::UNIX_EPOCH }
    }

    #[test]
    fn the_newest_shot_wins_and_the_sums_add_up() {
        let mut mailbox = Mailbox::default();
        assert!(mailbox.take().is_none());
        assert!(mailbox.put(shot("a"), Duration::from_secs(1)).is_none());
        let replaced = mailbox.put(shot("b"), Duration::from_secs(2)).unwrap();
        assert_eq!(&*replaced.name, "a");
        assert!(!mailbox.is_empty());
        let taken = mailbox.take().unwrap();
        assert_eq!((&*taken.shot.name, taken.sequence, taken.arrived), ("b", 1, Duration::from_secs(2)));
        assert!(mailbox.is_empty() && mailbox.take().is_none());
        mailbox.put(shot("c"), Duration::from_secs(3));
        assert_eq!(mailbox.counts(), [3, 1, 1]);
    }
}
