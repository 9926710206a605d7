//! Cameras on a board's CSI connector, through the program that comes with the board.

use std::ffi::OsString;
use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

use super::format::{PipeFormat, Size};
use super::pipe::Pipe;
use crate::capture::SourceError;

/// A board whose camera program is known.
///
/// The commands follow the manuals of rpicam-apps and of the accelerated GStreamer plugins of Jetson Linux; they have
/// been run on none of these boards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Csi {
    /// Raspberry Pi OS: `rpicam-vid`, or `libcamera-vid`, as releases before bookworm's of 2024 call it.
    Pi,
    /// Jetson Linux: `nvarguscamerasrc` through `gst-launch-1.0`.
    Jetson,
}

impl Csi {
    /// The command that gives pictures of `size`, `rate` of them a second, as Motion JPEG.
    pub fn pipe(self, size: Size, rate: u32) -> Pipe {
        let (alternatives, remedy) = match self {
            Self::Pi => {
                let command = |program: &str| {
                    format!(
                        "{program} --timeout 0 --nopreview --codec mjpeg --flush --width {} --height {} \
                         --framerate {rate} --output -",
                        size.width, size.height
                    )
                };
                let remedy = "install it (`sudo apt install rpicam-apps-lite`)";
                (vec![command("rpicam-vid"), command("libcamera-vid")], remedy)
            }
            // As JPEG, and not raw: the plugin writes remarks to the standard output, where they would shift every
            // frame that follows; between JPEG pictures they are passed over.
            Self::Jetson => {
                let command = format!(
                    "gst-launch-1.0 --quiet nvarguscamerasrc ! video/x-raw(memory:NVMM),framerate={rate}/1 \
                     ! nvvidconv ! video/x-raw(memory:NVMM),format=I420,width={},height={} \
                     ! nvjpegenc ! fdsink fd=1 sync=false",
                    size.width, size.height
                );
                (vec![command], "install it (`sudo apt install gstreamer1.0-tools nvidia-l4t-gstreamer`)")
            }
        };
        let words = |command: String| command.split(' ').map(OsString::from).collect();
        let alternatives = alternatives.into_iter().map(words).collect();
        Pipe::preset(&format!("csi {self}"), alternatives, PipeFormat::Mjpeg, remedy)
    }
}

impl FromStr for Csi {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        match text {
            "pi" => Ok(Self::Pi),
            "jetson" => Ok(Self::Jetson),
            _ => {
                Err(SourceError::Open(format!("`{text}` is no board with a known camera program: write pi or jetson")))
            }
        }
    }
}

impl fmt::Display for Csi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pi => "pi",
            Self::Jetson => "jetson",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::Open;

    #[test]
    fn boards_are_known_by_name_and_an_absent_program_by_its_package() {
        for (board, program, package) in [("pi", "libcamera-vid", "rpicam-apps"), ("jetson", "gst-launch-1.0", "l4t")] {
            let csi: Csi = board.parse().unwrap();
            assert_eq!(csi.to_string(), board);
            let pipe = csi.pipe(Size { width: 640, height: 480 }, 30);
            assert_eq!(&*pipe.name(), format!("csi {board}"));
            match pipe.open() {
                Ok(_) => println!("skipped: this machine has {program}"),
                Err(error) => {
                    let message = error.to_string();
                    assert!(message.contains(program) && message.contains(package), "{message}");
                }
            }
        }
        assert!("esp32".parse::<Csi>().unwrap_err().to_string().contains("pi or jetson"));
    }
}
