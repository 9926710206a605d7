//! Pictures from a V4L2 camera (USB webcams and what else Linux shows as `/dev/videoN`).
//!
//! Frames come raw and are decoded here: JPEG frames by the image crate, YUYV as a [`FrameLayout`]. The size and format
//! are what the driver answers, not what was wished for, which V4L2 leaves to the driver.

use std::fs;
use std::io;
use std::path::PathBuf;

use image::RgbImage;
use nokhwa::Camera as Nokhwa;
use nokhwa::utils::{CameraFormat, CameraIndex, FrameFormat, RequestedFormat, RequestedFormatType, Resolution};
use thiserror::Error;
use v4l::video::Capture;
use v4l::video::capture::Parameters;
use v4l::{Device, Format, FourCC};

use crate::decode_picture;
use crate::frame::{FrameLayout, PixelFormat};

/// The size that is wished for, in pixels: every webcam has it, and no model takes more.
const WISH: (u32, u32) = (640, 480);
/// The rate that is wished for, in frames a second. The reader of the stream knows whole rates only.
const WISH_RATE: u32 = 30;

/// What can go wrong with a camera.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CameraError {
    /// There is no such device.
    #[error("there is no camera {}: {}", path.display(), present(found))]
    Absent {
        /// The device that was asked for.
        path: PathBuf,
        /// The devices that exist.
        found: Vec<PathBuf>,
    },
    /// The user may not open the device.
    #[error("no permission to open {}: add your user to the group `video` (`sudo usermod -aG video $USER`) and log in again", path.display())]
    Denied {
        /// The device.
        path: PathBuf,
    },
    /// The device exists but cannot be opened as a camera.
    #[error("cannot open {} as a camera: {reason}; another program may be using it", path.display())]
    Open {
        /// The device.
        path: PathBuf,
        /// What the driver said.
        reason: String,
    },
    /// The camera gives neither JPEG nor YUYV frames.
    #[error("{} gives frames as {}, and JPEG (MJPG) and YUYV are read", path.display(), formats.join(", "))]
    Format {
        /// The device.
        path: PathBuf,
        /// The formats that it has.
        formats: Vec<String>,
    },
    /// No further frame comes: the camera was unplugged, or its driver failed.
    #[error("the camera stopped giving frames: {reason}")]
    Stream {
        /// What the driver said.
        reason: String,
    },
    /// This frame is damaged; the next may be whole.
    #[error("a damaged frame: {reason}")]
    Frame {
        /// What is wrong with it.
        reason: String,
    },
}

fn present(found: &[PathBuf]) -> String {
    let names: Vec<_> = found.iter().map(|path| path.display().to_string()).collect();
    match names.as_slice() {
        [] => "no /dev/video* exists; plug a camera in, and see what `dmesg` says of it".to_owned(),
        names => format!("try {}", names.join(" or ")),
    }
}

/// A camera that is open and streaming.
pub struct Camera {
    camera: Nokhwa,
    format: FrameFormat,
    size: (u32, u32),
    stride: u32,
}

impl Camera {
    /// Opens `/dev/video{index}` and starts its stream.
    ///
    /// # Errors
    /// [`CameraError::Absent`], [`CameraError::Denied`], [`CameraError::Open`], [`CameraError::Format`] or, if the
    /// stream does not start, [`CameraError::Stream`].
    pub fn open(index: u32) -> Result<Self, CameraError> {
        let path = PathBuf::from(format!("/dev/video{index}"));
        if let Err(error) = fs::OpenOptions::new().read(true).write(true).open(&path) {
            return Err(match error.kind() {
                io::ErrorKind::NotFound => CameraError::Absent { path, found: devices() },
                io::ErrorKind::PermissionDenied => CameraError::Denied { path },
                _ => CameraError::Open { path, reason: error.to_string() },
            });
        }
        let (format, rate, given) = negotiate(index, &path)?;
        let wanted = CameraFormat::new(Resolution::new(given.width, given.height), format, rate);
        let request = RequestedFormat::with_formats(RequestedFormatType::Exact(wanted), std::slice::from_ref(&format));
        let mut camera = Nokhwa::new(CameraIndex::Index(index), request)
            .map_err(|error| CameraError::Open { path, reason: error.to_string() })?;
        camera.open_stream().map_err(|error| CameraError::Stream { reason: error.to_string() })?;
        Ok(Self { camera, format, size: (given.width, given.height), stride: given.stride })
    }

