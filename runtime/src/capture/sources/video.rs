//! Frames from a film.

use std::ffi::OsString;
use std::fmt::Display;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use super::child::{Output, Running};
use super::format::PipeFormat;
use super::stream::{FrameReader, Interval, StreamError};
use crate::capture::{Open, Shot, Source, SourceError};

/// What to do where there is no `ffmpeg`.
pub(super) const REMEDY: &str = "films are read through it; install it (`sudo apt install ffmpeg`)";

/// A film, decoded by `ffmpeg` as a child process: every frame from its beginning to its end.
///
/// A frame's time is its place in the film after the Unix epoch. Frames that a film shows for longer than others come
/// more than once, so that they lie at equal distances. A film that does not name its matrix is taken for BT.601, as
/// `ffmpeg` takes it; a last odd row or column is cropped.
#[derive(Debug, Clone)]
pub struct Video {
    path: PathBuf,
    rate: Option<f64>,
}

impl Video {
    /// The film at `path`, at `rate` frames a second of film if given, else at its own rate.
    ///
    /// # Errors
    /// [`SourceError::Open`] if `rate` is not above 0.
    pub fn new(path: impl Into<PathBuf>, rate: Option<f64>) -> Result<Self, SourceError> {
        match rate {
            Some(rate) if !(rate > 0.0 && rate.is_finite()) => {
                Err(SourceError::Open(format!("a film has more than 0 frames a second, and not {rate}")))
            }
            _ => Ok(Self { path: path.into(), rate }),
        }
    }

    /// `ffmpeg` with the film as its input and `output` behind it.
    pub(super) fn command<'a>(&self, output: impl IntoIterator<Item = &'a str>) -> Vec<OsString> {
        // The file's name may look like an option or an address: `file:` says that it is a name, and a playlist may not
        // lead into the network.
        let mut input = OsString::from("file:");
        input.push(&self.path);
        let mut words: Vec<OsString> =
            "ffmpeg -nostdin -hide_banner -loglevel error -protocol_whitelist file,pipe,crypto -i"
                .split(' ')
                .map(OsString::from)
                .collect();
        words.push(input);
        words.extend(output.into_iter().map(OsString::from));
        words
    }

    /// # Errors
    /// [`SourceError::Open`] if the file cannot be opened.
    pub(super) fn check_there(&self) -> Result<(), SourceError> {
        let failed = |error| SourceError::Open(format!("cannot read the film {}: {error}", self.path.display()));
        File::open(&self.path).map(drop).map_err(failed)
    }

    pub(super) fn unreadable(&self, reason: impl Display) -> SourceError {
        SourceError::Open(format!("the film {} cannot be read: {reason}", self.path.display()))
    }
}

impl Open for Video {
    fn open(&self) -> Result<Box<dyn Source>, SourceError> {
        self.check_there()?;
        let mut filters = "crop=trunc(iw/2)*2:trunc(ih/2)*2,scale=out_color_matrix=bt601,format=yuv420p".to_owned();
        if let Some(rate) = self.rate {
            filters.push_str(&format!(",fps={rate}"));
        }
        let output = ["-map", "0:v:0", "-vf", &filters, "-f", "yuv4mpegpipe", "-strict", "-1", "pipe:1"];
        let (mut running, output) = Running::start(&[self.command(output)], REMEDY)?;
        let mut frames = FrameReader::new(output, PipeFormat::Y4m)?;
        let reason = match frames.read_header() {
            Ok(true) => None,
            Ok(false) => Some(running.end().last_words()),
            Err(error) => Some(error.to_string()),
        };
        match reason {
            None => Ok(Box::new(VideoSource { name: self.name(), running, frames, number: 0, ended: false })),
            Some(reason) => Err(self.unreadable(reason)),
        }
    }

    fn name(&self) -> Arc<str> {
        self.path.display().to_string().into()
    }
}

struct VideoSource {
    name: Arc<str>,
    running: Running,
    frames: FrameReader<Output>,
    number: u64,
    ended: bool,
}

impl Source for VideoSource {
    fn next(&mut self) -> Result<Option<Shot>, SourceError> {
        if self.ended {
            return Ok(None);
        }
        match self.frames.next_frame() {
            Ok(Some(payload)) => {
                let place = self.frames.interval().map(|interval: Interval| interval.place(self.number));
                self.number += 1;
                let time = SystemTime::UNIX_EPOCH + place.unwrap_or_default();
                Ok(Some(Shot { payload, name: Arc::clone(&self.name), time }))
            }
            Ok(None) => {
                self.ended = true;
                let ending = self.running.end();
                // A film that was opened again would begin anew, so its early end is no loss of the source.
                match ending.succeeded() {
                    true => Ok(None),
                    false => Err(SourceError::Damaged(format!("the film ends early: {}", ending.last_words()))),
                }
            }
            Err(StreamError::Damaged(reason)) => Err(SourceError::Damaged(reason)),
            Err(error) => Err(SourceError::Lost { source_name: self.name.to_string(), reason: error.to_string() }),
        }
    }

