//! From an encoded picture to a frame.

use image::metadata::Orientation;
use image::{DynamicImage, GrayImage, RgbImage};
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

use super::jpeg::{self, Outline};
use super::{Frame, FrameLayout, PixelFormat, Range};
use crate::picture::check_size;
use crate::{Error, decode_picture};

/// From this width on, in pixels, a row of blocks takes more than eight bytes: two bits for each block of 8x8 at least.
const READ_AHEAD_SAFE_WIDTH: u32 = 512;

/// Decodes one picture after another, and keeps its memory for the next.
///
/// A JPEG, which is what most cameras send, is read here: without Huffman tables if need be, and only if it is whole.
/// Other formats are left to [`decode_picture`], whose pixels those of a whole JPEG equal.
#[derive(Debug, Default)]
pub struct Decoder {
    /// A JPEG to which tables were added.
    completed: Vec<u8>,
    /// A decoded JPEG.
    pixels: Vec<u8>,
    /// A picture of which nothing is kept for the next: one of another format, or a JPEG that was turned upright.
    picture: RgbImage,
}

impl Decoder {
    /// One that has decoded nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Decodes a picture: upright, transparency laid over white, grey as such or as RGB.
    ///
    /// # Errors
    /// [`Error::DamagedJpeg`] if a JPEG is cut short, empty or corrupted as far as its codes show it,
    /// [`Error::PictureTooLarge`] if decoding would take more memory than is allowed, else those of [`decode_picture`].
    pub fn decode(&mut self, encoded: &[u8]) -> Result<Frame<'_>, Error> {
        if !jpeg::is_jpeg(encoded) {
            self.picture = decode_picture(encoded)?;
            return Ok(Frame::from(&self.picture));
        }
        let outline = Outline::read(encoded)?;
        let Outline { width, height, components, end, has_tables, one_scan } = outline;
        let (format, colors, channels) = match components {
            1 => (PixelFormat::Grey, ColorSpace::Luma, 1),
            _ => (PixelFormat::Rgb, ColorSpace::RGB, 3),
        };
        check_size(width, height, u64::from(width) * u64::from(height) * channels)?;
        let layout = FrameLayout { range: Range::Full, ..FrameLayout::new(format, width, height) };
        // Data that end early are made up by the decoder where it sees the end of the picture, and told where it sees
        // the end of the bytes. It reads eight bytes ahead, which have to be less than the data of the last row.
        let hide_end = one_scan && width >= READ_AHEAD_SAFE_WIDTH;
        let mut encoded = &encoded[..if hide_end { end - 2 } else { end }];
        if !has_tables {
            jpeg::with_standard_tables(encoded, &mut self.completed);
            encoded = &self.completed;
        }
        let options = DecoderOptions::default().jpeg_set_out_colorspace(colors).set_strict_mode(true);
        let mut decoder = JpegDecoder::new_with_options(ZCursor::new(encoded), options);
        let damaged = |error: zune_jpeg::errors::DecodeErrors| Error::DamagedJpeg { reason: format!("{error:?}") };
        decoder.decode_headers().map_err(damaged)?;
        self.pixels.resize(layout.bytes()?, 0);
        decoder.decode_into(&mut self.pixels).map_err(damaged)?;
        match decoder.exif().and_then(|exif| Orientation::from_exif_chunk(exif)) {
            None | Some(Orientation::NoTransforms) => layout.frame(&self.pixels),
            Some(orientation) => {
                self.picture = upright(std::mem::take(&mut self.pixels), layout, orientation)?;
                Ok(Frame::from(&self.picture))
            }
        }
    }
}

/// The picture with these bytes, grey or RGB, turned.
fn upright(bytes: Vec<u8>, layout: FrameLayout, orientation: Orientation) -> Result<RgbImage, Error> {
    let FrameLayout { format, width, height, .. } = layout;
    let (expected, got) = (layout.bytes()?, bytes.len());
    let picture = match format {
        PixelFormat::Grey => GrayImage::from_raw(width, height, bytes).map(DynamicImage::from),
        _ => RgbImage::from_raw(width, height, bytes).map(DynamicImage::from),
    };
    let mut picture = picture.ok_or(Error::FrameBytes { expected, got })?;
    picture.apply_orientation(orientation);
    Ok(picture.into_rgb8())
}
