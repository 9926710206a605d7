//! Motion JPEG: pictures one after the other, told apart by walking their markers (ITU-T T.81, annex B).
//!
//! A segment is passed over by its length, so that a thumbnail in it is no picture of the stream. In the
//! entropy-coded data only a stuffed byte, a restart or a segment may follow 0xff, so a start of image there says that
//! the picture before it was cut.

use std::io::BufRead;

use super::{StreamError, peek};
use crate::frame::jpeg::{EOI, SOI, SOS};

/// The longest picture, in bytes.
const MAX_PICTURE: usize = 32 << 20;

/// Where in the stream the next byte lies.
#[derive(Debug, Clone, Copy, Default)]
enum State {
    /// Outside of a picture.
    #[default]
    Between,
    /// Outside, after 0xff.
    BetweenMarker,
    /// Where a marker's 0xff must come.
    Marker,
    /// After it, where the marker's code must come.
    Code,
    /// The first byte of the length of the segment with this code.
    Length(u8),
    /// The second, with the first.
    LengthLow(u8, u8),
    /// Inside the segment, with so many bytes to come.
    Segment(u8, usize),
    /// In entropy-coded data.
    Entropy,
    /// There, after 0xff.
    EntropyMarker,
}

enum Event {
    Picture,
    Damage(String),
}

/// The walk through the stream.
#[derive(Debug, Default)]
pub(super) struct Mjpeg {
    state: State,
    picture: Vec<u8>,
    /// The length of the picture before: about that of the next.
    usual: usize,
    /// Whether the picture has had a scan.
    scanned: bool,
    /// Whether bytes have come since the last picture that no stream has between pictures.
    dirty: bool,
    /// Whether those belong to a damage that has been told.
    told: bool,
}

impl Mjpeg {
    /// The next picture, from its start of image to its end, or `None` at the stream's end.
    pub(super) fn next(&mut self, input: &mut impl BufRead) -> Result<Option<Vec<u8>>, StreamError> {
        loop {
            let chunk = peek(input)?;
            if chunk.is_empty() {
                return self.end();
            }
            let (used, event) = self.walk(chunk);
            input.consume(used);
            match event {
                None => {}
                Some(Event::Picture) => {
                    self.usual = self.picture.len();
                    return Ok(Some(std::mem::take(&mut self.picture)));
                }
                Some(Event::Damage(reason)) => return Err(StreamError::Damaged(reason)),
            }
        }
    }

    fn end(&mut self) -> Result<Option<Vec<u8>>, StreamError> {
        let inside = !matches!(self.state, State::Between | State::BetweenMarker);
        self.state = State::Between;
        self.picture = Vec::new();
        if inside {
            return Err(StreamError::Damaged("the stream ends inside a JPEG".to_owned()));
        }
        match std::mem::take(&mut self.dirty) {
            true => Err(StreamError::Damaged(STRAY.to_owned())),
            false => Ok(None),
        }
    }

    /// Goes through `chunk` up to an event or its end; gives how many bytes that were.
    fn walk(&mut self, chunk: &[u8]) -> (usize, Option<Event>) {
        let mut at = 0;
        while let Some(&byte) = chunk.get(at) {
            let rest = &chunk[at..];
            let (used, event) = match self.state {
                State::Entropy => {
                    let marker = rest.iter().position(|&byte| byte == 0xff);
                    let run = marker.map_or(rest.len(), |place| place + 1);
                    if marker.is_some() {
                        self.state = State::EntropyMarker;
                    }
                    self.picture.extend_from_slice(&rest[..run]);
                    (run, None)
                }
                State::Segment(code, left) => {
                    let run = left.min(rest.len());
                    self.state = after_segment(code, left - run);
                    self.picture.extend_from_slice(&rest[..run]);
                    (run, None)
                }
                _ => (1, self.byte(byte)),
            };
            at += used;
            if self.picture.len() > MAX_PICTURE {
                return (at, self.abandon(&format!("is longer than {} MiB", MAX_PICTURE >> 20)));
            }
            if event.is_some() {
                return (at, event);
            }
        }
        (at, None)
    }

