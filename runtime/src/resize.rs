//! Resampling as Pillow does it, to the bit.
//!
//! The method is that of `src/libImaging/Resample.c` in Pillow for 8-bit channels: separable convolution whose
//! support grows with the reduction (antialias), coefficients in 22-bit fixed point, each of the two passes rounded to
//! 8 bits. The order of the passes, which that rounding makes visible, is the one of Pillow 13. Training and device
//! share this code, so that what a device sees is what the model was trained on.

use std::ops::Range;

use image::RgbImage;
use serde::{Deserialize, Serialize};

/// Fractional bits of a coefficient: a sum of products of 8-bit values and coefficients fits 32 bits.
const PRECISION_BITS: u32 = 32 - 8 - 2;
/// Channels of a pixel.
const CHANNELS: usize = 3;

/// The kernel by which a picture is resampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Filter {
    /// Triangle over one pixel to each side.
    Bilinear,
    /// Keys' cubic with a = -0.5 over two pixels to each side.
    Bicubic,
}

impl Filter {
    /// How far the kernel reaches to each side, in pixels of the smaller of the two grids.
    fn support(self) -> f64 {
        match self {
            Self::Bilinear => 1.0,
            Self::Bicubic => 2.0,
        }
    }

    /// The kernel at distance `x`.
    fn weight(self, x: f64) -> f64 {
        const A: f64 = -0.5;
        let x = x.abs();
        match self {
            Self::Bilinear if x < 1.0 => 1.0 - x,
            Self::Bicubic if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
            Self::Bicubic if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
            _ => 0.0,
        }
    }
}

/// One output position along an axis: the first input it reads, and a coefficient for each input from there.
struct Taps {
    start: usize,
    coefficients: Vec<i32>,
}

/// The taps of the positions `window` of an axis that is resampled from `input` to `output` pixels
/// (`precompute_coeffs` and `normalize_coeffs_8bpc`).
fn taps(input: usize, output: usize, window: Range<usize>, filter: Filter) -> Vec<Taps> {
    let scale = input as f64 / output as f64;
    // Reduction widens the kernel, which is the antialias; enlargement interpolates.
    let filter_scale = scale.max(1.0);
    let support = filter.support() * filter_scale;
    let step = 1.0 / filter_scale;
    window
        .map(|position| {
            let center = (position as f64 + 0.5) * scale;
            // The casts truncate and saturate at 0, as the C casts followed by a comparison do.
            let start = (center - support + 0.5) as usize;
            let end = ((center + support + 0.5) as usize).min(input);
            let weights: Vec<f64> = (start..end).map(|i| filter.weight((i as f64 - center + 0.5) * step)).collect();
            let sum: f64 = weights.iter().sum();
            let fixed = |weight: &f64| {
                let scaled = weight / sum * f64::from(1u32 << PRECISION_BITS);
                (if scaled < 0.0 { scaled - 0.5 } else { scaled + 0.5 }) as i32
            };
            Taps { start, coefficients: weights.iter().map(fixed).collect() }
        })
        .collect()
}

/// One half in fixed point: a sum that starts here is rounded by [`clip`].
const HALF: i32 = 1 << (PRECISION_BITS - 1);

/// The 8-bit value of a fixed-point sum that started at [`HALF`].
fn clip(sum: i32) -> u8 {
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
}

/// Whether the columns are resampled before the rows: where the height loses more than twice the pixels that the width
/// loses (`ImagingResampleInner`). Sizes are (height, width).
fn columns_first(from: [u32; 2], to: [u32; 2]) -> bool {
    let [height, width] = [0, 1].map(|axis| i64::from(from[axis]) - i64::from(to[axis]));
    height > 0 && height > 2 * width
}

/// Resamples rows of `width` RGB pixels, each to one pixel a tap.
fn rows(pixels: &[u8], width: usize, taps: &[Taps]) -> Vec<u8> {
    let stride = width * CHANNELS;
    let mut resampled = Vec::with_capacity(pixels.len() / stride * taps.len() * CHANNELS);
    for row in pixels.chunks_exact(stride) {
        for tap in taps {
            let mut sums = [HALF; CHANNELS];
            let reached = row[tap.start * CHANNELS..].chunks_exact(CHANNELS);
            for (pixel, &coefficient) in reached.zip(&tap.coefficients) {
                for (sum, &value) in sums.iter_mut().zip(pixel) {
                    *sum += i32::from(value) * coefficient;
                }
            }
            resampled.extend(sums.map(clip));
        }
    }
    resampled
}

/// Resamples the columns of rows of `stride` bytes into `resampled`, one row a tap.
fn columns(pixels: &[u8], stride: usize, taps: &[Taps], resampled: &mut [u8]) {
    let mut sums = vec![HALF; stride];
    for (tap, to) in taps.iter().zip(resampled.chunks_exact_mut(stride)) {
        sums.fill(HALF);
        for (row, &coefficient) in pixels[tap.start * stride..].chunks_exact(stride).zip(&tap.coefficients) {
            for (sum, &value) in sums.iter_mut().zip(row) {
                *sum += i32::from(value) * coefficient;
            }
        }
        to.iter_mut().zip(&sums).for_each(|(to, &sum)| *to = clip(sum));
    }
}

