//! Bytes of a file to upright 8-bit RGB pixels.

use std::io::Cursor;
use std::path::Path;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageReader, Limits, Rgb, RgbImage};

use crate::Error;

/// The longest side that is decoded, in pixels. A few bytes can announce any size.
pub(crate) const MAX_SIDE: u32 = 16_384;
/// The most memory that a decoded picture may take, in bytes: photos of 89 megapixels at 8 bits.
const MAX_BYTES: u64 = 256 << 20;

/// The formats that this build reads.
pub(crate) const FORMATS: &str =
    if cfg!(feature = "formats") { "JPEG, PNG, WebP, BMP, TIFF or GIF" } else { "JPEG or PNG" };

/// How the names of picture files end, in lower case, of all formats that [`decode_picture`] may read.
pub const PICTURE_ENDINGS: [&str; 8] = ["jpg", "jpeg", "png", "webp", "bmp", "tif", "tiff", "gif"];

/// Whether the file's name ends as that of a picture, in upper or lower case.
pub fn has_picture_ending(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    PICTURE_ENDINGS.iter().any(|known| ending.eq_ignore_ascii_case(known))
}

/// Decodes a JPEG or PNG, and with the feature `formats` a WebP, BMP, TIFF or GIF (its first frame), into upright
/// 8-bit RGB.
///
/// The format is told from the content, not from a name. The EXIF orientation is applied, transparency is laid over
/// white, grey becomes three equal channels, 16 bits are rounded to 8. Colour profiles are not applied.
///
/// # Errors
/// [`Error::Picture`] if the bytes are no such picture or end early, [`Error::PictureTooLarge`] if decoding would take
/// more memory than is allowed, [`Error::EmptyPicture`] if it has no pixels.
pub fn decode_picture(bytes: &[u8]) -> Result<RgbImage, Error> {
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_BYTES);
    let mut reader = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .map_err(|error| Error::Picture(ImageError::IoError(error)))?;
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(Error::Picture)?;
    let (width, height) = decoder.dimensions();
    check_size(width, height, decoder.total_bytes())?;
    // A damaged EXIF block says nothing about the pixels: such a picture is read as it lies.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut picture = DynamicImage::from_decoder(decoder).map_err(Error::Picture)?;
    picture.apply_orientation(orientation);
    Ok(if picture.color().has_alpha() { over_white(&picture) } else { picture.into_rgb8() })
}

/// Refuses a picture without pixels, and one whose `decoded` bytes or sides are beyond what a decoder may take.
pub(crate) fn check_size(width: u32, height: u32, decoded: u64) -> Result<(), Error> {
    if width == 0 || height == 0 {
        return Err(Error::EmptyPicture { width, height });
    }
    if width > MAX_SIDE || height > MAX_SIDE || decoded > MAX_BYTES {
        return Err(Error::PictureTooLarge { width, height, max_side: MAX_SIDE, max_mib: MAX_BYTES >> 20 });
    }
    Ok(())
}

/// Reads and decodes the picture at `path`, as [`decode_picture`] does.
///
/// # Errors
/// [`Error::ReadFile`] if the file cannot be read, else those of [`decode_picture`].
pub fn open_picture(path: impl AsRef<Path>) -> Result<RgbImage, Error> {
    let path = path.as_ref();
    let bytes = std::fs::read(path).map_err(|source| Error::ReadFile { path: path.to_owned(), source })?;
    decode_picture(&bytes)
}

/// Lays a picture with transparency over a white ground.
fn over_white(picture: &DynamicImage) -> RgbImage {
    let picture = picture.to_rgba8();
    let mut flat = RgbImage::new(picture.width(), picture.height());
    for (to, from) in flat.pixels_mut().zip(picture.pixels()) {
        let [r, g, b, alpha] = from.0.map(u32::from);
        // Rounded to nearest: the channel weighted by alpha, white by the rest.
        let blend = |channel: u32| ((channel * alpha + 255 * (255 - alpha) + 127) / 255) as u8;
        *to = Rgb([blend(r), blend(g), blend(b)]);
    }
    flat
}

#[cfg(test)]
mod tests {
    use image::{GrayImage, ImageBuffer, ImageFormat, Luma, Rgba, RgbaImage};

    use super::*;

    fn png(picture: DynamicImage) -> Vec<u8> {
        let mut bytes = Vec::new();
        picture.write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png).unwrap();
        bytes
    }

    #[test]
    fn transparency_is_laid_over_white() {
        let mut picture = RgbaImage::new(3, 1);
        picture.put_pixel(0, 0, Rgba([200, 10, 0, 255]));
        picture.put_pixel(1, 0, Rgba([200, 10, 0, 0]));
        picture.put_pixel(2, 0, Rgba([0, 100, 255, 128]));
        let flat = decode_picture(&png(picture.into())).unwrap();
        assert_eq!(flat.get_pixel(0, 0).0, [200, 10, 0]);
        assert_eq!(flat.get_pixel(1, 0).0, [255, 255, 255]);
        assert_eq!(flat.get_pixel(2, 0).0, [127, 177, 255]);
    }

    #[test]
    fn grey_and_16_bit_become_rgb() {
        let grey = GrayImage::from_pixel(2, 2, Luma([77]));
        assert_eq!(decode_picture(&png(grey.into())).unwrap().get_pixel(1, 1).0, [77; 3]);
        let deep: ImageBuffer<Luma<u16>, _> = ImageBuffer::from_pixel(2, 2, Luma([0x8080]));
        assert_eq!(decode_picture(&png(deep.into())).unwrap().get_pixel(0, 1).0, [0x80; 3]);
        let deep: ImageBuffer<Rgb<u16>, _> = ImageBuffer::from_pixel(2, 2, Rgb([0, 0xffff, 0x0101]));
        assert_eq!(decode_picture(&png(deep.into())).unwrap().get_pixel(0, 1).0, [0, 255, 1]);
    }

    #[test]
    fn an_announced_size_beyond_the_limit_is_refused_before_it_is_allocated() {
        let mut bytes = png(GrayImage::new(1, 1).into());
        // Width and height of IHDR, and the chunk's checksum over them.
        bytes[16..24].copy_from_slice(&[0, 0, 0x50, 0, 0, 0, 0x50, 0]);
        let checksum = crc32(&bytes[12..29]);
        bytes[29..33].copy_from_slice(&checksum.to_be_bytes());
        let error = decode_picture(&bytes).unwrap_err();
        assert!(matches!(error, Error::PictureTooLarge { width: 0x5000, height: 0x5000, .. }), "{error}");
    }

    #[test]
    fn text_nothing_and_a_cut_picture_are_no_pictures() {
        let mut picture = RgbImage::new(64, 64);
        picture.enumerate_pixels_mut().for_each(|(x, y, p)| *p = Rgb([(x * 37) as u8, (y * 91) as u8, (x * y) as u8]));
        let whole = png(picture.into());
        for bytes in [&b""[..], b"no picture", &whole[..whole.len() / 2], &whole[..20]] {
            let error = decode_picture(bytes).unwrap_err();
            assert!(matches!(error, Error::Picture(_)), "{error}");
        }
    }

    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0u32, |crc, &byte| {
            (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
        })
    }
}