    /// Waits for the next frame and gives it as 8-bit RGB.
    ///
    /// # Errors
    /// [`CameraError::Stream`] if no frame comes any more, [`CameraError::Frame`] if this one is damaged.
    pub fn frame(&mut self) -> Result<RgbImage, CameraError> {
        let frame = self.camera.frame_raw().map_err(|error| CameraError::Stream { reason: error.to_string() })?;
        match self.format {
            FrameFormat::MJPEG => {
                decode_picture(&frame).map_err(|error| CameraError::Frame { reason: error.to_string() })
            }
            _ => {
                let (width, height) = self.size;
                let layout =
                    FrameLayout { stride: self.stride as usize, ..FrameLayout::new(PixelFormat::Yuyv, width, height) };
                let frame = layout.frame(&frame).map_err(|error| CameraError::Frame { reason: error.to_string() })?;
                Ok(frame.to_rgb())
            }
        }
    }
}

/// The `/dev/video*` that exist, in order of their numbers.
fn devices() -> Vec<PathBuf> {
    let number = |name: &str| name.strip_prefix("video").and_then(|rest| rest.parse::<u32>().ok());
    let entries = fs::read_dir("/dev").into_iter().flatten().flatten();
    let mut found: Vec<_> = entries.filter_map(|e| Some((number(e.file_name().to_str()?)?, e.path()))).collect();
    found.sort();
    found.into_iter().map(|(_, path)| path).collect()
}

/// Wishes for JPEG, else YUYV, and gives what the driver made of it, with the rate.
fn negotiate(index: u32, path: &std::path::Path) -> Result<(FrameFormat, u32, Format), CameraError> {
    let failed = |error: io::Error| CameraError::Open { path: path.to_owned(), reason: error.to_string() };
    let device = Device::new(index as usize).map_err(failed)?;
    let offered: Vec<FourCC> = device.enum_formats().map_err(failed)?.into_iter().map(|format| format.fourcc).collect();
    for (fourcc, format) in [(FourCC::new(b"MJPG"), FrameFormat::MJPEG), (FourCC::new(b"YUYV"), FrameFormat::YUYV)] {
        if !offered.contains(&fourcc) {
            continue;
        }
        let given = device.set_format(&Format::new(WISH.0, WISH.1, fourcc)).map_err(failed)?;
        if given.fourcc == fourcc {
            // A driver without a choice of rates refuses this, and then has the one rate that is read back.
            if let Err(error) = device.set_params(&Parameters::with_fps(WISH_RATE)) {
                log::debug!("{}: the frame rate cannot be chosen: {error}", path.display());
            }
            let interval = device.params().map_err(failed)?.interval;
            return Ok((format, interval.denominator / interval.numerator.max(1), given));
        }
    }
    let formats = offered.iter().map(ToString::to_string).collect();
    Err(CameraError::Format { path: path.to_owned(), formats })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absent_camera_is_answered_with_what_to_do() {
        let Err(error) = Camera::open(4_000_000) else { panic!("camera 4000000 exists") };
        let message = error.to_string();
        assert!(matches!(error, CameraError::Absent { .. }), "{message}");
        assert!(message.contains("/dev/video4000000"), "{message}");
        assert!(present(&[]).contains("plug a camera in"));
        assert!(present(&["/dev/video2".into()]).contains("try /dev/video2"));
    }
}
