//! Raw frames as a camera or a decoder leaves them in memory, and the way from their bytes to RGB.
//!
//! A [`Frame`] borrows its pixels. Nothing is copied to make one, and what reads it converts a row at a time. Its sizes
//! are checked once, when it is made, so that a row can be read without another thought.

mod color;
mod decoder;
pub(crate) mod jpeg;

use image::RgbImage;

pub use decoder::Decoder;

use crate::Error;
use crate::picture::MAX_SIDE;
use color::Conversion;

/// Pixels that are converted at a time where a row of RGB is wanted.
const BLOCK: usize = 64;

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

impl PixelFormat {
    /// How many planes a frame of this format has.
    pub fn planes(self) -> usize {
        match self {
            Self::Rgb | Self::Bgr | Self::Grey | Self::Yuyv => 1,
            Self::Nv12 => 2,
            Self::I420 => 3,
        }
    }

    /// The number of pixels (down, across) of which the sides have to be multiples.
    fn multiple(self) -> [u32; 2] {
        match self {
            Self::Rgb | Self::Bgr | Self::Grey => [1, 1],
            Self::Yuyv => [1, 2],
            Self::Nv12 | Self::I420 => [2, 2],
        }
    }

    /// Rows of plane `plane`, and bytes of such a row without padding. Nothing if that is more than memory can hold.
    fn plane_size(self, plane: usize, width: u32, height: u32) -> Option<[usize; 2]> {
        let [width, height] = [usize::try_from(width).ok()?, usize::try_from(height).ok()?];
        let row = match (self, plane) {
            (Self::Rgb | Self::Bgr, _) => width.checked_mul(3)?,
            (Self::Yuyv, _) => width.checked_mul(2)?,
            (Self::I420, 1..) => width / 2,
            (Self::Grey | Self::Nv12 | Self::I420, _) => width,
        };
        Some([if plane == 0 { height } else { height / 2 }, row])
    }
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

impl FrameLayout {
    /// The layout of `format` without padding, in limited range and BT.601.
    pub fn new(format: PixelFormat, width: u32, height: u32) -> Self {
        Self { format, width, height, stride: 0, range: Range::default(), matrix: Matrix::default() }
    }

    /// How many bytes a frame of this layout has at least: the padding after the last row may be absent.
    ///
    /// # Errors
    /// Those of [`frame`](Self::frame), but for the number of bytes.
    pub fn bytes(&self) -> Result<usize, Error> {
        let mut end = 0;
        self.each_plane(|start, needed, _| end = start + needed)?;
        Ok(end)
    }

    /// The frame that lies at the beginning of `bytes`.
    ///
    /// # Errors
    /// [`Error::EmptyPicture`] if a side is 0, [`Error::OddFrame`] if the format needs even sides and has others,
    /// [`Error::FrameStride`] if the rows would overlap, [`Error::FrameTooLarge`] if no memory holds such a frame,
    /// [`Error::FrameBytes`] if there are too few bytes.
    pub fn frame<'a>(&self, bytes: &'a [u8]) -> Result<Frame<'a>, Error> {
        let expected = self.bytes()?;
        if bytes.len() < expected {
            return Err(Error::FrameBytes { expected, got: bytes.len() });
        }
        let mut planes = [Plane { bytes: &[], stride: 0 }; 3];
        let mut free = planes.iter_mut();
        self.each_plane(|start, needed, stride| {
            if let (Some(plane), Some(bytes)) = (free.next(), bytes.get(start..start + needed)) {
                *plane = Plane { bytes, stride };
            }
        })?;
        Frame::new(self, &planes[..self.format.planes()])
    }

    /// Calls `plane` with each plane's first byte, the bytes that it needs, and its stride.
    fn each_plane(&self, mut plane: impl FnMut(usize, usize, usize)) -> Result<(), Error> {
        self.check_sides()?;
        let mut start = 0usize;
        for index in 0..self.format.planes() {
            let [rows, row] = self.plane_size(index)?;
            let stride = match (self.stride, self.format, index) {
                (0, ..) => row,
                (stride, PixelFormat::I420, 1..) => stride / 2,
                (stride, ..) => stride,
            };
            let needed = needed(rows, row, stride).ok_or_else(|| self.too_large())??;
            let next = rows.checked_mul(stride).and_then(|length| start.checked_add(length));
            let next = next.ok_or_else(|| self.too_large())?;
            plane(start, needed, stride);
            start = next;
        }
        Ok(())
    }

    fn check_sides(&self) -> Result<(), Error> {
        let Self { format, width, height, .. } = *self;
        if width == 0 || height == 0 {
            return Err(Error::EmptyPicture { width, height });
        }
        if width > MAX_SIDE || height > MAX_SIDE {
            return Err(self.too_large());
        }
        let [down, across] = format.multiple();
        if width % across != 0 || height % down != 0 {
            return Err(Error::OddFrame { format, width, height });
        }
        Ok(())
    }

    fn plane_size(&self, plane: usize) -> Result<[usize; 2], Error> {
        self.format.plane_size(plane, self.width, self.height).ok_or_else(|| self.too_large())
    }

    fn too_large(&self) -> Error {
        Error::FrameTooLarge { width: self.width, height: self.height, stride: self.stride }
    }
}

