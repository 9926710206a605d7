//! Pillow's `ImageEnhance`: a picture blended with a plainer one, or moved away from it.

use image::{Rgb, RgbImage};

/// `plain + factor * (picture - plain)` (`Image.blend`): between the two the fraction is cut off, beyond them the range is
/// kept to as well.
fn blend(plain: &RgbImage, picture: &RgbImage, factor: f64) -> RgbImage {
    let factor = factor as f32;
    let mut result = picture.clone();
    for (value, &plain) in result.iter_mut().zip(plain.iter()) {
        let (from, to) = (f32::from(plain), f32::from(*value));
        // A conversion keeps to 0..255.
        *value = (from + factor * (to - from)) as u8;
    }
    result
}

/// The luma of ITU-R 601 in 16-bit fixed point, rounded (`convert("L")`).
fn luma(&Rgb([red, green, blue]): &Rgb<u8>) -> u8 {
    ((u32::from(red) * 19595 + u32::from(green) * 38470 + u32::from(blue) * 7471 + 0x8000) >> 16) as u8
}

/// More colour, or with a factor below 1 less (`ImageEnhance.Color`, torchvision's `adjust_saturation`).
pub(super) fn color(picture: &RgbImage, factor: f64) -> RgbImage {
    let mut grey = picture.clone();
    for pixel in grey.pixels_mut() {
        *pixel = Rgb([luma(pixel); 3]);
    }
    blend(&grey, picture, factor)
}

/// More contrast, or with a factor below 1 less (`ImageEnhance.Contrast`).
pub(super) fn contrast(picture: &RgbImage, factor: f64) -> RgbImage {
    let (sum, count) =
        picture.pixels().fold((0u64, 0u64), |(sum, count), pixel| (sum + u64::from(luma(pixel)), count + 1));
    let mean = (sum as f64 / count.max(1) as f64 + 0.5) as u8;
    blend(&RgbImage::from_pixel(picture.width(), picture.height(), Rgb([mean; 3])), picture, factor)
}

/// More light, or with a factor below 1 less (`ImageEnhance.Brightness`).
pub(super) fn brightness(picture: &RgbImage, factor: f64) -> RgbImage {
    blend(&RgbImage::new(picture.width(), picture.height()), picture, factor)
}

/// Sharper, or with a factor below 1 smoother (`ImageEnhance.Sharpness`).
pub(super) fn sharpness(picture: &RgbImage, factor: f64) -> RgbImage {
    blend(&smooth(picture), picture, factor)
}

/// The mean over 3x3 pixels in which the middle one counts five times (`ImageFilter.SMOOTH`); the border stays.
fn smooth(picture: &RgbImage) -> RgbImage {
    const WEIGHT: u32 = 13;
    let mut result = picture.clone();
    for y in 1..picture.height().saturating_sub(1) {
        for x in 1..picture.width().saturating_sub(1) {
            let mut sums = picture.get_pixel(x, y).0.map(|value| 4 * u32::from(value));
            for (dx, dy) in (0..9).map(|at| (at % 3, at / 3)) {
                let near = picture.get_pixel(x + dx - 1, y + dy - 1).0;
                sums.iter_mut().zip(near).for_each(|(sum, value)| *sum += u32::from(value));
            }
            result.put_pixel(x, y, Rgb(sums.map(|sum| ((2 * sum + WEIGHT) / (2 * WEIGHT)) as u8)));
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{assert_same, picture};
    use super::*;

    #[test]
    fn enhanced_pictures_are_those_of_pillow() {
        type Operator = fn(&RgbImage, f64) -> RgbImage;
        let operators: [(Operator, &str); 4] =
            [(color, "color"), (contrast, "contrast"), (brightness, "brightness"), (sharpness, "sharpness")];
        for (operator, name) in operators {
            for factor in [0.1, 0.55, 1.81] {
                assert_same(&operator(&picture(), factor), &format!("{name}_{factor}"));
            }
            assert_eq!(operator(&picture(), 1.0), picture(), "{name}");
        }
    }
}
