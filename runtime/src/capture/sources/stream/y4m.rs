//! YUV4MPEG2: a line with size, rate and sampling, then a line and a raw frame at a time (the manual page `yuv4mpeg(5)`
//! of mjpegtools; `XCOLORRANGE` as `ffmpeg` writes it).

use std::io::BufRead;

use super::{Body, Interval, StreamError, peek};
use crate::capture::Payload;
use crate::capture::sources::format::{Size, default_range, frame_bytes, packed};
use crate::frame::{FrameLayout, PixelFormat, Range};

/// The longest line, in bytes.
const MAX_LINE: usize = 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    layout: FrameLayout,
    interval: Option<Interval>,
}

/// The walk through the stream.
#[derive(Debug, Default)]
pub(super) struct Y4m {
    header: Option<Header>,
    /// As much of a line as has come.
    line: Vec<u8>,
    /// The frame that is being read.
    body: Option<Body>,
    /// Why no frame can come any more.
    lost: Option<String>,
}

impl Y4m {
    /// The next frame, or `None` at the stream's end.
    pub(super) fn next(&mut self, input: &mut impl BufRead) -> Result<Option<Payload>, StreamError> {
        if let Some(reason) = &self.lost {
            return Err(StreamError::Format(reason.clone()));
        }
        let result = self.read(input);
        if let Err(StreamError::Format(reason)) = &result {
            self.lost = Some(reason.clone());
        }
        result
    }

    pub(super) fn interval(&self) -> Option<Interval> {
        self.header.and_then(|header| header.interval)
    }

    /// The header, or `None` if the stream ends before it.
    pub(super) fn header(&mut self, input: &mut impl BufRead) -> Result<Option<Header>, StreamError> {
        if self.header.is_none() {
            self.header = self.line(input)?.map(|line| parse(&line)).transpose()?;
        }
        Ok(self.header)
    }

    fn read(&mut self, input: &mut impl BufRead) -> Result<Option<Payload>, StreamError> {
        let Some(Header { layout, .. }) = self.header(input)? else { return Ok(None) };
        if self.body.is_none() {
            match self.line(input)?.as_deref() {
                None => return Ok(None),
                Some(line) if line == "FRAME" || line.starts_with("FRAME ") => {}
                Some(line) => {
                    return Err(StreamError::Format(format!("`{line}` stands where a frame of YUV4MPEG2 must begin")));
                }
            }
        }
        let length = frame_bytes(&layout).map_err(|error| StreamError::Format(error.to_string()))?;
        let result = self.body.get_or_insert_with(|| Body::new(length)).next(input);
        if !matches!(result, Err(StreamError::Read(_))) {
            self.body = None;
        }
        match result? {
            Some(bytes) => Ok(Some(Payload::Raw { layout, bytes })),
            None => Err(StreamError::Damaged("the stream ends before a frame's bytes".to_owned())),
        }
    }

    /// The next line without its end, or `None` at the stream's end.
    fn line(&mut self, input: &mut impl BufRead) -> Result<Option<String>, StreamError> {
        loop {
            let chunk = peek(input)?;
            let end = chunk.iter().position(|&byte| byte == b'\n');
            let (run, ends) = (end.unwrap_or(chunk.len()), chunk.is_empty());
            self.line.extend_from_slice(&chunk[..run.min(MAX_LINE + 1)]);
            input.consume(end.map_or(run, |end| end + 1));
            if self.line.len() > MAX_LINE || (ends && !self.line.is_empty()) || end.is_some() {
                let line = String::from_utf8_lossy(&std::mem::take(&mut self.line)).into_owned();
                return match end {
                    Some(_) if line.len() <= MAX_LINE => Ok(Some(line)),
                    _ => {
                        let start: String = line.chars().take(24).collect();
                        Err(StreamError::Format(format!("a line of YUV4MPEG2 does not end: `{start}`")))
                    }
                };
            }
            if ends {
                return Ok(None);
            }
        }
    }
}