    /// One step outside of segments and entropy-coded data.
    fn byte(&mut self, byte: u8) -> Option<Event> {
        match (self.state, byte) {
            (State::Between | State::BetweenMarker, 0xff) => self.state = State::BetweenMarker,
            (State::BetweenMarker, SOI) => {
                self.begin();
                self.told = false;
                return std::mem::take(&mut self.dirty).then(|| Event::Damage(STRAY.to_owned()));
            }
            (State::Between | State::BetweenMarker, _) => {
                self.state = State::Between;
                self.dirty |= !self.told && !is_framing(byte);
            }
            (State::Code | State::EntropyMarker, SOI) => {
                self.begin();
                return Some(Event::Damage("a JPEG was cut before its end".to_owned()));
            }
            (State::Code | State::EntropyMarker, EOI) => {
                if !self.scanned {
                    return self.abandon("holds no pixels");
                }
                self.picture.push(byte);
                self.state = State::Between;
                return Some(Event::Picture);
            }
            _ => return self.inside(byte),
        }
        None
    }

    /// One step in a picture's headers.
    fn inside(&mut self, byte: u8) -> Option<Event> {
        let next = match (self.state, byte) {
            (State::Marker, 0xff) => State::Code,
            // Any number of 0xff may stand before a marker's code.
            (state @ (State::Code | State::EntropyMarker), 0xff) => state,
            (State::Code, 0x01 | 0xd0..=0xd7) => State::Marker,
            (State::EntropyMarker, 0x00 | 0xd0..=0xd7) => State::Entropy,
            (State::Code, 0xc0..=0xfe) => State::Length(byte),
            // Tables, the number of lines, the next scan, application data and comments; no new frame.
            (State::EntropyMarker, 0xc4 | 0xcc | 0xda..=0xdd | 0xe0..=0xef | 0xfe) => State::Length(byte),
            (State::Length(code), _) => State::LengthLow(code, byte),
            (State::LengthLow(code, high), _) => match usize::from(u16::from_be_bytes([high, byte])).checked_sub(2) {
                Some(left) => after_segment(code, left),
                None => return self.abandon("has a segment shorter than its length"),
            },
            _ => return self.abandon("has something else where a marker must be"),
        };
        self.scanned |= matches!(next, State::Length(SOS));
        self.picture.push(byte);
        self.state = next;
        None
    }

    /// A start of image has been read.
    fn begin(&mut self) {
        self.picture.clear();
        self.picture.reserve(self.usual);
        self.picture.extend_from_slice(&[0xff, SOI]);
        self.scanned = false;
        self.state = State::Marker;
    }

    /// Gives the picture up; what is left of it passes by without a further word.
    fn abandon(&mut self, reason: &str) -> Option<Event> {
        self.picture = Vec::new();
        self.state = State::Between;
        self.told = true;
        Some(Event::Damage(format!("a JPEG {reason}")))
    }
}

const STRAY: &str = "bytes between two JPEG pictures belong to none";

fn after_segment(code: u8, left: usize) -> State {
    match (code, left) {
        (SOS, 0) => State::Entropy,
        (_, 0) => State::Marker,
        _ => State::Segment(code, left),
    }
}

