//! A frame as C describes it.

use super::slice;
use super::status::Failure;
use crate::frame::{Frame, FrameLayout, Matrix, PixelFormat, Plane, Range};

/// The order and sampling of a frame's bytes.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EdgeVitFormat {
    /// Red, green, blue; 3 bytes a pixel.
    Rgb = 0,
    /// Blue, green, red; 3 bytes a pixel.
    Bgr = 1,
    /// One byte of luma a pixel.
    Grey = 2,
    /// Y0 U Y1 V: 4 bytes for two pixels of a row. The width is even.
    Yuyv = 3,
    /// A plane of Y, then one of U V pairs for each 2x2 pixels. Both sides are even.
    Nv12 = 4,
    /// A plane of Y, then one of U and one of V, each at half the width and height. Both sides are even.
    I420 = 5,
}

/// Which values luma and chroma take in YUV and grey frames. RGB and BGR frames are always full.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EdgeVitRange {
    /// Luma 16 to 235, chroma 16 to 240: what cameras mean unless they say otherwise.
    Limited = 0,
    /// 0 to 255, as in JPEG.
    Full = 1,
}

/// The matrix between YUV and RGB. RGB and grey frames have none.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EdgeVitMatrix {
    /// ITU-R BT.601: webcams, anything of standard definition.
    Bt601 = 0,
    /// ITU-R BT.709: what cameras of high definition may declare.
    Bt709 = 1,
}

/// One plane of a frame.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct EdgeVitPlane {
    /// Its first byte. Null for a plane that the format does not have.
    pub bytes: *const u8,
    /// How many bytes may be read from there: all rows, of the last one only the pixels.
    pub len: usize,
    /// Bytes from a row to the next; 0 if rows follow without padding.
    pub stride: usize,
}

/// A frame where it lies. A frame of zeros with its format, size and planes set is what most cameras give.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct EdgeVitFrame {
    /// An `EdgeVitFormat`.
    pub format: u32,
    /// An `EdgeVitRange`.
    pub range: u32,
    /// An `EdgeVitMatrix`.
    pub matrix: u32,
    /// Pixels a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// RGB, BGR, grey and YUYV have one plane, NV12 two, I420 three.
    pub planes: [EdgeVitPlane; 3],
}

impl EdgeVitFrame {
    /// The frame as the rest of the crate knows it, where it lies.
    ///
    /// # Safety
    /// Each plane is null or as many bytes as it says, which nobody writes to during `'a`.
    pub(super) unsafe fn borrow<'a>(&self) -> Result<Frame<'a>, Failure> {
        let format = match self.format {
            0 => PixelFormat::Rgb,
            1 => PixelFormat::Bgr,
            2 => PixelFormat::Grey,
            3 => PixelFormat::Yuyv,
            4 => PixelFormat::Nv12,
            5 => PixelFormat::I420,
            other => return Err(unknown("format", other, 5)),
        };
        let range = match self.range {
            0 => Range::Limited,
            1 => Range::Full,
            other => return Err(unknown("range", other, 1)),
        };
        let matrix = match self.matrix {
            0 => Matrix::Bt601,
            1 => Matrix::Bt709,
            other => return Err(unknown("matrix", other, 1)),
        };
        let layout = FrameLayout { range, matrix, ..FrameLayout::new(format, self.width, self.height) };
        let mut planes = [Plane { bytes: &[], stride: 0 }; 3];
        let planes = &mut planes[..format.planes()];
        for (plane, EdgeVitPlane { bytes, len, stride }) in planes.iter_mut().zip(self.planes) {
            // SAFETY: the caller says so.
            *plane = Plane { bytes: unsafe { slice(bytes, len, "frame.planes[].bytes")? }, stride };
        }
        Ok(Frame::new(&layout, planes)?)
    }
}

fn unknown(field: &str, value: u32, last: u32) -> Failure {
    Failure::argument(format!("`frame.{field}` is {value}, and its values are 0 to {last}"))
}
