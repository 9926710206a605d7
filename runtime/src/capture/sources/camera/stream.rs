//! One opened V4L2 node: its format, and its frames.
//!
//! The stream is read through the crate `v4l`, on which nokhwa stands: nokhwa 0.10 gives a frame's whole buffer without
//! the length that the driver filled and without its mark of a damaged frame, asks for grey under a code that no driver
//! has, refuses rates that are no whole number, and waits without limit.

use std::io;
use std::path::Path;

use v4l::buffer::{Flags, Type};
use v4l::format::{Colorspace, Quantization};
use v4l::io::mmap::Stream as Mapped;
use v4l::io::traits::{CaptureStream, Stream as _};
use v4l::video::Capture;
use v4l::video::capture::Parameters;
use v4l::{Device, Format, FourCC};

use crate::capture::sources::format::{Size, frame_bytes};
use crate::capture::{Payload, SourceError};
use crate::frame::{FrameLayout, Matrix, PixelFormat, Range};

/// Frames that the driver may hold.
const BUFFERS: u32 = 4;
/// The most that a driver has (`VIDEO_MAX_FRAME` of `videodev2.h`).
const MAX_BUFFERS: usize = 32;
/// `POLLIN` of `poll(2)`.
const READABLE: i16 = 1;
/// How long is waited for a frame before the caller is asked whether to go on, in milliseconds.
const PATIENCE: i32 = 100;

/// What a classifier wishes for, best first. JPEG comes at the full rate through any USB hub; then colour before grey.
/// `None` is JPEG.
const WISHES: [(&[u8; 4], Option<PixelFormat>); 8] = [
    (b"MJPG", None),
    (b"JPEG", None),
    (b"YUYV", Some(PixelFormat::Yuyv)),
    (b"NV12", Some(PixelFormat::Nv12)),
    (b"YU12", Some(PixelFormat::I420)),
    (b"RGB3", Some(PixelFormat::Rgb)),
    (b"BGR3", Some(PixelFormat::Bgr)),
    (b"GREY", Some(PixelFormat::Grey)),
];

/// Why a node cannot be opened.
#[derive(Debug)]
pub(super) enum OpenError {
    /// The system or the driver refused.
    System(io::Error),
    /// The node gives no pictures: one for metadata, or an output.
    NoPictures,
    /// Its formats, none of which is read here.
    Formats(Vec<String>),
    /// The driver's answer makes no sense.
    Answer(String),
}

impl From<io::Error> for OpenError {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

/// What comes of one wait.
pub(super) enum Wait {
    /// A frame.
    Frame(Payload),
    /// None so far.
    Nothing,
    /// One that is damaged: how.
    Damaged(String),
}

/// A node that streams.
pub(super) struct Stream {
    mapped: Mapped<'static>,
    /// Of raw frames, with the fewest bytes of one; of JPEG none.
    layout: Option<(FrameLayout, usize)>,
}

impl Stream {
    /// Opens `node`, agrees on a format near to `size` and `rate`, and starts the stream.
    pub(super) fn open(node: &Path, size: Size, rate: u32) -> Result<Self, OpenError> {
        let device = Device::with_path(node)?;
        let given = negotiate(&device, size)?;
        // A driver without a choice of rates refuses this, and has one rate then.
        if let Err(error) = device.set_params(&Parameters::with_fps(rate)) {
            log::debug!("{}: the frame rate cannot be chosen: {error}", node.display());
        }
        let layout = layout(&given)?;
        let mapped = start(&device)?;
        match device.params().map(|params| params.interval) {
            Ok(every) => log::info!("{}: {}, a frame every {every} s", node.display(), describe(&given)),
            Err(_) => log::info!("{}: {}", node.display(), describe(&given)),
        }
        Ok(Self { mapped, layout })
    }