/// Bytes that `rows` rows of `row` bytes take, the padding after the last left out; an error if the rows overlap,
/// nothing if no memory is as large.
fn needed(rows: usize, row: usize, stride: usize) -> Option<Result<usize, Error>> {
    if stride < row {
        return Some(Err(Error::FrameStride { row, stride }));
    }
    rows.saturating_sub(1).checked_mul(stride)?.checked_add(row).map(Ok)
}

/// One plane of a frame.
#[derive(Debug, Clone, Copy)]
pub struct Plane<'a> {
    /// Its bytes, row after row.
    pub bytes: &'a [u8],
    /// Bytes from a row to the next, at least a row's own; 0 if rows follow without padding.
    pub stride: usize,
}

/// A frame in memory that belongs to somebody else: a driver, a decoder, the caller.
///
/// It has at least one pixel, unless it was made from a picture without any.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    format: PixelFormat,
    width: usize,
    height: usize,
    conversion: Conversion,
    /// Each with the bytes that its rows need; the format's planes, then empty ones.
    planes: [Plane<'a>; 3],
}

impl<'a> Frame<'a> {
    /// The frame whose planes lie in different places. Each plane has a stride of its own: the layout's is not used.
    ///
    /// # Errors
    /// [`Error::FramePlanes`] if there are not as many planes as the format has, else those of
    /// [`FrameLayout::frame`].
    pub fn new(layout: &FrameLayout, planes: &[Plane<'a>]) -> Result<Self, Error> {
        let &FrameLayout { format, width, height, range, matrix, .. } = layout;
        layout.check_sides()?;
        if planes.len() != format.planes() {
            return Err(Error::FramePlanes { format, expected: format.planes(), got: planes.len() });
        }
        let mut checked = [Plane { bytes: &[], stride: 0 }; 3];
        for (index, (&Plane { bytes, stride }, checked)) in planes.iter().zip(&mut checked).enumerate() {
            let [rows, row] = layout.plane_size(index)?;
            let stride = if stride == 0 { row } else { stride };
            let expected = needed(rows, row, stride).ok_or_else(|| layout.too_large())??;
            let bytes = bytes.get(..expected).ok_or(Error::FrameBytes { expected, got: bytes.len() })?;
            *checked = Plane { bytes, stride };
        }
        let conversion = Conversion::new(range, matrix);
        let [width, height] = [width, height].map(|side| side as usize);
        Ok(Self { format, width, height, conversion, planes: checked })
    }

    /// Pixels a row.
    pub fn width(&self) -> u32 {
        self.width as u32
    }

    /// Rows.
    pub fn height(&self) -> u32 {
        self.height as u32
    }

    /// Whether there are no pixels.
    pub fn is_empty(&self) -> bool {
        self.width == 0 || self.height == 0
    }

    /// Order and sampling of the bytes.
    pub fn format(&self) -> PixelFormat {
        self.format
    }

    /// Writes row `y` from its left as 8-bit RGB into `rgb`, as many whole pixels as both have; nothing of a row below
    /// the last.
    pub fn row(&self, y: u32, rgb: &mut [u8]) {
        if y >= self.height() {
            return;
        }
        let mut planes = [[0; BLOCK]; 3];
        for (block, to) in rgb.chunks_mut(BLOCK * 3).enumerate() {
            let from = block * BLOCK;
            let left = self.width.saturating_sub(from);
            if left == 0 {
                return;
            }
            // Pairs of pixels share their chroma: the second of a pair is converted even if only the first is wanted.
            let pixels = (to.len() / 3).next_multiple_of(2).min(left);
            let [r, g, b] = &mut planes;
            self.span(y as usize, from, [&mut r[..pixels], &mut g[..pixels], &mut b[..pixels]]);
            let (g, b) = if self.channels() == 1 { (&*r, &*r) } else { (&*g, &*b) };
            for (pixel, ((&r, &g), &b)) in to.chunks_exact_mut(3).zip(r.iter().zip(g).zip(b)).take(pixels) {
                pixel.copy_from_slice(&[r, g, b]);
            }
        }
    }

    /// The frame as a picture of its own.
    pub fn to_rgb(&self) -> RgbImage {
        let mut picture = RgbImage::new(self.width(), self.height());
        for (y, row) in (0..).zip(picture.chunks_exact_mut((self.width * 3).max(1))) {
            self.row(y, row);
        }
        picture
    }

    /// How many of the planes R, G, B differ: 1 if the frame is grey.
    pub(crate) fn channels(&self) -> usize {
        if self.format == PixelFormat::Grey { 1 } else { 3 }
    }

    /// The bytes of row `y` where the three of a pixel lie side by side, in the order of the format.
    #[inline(always)]
    pub(crate) fn packed(&self, y: usize) -> Option<&'a [u8]> {
        let Plane { bytes, stride } = self.planes[0];
        match self.format {
            PixelFormat::Rgb | PixelFormat::Bgr => bytes.get(y * stride..)?.get(..self.width * 3),
            _ => None,
        }
    }

