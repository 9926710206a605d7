//! Pictures of the page: small, and within it.

use std::io::Cursor;
use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use edge_vit::{Preprocessing, filmstrip};
use image::codecs::jpeg::JpegEncoder;
use image::imageops::{self, FilterType};
use image::{ImageBuffer, Luma, Rgb, RgbImage};

use super::attention::Map;
use crate::data::open_picture;

/// Longest side of a thumbnail in pixels.
const SIDE: u32 = 240;
/// Quality of its JPEG, 1 to 100.
const QUALITY: u8 = 82;
/// What is left of the brightness of a patch that weighs nothing.
const DARKEST: f32 = 0.15;

/// The picture at `path`, or the filmstrip of so many `frames`, as a `data:` address of a small JPEG, or `None` where it cannot be read any
/// more.
pub(super) fn thumbnail(path: &Path, frames: usize) -> Option<String> {
    small(sheet(open_picture(path).ok()?, frames))
}

/// The `frames` of a filmstrip side by side in rows, about as many as there are columns; a picture as it is.
fn sheet(strip: RgbImage, frames: usize) -> RgbImage {
    if frames <= 1 {
        return strip;
    }
    let (width, height) = (strip.width(), strip.height() / frames as u32);
    let columns = (1..).find(|columns: &u32| (columns * columns) as usize >= frames).unwrap_or(1);
    let mut sheet = RgbImage::new(columns * width, (frames as u32).div_ceil(columns) * height);
    for (index, frame) in (0..).zip(filmstrip::split(&strip, frames)) {
        let [x, y] = [index % columns * width, index / columns * height].map(i64::from);
        imageops::replace(&mut sheet, &frame, x, y);
    }
    sheet
}

/// `picture` as a `data:` address of a small JPEG.
pub(super) fn small(picture: RgbImage) -> Option<String> {
    let (width, height) = picture.dimensions();
    let longest = width.max(height);
    let small = if longest <= SIDE {
        picture
    } else {
        let fit = |side: u32| (u64::from(side) * u64::from(SIDE) / u64::from(longest)).max(1) as u32;
        imageops::resize(&picture, fit(width), fit(height), FilterType::Triangle)
    };
    address(&small)
}

/// `picture` as a `data:` address of a JPEG.
fn address(picture: &RgbImage) -> Option<String> {
    let mut bytes = Cursor::new(Vec::new());
    JpegEncoder::new_with_quality(&mut bytes, QUALITY).encode_image(picture).ok()?;
    Some(format!("data:image/jpeg;base64,{}", BASE64_STANDARD.encode(bytes.into_inner())))
}

/// What a model with this preprocessing sees of `picture`, and the same with each patch as bright as it weighs, as
/// addresses.
pub(super) fn weighed(picture: &RgbImage, preprocessing: &Preprocessing, map: &Map) -> Option<[String; 2]> {
    let seen = preprocessing.resize(picture);
    let frames = preprocessing.frames;
    let (width, height) = (seen.width(), seen.height() / frames as u32);
    let largest = map.weights.iter().copied().fold(f32::MIN_POSITIVE, f32::max);
    let [rows, columns] = [map.grid[0] / frames, map.grid[1]];
    let mut lit = Vec::with_capacity(frames);
    for (mut frame, weights) in filmstrip::split(&seen, frames).zip(map.weights.chunks(rows * columns)) {
        let shares = weights.iter().map(|weight| weight / largest).collect();
        let shares = ImageBuffer::<Luma<f32>, Vec<f32>>::from_raw(columns as u32, rows as u32, shares)?;
        let shares = imageops::resize(&shares, width, height, FilterType::Triangle);
        for (pixel, Luma([share])) in frame.pixels_mut().zip(shares.pixels()) {
            let brightness = DARKEST + (1.0 - DARKEST) * share.clamp(0.0, 1.0);
            pixel.0 = pixel.0.map(|value| (f32::from(value) * brightness).round() as u8);
        }
        lit.push(frame);
    }
    let [seen, lit] = [seen, filmstrip::join(lit)].map(|strip| sheet(strip, frames));
    Some([address(&seen)?, address(&lit)?])
}

