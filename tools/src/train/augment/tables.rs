//! Operators that look each value up in a table: those of Pillow's `ImageOps` and timm's `solarize_add`.

use image::RgbImage;

type Table = [u8; 256];

/// How often each value occurs in a channel.
fn histogram(picture: &RgbImage, channel: usize) -> [usize; 256] {
    let mut counts = [0; 256];
    for &value in picture.as_raw().iter().skip(channel).step_by(3) {
        counts[usize::from(value)] += 1;
    }
    counts
}

/// Every channel looked up in the table of its own.
fn looked_up(picture: &RgbImage, table: impl Fn(usize) -> Table) -> RgbImage {
    let tables: [Table; 3] = std::array::from_fn(table);
    let mut result = picture.clone();
    for pixel in result.pixels_mut() {
        for (value, table) in pixel.0.iter_mut().zip(&tables) {
            *value = table[usize::from(*value)];
        }
    }
    result
}

fn everywhere(picture: &RgbImage, value: impl Fn(u8) -> u8) -> RgbImage {
    let table = std::array::from_fn(|at| value(at as u8));
    looked_up(picture, |_| table)
}

const IDENTITY: fn() -> Table = || std::array::from_fn(|value| value as u8);

/// Each channel stretched to 0..255 (`ImageOps.autocontrast`).
pub(super) fn auto_contrast(picture: &RgbImage) -> RgbImage {
    looked_up(picture, |channel| {
        let counts = histogram(picture, channel);
        let low = counts.iter().position(|&count| count > 0).unwrap_or(0);
        let high = counts.iter().rposition(|&count| count > 0).unwrap_or(0);
        if high <= low {
            return IDENTITY();
        }
        let scale = 255.0 / (high - low) as f64;
        let offset = -(low as f64) * scale;
        // A conversion truncates towards zero, as Python's `int` does, and keeps to 0..255.
        std::array::from_fn(|value| (value as f64 * scale + offset) as u8)
    })
}

/// Each channel with all values about equally often (`ImageOps.equalize`).
pub(super) fn equalize(picture: &RgbImage) -> RgbImage {
    looked_up(picture, |channel| {
        let counts = histogram(picture, channel);
        let last = counts.iter().rev().find(|&&count| count > 0).copied().unwrap_or(0);
        let step = (counts.iter().sum::<usize>() - last) / 255;
        if step == 0 {
            return IDENTITY();
        }
        let mut below = step / 2;
        std::array::from_fn(|value| {
            let level = (below / step).min(255) as u8;
            below += counts[value];
            level
        })
    })
}

/// The negative (`ImageOps.invert`).
pub(super) fn invert(picture: &RgbImage) -> RgbImage {
    everywhere(picture, |value| 255 - value)
}

/// The `bits` most significant bits of each value, 0 to 8 (`ImageOps.posterize`).
pub(super) fn posterize(picture: &RgbImage, bits: u32) -> RgbImage {
    let mask = !(0xffu32 >> bits.min(8)) as u8;
    everywhere(picture, |value| value & mask)
}

/// The negative of all values from `threshold` on (`ImageOps.solarize`).
pub(super) fn solarize(picture: &RgbImage, threshold: u32) -> RgbImage {
    everywhere(picture, |value| if u32::from(value) < threshold { value } else { 255 - value })
}

/// `add` more on all values below 128 (timm's `solarize_add`).
pub(super) fn solarize_add(picture: &RgbImage, add: u8) -> RgbImage {
    everywhere(picture, |value| if value < 128 { value.saturating_add(add) } else { value })
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{assert_same, picture};
    use super::*;

    #[test]
    fn tables_are_those_of_pillow() {
        let picture = picture();
        assert_same(&auto_contrast(&picture), "auto_contrast");
        assert_same(&equalize(&picture), "equalize");
        assert_same(&invert(&picture), "invert");
        assert_same(&posterize(&picture, 1), "posterize_1");
        assert_same(&posterize(&picture, 3), "posterize_3");
        assert_same(&solarize(&picture, 26), "solarize_26");
        assert_same(&solarize(&picture, 128), "solarize_128");
        assert_same(&solarize_add(&picture, 99), "solarize_add_99");
    }

    #[test]
    fn a_picture_of_one_colour_has_nothing_to_stretch() {
        let plain = RgbImage::from_pixel(4, 3, image::Rgb([7, 0, 255]));
        assert_eq!(auto_contrast(&plain), plain);
        assert_eq!(equalize(&plain), plain);
        assert_eq!(posterize(&plain, 8), plain);
        assert_eq!(posterize(&plain, 0), RgbImage::new(4, 3));
        assert_eq!(solarize(&plain, 256), plain);
    }
}