    /// Writes the pixels of row `y` from column `from` as planes of R, G and B of one length. Of a grey frame only R is
    /// written. Where pairs of pixels share their chroma, `from` and the length are even.
    #[inline(always)]
    pub(crate) fn span(&self, y: usize, from: usize, [r, g, b]: [&mut [u8]; 3]) {
        let row = |plane: usize, y: usize, from: usize| {
            let Plane { bytes, stride } = self.planes[plane];
            bytes.get(y * stride + from..).unwrap_or_default()
        };
        match self.format {
            PixelFormat::Rgb => color::split(row(0, y, from * 3), [r, g, b]),
            PixelFormat::Bgr => color::split(row(0, y, from * 3), [b, g, r]),
            PixelFormat::Grey => self.conversion.luma(row(0, y, from), r),
            PixelFormat::Yuyv => self.conversion.yuyv(row(0, y, from * 2), [r, g, b]),
            PixelFormat::Nv12 => self.conversion.nv12(row(0, y, from), row(1, y / 2, from), [r, g, b]),
            PixelFormat::I420 => {
                let [u, v] = [1, 2].map(|plane| row(plane, y / 2, from / 2));
                self.conversion.i420(row(0, y, from), u, v, [r, g, b]);
            }
        }
    }
}

impl<'a> From<&'a RgbImage> for Frame<'a> {
    fn from(picture: &'a RgbImage) -> Self {
        let [width, height] = [picture.width(), picture.height()].map(|side| side as usize);
        let empty = Plane { bytes: &[][..], stride: 0 };
        Self {
            format: PixelFormat::Rgb,
            width,
            height,
            conversion: Conversion::new(Range::Full, Matrix::Bt601),
            planes: [Plane { bytes: picture.as_raw(), stride: width * 3 }, empty, empty],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMATS: [PixelFormat; 6] = [
        PixelFormat::Rgb,
        PixelFormat::Bgr,
        PixelFormat::Grey,
        PixelFormat::Yuyv,
        PixelFormat::Nv12,
        PixelFormat::I420,
    ];

    fn noise(bytes: usize) -> Vec<u8> {
        (0..bytes as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
    }

    #[test]
    fn the_bytes_of_a_frame_are_those_of_its_planes() {
        let bytes = |format, stride| FrameLayout { stride, ..FrameLayout::new(format, 6, 4) }.bytes().unwrap();
        assert_eq!(FORMATS.map(|format| bytes(format, 0)), [72, 72, 24, 48, 36, 36]);
        // The padding after the last row may be absent.
        assert_eq!(FORMATS.map(|format| bytes(format, 20)), [78, 78, 66, 72, 106, 20 * 4 + 10 * 2 + 10 + 3]);
        assert_eq!(FORMATS[..3].iter().map(|&f| FrameLayout::new(f, 5, 3).bytes().unwrap()).sum::<usize>(), 105);
    }

    #[test]
    fn padding_makes_no_difference() {
        for format in FORMATS {
            let tight = FrameLayout::new(format, 6, 4);
            let bytes = noise(tight.bytes().unwrap());
            let row = format.plane_size(0, 6, 4).unwrap()[1];
            let padded = FrameLayout { stride: row + 14, ..tight };
            let mut spread = vec![0xa5; padded.bytes().unwrap()];
            let mut planes = Vec::new();
            tight.each_plane(|start, needed, stride| planes.push((start, needed, stride))).unwrap();
            let mut index = 0;
            padded
                .each_plane(|start, _, stride| {
                    let (from, needed, row) = planes[index];
                    for (y, line) in bytes[from..from + needed].chunks(row).enumerate() {
                        spread[start + y * stride..][..line.len()].copy_from_slice(line);
                    }
                    index += 1;
                })
                .unwrap();
            let expected = tight.frame(&bytes).unwrap().to_rgb();
            assert_eq!(padded.frame(&spread).unwrap().to_rgb(), expected, "{format:?}");
            let apart: Vec<_> = planes.iter().map(|&(s, n, _)| Plane { bytes: &bytes[s..s + n], stride: 0 }).collect();
            assert_eq!(Frame::new(&tight, &apart).unwrap().to_rgb(), expected, "{format:?}");
            assert!(matches!(Frame::new(&tight, &[]), Err(Error::FramePlanes { got: 0, .. })));
        }
    }

    #[test]
    fn pairs_share_their_chroma() {
        let red = [81, 90, 235, 240];
        let grey = [16, 128, 235, 128];
        let picture = FrameLayout::new(PixelFormat::Yuyv, 2, 2).frame(&[red, grey].concat()).unwrap().to_rgb();
        assert_eq!(picture.get_pixel(0, 0).0, [254, 0, 0]);
        assert_eq!(picture.get_pixel(0, 1).0, [0, 0, 0]);
        assert_eq!(picture.get_pixel(1, 1).0, [255, 255, 255]);
    }

    #[test]
    fn the_three_layouts_of_yuv_agree() {
        // 4:2:0 of which each chroma row is given twice is 4:2:2.
        let (y, u, v) = (noise(6 * 4), noise(6), noise(13)[7..].to_vec());
        let i420 = [&y[..], &u, &v].concat();
        let uv: Vec<u8> = u.iter().zip(&v).flat_map(|(&u, &v)| [u, v]).collect();
        let nv12 = [&y[..], &uv].concat();
        let yuyv: Vec<u8> = (0..12)
            .flat_map(|pair| {
                let chroma = pair / 6 * 3 + pair % 3;
                [y[pair * 2], u[chroma], y[pair * 2 + 1], v[chroma]]
            })
            .collect();
        let picture = |format, bytes: &[u8]| FrameLayout::new(format, 6, 4).frame(bytes).unwrap().to_rgb();
        assert_eq!(picture(PixelFormat::I420, &i420), picture(PixelFormat::Nv12, &nv12));
        assert_eq!(picture(PixelFormat::I420, &i420), picture(PixelFormat::Yuyv, &yuyv));
    }

    #[test]
    fn a_row_is_as_long_as_both_allow() {
        let bytes = noise(200 * 2 * 2);
        let frame = FrameLayout::new(PixelFormat::Yuyv, 200, 2).frame(&bytes).unwrap();
        let whole = frame.to_rgb();
        for pixels in [0, 1, 63, 64, 65, 129, 200, 300] {
            let mut row = vec![7; pixels * 3 + 2];
            frame.row(1, &mut row);
            let written = pixels.min(200) * 3;
            assert_eq!(row[..written], whole.as_raw()[600..600 + written], "{pixels}");
            assert!(row[written..].iter().all(|&byte| byte == 7), "{pixels}");
        }
        let mut row = [7; 6];
        frame.row(2, &mut row);
        assert_eq!(row, [7; 6]);
    }

    #[test]
    fn frames_that_cannot_be_are_told() {
        let refused = |layout: FrameLayout, bytes: usize| layout.frame(&vec![0; bytes]).unwrap_err();
        for format in FORMATS {
            let layout = FrameLayout::new(format, 4, 2);
            let whole = layout.bytes().unwrap();
            let short = refused(layout, whole - 1);
            assert!(matches!(short, Error::FrameBytes { expected, got } if (expected, got) == (whole, whole - 1)));
            assert!(layout.frame(&vec![0; whole + 99]).is_ok());
            let error = refused(FrameLayout { stride: 1, ..layout }, 999);
            assert!(matches!(error, Error::FrameStride { stride: 0..=1, .. }), "{error}");
            for (width, height) in [(0, 2), (2, 0), (0, 0)] {
                assert!(matches!(refused(FrameLayout::new(format, width, height), 9), Error::EmptyPicture { .. }));
            }
            for stride in [0, usize::MAX, usize::MAX / 2, usize::MAX / 4] {
                let error = refused(FrameLayout { stride, ..FrameLayout::new(format, !1, !1) }, 9);
                assert!(matches!(error, Error::FrameTooLarge { .. } | Error::FrameBytes { .. }), "{error}");
            }
        }
        for (format, width, height) in
            [(PixelFormat::Yuyv, 3, 2), (PixelFormat::Nv12, 3, 2), (PixelFormat::Nv12, 2, 3), (PixelFormat::I420, 2, 1)]
        {
            let error = refused(FrameLayout::new(format, width, height), 999);
            assert!(matches!(error, Error::OddFrame { .. }), "{error}");
        }
    }

    #[test]
    fn a_picture_is_a_frame() {
        let picture = RgbImage::from_raw(5, 3, noise(45)).unwrap();
        assert_eq!(Frame::from(&picture).to_rgb(), picture);
        assert_eq!(Frame::from(&RgbImage::new(0, 3)).to_rgb(), RgbImage::new(0, 3));
    }
}
