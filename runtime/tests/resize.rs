//! Resampling against Pillow's own results (`fixtures/generate.py`): equal, not near.

#![allow(clippy::unwrap_used)] // A helper of a test may fail as a test does.

mod common;

use edge_vit::resize::{Filter, resize};
use edge_vit::{Preprocessing, ResizeMode, open_picture};
use image::RgbImage;

fn fixture(name: &str) -> RgbImage {
    open_picture(common::fixture(name)).unwrap()
}

/// The largest difference of a channel, in 1/255.
fn difference(a: &RgbImage, b: &RgbImage) -> u8 {
    assert_eq!(a.dimensions(), b.dimensions());
    a.as_raw().iter().zip(b.as_raw()).map(|(a, b)| a.abs_diff(*b)).max().unwrap()
}

#[test]
fn reductions_and_enlargements_are_pillows() {
    let photo = fixture("photo.png");
    for (name, height, width, filter) in [
        ("photo_bicubic_28x28.png", 28, 28, Filter::Bicubic),
        ("photo_bicubic_112x112.png", 112, 112, Filter::Bicubic),
        ("photo_bicubic_150x40.png", 150, 40, Filter::Bicubic),
        ("photo_bicubic_20x90.png", 20, 90, Filter::Bicubic),
        ("photo_bilinear_30x120.png", 30, 120, Filter::Bilinear),
    ] {
        assert_eq!(difference(&resize(&photo, height, width, filter), &fixture(name)), 0, "{name}");
    }
}

#[test]
fn preprocessing_squashes_as_pillow_resizes() {
    let resized = Preprocessing::imagenet([150, 40]).resize(&fixture("photo.png"));
    assert_eq!(difference(&resized, &fixture("photo_bicubic_150x40.png")), 0);
}

#[test]
fn shortest_side_and_centre_cut_are_torchvisions_on_pillow() {
    let mut preprocessing = Preprocessing::imagenet([28, 32]);
    preprocessing.resize = ResizeMode::ShortestSide { size: 32 };
    let cut = preprocessing.resize(&fixture("photo.png"));
    assert_eq!(difference(&cut, &fixture("photo_shortest_32_cut_28x32.png")), 0);
}
