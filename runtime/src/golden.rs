//! Pictures whose logits are known, so that a device can prove what it computes.

use std::io::Cursor;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::{ImageFormat, RgbImage};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::picture::decode_picture;
use crate::resize::{Filter, resize};
use crate::{Error, Preprocessing, filmstrip};

/// The longest side of a picture that [`GoldenCase::small`] gives, in pixels.
const SMALL_SIDE: u32 = 128;

/// A picture, the hash of what preprocessing makes of it, and the logits that the desktop computed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoldenCase {
    /// The picture as PNG, in base64.
    picture: String,
    /// SHA-256 (hex) of the preprocessed tensor's float32 values, little endian.
    tensor_sha256: String,
    /// The model's outputs on it, before any activation.
    logits: Vec<f32>,
}

impl GoldenCase {
    /// The case of `picture` or filmstrip (8-bit RGB, kept without loss: give a [`small`](Self::small) one) under `preprocessing`,
    /// with the `logits` that the model gives for it.
    ///
    /// # Errors
    /// [`Error::InvalidGoldenCase`] if there is no logit or one is not finite, [`Error::EmptyPicture`] if the picture
    /// has no pixels, [`Error::EncodePicture`] if it cannot be encoded.
    pub fn new(picture: &RgbImage, preprocessing: &Preprocessing, logits: Vec<f32>) -> Result<Self, Error> {
        let (width, height) = picture.dimensions();
        if width == 0 || height == 0 {
            return Err(Error::EmptyPicture { width, height });
        }
        check_logits(&logits)?;
        let mut png = Vec::new();
        picture.write_to(&mut Cursor::new(&mut png), ImageFormat::Png).map_err(Error::EncodePicture)?;
        let tensor_sha256 = tensor_sha256(&preprocessing.apply(picture));
        Ok(Self { picture: STANDARD.encode(png), tensor_sha256, logits })
    }

    /// `picture`, or every frame of a filmstrip of so many `frames`, reduced, aspect kept, until its longest side is at most 128 pixels: what
    /// fits a model file.
    pub fn small(picture: &RgbImage, frames: usize) -> RgbImage {
        match frames {
            1 => Self::reduced(picture),
            _ => filmstrip::join(filmstrip::split(picture, frames).map(|frame| Self::reduced(&frame))),
        }
    }

    fn reduced(picture: &RgbImage) -> RgbImage {
        let (width, height) = picture.dimensions();
        let longest = width.max(height);
        if longest <= SMALL_SIDE {
            return picture.clone();
        }
        let side = |side: u32| (u64::from(side) * u64::from(SMALL_SIDE) / u64::from(longest)).max(1) as u32;
        resize(picture, side(height), side(width), Filter::Bicubic)
    }

    /// The picture, decoded.
    ///
    /// # Errors
    /// [`Error::InvalidGoldenCase`] if it is not base64, [`Error::Picture`] if that is no picture.
    pub fn picture(&self) -> Result<RgbImage, Error> {
        let bytes = STANDARD
            .decode(&self.picture)
            .map_err(|error| Error::InvalidGoldenCase { reason: format!("its picture is not base64: {error}") })?;
        decode_picture(&bytes)
    }

    /// SHA-256 (hex) of the preprocessed tensor's float32 values, little endian.
    pub fn tensor_sha256(&self) -> &str {
        &self.tensor_sha256
    }

    /// The logits that the desktop computed, one a label.
    pub fn logits(&self) -> &[f32] {
        &self.logits
    }

    /// Says whether the case belongs to a model with `outputs` outputs.
    pub(crate) fn check(&self, outputs: usize) -> Result<(), Error> {
        if self.logits.len() != outputs {
            let reason = format!("it has {} logits for {outputs} outputs", self.logits.len());
            return Err(Error::InvalidGoldenCase { reason });
        }
        check_logits(&self.logits)
    }
}

fn check_logits(logits: &[f32]) -> Result<(), Error> {
    let reason = match logits.iter().find(|logit| !logit.is_finite()) {
        Some(logit) => format!("one of its logits is {logit}"),
        None if logits.is_empty() => "it has no logits".to_owned(),
        None => return Ok(()),
    };
    Err(Error::InvalidGoldenCase { reason })
}

/// SHA-256 (hex) of `values` as float32, little endian.
pub(crate) fn tensor_sha256(values: &[f32]) -> String {
    let mut hasher = Sha256::new();
    values.iter().for_each(|value| hasher.update(value.to_le_bytes()));
    hex(&hasher.finalize())
}

/// Bytes in lower-case hexadecimal, as checksums are written.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use image::Rgb;

    use super::*;

    #[test]
    fn a_case_keeps_its_picture_and_its_hash() {
        let picture = RgbImage::from_fn(20, 10, |x, y| Rgb([(x * 12) as u8, (y * 25) as u8, 7]));
        let preprocessing = Preprocessing::imagenet([4, 4]);
        let case = GoldenCase::new(&picture, &preprocessing, vec![0.1, -3.25e-7]).unwrap();
        let read: GoldenCase = serde_json::from_str(&serde_json::to_string(&case).unwrap()).unwrap();
        assert_eq!(read, case);
        assert_eq!(read.picture().unwrap(), picture);
        assert_eq!(read.tensor_sha256(), tensor_sha256(&preprocessing.apply(&picture)));
        read.check(2).unwrap();
        assert!(read.check(3).unwrap_err().to_string().contains("2 logits for 3 outputs"));
    }

    #[test]
    fn the_hash_is_of_little_endian_float32() {
        // printf '\000\000\200\077' | sha256sum
        let one = "e00e5eb9444182f352323374ef4e08ebcb784725fdd4fd612d7730540b3e0c8c";
        assert_eq!(tensor_sha256(&[1.0]), one);
    }

    #[test]
    fn small_keeps_the_aspect_and_small_pictures() {
        assert_eq!(GoldenCase::small(&RgbImage::new(512, 256), 1).dimensions(), (128, 64));
        assert_eq!(GoldenCase::small(&RgbImage::new(3, 9000), 1).dimensions(), (1, 128));
        assert_eq!(GoldenCase::small(&RgbImage::new(100, 50), 1).dimensions(), (100, 50));
        assert_eq!(GoldenCase::small(&RgbImage::new(512, 4 * 256), 4).dimensions(), (128, 4 * 64));
    }

    #[test]
    fn logits_that_are_no_numbers_are_refused() {
        let picture = RgbImage::new(1, 1);
        for logits in [vec![], vec![f32::NAN], vec![0.0, f32::INFINITY]] {
            let error = GoldenCase::new(&picture, &Preprocessing::imagenet([1, 1]), logits).unwrap_err();
            assert!(matches!(error, Error::InvalidGoldenCase { .. }), "{error}");
        }
    }
}
