//! What Pillow makes of a picture, by `tools/tests/fixtures/augment.py`.

use std::path::Path;

use image::RgbImage;

/// The colour outside of a moved picture.
pub(super) const FILL: [u8; 3] = [124, 116, 104];

fn read(name: &str) -> RgbImage {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/augment");
    image::open(folder.join(format!("{name}.png"))).unwrap().into_rgb8()
}

/// What all operators were given.
pub(super) fn picture() -> RgbImage {
    read("picture")
}

/// Checks every byte.
pub(super) fn assert_same(got: &RgbImage, name: &str) {
    let expected = read(name);
    assert_eq!(got.dimensions(), expected.dimensions(), "{name}");
    let wrong = got.iter().zip(expected.iter()).filter(|(got, expected)| got != expected).count();
    let worst = got.iter().zip(expected.iter()).map(|(got, expected)| got.abs_diff(*expected)).max();
    assert_eq!(wrong, 0, "{name}: {wrong} of {} bytes differ, by up to {worst:?}", expected.len());
}
