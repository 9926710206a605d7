//! What a stream of bytes holds, and how people write it: `mjpeg`, `y4m`, `i420:640x480`, `yuyv:640x480:full`.

use std::fmt;
use std::str::FromStr;

use crate::capture::SourceError;
use crate::frame::{FrameLayout, PixelFormat, Range};
use crate::picture::MAX_SIDE;

/// The largest raw frame, in bytes.
const MAX_BYTES: usize = 256 << 20;

/// The formats of raw frames by the names that people write.
const RAW: [(&str, PixelFormat); 6] = [
    ("i420", PixelFormat::I420),
    ("nv12", PixelFormat::Nv12),
    ("yuyv", PixelFormat::Yuyv),
    ("rgb", PixelFormat::Rgb),
    ("bgr", PixelFormat::Bgr),
    ("grey", PixelFormat::Grey),
];

/// Width and height in pixels, written `640x480`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Size {
    /// Pixels a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

impl FromStr for Size {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        let side = |text: &str| text.parse::<u32>().ok().filter(|side| (1..=MAX_SIDE).contains(side));
        match text.split_once(['x', 'X']).map(|(width, height)| (side(width), side(height))) {
            Some((Some(width), Some(height))) => Ok(Self { width, height }),
            _ => Err(SourceError::Open(format!(
                "`{text}` is no size: write WIDTHxHEIGHT in pixels, as in 640x480, each 1 to {MAX_SIDE}"
            ))),
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

/// What a child process or the standard input sends.
///
/// Written `mjpeg`, `y4m`, or `FORMAT:WIDTHxHEIGHT[:RANGE]` with a format out of `i420`, `nv12`, `yuyv`, `rgb`, `bgr`
/// and `grey`, and a range `limited` or `full`. Without one YUV is limited, as video is, and grey is full, as
/// `ffmpeg` and GStreamer write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PipeFormat {
    /// JPEG pictures one after the other, with or without the part headers of `multipart/x-mixed-replace`.
    Mjpeg,
    /// YUV4MPEG2: a header with size and rate, then frames of 4:2:0 or grey.
    Y4m,
    /// Raw frames of one size without a header.
    Raw(FrameLayout),
}

impl FromStr for PipeFormat {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        match text {
            "mjpeg" => return Ok(Self::Mjpeg),
            "y4m" => return Ok(Self::Y4m),
            _ => {}
        }
        let wrong = |reason: &str| {
            SourceError::Open(format!(
                "`{text}` is no format of frames: {reason}; write mjpeg, y4m, or one of i420, nv12, yuyv, rgb, bgr, \
                 grey with its size and where needed its range, as in i420:640x480 or yuyv:640x480:full"
            ))
        };
        let mut parts = text.split(':');
        let name = parts.next().unwrap_or_default();
        let (_, format) = RAW.into_iter().find(|&(known, _)| known == name).ok_or_else(|| wrong("its name"))?;
        let size: Size = parts.next().ok_or_else(|| wrong("its size is missing"))?.parse()?;
        let range = match parts.next() {
            None => default_range(format),
            Some(_) if matches!(format, PixelFormat::Rgb | PixelFormat::Bgr) => {
                return Err(wrong("RGB has no range, it is always full"));
            }
            Some("limited") => Range::Limited,
            Some("full") => Range::Full,
            Some(_) => return Err(wrong("its range is neither limited nor full")),
        };
        if parts.next().is_some() {
            return Err(wrong("too many parts"));
        }
        let layout = packed(format, size, range);
        frame_bytes(&layout)?;
        Ok(Self::Raw(layout))
    }
}

impl fmt::Display for PipeFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let layout = match self {
            Self::Mjpeg => return f.write_str("mjpeg"),
            Self::Y4m => return f.write_str("y4m"),
            Self::Raw(layout) => layout,
        };
        let name = RAW.iter().find(|(_, format)| *format == layout.format).map_or("raw", |(name, _)| name);
        write!(f, "{name}:{}x{}", layout.width, layout.height)?;
        match layout.range {
            range if range == default_range(layout.format) => Ok(()),
            Range::Limited => f.write_str(":limited"),
            Range::Full => f.write_str(":full"),
        }
    }
}

