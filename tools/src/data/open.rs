//! A file of a data set becomes a picture.

use std::path::Path;

use image::RgbImage;

use super::films::{is_film, reason};

/// Opens the picture at `path` as the device does. A film that stands where a picture is expected is one of which no frame could
/// be taken.
///
/// # Errors
/// Why it cannot be read.
pub fn open_picture(path: &Path) -> Result<RgbImage, String> {
    match is_film(path) {
        true => Err(reason(path)),
        false => edge_vit::open_picture(path).map_err(|error| error.to_string()),
    }
}
