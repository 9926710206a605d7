//! A stream of bytes, split into frames.

mod mjpeg;
mod y4m;

use std::io::{self, BufRead, BufReader, Read};
use std::time::Duration;

use thiserror::Error;

use super::format::{PipeFormat, frame_bytes};
use crate::capture::{Payload, SourceError};
use crate::frame::FrameLayout;
use mjpeg::Mjpeg;
use y4m::Y4m;

/// The most that is taken from the stream at once, in bytes: what a pipe of Linux holds.
const CHUNK: usize = 64 << 10;

/// Why a stream gives no frame.
#[derive(Debug, Error)]
pub enum StreamError {
    /// This frame is lost; the next may come.
    #[error("{0}")]
    Damaged(String),
    /// The bytes are not of the declared format, and nothing says where the next frame begins.
    #[error("{0}")]
    Format(String),
    /// The stream cannot be read.
    #[error("the stream cannot be read: {0}")]
    Read(#[from] io::Error),
}

/// Splits a stream into frames.
///
/// A read that fails loses nothing: a further call goes on where it stopped. Memory is bounded by one frame, a JPEG of
/// at most 32 MiB, a raw one of at most 256 MiB, whatever the stream says.
#[derive(Debug)]
pub struct FrameReader<R> {
    input: BufReader<R>,
    splitter: Splitter,
}

#[derive(Debug)]
enum Splitter {
    Mjpeg(Mjpeg),
    Y4m(Y4m),
    Raw { layout: FrameLayout, body: Body },
}

impl<R: Read> FrameReader<R> {
    /// Splits `input`, of which nothing is read yet.
    ///
    /// # Errors
    /// [`SourceError::Open`] if a raw format declares a frame that cannot be.
    pub fn new(input: R, format: PipeFormat) -> Result<Self, SourceError> {
        let splitter = match format {
            PipeFormat::Mjpeg => Splitter::Mjpeg(Mjpeg::default()),
            PipeFormat::Y4m => Splitter::Y4m(Y4m::default()),
            PipeFormat::Raw(layout) => Splitter::Raw { body: Body::new(frame_bytes(&layout)?), layout },
        };
        Ok(Self { input: BufReader::with_capacity(CHUNK, input), splitter })
    }

    /// Waits for the next frame, or gives `None` at the stream's end.
    ///
    /// # Errors
    /// [`StreamError`]; after [`StreamError::Format`] no frame comes any more.
    pub fn next_frame(&mut self) -> Result<Option<Payload>, StreamError> {
        match &mut self.splitter {
            Splitter::Mjpeg(mjpeg) => Ok(mjpeg.next(&mut self.input)?.map(Payload::Encoded)),
            Splitter::Y4m(y4m) => y4m.next(&mut self.input),
            Splitter::Raw { layout, body } => {
                Ok(body.next(&mut self.input)?.map(|bytes| Payload::Raw { layout: *layout, bytes }))
            }
        }
    }

    /// Reads the header of a stream that has one, so that a stream of another format is refused before its first frame.
    /// Gives whether there is a header.
    pub(super) fn read_header(&mut self) -> Result<bool, StreamError> {
        match &mut self.splitter {
            Splitter::Y4m(y4m) => Ok(y4m.header(&mut self.input)?.is_some()),
            _ => Ok(false),
        }
    }

    /// How long a frame lasts, if the stream has said so.
    pub(super) fn interval(&self) -> Option<Interval> {
        match &self.splitter {
            Splitter::Y4m(y4m) => y4m.interval(),
            _ => None,
        }
    }

    /// What is read from.
    pub(super) fn input_mut(&mut self) -> &mut R {
        self.input.get_mut()
    }
}

/// A run of bytes of known length.
#[derive(Debug)]
struct Body {
    length: usize,
    bytes: Vec<u8>,
    filled: usize,
}

impl Body {
    fn new(length: usize) -> Self {
        Self { length, bytes: Vec::new(), filled: 0 }
    }

    /// The next run, or `None` where the stream ends before one.
    fn next(&mut self, input: &mut impl Read) -> Result<Option<Vec<u8>>, StreamError> {
        if self.bytes.is_empty() {
            self.bytes = vec![0; self.length];
        }
        while self.filled < self.length {
            match input.read(&mut self.bytes[self.filled..]) {
                Ok(0) => {
                    return match std::mem::take(&mut self.filled) {
                        0 => Ok(None),
                        got => Err(StreamError::Damaged(format!(
                            "the stream ends after {got} of a frame's {} bytes",
                            self.length
                        ))),
                    };
                }
                Ok(count) => self.filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.filled = 0;
        Ok(Some(std::mem::take(&mut self.bytes)))
    }
}

/// What is there to read now, at least one byte; nothing at the stream's end.
fn peek(input: &mut impl BufRead) -> io::Result<&[u8]> {
    // Twice, as the borrow of a buffer that is returned would outlive the loop: the second call finds it filled.
    while let Err(error) = input.fill_buf() {
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    input.fill_buf()
}

/// Time between two frames, as a fraction of a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Interval {
    numerator: u32,
    denominator: u32,
}

impl Interval {
    /// When the frame with this number, from 0, comes.
    pub(super) fn place(self, number: u64) -> Duration {
        let nanoseconds =
            u128::from(number) * u128::from(self.numerator) * 1_000_000_000 / u128::from(self.denominator.max(1));
        Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
    }
}