fn parse(line: &str) -> Result<Header, StreamError> {
    let wrong = |reason: String| StreamError::Format(format!("the header of YUV4MPEG2 cannot be read: {reason}"));
    let mut words = line.split(' ');
    if words.next() != Some("YUV4MPEG2") {
        let start: String = line.chars().take(24).collect();
        return Err(wrong(format!("it begins with `{start}`; the stream is none, or its beginning is missing")));
    }
    let (mut width, mut height, mut interval) = (None, None, None);
    let (mut format, mut range) = (PixelFormat::I420, None);
    for word in words.filter(|word| !word.is_empty()) {
        let unknown = || wrong(format!("`{word}` is not understood"));
        let (key, value) = word.split_at(word.chars().next().map_or(0, char::len_utf8));
        match key {
            "W" => width = Some(value.parse().map_err(|_| unknown())?),
            "H" => height = Some(value.parse().map_err(|_| unknown())?),
            "F" => interval = rate(value).ok_or_else(unknown)?,
            // Interlacing, and the shape of a pixel.
            "I" | "A" => {}
            "C" => {
                format = match value {
                    "420" | "420jpeg" | "420paldv" | "420mpeg2" => PixelFormat::I420,
                    "mono" => PixelFormat::Grey,
                    _ => {
                        return Err(wrong(format!(
                            "the sampling `{value}` is not read, 4:2:0 and grey of 8 bits are (`ffmpeg -pix_fmt yuv420p`)"
                        )));
                    }
                }
            }
            "X" => match value.strip_prefix("COLORRANGE=") {
                Some("FULL") => range = Some(Range::Full),
                Some("LIMITED") => range = Some(Range::Limited),
                Some(_) => return Err(unknown()),
                None => {}
            },
            _ => return Err(unknown()),
        }
    }
    let (Some(width), Some(height)) = (width, height) else {
        return Err(wrong("it names no size".to_owned()));
    };
    let layout = packed(format, Size { width, height }, range.unwrap_or(default_range(format)));
    frame_bytes(&layout).map_err(|error| StreamError::Format(error.to_string()))?;
    Ok(Header { layout, interval })
}