/// The values that frames take whose range nobody names.
pub(super) fn default_range(format: PixelFormat) -> Range {
    match format {
        PixelFormat::Rgb | PixelFormat::Bgr | PixelFormat::Grey => Range::Full,
        _ => Range::Limited,
    }
}

/// The layout of a frame whose rows follow without padding.
pub(super) fn packed(format: PixelFormat, size: Size, range: Range) -> FrameLayout {
    FrameLayout { range, ..FrameLayout::new(format, size.width, size.height) }
}

/// The fewest bytes that hold a frame of `layout`.
///
/// # Errors
/// [`SourceError::Open`] if there is no such frame, or it is larger than is read.
pub(super) fn frame_bytes(layout: &FrameLayout) -> Result<usize, SourceError> {
    let FrameLayout { width, height, .. } = *layout;
    let wrong = |reason: String| SourceError::Open(format!("a frame of {width}x{height} cannot be read: {reason}"));
    let bytes = layout.bytes().map_err(|error| wrong(error.to_string()))?;
    if bytes > MAX_BYTES {
        return Err(wrong(format!("it takes more than {} MiB", MAX_BYTES >> 20)));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_read_and_written_alike() {
        for text in ["mjpeg", "y4m", "i420:640x480", "nv12:2x2:full", "yuyv:640x481", "rgb:3x1", "bgr:1x1"] {
            assert_eq!(text.parse::<PipeFormat>().unwrap().to_string(), text);
        }
        assert_eq!("i420:640x480:limited".parse::<PipeFormat>().unwrap().to_string(), "i420:640x480");
        assert_eq!("grey:9x9:full".parse::<PipeFormat>().unwrap().to_string(), "grey:9x9");
        assert_eq!("grey:9x9:limited".parse::<PipeFormat>().unwrap().to_string(), "grey:9x9:limited");
    }

    #[test]
    fn what_is_no_format_is_answered_with_what_to_write() {
        for (text, part) in [
            ("", "its name"),
            ("jpeg", "write mjpeg"),
            ("i420", "size is missing"),
            ("i420:640", "640x480"),
            ("i420:0x2", "1 to 16384"),
            ("i420:-1x2", "1 to 16384"),
            ("i420:641x480", "even"),
            ("nv12:640x481", "even"),
            ("yuyv:3x2", "even"),
            ("rgb:16384x16384", "MiB"),
            ("rgb:2x2:limited", "always full"),
            ("i420:2x2:wide", "neither limited nor full"),
            ("i420:2x2:full:more", "too many"),
        ] {
            let message = text.parse::<PipeFormat>().unwrap_err().to_string();
            assert!(message.contains(part), "{text}: {message}");
        }
    }

    #[test]
    fn the_bytes_of_a_frame_are_those_of_its_planes() {
        let bytes = |format, width, height, stride| {
            let layout = FrameLayout { stride, ..packed(format, Size { width, height }, Range::Full) };
            frame_bytes(&layout).ok()
        };
        assert_eq!(bytes(PixelFormat::Rgb, 3, 2, 0), Some(18));
        assert_eq!(bytes(PixelFormat::Rgb, 3, 2, 12), Some(21));
        assert_eq!(bytes(PixelFormat::Yuyv, 4, 2, 0), Some(16));
        assert_eq!(bytes(PixelFormat::Grey, 5, 3, 0), Some(15));
        assert_eq!(bytes(PixelFormat::Nv12, 4, 4, 0), Some(24));
        assert_eq!(bytes(PixelFormat::I420, 4, 4, 0), Some(24));
        // Rows of 8: 4 of luma, then 2 of pairs (the last 4 long), or 4 of single values 4 apart (the last 2 long).
        assert_eq!(bytes(PixelFormat::Nv12, 4, 4, 8), Some(44));
        assert_eq!(bytes(PixelFormat::I420, 4, 4, 8), Some(46));
        assert_eq!(bytes(PixelFormat::Grey, 8, 2, 7), None);
        assert_eq!(bytes(PixelFormat::Grey, u32::MAX, 2, 0), None);
        assert_eq!(bytes(PixelFormat::Grey, 8, 16_384, usize::MAX), None);
    }
}
