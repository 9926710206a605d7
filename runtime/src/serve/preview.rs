//! A small JPEG of a frame, for the live view.

use image::ExtendedColorType;
use image::codecs::jpeg::JpegEncoder;

use crate::frame::Frame;

/// The longest side of a preview, in pixels.
const LONGEST: u32 = 640;
/// The JPEG's quality: enough for eyes, and for the network of a small board.
const QUALITY: u8 = 75;

/// A JPEG of `frame` with no side longer than 640 pixels: boxes of pixels become their mean. Empty if the frame is.
pub fn preview(frame: &Frame<'_>) -> Vec<u8> {
    let mut jpeg = Vec::new();
    if frame.width() == 0 || frame.height() == 0 {
        return jpeg;
    }
    let step = frame.width().max(frame.height()).div_ceil(LONGEST);
    let (width, height) = (frame.width().div_ceil(step), frame.height().div_ceil(step));
    let mut row = vec![0; frame.width() as usize * 3];
    let mut pixels = Vec::with_capacity((width * height) as usize * 3);
    if step == 1 {
        for y in 0..height {
            frame.row(y, &mut row);
            pixels.extend_from_slice(&row);
        }
    } else {
        let mut sums = vec![[0u32; 3]; width as usize];
        for y in 0..height {
            let rows = y * step..(y * step + step).min(frame.height());
            let count = rows.len();
            sums.fill([0; 3]);
            for y in rows {
                frame.row(y, &mut row);
                for (sum, pixels) in sums.iter_mut().zip(row.chunks(step as usize * 3)) {
                    for pixel in pixels.chunks_exact(3) {
                        sum.iter_mut().zip(pixel).for_each(|(sum, &value)| *sum += u32::from(value));
                    }
                }
            }
            // The last box of a row may be narrower, as those of the last row may be lower.
            for (sum, boxed) in sums.iter().zip(row.chunks(step as usize * 3)) {
                let area = (count * boxed.len() / 3) as u32;
                pixels.extend(sum.map(|sum| ((sum + area / 2) / area) as u8));
            }
        }
    }
    let encoded =
        JpegEncoder::new_with_quality(&mut jpeg, QUALITY).encode(&pixels, width, height, ExtendedColorType::Rgb8);
    if let Err(error) = encoded {
        // The sides are small and not 0, and memory takes all that is written.
        log::error!("a preview could not be made: {error}");
        jpeg.clear();
    }
    jpeg
}

#[cfg(test)]
mod tests {
    use image::{Rgb, RgbImage};

    use super::*;
    use crate::decode_picture;

    #[test]
    fn a_large_frame_shrinks_to_the_means_of_its_boxes() {
        // Columns of black and white: every mean is grey, but for the colour of the lower half's blue.
        let picture =
            RgbImage::from_fn(1280, 720, |x, y| Rgb([255 * (x % 2) as u8, 128, if y < 360 { 0 } else { 200 }]));
        let small = decode_picture(&preview(&Frame::from(&picture))).unwrap();
        assert_eq!(small.dimensions(), (640, 360));
        for (x, y, blue) in [(10, 10, 0), (630, 170, 0), (10, 190, 200), (630, 350, 200)] {
            let [r, g, b] = small.get_pixel(x, y).0;
            assert!(r.abs_diff(128) < 6 && g.abs_diff(128) < 6 && b.abs_diff(blue) < 6, "{x},{y}: {r} {g} {b}");
        }
    }

    #[test]
    fn no_frame_is_too_thin_or_too_empty() {
        for (sides, expected) in
            [((640, 480), (640, 480)), ((641, 3), (321, 2)), ((1, 2000), (1, 500)), ((1, 1), (1, 1))]
        {
            let picture = RgbImage::from_pixel(sides.0, sides.1, Rgb([90, 90, 90]));
            let small = decode_picture(&preview(&Frame::from(&picture))).unwrap();
            assert_eq!(small.dimensions(), expected, "{sides:?}");
            assert!(small.pixels().all(|pixel| pixel.0.iter().all(|value| value.abs_diff(90) < 3)), "{sides:?}");
        }
        assert!(preview(&Frame::from(&RgbImage::new(0, 0))).is_empty());
    }
}