    fn interrupter(&self) -> Option<Box<dyn Fn() + Send>> {
        let interrupt = self.running.interrupt().clone();
        Some(Box::new(move || interrupt.set()))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::process::Command;
    use std::time::Duration;

    use super::*;
    use crate::capture::Payload;
    use crate::frame::{FrameLayout, Range};

    /// A film made of an `ffmpeg` source, or nothing where there is no `ffmpeg`.
    fn film(path: &Path, source: &str, options: &[&str]) -> Option<()> {
        let mut command = Command::new("ffmpeg");
        command.args(["-v", "error", "-f", "lavfi", "-i", source]).args(options).arg(path);
        match command.output() {
            Ok(output) => {
                assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
                Some(())
            }
            Err(error) => {
                println!("skipped: ffmpeg cannot be run: {error}");
                None
            }
        }
    }

    /// Whether `extent` says `frames` and `milliseconds`.
    fn is_extent(video: &Video, frames: u64, milliseconds: f64) -> bool {
        let extent = video.extent().unwrap();
        extent.frames == frames && (1e3 * extent.seconds - milliseconds).abs() < 1.0
    }

    fn frames(video: &Video) -> Vec<(Duration, FrameLayout, Vec<u8>)> {
        let mut source = video.open().unwrap();
        let mut frames = Vec::new();
        while let Some(shot) = source.next().unwrap() {
            let Payload::Raw { layout, bytes } = shot.payload else { panic!("a film's frames are raw") };
            frames.push((shot.time.duration_since(SystemTime::UNIX_EPOCH).unwrap(), layout, bytes));
        }
        assert!(source.next().unwrap().is_none(), "the end lasts");
        frames
    }

    #[test]
    fn every_frame_of_a_film_comes_in_order_with_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("-i a film: 100%.avi");
        let made = film(&path, "testsrc=size=65x49:rate=10:duration=2", &["-c:v", "mjpeg", "-pix_fmt", "yuvj420p"]);
        if made.is_none() {
            return;
        }
        let all = frames(&Video::new(&path, None).unwrap());
        assert_eq!(all.len(), 20);
        for (number, (time, layout, bytes)) in all.iter().enumerate() {
            assert_eq!(*time, Duration::from_millis(100 * number as u64));
            assert_eq!((layout.width, layout.height), (64, 48));
            assert_eq!(bytes.len(), 64 * 48 * 3 / 2);
        }
        assert!(all[0].2 != all[19].2, "the test picture moves");
        assert!(is_extent(&Video::new(&path, None).unwrap(), 20, 2000.0));
        let two = frames(&Video::new(&path, Some(2.0)).unwrap());
        assert_eq!(two.iter().map(|frame| frame.0.as_millis()).collect::<Vec<_>>(), [0, 500, 1000, 1500]);
    }

    #[test]
    fn the_matrix_of_a_film_is_brought_to_bt601_and_its_range_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("green.mkv");
        let matrix = ["-vf", "scale=out_color_matrix=bt709,format=yuv420p", "-colorspace", "bt709", "-c:v", "ffv1"];
        if film(&path, "color=c=0x00ff00:size=64x64:rate=5:duration=1", &matrix).is_none() {
            return;
        }
        let all = frames(&Video::new(&path, None).unwrap());
        let (_, layout, bytes) = &all[0];
        // Pure green: 145 54 34 by BT.601, 173 42 26 by BT.709, in limited range.
        let got = [bytes[0], bytes[64 * 64], bytes[64 * 64 + 32 * 32]];
        assert_eq!(layout.range, Range::Limited);
        assert!(got.iter().zip([145u8, 54, 34]).all(|(got, expected)| got.abs_diff(expected) <= 3), "{got:?}");
    }

    #[test]
    fn what_is_no_film_is_answered_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("text.mp4");
        let video = Video::new(&path, None).unwrap();
        let errors = || [video.open().map(drop).unwrap_err(), video.extent().unwrap_err()];
        for error in errors() {
            assert!(error.to_string().contains("cannot read the film"), "{error}");
        }
        fs::write(&path, "this is no film").unwrap();
        for error in errors() {
            let absent = matches!(error, SourceError::NoProgram(_));
            assert!(absent || error.to_string().contains("Invalid data"), "{error}");
        }
        assert!(Video::new(&path, Some(0.0)).is_err() && Video::new(&path, Some(f64::NAN)).is_err());
    }

    #[test]
    fn a_file_of_sound_is_no_film() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sound.mkv");
        if film(&path, "sine=duration=1", &[]).is_none() {
            return;
        }
        let error = Video::new(&path, None).unwrap().extent().unwrap_err();
        assert!(error.to_string().ends_with("cannot be read: it has sound and no pictures"), "{error}");
    }

    #[test]
    fn a_cut_film_gives_what_it_has_and_ends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cut.avi");
        if film(&path, "testsrc=size=64x48:rate=10:duration=2", &["-c:v", "mjpeg"]).is_none() {
            return;
        }
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        let extent = Video::new(&path, None).unwrap().extent().unwrap();
        assert!((5..20).contains(&extent.frames) && extent.seconds < 1.9, "{extent:?}");
        let mut source = Video::new(&path, None).unwrap().open().unwrap();
        let (mut whole, mut damaged) = (0, 0);
        loop {
            match source.next() {
                Ok(Some(_)) => whole += 1,
                Ok(None) => break,
                Err(SourceError::Damaged(_)) => damaged += 1,
                Err(error) => panic!("{error}"),
            }
        }
        assert!((5..20).contains(&whole) && damaged <= 1, "{whole} whole, {damaged} damaged");
    }
}
