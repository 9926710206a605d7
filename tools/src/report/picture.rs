//! Pictures of the page: small, and within it.

use std::io::Cursor;
use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use image::codecs::jpeg::JpegEncoder;
use image::imageops::{self, FilterType};
use image::{Rgb, RgbImage};

use crate::evaluate::Samples;

/// Longest side of a thumbnail in pixels.
const SIDE: u32 = 240;
/// Quality of its JPEG, 1 to 100.
const QUALITY: u8 = 82;

/// The picture at `path` as a `data:` address of a small JPEG, or `None` where it cannot be read any more.
pub(super) fn thumbnail(path: &Path) -> Option<String> {
    let picture = edge_vit::open_picture(path).ok()?;
    let (width, height) = picture.dimensions();
    let longest = width.max(height);
    let small = if longest <= SIDE {
        picture
    } else {
        let fit = |side: u32| (u64::from(side) * u64::from(SIDE) / u64::from(longest)).max(1) as u32;
        imageops::resize(&picture, fit(width), fit(height), FilterType::Triangle)
    };
    let mut bytes = Cursor::new(Vec::new());
    JpegEncoder::new_with_quality(&mut bytes, QUALITY).encode_image(&small).ok()?;
    Some(format!("data:image/jpeg;base64,{}", BASE64_STANDARD.encode(bytes.into_inner())))
}

/// The first of `samples` that can be read, else a grey picture: what a model computes does not change its time.
pub(super) fn any_picture(samples: Option<&Samples>, [height, width]: [usize; 2]) -> RgbImage {
    let readable =
        |samples: &Samples| samples.pictures.iter().find_map(|sample| edge_vit::open_picture(&sample.path).ok());
    samples.and_then(readable).unwrap_or_else(|| {
        let side = |pixels: usize| u32::try_from(pixels).unwrap_or(SIDE);
        RgbImage::from_pixel(side(width), side(height), Rgb([128; 3]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_picture_becomes_small_and_a_bad_one_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("wide.png");
        RgbImage::from_pixel(960, 2, Rgb([200, 10, 10])).save(&path).unwrap();
        let address = thumbnail(&path).unwrap();
        let bytes = BASE64_STANDARD.decode(address.strip_prefix("data:image/jpeg;base64,").unwrap()).unwrap();
        assert_eq!(edge_vit::decode_picture(&bytes).unwrap().dimensions(), (240, 1));
        std::fs::write(&path, b"no picture").unwrap();
        assert_eq!(thumbnail(&path), None);
    }
}
