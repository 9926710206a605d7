//! Raw frames as a camera or a decoder leaves them in memory.

/// The order and sampling of a frame's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PixelFormat {
    /// Red, green, blue; 3 bytes a pixel.
    Rgb,
    /// Blue, green, red; 3 bytes a pixel.
    Bgr,
    /// One byte of luma a pixel.
    Grey,
    /// Y0 U Y1 V: 4 bytes for two pixels of a row (V4L2's `YUYV`, 4:2:2). The width is even.
    Yuyv,
    /// A plane of Y, then one of U V pairs for each 2x2 pixels (4:2:0). Both sides are even.
    Nv12,
    /// A plane of Y, then one of U and one of V, each at half the width and height (4:2:0). Both sides are even.
    I420,
}

/// Which values luma and chroma take in YUV and grey frames. RGB frames are always full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Range {
    /// Luma 16 to 235, chroma 16 to 240: what V4L2 means unless it says otherwise.
    #[default]
    Limited,
    /// 0 to 255, as in JPEG.
    Full,
}

/// The matrix between YUV and RGB. RGB and grey frames have none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Matrix {
    /// ITU-R BT.601: webcams, JPEG, anything of standard definition.
    #[default]
    Bt601,
    /// ITU-R BT.709: what cameras of high definition may declare.
    Bt709,
}

/// How a frame lies in one run of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FrameLayout {
    /// Order and sampling.
    pub format: PixelFormat,
    /// Pixels a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Bytes from a row of the first plane to the next, at least a row's own; 0 if rows follow without padding. The
    /// rows of NV12's second plane are as far apart, those of I420's second and third half as far.
    pub stride: usize,
    /// The values that luma and chroma take.
    pub range: Range,
    /// The matrix between YUV and RGB.
    pub matrix: Matrix,
}
