//! Pictures as cameras send them: whole, without tables, cut, empty, corrupted.

#![allow(clippy::unwrap_used)] // A helper of a test may fail as a test does.

mod common;

use edge_vit::frame::Decoder;
use edge_vit::{Error, decode_picture};
use image::codecs::jpeg::JpegEncoder;
use image::{DynamicImage, ExtendedColorType, RgbImage};

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(common::fixture(name)).unwrap()
}

/// A JPEG of smooth colours with edges; `channels` is 1 or 3.
fn jpeg(width: u32, height: u32, channels: u32) -> Vec<u8> {
    let value = |i: u32| {
        let (x, y, channel) = (i / channels % width, i / channels / width, i % channels);
        (x * 3 + y * (2 + channel) + 90 * ((x / 7 + y / 5 + channel) % 2)) as u8
    };
    let pixels: Vec<u8> = (0..width * height * channels).map(value).collect();
    let colors = if channels == 1 { ExtendedColorType::L8 } else { ExtendedColorType::Rgb8 };
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, 85).encode(&pixels, width, height, colors).unwrap();
    bytes
}

fn decoded(decoder: &mut Decoder, bytes: &[u8]) -> RgbImage {
    decoder.decode(bytes).unwrap().to_rgb()
}

/// Where the segment of `marker` begins, and its length with the marker.
fn segment(bytes: &[u8], marker: u8) -> Option<(usize, usize)> {
    let at = bytes.windows(2).position(|pair| pair == [0xff, marker])?;
    Some((at, 2 + usize::from(u16::from_be_bytes([bytes[at + 2], bytes[at + 3]]))))
}

/// Where the entropy-coded data begin.
fn data(bytes: &[u8]) -> usize {
    let (at, length) = segment(bytes, 0xda).unwrap();
    at + length
}

#[test]
fn a_whole_jpeg_is_decoded_as_a_file_is() {
    let mut decoder = Decoder::new();
    for (width, height) in [(1, 1), (8, 8), (17, 9), (64, 48), (301, 203), (7, 90), (512, 16), (640, 48)] {
        for channels in [1, 3] {
            let bytes = jpeg(width, height, channels);
            assert_eq!(decoded(&mut decoder, &bytes), decode_picture(&bytes).unwrap(), "{width}x{height}x{channels}");
        }
    }
    // Flat, so that a row of blocks has the least data.
    for (width, height) in [(504, 16), (512, 8), (512, 24), (640, 40), (1280, 16)] {
        for picture in [DynamicImage::new_rgb8(width, height), DynamicImage::new_luma8(width, height)] {
            let mut bytes = Vec::new();
            JpegEncoder::new_with_quality(&mut bytes, 30).encode_image(&picture).unwrap();
            assert_eq!(decoded(&mut decoder, &bytes), decode_picture(&bytes).unwrap(), "{width}x{height} flat");
        }
    }
    // With halved chroma, and turned.
    for orientation in 1..=8 {
        let bytes = fixture(&format!("orientation_{orientation}.jpg"));
        assert_eq!(decoded(&mut decoder, &bytes), decode_picture(&bytes).unwrap(), "orientation {orientation}");
    }
    let png = fixture("photo.png");
    assert_eq!(decoded(&mut decoder, &png), decode_picture(&png).unwrap());
}

#[test]
fn what_follows_the_end_makes_no_difference() {
    let bytes = jpeg(64, 48, 3);
    let padded = [&bytes[..], &[0; 4096]].concat();
    assert_eq!(decoded(&mut Decoder::new(), &padded), decode_picture(&bytes).unwrap());
}

#[test]
fn tables_that_a_camera_leaves_out_are_the_standard_ones() {
    for channels in [1, 3] {
        let whole = jpeg(64, 48, channels);
        let mut bare = whole.clone();
        while let Some((at, length)) = segment(&bare[..data(&bare)], 0xc4) {
            bare.drain(at..at + length);
        }
        assert!(bare.len() < whole.len());
        assert_eq!(decoded(&mut Decoder::new(), &bare), decode_picture(&whole).unwrap(), "{channels} channels");
        assert!(matches!(Decoder::new().decode(&bare[..bare.len() - 2]), Err(Error::DamagedJpeg { .. })));
    }
}