/// Whether streams have such bytes between pictures: padding, and the text of `multipart/x-mixed-replace`.
fn is_framing(byte: u8) -> bool {
    matches!(byte, 0x00 | 0xff | b'\t' | b'\r' | b'\n' | 0x20..=0x7e)
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Cursor};

    use super::*;
    use image::{Rgb, RgbImage};

    /// A picture as an encoder writes it, another one for each `seed`.
    fn jpeg(seed: u8) -> Vec<u8> {
        let mut picture = RgbImage::new(24, 16);
        for (x, y, pixel) in picture.enumerate_pixels_mut() {
            *pixel = Rgb([(x * 9) as u8 ^ seed, (y * 13) as u8, (x * y) as u8 ^ seed]);
        }
        let mut bytes = Vec::new();
        picture.write_to(&mut Cursor::new(&mut bytes), image::ImageFormat::Jpeg).unwrap();
        bytes
    }

    /// `picture` with a segment APP1 that holds `content`, right after its start of image.
    fn with_segment(picture: &[u8], content: &[u8]) -> Vec<u8> {
        let length = u16::try_from(content.len() + 2).unwrap().to_be_bytes();
        [&picture[..2], &[0xff, 0xe1], &length, content, &picture[2..]].concat()
    }

    /// All pictures of `stream`, read in steps of `step` bytes, and how often damage was told.
    fn split(stream: &[u8], step: usize) -> (Vec<Vec<u8>>, usize) {
        let mut input = BufReader::with_capacity(step, stream);
        let (mut mjpeg, mut pictures, mut damaged) = (Mjpeg::default(), Vec::new(), 0);
        for _ in 0..2 * stream.len() + 4 {
            match mjpeg.next(&mut input) {
                Ok(Some(picture)) => pictures.push(picture),
                Ok(None) => return (pictures, damaged),
                Err(StreamError::Damaged(_)) => damaged += 1,
                Err(error) => panic!("{error}"),
            }
        }
        panic!("the reader does not come to the stream's end");
    }

    #[test]
    fn pictures_come_out_as_they_went_in_whatever_the_pieces() {
        let pictures = [jpeg(0), with_segment(&jpeg(1), &jpeg(2)), jpeg(3)];
        for step in [1, 2, 7, 100_000] {
            assert_eq!(split(&pictures.concat(), step), (pictures.to_vec(), 0), "{step}");
        }
    }

    #[test]
    fn restarts_stuffed_bytes_fill_bytes_and_further_scans_belong_to_the_picture() {
        let scan = [0xff, 0xda, 0, 4, 1, 2];
        let data = [1, 2, 0xff, 0, 3, 0xff, 0xd0, 4, 0xff, 0xff, 0xd7, 5];
        let table = [0xff, 0xff, 0xc4, 0, 5, 0xff, 0xd9, 0xff];
        let picture = [&[0xff, 0xd8][..], &scan, &data, &table, &scan, &data, &[0xff, 0xd9]].concat();
        assert_eq!(split(&[&picture[..], &picture].concat(), 3), (vec![picture.clone(), picture], 0));
    }

    #[test]
    fn padding_and_part_headers_are_no_damage_and_garbage_is_told_once() {
        let [first, second] = [jpeg(0), jpeg(1)];
        let part = b"\r\n--frame\r\nContent-Type: image/jpeg\r\n\r\n";
        let stream = [part, &first[..], part, &second, &[0, 0, 0xff, 0xff]].concat();
        assert_eq!(split(&stream, 64), (vec![first.clone(), second.clone()], 0));
        let garbage = [0x80, 0x90, 0xff, 0x12, 0x81];
        let stream = [&first[..], &garbage, &second, &garbage].concat();
        assert_eq!(split(&stream, 5), (vec![first, second], 2));
    }

    /// As many pictures as the longest segment can hide: a damaged length costs no more than these.
    fn tail() -> Vec<u8> {
        let picture = jpeg(3);
        picture.repeat((1 << 16) / picture.len() + 2)
    }

    #[test]
    fn a_picture_cut_anywhere_costs_no_more_than_a_segment_can_hide() {
        let (cut, tail) = (with_segment(&jpeg(0), &jpeg(1)), tail());
        let scan = cut.windows(2).rposition(|pair| pair == [0xff, SOS]).unwrap() + 14;
        for length in 2..cut.len() {
            let (pictures, damaged) = split(&[&cut[..length], &tail].concat(), 1 << 12);
            // A segment that lacks its end takes it from the next picture, and may happen to leave a whole one.
            let told = if length >= scan { 1..=1 } else { 0..=3 };
            assert!(told.contains(&damaged), "cut at {length}: told {damaged} times");
            assert_eq!(pictures.last(), Some(&jpeg(3)), "cut at {length}");
        }
    }

    #[test]
    fn a_stream_cut_anywhere_ends() {
        let stream = [&with_segment(&jpeg(0), &jpeg(1))[..], &[0x80], &jpeg(2)].concat();
        for length in 0..stream.len() {
            let (pictures, damaged) = split(&stream[..length], 31);
            assert!(pictures.len() <= 1 && damaged <= 2, "cut at {length}");
        }
    }

    #[test]
    fn a_byte_changed_anywhere_breaks_nothing_else() {
        let (first, tail) = (jpeg(0), tail());
        for place in 0..first.len() {
            for value in [0x00, 0xff, 0xd8, first[place] ^ 0x55] {
                let mut changed = first.clone();
                changed[place] = value;
                let (pictures, _) = split(&[&changed[..], &tail].concat(), 1 << 12);
                assert_eq!(pictures.last(), Some(&jpeg(3)), "{value:#x} at {place}");
            }
        }
    }

    #[test]
    fn a_picture_without_end_is_given_up_before_it_fills_the_memory() {
        let head = jpeg(0);
        let scan = head.windows(2).position(|pair| pair == [0xff, SOS]).unwrap();
        let stream = [&head[..scan + 14], &vec![7; 40 << 20], &jpeg(1)].concat();
        assert_eq!(split(&stream, 1 << 16), (vec![jpeg(1)], 1));
        assert_eq!(split(&[0xff, 0xd8, 0xff, 0xd9], 4), (vec![], 1), "a JPEG without pixels");
    }
}