    /// Waits a little for the next frame.
    ///
    /// # Errors
    /// The driver's, after which nothing comes any more.
    pub(super) fn wait(&mut self) -> io::Result<Wait> {
        // Readable is also a device that is gone, which the next call then tells.
        match self.mapped.handle().poll(READABLE, PATIENCE) {
            Ok(0) => return Ok(Wait::Nothing),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(Wait::Nothing),
            Err(error) => return Err(error),
            Ok(_) => {}
        }
        let (buffer, meta) = self.mapped.next()?;
        let length = buffer.len().min(meta.bytesused as usize);
        let frame = &buffer[..length];
        Ok(match (&self.layout, frame) {
            _ if meta.flags.contains(Flags::ERROR) => Wait::Damaged("the driver marks it as damaged".to_owned()),
            (_, []) => Wait::Damaged("it is empty".to_owned()),
            (None, [0xff, 0xd8, ..]) => Wait::Frame(Payload::Encoded(frame.to_vec())),
            (None, _) => Wait::Damaged("it does not begin as a JPEG".to_owned()),
            (Some((layout, needed)), _) if length >= *needed => {
                Wait::Frame(Payload::Raw { layout: *layout, bytes: frame.to_vec() })
            }
            (Some((_, needed)), _) => Wait::Damaged(format!("it has {length} of {needed} bytes")),
        })
    }
}

/// Takes the best format that the driver has, in the size that it makes of `size`.
fn negotiate(device: &Device, size: Size) -> Result<Format, OpenError> {
    let offered: Vec<FourCC> = device.enum_formats()?.into_iter().map(|format| format.fourcc).collect();
    if offered.is_empty() {
        return Err(OpenError::NoPictures);
    }
    for (code, _) in WISHES {
        let fourcc = FourCC::new(code);
        if offered.contains(&fourcc) {
            let given = device.set_format(&Format::new(size.width, size.height, fourcc))?;
            if given.fourcc == fourcc {
                return Ok(given);
            }
        }
    }
    Err(OpenError::Formats(offered.iter().map(|code| String::from_utf8_lossy(&code.repr).into_owned()).collect()))
}

/// Queues the driver's buffers and starts the stream.
fn start(device: &Device) -> io::Result<Mapped<'static>> {
    let mut mapped = Mapped::with_buffers(device, Type::VideoCapture, BUFFERS)?;
    // `next` hands back the buffer that it gave last before it waits: at first it takes the first for that. How many
    // there are is the driver's choice, and known by its refusal.
    for index in 1..MAX_BUFFERS {
        if CaptureStream::queue(&mut mapped, index).is_err() {
            break;
        }
    }
    mapped.start()?;
    Ok(mapped)
}

/// How frames of this format lie in memory, with the fewest bytes of one; `None` for JPEG.
///
/// Range and matrix are the defaults of `videodev2.h` for the colour space where the driver names none. An explicit
/// `ycbcr_enc` is not seen: the crate does not show it.
fn layout(given: &Format) -> Result<Option<(FrameLayout, usize)>, OpenError> {
    let known = WISHES.iter().find(|(code, _)| **code == given.fourcc.repr);
    let Some((_, Some(format))) = known else { return Ok(None) };
    let range = match (given.quantization, given.colorspace) {
        (Quantization::FullRange, _) | (Quantization::Default, Colorspace::JPEG) => Range::Full,
        _ => Range::Limited,
    };
    let matrix = match given.colorspace {
        Colorspace::Rec709 | Colorspace::DCIP3 => Matrix::Bt709,
        _ => Matrix::Bt601,
    };
    let stride = given.stride as usize;
    let layout = FrameLayout { format: *format, width: given.width, height: given.height, stride, range, matrix };
    let needed = frame_bytes(&layout).map_err(|error| OpenError::Answer(error.to_string()))?;
    Ok(Some((layout, needed)))
}

fn describe(format: &Format) -> String {
    format!("{} of {}x{}", format.fourcc, format.width, format.height)
}

impl From<OpenError> for SourceError {
    fn from(error: OpenError) -> Self {
        Self::Open(match error {
            OpenError::System(error) => error.to_string(),
            OpenError::NoPictures => "it gives no pictures".to_owned(),
            OpenError::Formats(formats) => {
                let known: Vec<_> = WISHES.iter().map(|(code, _)| String::from_utf8_lossy(*code)).collect();
                format!("it gives {}, and {} are read", formats.join(", "), known.join(", "))
            }
            OpenError::Answer(reason) => format!("its driver's answer makes no sense: {reason}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(code: &[u8; 4], colorspace: Colorspace, quantization: Quantization) -> Format {
        Format { stride: 1300, colorspace, quantization, ..Format::new(640, 480, FourCC::new(code)) }
    }

    #[test]
    fn the_drivers_answer_becomes_the_layout_by_the_rules_of_v4l2() {
        use Quantization::{Default, FullRange, LimitedRange};
        for (colorspace, quantization, range, matrix) in [
            (Colorspace::SRGB, Default, Range::Limited, Matrix::Bt601),
            (Colorspace::Default, Default, Range::Limited, Matrix::Bt601),
            (Colorspace::JPEG, Default, Range::Full, Matrix::Bt601),
            (Colorspace::JPEG, LimitedRange, Range::Limited, Matrix::Bt601),
            (Colorspace::Rec709, Default, Range::Limited, Matrix::Bt709),
            (Colorspace::Rec709, FullRange, Range::Full, Matrix::Bt709),
        ] {
            let (layout, needed) = layout(&format(b"YUYV", colorspace, quantization)).unwrap().unwrap();
            assert_eq!((layout.range, layout.matrix), (range, matrix));
            assert_eq!((layout.width, layout.height, layout.stride), (640, 480, 1300));
            assert_eq!(needed, 1300 * 479 + 1280);
        }
    }

    #[test]
    fn jpeg_has_no_layout_and_an_impossible_answer_is_refused() {
        assert!(layout(&format(b"MJPG", Colorspace::SRGB, Quantization::Default)).unwrap().is_none());
        for (code, width, height) in [(b"YUYV", 0, 480), (b"NV12", 639, 480), (b"RGB3", 640, 480)] {
            let given = Format { width, height, ..format(code, Colorspace::SRGB, Quantization::Default) };
            let error = SourceError::from(layout(&given).unwrap_err()).to_string();
            assert!(error.contains("makes no sense"), "{error}");
        }
    }
}