/// The first of `paths` that can be read, else a grey picture: what a model computes does not change its time.
pub(super) fn any_picture<'a>(mut paths: impl Iterator<Item = &'a Path>, preprocessing: &Preprocessing) -> RgbImage {
    paths.find_map(|path| open_picture(path).ok()).unwrap_or_else(|| {
        let [height, width] = preprocessing.image_size;
        let side = |pixels: usize| u32::try_from(pixels).unwrap_or(SIDE);
        RgbImage::from_pixel(side(width), side(height * preprocessing.frames), Rgb([128; 3]))
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
        let address = thumbnail(&path, 1).unwrap();
        let bytes = BASE64_STANDARD.decode(address.strip_prefix("data:image/jpeg;base64,").unwrap()).unwrap();
        assert_eq!(edge_vit::decode_picture(&bytes).unwrap().dimensions(), (240, 1));
        std::fs::write(&path, b"no picture").unwrap();
        assert_eq!(thumbnail(&path, 1), None);
    }

    #[test]
    fn the_frames_of_a_strip_lie_side_by_side() {
        let frame = |value: u8| RgbImage::from_pixel(4, 2, Rgb([value; 3]));
        let sheet = sheet(filmstrip::join((1..=5).map(frame)), 5);
        let at = |x, y| sheet.get_pixel(x, y).0[0];
        assert_eq!(sheet.dimensions(), (12, 4));
        assert_eq!([at(0, 0), at(4, 1), at(11, 0), at(0, 2), at(7, 3), at(8, 2)], [1, 2, 3, 4, 5, 0]);
        assert_eq!(super::sheet(frame(7), 1), frame(7));
    }

    #[test]
    fn every_frame_of_a_strip_is_as_bright_as_its_own_patches_weigh() {
        let strip = RgbImage::from_pixel(16, 64, Rgb([200, 100, 50]));
        let preprocessing = Preprocessing { frames: 4, ..Preprocessing::imagenet([16, 16]) };
        let map = Map { grid: [4, 1], weights: vec![0.0, 0.25, 0.25, 0.0] };
        let [seen, lit] = weighed(&strip, &preprocessing, &map).unwrap().map(|address| {
            let bytes = BASE64_STANDARD.decode(address.strip_prefix("data:image/jpeg;base64,").unwrap()).unwrap();
            edge_vit::decode_picture(&bytes).unwrap()
        });
        assert_eq!((seen.dimensions(), lit.dimensions()), ((32, 32), (32, 32)));
        let red = |x, y| lit.get_pixel(x, y).0[0];
        for (x, y, expected) in [(8, 8, 30), (24, 8, 200), (8, 24, 200), (24, 24, 30)] {
            assert!(red(x, y).abs_diff(expected) < 8, "{x} {y}: {}", red(x, y));
        }
    }

    #[test]
    fn what_weighs_nothing_is_dark_and_what_weighs_most_as_it_was() {
        let picture = RgbImage::from_pixel(40, 20, Rgb([200, 100, 50]));
        let preprocessing = Preprocessing::imagenet([16, 16]);
        let map = Map { grid: [1, 2], weights: vec![0.0, 0.25] };
        let [seen, lit] = weighed(&picture, &preprocessing, &map).unwrap().map(|address| {
            let bytes = BASE64_STANDARD.decode(address.strip_prefix("data:image/jpeg;base64,").unwrap()).unwrap();
            edge_vit::decode_picture(&bytes).unwrap()
        });
        assert_eq!((seen.dimensions(), lit.dimensions()), ((16, 16), (16, 16)));
        let red = |picture: &RgbImage, x| picture.get_pixel(x, 8).0[0];
        assert!(red(&seen, 0).abs_diff(200) < 6 && red(&seen, 15).abs_diff(200) < 6);
        assert!(red(&lit, 0).abs_diff(30) < 8 && red(&lit, 15).abs_diff(200) < 8, "{} {}", red(&lit, 0), red(&lit, 15));
    }
}
