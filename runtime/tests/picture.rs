//! Pictures as cameras and telephones store them.

mod common;

use edge_vit::{Error, decode_picture, open_picture};

use common::fixture;

/// How far JPEG at quality 95 moves a channel in the middle of a flat quarter, in 1/255.
const JPEG_TOLERANCE: u8 = 24;

#[test]
fn every_exif_orientation_comes_out_upright() {
    let quarters = [((6, 3), [255, 0, 0]), ((26, 3), [0, 255, 0]), ((6, 12), [0, 0, 255]), ((26, 12), [255; 3])];
    for orientation in 1..=8 {
        let picture = open_picture(fixture(&format!("orientation_{orientation}.jpg"))).unwrap();
        assert_eq!(picture.dimensions(), (32, 16), "orientation {orientation}");
        for ((x, y), expected) in quarters {
            let got = picture.get_pixel(x, y).0;
            let near = got.iter().zip(expected).all(|(&g, e)| g.abs_diff(e) <= JPEG_TOLERANCE);
            assert!(near, "orientation {orientation} at {x},{y}: {got:?} is not {expected:?}");
        }
    }
}

#[test]
fn a_picture_that_is_not_there_is_named() {
    let error = open_picture(fixture("absent.jpg")).unwrap_err();
    assert!(matches!(error, Error::ReadFile { .. }) && error.to_string().contains("absent.jpg"), "{error}");
}

#[test]
fn damaged_bytes_give_a_picture_or_an_error() {
    for name in ["photo.png", "orientation_6.jpg"] {
        let whole = std::fs::read(fixture(name)).unwrap();
        for at in (0..whole.len()).step_by(whole.len() / 150 + 1) {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x55;
            let _ = decode_picture(&damaged);
            let _ = decode_picture(&whole[..at]);
        }
        assert!(decode_picture(&whole).is_ok());
    }
}

/// How far a decoder's colour may be from Pillow's, in 1/255: of JPEG's quarters and of inks, which each program turns into
/// colours by rounding of its own.
#[cfg(feature = "formats")]
const PEER_TOLERANCE: u8 = 4;

#[cfg(feature = "formats")]
#[test]
fn every_kind_of_pixel_comes_out_as_pillow_reads_it() {
    let text = std::fs::read_to_string(fixture("formats/expected.json")).unwrap();
    let expected: std::collections::BTreeMap<String, [[u8; 3]; 4]> = serde_json::from_str(&text).unwrap();
    assert_eq!(expected.len(), 19);
    let mut wrong = Vec::new();
    for (name, quarters) in expected {
        match open_picture(fixture(&format!("formats/{name}"))) {
            Err(error) => wrong.push(format!("{name}: {error}")),
            Ok(picture) if picture.dimensions() != (16, 8) => wrong.push(format!("{name}: {:?}", picture.dimensions())),
            Ok(picture) => {
                let got = [(4, 2), (12, 2), (4, 6), (12, 6)].map(|(x, y)| picture.get_pixel(x, y).0);
                let near = got.as_flattened().iter().zip(quarters.as_flattened());
                if near.into_iter().any(|(a, b)| a.abs_diff(*b) > PEER_TOLERANCE) {
                    wrong.push(format!("{name}: {got:?} is not {quarters:?}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
