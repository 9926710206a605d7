//! What gives frames: a camera, a command, the standard input, a film, files. Each opens by [`Open`](super::Open).

#[cfg(all(feature = "camera", target_os = "linux"))]
mod camera;
mod child;
mod csi;
mod extent;
mod files;
mod format;
mod interrupt;
mod pipe;
mod stdin;
mod stream;
mod video;

#[cfg(all(feature = "camera", target_os = "linux"))]
pub use camera::{Camera, CameraAddress};
pub use csi::Csi;
pub use extent::Extent;
pub use files::Files;
pub use format::{PipeFormat, Size};
pub use pipe::Pipe;
pub use stdin::Stdin;
pub use stream::{FrameReader, StreamError};
pub use video::Video;