#[test]
fn damaged_frames_are_told_and_the_next_is_whole() {
    let whole = jpeg(160, 120, 3);
    let expected = decode_picture(&whole).unwrap();
    let mut decoder = Decoder::new();
    let told = |decoder: &mut Decoder, bytes: &[u8]| match decoder.decode(bytes) {
        Err(Error::DamagedJpeg { .. }) => true,
        Err(error) => panic!("{error}"),
        Ok(_) => false,
    };
    for length in (2..whole.len()).step_by(whole.len() / 60) {
        assert!(told(&mut decoder, &whole[..length]), "cut at {length}");
        assert!(told(&mut decoder, &[&whole[..length], &[0; 64]].concat()), "cut at {length} and filled up");
    }
    assert!(told(&mut decoder, &[0xff, 0xd8, 0xff, 0xd9]));
    assert!(told(&mut decoder, b"\xff\xd8no picture at all"));
    assert!(matches!(decoder.decode(b""), Err(Error::Picture(_))));
    assert!(matches!(decoder.decode(b"no picture at all"), Err(Error::Picture(_))));
    assert_eq!(decoded(&mut decoder, &whole), expected);
}

/// A picture of a camera's width whose data end early is told. Of other damage, what makes the codes run
/// out of data or into something impossible is told.
#[test]
fn corrupted_data_are_told_where_they_run_out() {
    let whole = jpeg(640, 48, 3);
    let start = data(&whole);
    let mut decoder = Decoder::new();
    let mut told = |damage: &dyn Fn(usize) -> Vec<u8>| {
        let places: Vec<usize> = (start..whole.len() - 80).step_by(31).collect();
        let told = places.iter().filter(|&&at| decoder.decode(&damage(at)).is_err()).count();
        told as f64 / places.len() as f64
    };
    let ended = told(&|at| [&whole[..at], &[0xff, 0xd9]].concat());
    assert!(ended == 1.0, "{ended}");
    let lost = told(&|at| [&whole[..at], &whole[at + 64..]].concat());
    eprintln!("of pictures without 64 of their bytes, {lost:.2} are told");
    assert!(lost > 0.1, "{lost}");
}

#[test]
fn an_announced_size_beyond_the_limit_is_refused() {
    let resized = |side: u16, data_bytes: usize| {
        let mut bytes = jpeg(16, 16, 3);
        let (frame, _) = segment(&bytes, 0xc0).unwrap();
        bytes[frame + 5..frame + 7].copy_from_slice(&side.to_be_bytes());
        bytes[frame + 7..frame + 9].copy_from_slice(&side.to_be_bytes());
        let data = data(&bytes);
        [&bytes[..data], &vec![0x55; data_bytes], &[0xff, 0xd9]].concat()
    };
    let refused = |bytes: Vec<u8>| Decoder::new().decode(&bytes).map(|_| ()).unwrap_err();
    assert!(matches!(refused(resized(50_000, 5 << 20)), Error::PictureTooLarge { width: 50_000, .. }));
    assert!(matches!(refused(resized(16_000, 1 << 20)), Error::PictureTooLarge { width: 16_000, .. }));
    assert!(matches!(refused(resized(50_000, 99)), Error::DamagedJpeg { .. }));
    assert!(matches!(refused(resized(9_000, 99)), Error::DamagedJpeg { .. }));
}

#[test]
fn flipped_bytes_give_a_frame_or_an_error() {
    let mut decoder = Decoder::new();
    for whole in [jpeg(64, 48, 3), jpeg(24, 40, 1), fixture("orientation_6.jpg")] {
        for at in 0..whole.len() {
            for flip in [0x01, 0x40, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] ^= flip;
                let _ = decoder.decode(&bytes).map(|frame| frame.to_rgb());
            }
        }
    }
}
