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
