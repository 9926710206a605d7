//! V4L2 cameras: USB webcams, and what else Linux shows as `/dev/videoN`.

mod nodes;
mod stream;

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use super::format::Size;
use crate::capture::{Open, Shot, Source, SourceError};
use nodes::{Identity, Nodes};
use stream::{OpenError, Stream, Wait};

/// How people say which camera: `0`, `/dev/video0`, or a link of udev's in `/dev/v4l/by-id` or `/dev/v4l/by-path`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum CameraAddress {
    /// The number N of `/dev/videoN`.
    Number(u32),
    /// The path of a node, or of a link to one.
    Path(PathBuf),
}

impl FromStr for CameraAddress {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        match text.parse() {
            Ok(number) => Ok(Self::Number(number)),
            Err(_) if text.starts_with('/') => Ok(Self::Path(text.into())),
            Err(_) => Err(SourceError::Open(format!(
                "`{text}` names no camera: write its number N, /dev/videoN, or its link in /dev/v4l/by-id"
            ))),
        }
    }
}

impl fmt::Display for CameraAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "camera {number}"),
            Self::Path(path) => path.display().fmt(f),
        }
    }
}

/// A V4L2 camera. Its format, size and rate are the driver's answer to what is wished for; a frame keeps the layout
/// that it comes in, JPEG or raw, with the range and matrix that the driver names.
///
/// A camera that is named by its number or node is remembered when it is opened: by its serial number if it has one,
/// else by its port and name. Opened again it is the same camera, whatever its number is then.
#[derive(Debug)]
pub struct Camera {
    address: CameraAddress,
    size: Size,
    rate: u32,
    nodes: Nodes,
    identity: Mutex<Option<Identity>>,
}

impl Camera {
    /// The camera at `address`, to be asked for pictures of `size`, `rate` of them a second.
    pub fn new(address: CameraAddress, size: Size, rate: u32) -> Self {
        Self { address, size, rate, nodes: Nodes::default(), identity: Mutex::default() }
    }

    /// The node at which the camera is now.
    fn find(&self, identity: Option<&Identity>) -> Result<u32, SourceError> {
        let (found, named) = match (identity, &self.address) {
            (Some(identity), CameraAddress::Number(number)) => {
                (self.nodes.find(identity), format!("{number} ({})", identity.card()))
            }
            (Some(identity), CameraAddress::Path(path)) => {
                (self.nodes.find(identity), format!("{} ({})", path.display(), identity.card()))
            }
            (None, CameraAddress::Number(number)) => {
                let path = self.nodes.path(*number);
                (self.nodes.number(&path), path.display().to_string())
            }
            (None, CameraAddress::Path(path)) => (self.nodes.number(path), path.display().to_string()),
        };
        found.ok_or_else(|| SourceError::Open(format!("there is no camera {named}: {}", self.present())))
    }

    fn identity(&self) -> MutexGuard<'_, Option<Identity>> {
        self.identity.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is there instead.
    fn present(&self) -> String {
        let nodes: Vec<_> = self.nodes.all().into_iter().map(|number| self.nodes.describe(number)).collect();
        match nodes.as_slice() {
            [] => "no /dev/video* exists; plug a camera in, and see what `dmesg` says of it".to_owned(),
            nodes => format!("there is {}", nodes.join(", ")),
        }
    }

    /// Says what a failure to open a node means and what to do.
    fn explain(&self, number: u32, error: OpenError) -> SourceError {
        let node = self.nodes.describe(number);
        let kind = match &error {
            OpenError::System(error) => error.kind(),
            OpenError::NoPictures => {
                let siblings = self.nodes.siblings(number);
                let others: Vec<_> = siblings.into_iter().map(|number| self.nodes.describe(number)).collect();
                let remedy = match others.as_slice() {
                    [] => self.present(),
                    others => format!("its camera's pictures come from {}", others.join(" or ")),
                };
                return SourceError::Open(format!("{node} gives no pictures: {remedy}"));
            }
            _ => io::ErrorKind::Other,
        };
        SourceError::Open(match kind {
            io::ErrorKind::PermissionDenied => format!(
                "no permission to open {node}: add your user to the group `video` (`sudo usermod -aG video $USER`) and \
                 log in again; a service needs `SupplementaryGroups=video`"
            ),
            io::ErrorKind::ResourceBusy => {
                format!(
                    "another program uses {node}: end it (`fuser -v {}` names it)",
                    self.nodes.path(number).display()
                )
            }
            _ => format!("cannot open {node} as a camera: {}", SourceError::from(error)),
        })
    }
}