/// The time between frames for a rate `30000:1001`, none for `0:0`, which says that the rate is unknown.
fn rate(value: &str) -> Option<Option<Interval>> {
    let (frames, seconds) = value.split_once(':')?;
    match (frames.parse().ok()?, seconds.parse().ok()?) {
        (0, 0) => Some(None),
        (0, _) | (_, 0) => None,
        (denominator, numerator) => Some(Some(Interval { numerator, denominator })),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, BufReader, Read};
    use std::time::Duration;

    use super::*;

    fn stream(header: &str, bytes: usize, frames: u8) -> Vec<u8> {
        let mut stream = format!("{header}\n").into_bytes();
        for frame in 0..frames {
            stream.extend_from_slice(if frame % 2 == 0 { b"FRAME\n" } else { b"FRAME Ip XNOTE=1\n" });
            stream.resize(stream.len() + bytes, b'\n' + frame);
        }
        stream
    }

    /// All frames' bytes with the last layout, and what the stream ended with.
    fn split(stream: impl Read, step: usize) -> (Vec<Vec<u8>>, Option<FrameLayout>, Option<StreamError>) {
        let mut input = BufReader::with_capacity(step, stream);
        let (mut y4m, mut frames, mut last) = (Y4m::default(), Vec::new(), None);
        loop {
            match y4m.next(&mut input) {
                Ok(Some(Payload::Raw { layout, bytes })) => {
                    frames.push(bytes);
                    last = Some(layout);
                }
                Ok(Some(Payload::Encoded(_))) => panic!("a frame of YUV4MPEG2 is raw"),
                Ok(None) => return (frames, last, None),
                Err(error) => return (frames, last, Some(error)),
            }
        }
    }

    #[test]
    fn frames_come_with_size_range_and_place() {
        let bytes = stream("YUV4MPEG2 W4 H2 F30000:1001 Ip A1:1 C420jpeg XYSCSS=420JPEG XCOLORRANGE=FULL", 12, 3);
        for step in [1, 5, 4096] {
            let (frames, layout, error) = split(&bytes[..], step);
            assert_eq!(frames, [[10; 12], [11; 12], [12; 12]]);
            assert!(error.is_none(), "{error:?}");
            let layout = layout.unwrap();
            assert_eq!((layout.format, layout.width, layout.height), (PixelFormat::I420, 4, 2));
            assert_eq!(layout.range, Range::Full);
        }
        let header = parse("YUV4MPEG2 W4 H2 F30000:1001").unwrap();
        assert_eq!(header.layout.range, Range::Limited);
        assert_eq!(header.interval.unwrap().place(30_000), Duration::from_secs(1001));
        assert_eq!(header.interval.unwrap().place(u64::MAX), Duration::from_nanos(u64::MAX));
        assert_eq!(parse("YUV4MPEG2 W3 H1 F0:0 Cmono").unwrap().layout.format, PixelFormat::Grey);
    }

    #[test]
    fn a_wrong_header_is_refused_with_its_reason() {
        for (header, part) in [
            ("RIFF....AVI", "begins with `RIFF"),
            ("YUV4MPEG3 W2 H2", "begins with"),
            ("YUV4MPEG2 H2", "no size"),
            ("YUV4MPEG2 W2 Hx", "`Hx`"),
            ("YUV4MPEG2 W-2 H2", "`W-2`"),
            ("YUV4MPEG2 W3 H2", "even"),
            ("YUV4MPEG2 W0 H2", "no pixels"),
            ("YUV4MPEG2 W4000000000 H2", "too large"),
            ("YUV4MPEG2 W16384 H16384", "MiB"),
            ("YUV4MPEG2 W2 H2 C422", "-pix_fmt yuv420p"),
            ("YUV4MPEG2 W2 H2 F25", "`F25`"),
            ("YUV4MPEG2 W2 H2 F0:1", "`F0:1`"),
            ("YUV4MPEG2 W2 H2 XCOLORRANGE=WIDE", "WIDE"),
            ("YUV4MPEG2 W2 H2 Q7", "`Q7`"),
            ("YUV4MPEG2 W2 H2 \u{e9}7", "\u{e9}7"),
        ] {
            let message = parse(header).unwrap_err().to_string();
            assert!(message.contains(part), "{header}: {message}");
        }
    }

    #[test]
    fn a_stream_cut_anywhere_ends_with_its_whole_frames() {
        let bytes = stream("YUV4MPEG2 W4 H2 F25:1", 12, 3);
        for length in 0..bytes.len() {
            let (frames, ..) = split(&bytes[..length], 7);
            let whole = (1..=3).filter(|&count| stream("YUV4MPEG2 W4 H2 F25:1", 12, count).len() <= length).count();
            assert_eq!(frames.len(), whole, "cut at {length}");
        }
    }

    #[test]
    fn a_stream_out_of_step_stays_lost_and_an_endless_line_takes_no_memory() {
        let mut bytes = stream("YUV4MPEG2 W4 H2 F25:1", 12, 2);
        bytes.remove(30);
        let (frames, _, error) = split(&bytes[..], 64);
        assert!(frames.len() <= 1 && matches!(error, Some(StreamError::Format(_))), "{error:?}");
        let mut input = BufReader::new(io::repeat(b'Y').take(1 << 30));
        let mut y4m = Y4m::default();
        for _ in 0..2 {
            assert!(matches!(y4m.next(&mut input), Err(StreamError::Format(_))));
        }
        assert!(y4m.line.capacity() < 4 * MAX_LINE);
    }
}
