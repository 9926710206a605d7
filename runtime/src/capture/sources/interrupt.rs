//! Reading that another thread can end.

use std::io::{self, PipeReader, PipeWriter, Read};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Ends every read of the [`Interruptible`]s that were made with it, now and later.
///
/// It is the writing end of a pipe that nobody writes to: once it is closed, whoever waits for the reading end wakes.
#[derive(Debug, Clone)]
pub(super) struct Interrupt {
    writer: Arc<Mutex<Option<PipeWriter>>>,
    reader: Arc<PipeReader>,
}

impl Interrupt {
    /// # Errors
    /// That of the system if no file descriptor is left.
    pub(super) fn new() -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        Ok(Self { writer: Arc::new(Mutex::new(Some(writer))), reader: Arc::new(reader) })
    }

    /// Ends the reads.
    pub(super) fn set(&self) {
        *self.writer.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub(super) fn is_set(&self) -> bool {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }
}

/// A file or pipe whose reads an [`Interrupt`] ends with an error.
#[derive(Debug)]
pub(super) struct Interruptible<R> {
    input: R,
    interrupt: Interrupt,
}

impl<R: Read + AsFd> Interruptible<R> {
    pub(super) fn new(input: R, interrupt: Interrupt) -> Self {
        Self { input, interrupt }
    }

    /// Puts the input under another interrupt: reads go on after the one before has ended them.
    pub(super) fn set_interrupt(&mut self, interrupt: Interrupt) {
        self.interrupt = interrupt;
    }
}

impl<R: Read + AsFd> Read for Interruptible<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut fds = [
                PollFd::new(self.input.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.interrupt.reader.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) => {}
                Err(Errno::EINTR) => continue,
                Err(error) => return Err(error.into()),
            }
            // Unknown flags count as an event too: what it is, the read tells.
            let [input, interrupt] = fds.map(|fd| fd.any().unwrap_or(true));
            if interrupt {
                // Not `ErrorKind::Interrupted`, after which readers try again.
                return Err(io::Error::other("the reading was interrupted"));
            }
            if input {
                match self.input.read(buffer) {
                    Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {}
                    result => return result,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_blocked_read_ends_when_it_is_interrupted_and_stays_ended() {
        let (reader, mut writer) = io::pipe().unwrap();
        let interrupt = Interrupt::new().unwrap();
        let mut input = Interruptible::new(reader, interrupt.clone());
        writer.write_all(b"one").unwrap();
        let mut buffer = [0; 8];
        assert_eq!(input.read(&mut buffer).unwrap(), 3);
        assert!(!interrupt.is_set());
        let thread = thread::spawn(move || {
            thread::sleep(Duration::from_millis(20));
            interrupt.set();
        });
        assert!(input.read(&mut buffer).is_err());
        thread.join().unwrap();
        writer.write_all(b"two").unwrap();
        assert!(input.read(&mut buffer).is_err() && input.interrupt.is_set());
        input.set_interrupt(Interrupt::new().unwrap());
        assert_eq!(input.read(&mut buffer).unwrap(), 3);
        drop(writer);
        assert_eq!(input.read(&mut buffer).unwrap(), 0, "the end of the stream is no error");
    }
}
