//! Frames from the standard input.

use std::fs::File;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use super::format::PipeFormat;
use super::interrupt::{Interrupt, Interruptible};
use super::stream::{FrameReader, StreamError};
use crate::capture::{Open, Shot, Source, SourceError};

type Frames = FrameReader<Interruptible<File>>;

/// The standard input of this process, read live up to its end.
///
/// It can be opened again after a stall, and goes on where it stopped; its end is the source's end.
#[derive(Debug)]
pub struct Stdin {
    format: PipeFormat,
    /// The stream while nobody reads it, once it was opened.
    idle: Arc<Mutex<Option<Frames>>>,
}

impl Stdin {
    /// Reads `format` from the standard input when it is opened.
    pub fn new(format: PipeFormat) -> Self {
        Self { format, idle: Arc::default() }
    }

    fn frames(&self, interrupt: Interrupt) -> Result<Frames, SourceError> {
        if let Some(mut frames) = self.idle.lock().unwrap_or_else(PoisonError::into_inner).take() {
            frames.input_mut().set_interrupt(interrupt);
            return Ok(frames);
        }
        // Not through `std::io::Stdin`, whose buffer would hide from `poll` what has been read ahead.
        let input = std::io::stdin().as_fd().try_clone_to_owned().map_err(unreadable)?;
        FrameReader::new(Interruptible::new(File::from(input), interrupt), self.format)
    }
}

fn unreadable(error: std::io::Error) -> SourceError {
    SourceError::Open(format!("the standard input cannot be read: {error}"))
}

impl Open for Stdin {
    fn open(&self) -> Result<Box<dyn Source>, SourceError> {
        let interrupt = Interrupt::new().map_err(unreadable)?;
        let frames = self.frames(interrupt.clone())?;
        Ok(Box::new(StdinSource { name: self.name(), interrupt, frames: Some(frames), idle: Arc::clone(&self.idle) }))
    }

    fn name(&self) -> Arc<str> {
        "stdin".into()
    }
}

struct StdinSource {
    name: Arc<str>,
    interrupt: Interrupt,
    frames: Option<Frames>,
    idle: Arc<Mutex<Option<Frames>>>,
}

impl Source for StdinSource {
    fn next(&mut self) -> Result<Option<Shot>, SourceError> {
        let Some(frames) = &mut self.frames else { return Ok(None) };
        match frames.next_frame() {
            Ok(payload) => {
                Ok(payload.map(|payload| Shot { payload, name: Arc::clone(&self.name), time: SystemTime::now() }))
            }
            Err(StreamError::Damaged(reason)) => Err(SourceError::Damaged(reason)),
            Err(error) => Err(SourceError::Lost { source_name: self.name.to_string(), reason: error.to_string() }),
        }
    }

    fn interrupter(&self) -> Option<Box<dyn Fn() + Send>> {
        let interrupt = self.interrupt.clone();
        Some(Box::new(move || interrupt.set()))
    }
}

impl Drop for StdinSource {
    fn drop(&mut self) {
        *self.idle.lock().unwrap_or_else(PoisonError::into_inner) = self.frames.take();
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::os::fd::OwnedFd;
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::capture::Payload;

    #[test]
    fn a_stalled_input_goes_on_where_it_stopped_and_its_end_is_the_end() {
        let (reader, mut writer) = io::pipe().unwrap();
        let stdin = Stdin::new("grey:3x2".parse().unwrap());
        let input = Interruptible::new(File::from(OwnedFd::from(reader)), Interrupt::new().unwrap());
        *stdin.idle.lock().unwrap() = Some(FrameReader::new(input, stdin.format).unwrap());
        // With half a frame only the interrupt ends the wait for the other half.
        writer.write_all(b"abc").unwrap();
        let mut source = stdin.open().unwrap();
        let interrupt = source.interrupter().unwrap();
        let waiting = thread::spawn(move || source.next().map(drop));
        thread::sleep(Duration::from_millis(20));
        interrupt();
        assert!(matches!(waiting.join().unwrap(), Err(SourceError::Lost { .. })));
        writer.write_all(b"def").unwrap();
        let shot = stdin.open().unwrap().next().unwrap().unwrap();
        assert!(matches!(shot.payload, Payload::Raw { bytes, .. } if bytes == b"abcdef"));
        drop(writer);
        let mut source = stdin.open().unwrap();
        assert!(source.next().unwrap().is_none() && source.next().unwrap().is_none());
    }
}
