//! Masks as PNG files: one byte a pixel, or a palette whose places are the classes.

use std::io::Cursor;

use png::{BitDepth, ColorType, Decoder, Encoder, Limits};

use super::{Mask, class_color};
use crate::Error;
use crate::picture::check_size;

/// The most memory that a decoder may take beside the mask, in bytes.
const MAX_BYTES: usize = 256 << 20;

impl Mask {
    /// Reads a PNG whose values are the classes: grey of 8 bits, or with a palette, of which the colours are not looked at.
    ///
    /// # Errors
    /// [`Error::InvalidMask`] if the bytes are no PNG, end early, or are one of another form, [`Error::PictureTooLarge`] and
    /// [`Error::EmptyPicture`] as for pictures.
    pub fn from_png(bytes: &[u8]) -> Result<Self, Error> {
        let failed = |error: png::DecodingError| Error::InvalidMask { reason: error.to_string() };
        let mut decoder = Decoder::new_with_limits(Cursor::new(bytes), Limits { bytes: MAX_BYTES });
        let (width, height) = decoder.read_header_info().map_err(failed)?.size();
        check_size(width, height, u64::from(width) * u64::from(height))?;
        let mut reader = decoder.read_info().map_err(failed)?;
        let (color, depth) = reader.output_color_type();
        let bits = match (color, depth) {
            (ColorType::Grayscale, BitDepth::Eight) => 8,
            (ColorType::Indexed, depth) => depth as usize,
            _ => {
                let reason = format!("it is {color:?} of {} bits, not one byte a pixel or with a palette", depth as u8);
                return Err(Error::InvalidMask { reason });
            }
        };
        let Some(len) = reader.output_buffer_size() else {
            return Err(Error::InvalidMask { reason: "it is too large for this machine".to_owned() });
        };
        let mut rows = vec![0; len];
        reader.next_frame(&mut rows).map_err(failed)?;
        let (width_usize, row_len) = (width as usize, (width as usize * bits).div_ceil(8));
        let of_row = |row: &[u8]| -> Vec<u8> { (0..width_usize).map(|x| value(row, x, bits)).collect() };
        let classes = rows.chunks_exact(row_len).flat_map(of_row).collect();
        Self::new(width, height, classes)
    }

    /// The mask as a PNG with a palette: its places are the classes, its colours [`class_color`]'s.
    ///
    /// # Errors
    /// [`Error::InvalidMask`] if it cannot be encoded.
    pub fn to_png(&self) -> Result<Vec<u8>, Error> {
        let failed = |error: png::EncodingError| Error::InvalidMask { reason: error.to_string() };
        let mut bytes = Vec::new();
        let mut encoder = Encoder::new(&mut bytes, self.width, self.height);
        encoder.set_color(ColorType::Indexed);
        encoder.set_depth(BitDepth::Eight);
        encoder.set_palette((0..=255).flat_map(class_color).collect::<Vec<u8>>());
        let mut writer = encoder.write_header().map_err(failed)?;
        writer.write_image_data(&self.classes).map_err(failed)?;
        writer.finish().map_err(failed)?;
        Ok(bytes)
    }
}

/// The value of pixel `x` in a row of pixels of 1, 2, 4 or 8 bits, the first in the highest bits.
fn value(row: &[u8], x: usize, bits: usize) -> u8 {
    let first = x * bits;
    let byte = row.get(first / 8).copied().unwrap_or(0);
    (byte >> (8 - bits - first % 8)) & (u8::MAX >> (8 - bits))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(color: ColorType, depth: BitDepth, [width, height]: [u32; 2], data: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = Encoder::new(&mut bytes, width, height);
        encoder.set_color(color);
        encoder.set_depth(depth);
        if color == ColorType::Indexed {
            encoder.set_palette(vec![7; 3 * 16]);
        }
        encoder.write_header().unwrap().write_image_data(data).unwrap();
        bytes
    }

    #[test]
    fn a_mask_is_read_back_and_its_palette_shows_the_classes() {
        let mask = Mask::new(3, 2, vec![0, 1, 2, 255, 15, 0]).unwrap();
        let png = mask.to_png().unwrap();
        assert_eq!(Mask::from_png(&png).unwrap(), mask);
        let shown = image::load_from_memory(&png).unwrap().into_rgb8();
        assert_eq!((shown.get_pixel(1, 0).0, shown.get_pixel(1, 1).0), ([128, 0, 0], [192, 128, 128]));
    }

    #[test]
    fn grey_and_small_palettes_are_read_by_value() {
        let grey = encoded(ColorType::Grayscale, BitDepth::Eight, [2, 2], &[0, 1, 2, 255]);
        assert_eq!(Mask::from_png(&grey).unwrap().classes(), [0, 1, 2, 255]);
        let four = encoded(ColorType::Indexed, BitDepth::Four, [3, 2], &[0x12, 0x30, 0x45, 0xf0]);
        assert_eq!(Mask::from_png(&four).unwrap().classes(), [1, 2, 3, 4, 5, 15]);
        let one = encoded(ColorType::Indexed, BitDepth::One, [10, 1], &[0b1010_0000, 0b0100_0000]);
        assert_eq!(Mask::from_png(&one).unwrap().classes(), [1, 0, 1, 0, 0, 0, 0, 0, 0, 1]);
    }

    #[test]
    fn pictures_and_cut_files_are_no_masks() {
        let rgb = encoded(ColorType::Rgb, BitDepth::Eight, [1, 1], &[1, 2, 3]);
        let error = Mask::from_png(&rgb).unwrap_err().to_string();
        assert!(error.contains("Rgb of 8 bits"), "{error}");
        let whole = Mask::new(64, 64, (0..64 * 64).map(|at| (at % 251) as u8).collect()).unwrap().to_png().unwrap();
        for bytes in [&b""[..], b"no mask", &whole[..whole.len() / 2]] {
            assert!(matches!(Mask::from_png(bytes), Err(Error::InvalidMask { .. })));
        }
    }
}