impl Open for Camera {
    fn open(&self) -> Result<Box<dyn Source>, SourceError> {
        // Not locked meanwhile: a driver may hang while it opens, and another thread try again.
        let known = self.identity().clone();
        let number = self.find(known.as_ref())?;
        let node = self.nodes.path(number);
        // The crate `v4l` panics where a driver answers with a value that it does not know.
        let stream = catch_unwind(AssertUnwindSafe(|| Stream::open(&node, self.size, self.rate)))
            .unwrap_or_else(|_| Err(OpenError::Answer("a value that is not known".to_owned())))
            .map_err(|error| self.explain(number, error))?;
        let link = matches!(&self.address, CameraAddress::Path(path) if path.is_symlink());
        if known.is_none() && !link {
            *self.identity() = self.nodes.identity(number);
        }
        Ok(Box::new(CameraSource { name: self.name(), stream, interrupted: Arc::default() }))
    }

    fn name(&self) -> Arc<str> {
        self.address.to_string().into()
    }
}

struct CameraSource {
    name: Arc<str>,
    stream: Stream,
    interrupted: Arc<AtomicBool>,
}

impl CameraSource {
    fn lost(&self, reason: String) -> SourceError {
        SourceError::Lost { source_name: self.name.to_string(), reason }
    }
}

impl Source for CameraSource {
    fn next(&mut self) -> Result<Option<Shot>, SourceError> {
        while !self.interrupted.load(Ordering::Relaxed) {
            match self.stream.wait() {
                Ok(Wait::Frame(payload)) => {
                    return Ok(Some(Shot { payload, name: Arc::clone(&self.name), time: SystemTime::now() }));
                }
                Ok(Wait::Damaged(reason)) => return Err(SourceError::Damaged(reason)),
                Ok(Wait::Nothing) => {}
                Err(error) => return Err(self.lost(format!("it was unplugged, or its driver failed: {error}"))),
            }
        }
        Err(self.lost("it gives no frame".to_owned()))
    }

    fn interrupter(&self) -> Option<Box<dyn Fn() + Send>> {
        let interrupted = Arc::clone(&self.interrupted);
        Some(Box::new(move || interrupted.store(true, Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn camera(address: &str) -> Camera {
        Camera::new(address.parse().unwrap(), Size { width: 640, height: 480 }, 30)
    }

    fn refused(address: &str) -> String {
        match camera(address).open() {
            Ok(_) => panic!("{address} exists"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn an_absent_camera_is_answered_with_what_is_there() {
        for address in ["4000000", "/dev/video4000000", "/dev/v4l/by-id/usb-none-video-index0", "/dev/null"] {
            let message = refused(address);
            assert!(message.contains("there is no camera /dev/"), "{message}");
            assert!(message.contains("plug a camera in") || message.contains("there is /dev/video"), "{message}");
        }
    }

    #[test]
    fn addresses_are_numbers_and_paths() {
        assert_eq!(&*camera("0").name(), "camera 0");
        assert_eq!(&*camera("/dev/video7").name(), "/dev/video7");
        for text in ["", "-1", "video0", "usb"] {
            let message = text.parse::<CameraAddress>().unwrap_err().to_string();
            assert!(message.contains("names no camera"), "{message}");
        }
    }

    #[test]
    fn a_refused_node_is_answered_with_the_remedy() {
        let explain = |error| camera("0").explain(4_000_000, error).to_string();
        let system = |code| OpenError::System(io::Error::from_raw_os_error(code));
        let [denied, busy, broken] = [13, 16, 5].map(|code| explain(system(code)));
        assert!(denied.contains("group `video`"), "{denied}");
        assert!(busy.contains("another program uses /dev/video4000000"), "{busy}");
        assert!(broken.contains("cannot open /dev/video4000000 as a camera: Input/output error"), "{broken}");
        let formats = explain(OpenError::Formats(vec!["H264".to_owned()]));
        assert!(formats.contains("it gives H264, and MJPG, JPEG, YUYV"), "{formats}");
        assert!(explain(OpenError::NoPictures).contains("gives no pictures"));
    }
}
