//! How much of a film there is, told without decoding it.

use std::io::{self, BufRead, BufReader, Read};

use super::child::Running;
use super::video::{REMEDY, Video};
use crate::capture::SourceError;

/// How many frames a film has, and how long they are shown.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Extent {
    /// Frames that are in the file.
    pub frames: u64,
    /// From the beginning of the first frame to the end of the last; 0 where the file gives its only frame no length.
    pub seconds: f64,
}

impl Video {
    /// Looks through the film's frames without decoding them. What is told is what is there, and not what the beginning of a
    /// film announces: a cut one announces more, and what a browser records announces nothing.
    ///
    /// # Errors
    /// [`SourceError::NoProgram`] without `ffmpeg`, [`SourceError::Open`] if the file cannot be read as a film or has no frame.
    pub fn extent(&self) -> Result<Extent, SourceError> {
        self.check_there()?;
        // Sound stands behind the pictures, so that a file of sound alone is told from one that is no film.
        let command = self.command("-map 0:v:0? -map 0:a:0? -c copy -f framecrc pipe:1".split(' '));
        let (mut running, output) = Running::start(&[command], REMEDY)?;
        match measure(output).map_err(|error| self.unreadable(error))? {
            Packets::Pictures(extent) if extent.frames > 0 => Ok(extent),
            Packets::Pictures(_) => Err(self.unreadable("it ends before its first picture")),
            Packets::Sound => Err(self.unreadable("it has sound and no pictures")),
            Packets::None => Err(self.unreadable(running.end().last_words())),
        }
    }
}

/// What the first stream of a list of packets is of.
#[derive(Debug, PartialEq)]
enum Packets {
    Pictures(Extent),
    Sound,
    /// There is no list.
    None,
}

/// Reads a list as `ffmpeg -f framecrc` writes it: `#tb 0: 1/25` and `#media_type 0: video`, then a line a packet with stream, time
/// of decoding, time of showing, length, and what is of no use here. Times are whole numbers of the unit `tb`.
fn measure(list: impl Read) -> io::Result<Packets> {
    let (mut unit, mut packets, mut frames) = (0.0, Packets::None, 0);
    let (mut start, mut end) = (i64::MAX, i64::MIN);
    for line in BufReader::new(list).lines() {
        let line = line?;
        if let Some(of) = line.strip_prefix("#tb 0: ") {
            unit = ratio(of).unwrap_or_default();
        } else if let Some(kind) = line.strip_prefix("#media_type 0: ") {
            packets =
                if kind == "video" { Packets::Pictures(Extent { frames: 0, seconds: 0.0 }) } else { Packets::Sound };
        } else if let Some((shown, length)) = packet(&line) {
            frames += 1;
            start = start.min(shown);
            end = end.max(shown.saturating_add(length));
        }
    }
    if let Packets::Pictures(extent) = &mut packets {
        *extent = Extent { frames, seconds: end.saturating_sub(start).max(0) as f64 * unit };
    }
    Ok(packets)
}

/// When a packet of the first stream is shown, and for how long.
fn packet(line: &str) -> Option<(i64, i64)> {
    let mut fields = line.split(',').map(str::trim);
    let (stream, _decoded, shown, length) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    (stream == "0").then_some((shown.parse().ok()?, length.parse().ok()?))
}

fn ratio(text: &str) -> Option<f64> {
    let (numerator, denominator) = text.split_once('/')?;
    let (numerator, denominator): (f64, f64) = (numerator.parse().ok()?, denominator.trim().parse().ok()?);
    Some(numerator / denominator).filter(|ratio| ratio.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_of_pictures_are_counted_from_the_first_shown_to_the_end_of_the_last() {
        let list = "#software: Lavf59\n#tb 0: 1/1000\n#media_type 0: video\n#tb 1: 1/44100\n#media_type 1: audio\n\
                    0,       -197,          3,      100,     1415, 0xd92e4a2c\n\
                    0,        -97,        403,      100,      210, 0x94dc68bd, F=0x0\n\
                    1,      99999,      99999,       99,       31, 0xf5a80e75\n\
                    0,          3,        203,      100,       12, 0x0e6a0310\n";
        let Packets::Pictures(extent) = measure(list.as_bytes()).unwrap() else { panic!("these are pictures") };
        assert_eq!((extent.frames, (extent.seconds * 1000.0).round()), (3, 500.0));
    }

    #[test]
    fn lists_of_sound_of_nothing_and_of_nonsense_have_no_pictures() {
        let of = |list: &str| measure(list.as_bytes()).unwrap();
        assert_eq!(of("#tb 0: 1/44100\n#media_type 0: audio\n0, 0, 0, 2048, 4096, 0x88b3eb57\n"), Packets::Sound);
        assert_eq!(of(""), Packets::None);
        let nothing = Packets::Pictures(Extent { frames: 0, seconds: 0.0 });
        assert_eq!(of("#tb 0: 1/0\n#media_type 0: video\n0, 1, x, 3\n0, 1\n\n"), nothing);
        let far =
            format!("#tb 0: 1/1\n#media_type 0: video\n0, 0, {}, {}, 0\n0, 0, {}, 1, 0", i64::MAX, i64::MAX, i64::MIN);
        let Packets::Pictures(far) = of(&far) else { panic!("these are pictures") };
        assert!(far.frames == 2 && far.seconds.is_finite());
    }
}