/// Resamples `picture` to `height` rows of `width` pixels, as Pillow's `Image.resize((width, height), filter)`.
///
/// A picture with no pixels gives black, there being nothing to sample.
pub fn resize(picture: &RgbImage, height: u32, width: u32, filter: Filter) -> RgbImage {
    resize_window(picture, [height, width], [0, 0], [height, width], filter)
}

/// The window of `size` (height, width) at `origin` (top, left) of what [`resize`] makes of `picture` at `full`
/// (height, width). Only the window is computed; what of it lies beyond `full` is black.
pub fn resize_window(picture: &RgbImage, full: [u32; 2], origin: [u32; 2], size: [u32; 2], filter: Filter) -> RgbImage {
    let mut resized = RgbImage::new(size[1], size[0]);
    let (width, height) = picture.dimensions();
    if width == 0 || height == 0 || size.contains(&0) {
        return resized;
    }
    let window = |axis: usize| {
        let [full, origin, size] = [full[axis], origin[axis], size[axis]].map(|length| length as usize);
        origin.min(full)..origin.saturating_add(size).min(full)
    };
    let down = taps(height as usize, full[0] as usize, window(0), filter);
    let across = taps(width as usize, full[1] as usize, window(1), filter);
    if across.len() < size[1] as usize {
        return resized;
    }
    if columns_first([height, width], full) {
        let in_stride = width as usize * CHANNELS;
        let mut fewer = vec![0; down.len() * in_stride];
        columns(picture.as_raw(), in_stride, &down, &mut fewer);
        resized.iter_mut().zip(rows(&fewer, width as usize, &across)).for_each(|(to, value)| *to = value);
    } else {
        columns(&rows(picture.as_raw(), width as usize, &across), size[1] as usize * CHANNELS, &down, &mut resized);
    }
    resized
}

#[cfg(test)]
mod tests {
    use image::Rgb;
    use image::imageops::crop_imm;

    use super::*;

    #[test]
    fn coefficients_sum_to_one_within_their_rounding() {
        for (input, output) in [(7, 3), (3, 7), (1, 5), (640, 112), (100, 99)] {
            for filter in [Filter::Bilinear, Filter::Bicubic] {
                for tap in taps(input, output, 0..output, filter) {
                    let sum: i64 = tap.coefficients.iter().map(|&c| i64::from(c)).sum();
                    let off = (sum - (1 << PRECISION_BITS)).unsigned_abs() as usize;
                    assert!(off <= tap.coefficients.len(), "{input} to {output}: off by {off}");
                    assert!(tap.start + tap.coefficients.len() <= input);
                }
            }
        }
    }

    #[test]
    fn a_flat_picture_stays_flat_and_the_same_size_is_the_same_picture() {
        let flat = RgbImage::from_pixel(13, 9, Rgb([0, 128, 255]));
        for (height, width) in [(30, 4), (2, 50), (9, 1), (1, 13)] {
            let resized = resize(&flat, height, width, Filter::Bicubic);
            assert_eq!(resized.dimensions(), (width, height));
            assert!(resized.pixels().all(|p| p.0 == [0, 128, 255]), "{height}x{width}");
        }
        let mut picture = flat;
        picture.put_pixel(3, 4, Rgb([1, 2, 3]));
        assert_eq!(resize(&picture, 9, 13, Filter::Bicubic), picture);
        assert_eq!(resize(&RgbImage::new(0, 3), 2, 2, Filter::Bicubic), RgbImage::new(2, 2));
    }

    #[test]
    fn a_window_is_that_part_of_the_whole() {
        let mut picture = RgbImage::new(23, 17);
        picture.enumerate_pixels_mut().for_each(|(x, y, p)| *p = Rgb([(x * 11) as u8, (y * 15) as u8, (x * y) as u8]));
        let whole = resize(&picture, 31, 9, Filter::Bicubic);
        let window = resize_window(&picture, [31, 9], [20, 2], [10, 5], Filter::Bicubic);
        assert_eq!(window, crop_imm(&whole, 2, 20, 5, 10).to_image());
        let whole = resize(&picture, 9, 22, Filter::Bicubic);
        assert!(columns_first([17, 23], [9, 22]) && !columns_first([17, 23], [31, 9]));
        let window = resize_window(&picture, [9, 22], [3, 2], [4, 5], Filter::Bicubic);
        assert_eq!(window, crop_imm(&whole, 2, 3, 5, 4).to_image());
    }

    #[test]
    fn overshoot_of_the_cubic_is_clipped() {
        let mut edge = RgbImage::new(8, 1);
        (4..8).for_each(|x| edge.put_pixel(x, 0, Rgb([255; 3])));
        let resized = resize(&edge, 1, 32, Filter::Bicubic);
        assert_eq!(resized.get_pixel(11, 0).0, [0; 3]);
        assert_eq!(resized.get_pixel(20, 0).0, [255; 3]);
    }
}
