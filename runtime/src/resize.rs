//! Resampling as Pillow does it, to the bit.
//!
//! The method is that of `src/libImaging/Resample.c` in Pillow for 8-bit channels: separable convolution whose
//! support grows with the reduction (antialias), coefficients in 22-bit fixed point, each of the two passes rounded to
//! 8 bits. The order of the passes, which that rounding makes visible, is the one of Pillow 13. Training and device
//! share this code, so that what a device sees is what the model was trained on.
//!
//! A `Resizer` reads a frame row by row, converts each row that it needs once, keeps the few rows that the next output
//! row needs, and keeps all of its memory for the next frame. Rows lie as planes of one channel each: along a plane both
//! passes are runs of products that the compiler makes vector instructions of.

use std::ops::Range;

use image::RgbImage;
use serde::{Deserialize, Serialize};

use crate::frame::Frame;

/// Fractional bits of a coefficient: a sum of products of 8-bit values and coefficients fits 32 bits.
const PRECISION_BITS: u32 = 32 - 8 - 2;
/// Values that are multiplied at a time along a row: the taps of a position are filled up to multiples of it with zeros.
const LANES: usize = 8;
/// Columns that are summed at a time: the planes of a row are filled up to multiples of it.
const COLUMNS: usize = 16;

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

/// What each output position along an axis reads, and the coefficients of it.
#[derive(Debug, Default)]
struct Taps {
    /// Of each position, the inputs with a coefficient that counts.
    inputs: Vec<Range<usize>>,
    /// Coefficients kept for a position: those of its inputs, then zeros.
    reach: usize,
    coefficients: Vec<i32>,
}

impl Taps {
    /// Those of the positions `window` of an axis that is resampled from `input` to `output` pixels
    /// (`precompute_coeffs` and `normalize_coeffs_8bpc`).
    fn set(&mut self, input: usize, output: usize, window: Range<usize>, filter: Filter) {
        let scale = input as f64 / output as f64;
        // Reduction widens the kernel, which is the antialias; enlargement interpolates.
        let filter_scale = scale.max(1.0);
        let support = filter.support() * filter_scale;
        let step = 1.0 / filter_scale;
        let center = |position: usize| (position as f64 + 0.5) * scale;
        self.inputs.clear();
        self.inputs.extend(window.clone().map(|position| {
            // The casts truncate and saturate at 0, as the C casts followed by a comparison do.
            let start = (center(position) - support + 0.5) as usize;
            start..((center(position) + support + 0.5) as usize).min(input)
        }));
        self.reach = self.inputs.iter().map(Range::len).max().unwrap_or(0).next_multiple_of(LANES);
        self.coefficients.clear();
        self.coefficients.resize(self.inputs.len() * self.reach, 0);
        for (index, (inputs, position)) in self.inputs.iter().zip(window).enumerate() {
            let weight = |input: usize| filter.weight((input as f64 - center(position) + 0.5) * step);
            let sum: f64 = inputs.clone().map(weight).sum();
            for (at, input) in (index * self.reach..).zip(inputs.clone()) {
                let scaled = weight(input) / sum * f64::from(1u32 << PRECISION_BITS);
                self.coefficients[at] = (if scaled < 0.0 { scaled - 0.5 } else { scaled + 0.5 }) as i32;
            }
        }
    }

    /// How many positions there are.
    fn len(&self) -> usize {
        self.inputs.len()
    }

    /// The coefficients of the position with this index, from its first input on, filled up to [`Self::reach`].
    fn coefficients(&self, index: usize) -> &[i32] {
        &self.coefficients[index * self.reach..][..self.reach]
    }

    /// The most inputs that a position reads.
    fn most(&self) -> usize {
        self.inputs.iter().map(Range::len).max().unwrap_or(0)
    }
}

/// One half in fixed point: what makes a shift round to nearest.
const HALF: i32 = 1 << (PRECISION_BITS - 1);

/// The 8-bit value of a sum of products.
#[inline(always)]
fn clip(sum: i32) -> u8 {
    ((sum + HALF) >> PRECISION_BITS).clamp(0, 255) as u8
}

/// Whether the columns are resampled before the rows: where the height loses more than twice the pixels that the width
/// loses (`ImagingResampleInner`). Sizes are (height, width).
fn columns_first(from: [u32; 2], to: [u32; 2]) -> bool {
    let [height, width] = [0, 1].map(|axis| i64::from(from[axis]) - i64::from(to[axis]));
    height > 0 && height > 2 * width
}

/// Resamples a row, one plane of one channel, to one value a position. The row is followed by [`Taps::reach`] bytes
/// that do not matter.
fn across(row: &[u8], taps: &Taps, resampled: &mut [u8]) {
    for (index, (to, inputs)) in resampled.iter_mut().zip(&taps.inputs).enumerate() {
        let mut sums = [0; LANES];
        let coefficients = taps.coefficients(index).as_chunks::<LANES>().0;
        for (values, coefficients) in row[inputs.start..].as_chunks::<LANES>().0.iter().zip(coefficients) {
            for ((sum, &value), &coefficient) in sums.iter_mut().zip(values).zip(coefficients) {
                *sum += i32::from(value) * coefficient;
            }
        }
        *to = clip(sums.iter().sum());
    }
}

/// One row of the rows that a position reads down the columns. Row `y` is the one at `y % slots` of those in `rows`,
/// each as long as `resampled`, a multiple of [`COLUMNS`].
fn down(rows: &[u8], slots: usize, inputs: Range<usize>, coefficients: &[i32], resampled: &mut [u8]) {
    let stride = resampled.len();
    for (block, to) in resampled.as_chunks_mut::<COLUMNS>().0.iter_mut().enumerate() {
        let mut sums = [0; COLUMNS];
        let mut slot = inputs.start % slots;
        for &coefficient in &coefficients[..inputs.len()] {
            let from = slot * stride + block * COLUMNS;
            let Some(values) = rows[from..].first_chunk::<COLUMNS>() else { break };
            for (sum, &value) in sums.iter_mut().zip(values) {
                *sum += i32::from(value) * coefficient;
            }
            slot = if slot + 1 == slots { 0 } else { slot + 1 };
        }
        *to = sums.map(clip);
    }
}

/// What is made of a frame: the window of `size` at `origin` of the frame resampled to `full`; (height, width) each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) full: [u32; 2],
    pub(crate) origin: [u32; 2],
    pub(crate) size: [u32; 2],
    pub(crate) filter: Filter,
}

impl Target {
    /// The positions of the window along an axis, those beyond `full` left out.
    fn window(&self, axis: usize) -> Range<usize> {
        let [full, origin, size] = [self.full, self.origin, self.size].map(|lengths| lengths[axis] as usize);
        origin.min(full)..origin.saturating_add(size).min(full)
    }
}

/// The coefficients and the memory of a resize, kept from frame to frame.
#[derive(Debug, Default)]
pub(crate) struct Resizer {
    /// The frame's (height, width), and the target, that the coefficients are for.
    made_for: Option<([u32; 2], Target)>,
    vertical: Taps,
    horizontal: Taps,
    /// The rows that one output row reads: as wide as the frame if the columns are resampled first, else as the target.
    rows: Vec<u8>,
    /// One row as wide as the frame.
    wide: Vec<u8>,
    /// One row as wide as the target.
    narrow: Vec<u8>,
}

impl Resizer {
    /// Resamples `frame` and gives each row of the window, from the top, as planes of R, G and B to `put`. Rows and
    /// columns beyond the target's `full` are not given; nor is anything of a frame without pixels.
    pub(crate) fn run(&mut self, frame: &Frame<'_>, target: &Target, mut put: impl FnMut(usize, [&[u8]; 3])) {
        let from = [frame.height(), frame.width()];
        if from.contains(&0) || target.full.contains(&0) {
            return;
        }
        if self.made_for != Some((from, *target)) {
            let [height, width] = from.map(|length| length as usize);
            self.vertical.set(height, target.full[0] as usize, target.window(0), target.filter);
            self.horizontal.set(width, target.full[1] as usize, target.window(1), target.filter);
            self.made_for = Some((from, *target));
        }
        let Self { vertical, horizontal, rows, wide, narrow, .. } = self;
        let (width, channels) = (frame.width() as usize, frame.channels());
        let columns_first = columns_first(from, target.full);
        let wide_plane = (width + horizontal.reach).next_multiple_of(COLUMNS);
        let narrow_plane = horizontal.len().next_multiple_of(COLUMNS);
        let plane = if columns_first { wide_plane } else { narrow_plane };
        let (row, slots) = (plane * channels, vertical.most());
        if row == 0 || slots == 0 {
            return;
        }
        let rows = at_least(rows, row * slots);
        let wide = at_least(wide, wide_plane * channels);
        let narrow = at_least(narrow, narrow_plane * channels);

        let mut next = 0;
        for (index, inputs) in vertical.inputs.iter().enumerate() {
            for y in next.max(inputs.start)..inputs.end {
                let slot = &mut rows[y % slots * row..][..row];
                if columns_first {
                    frame.span(y, 0, planes_mut(slot, plane, width));
                } else {
                    frame.span(y, 0, planes_mut(wide, wide_plane, width));
                    across_planes(wide, wide_plane, horizontal, slot, plane);
                }
            }
            next = next.max(inputs.end);
            let coefficients = vertical.coefficients(index);
            if columns_first {
                down(rows, slots, inputs.clone(), coefficients, wide);
                across_planes(wide, wide_plane, horizontal, narrow, narrow_plane);
            } else {
                down(rows, slots, inputs.clone(), coefficients, narrow);
            }
            put(index, planes(narrow, narrow_plane, horizontal.len()));
        }
    }
}

/// Resamples each plane of a row.
fn across_planes(row: &[u8], plane: usize, taps: &Taps, resampled: &mut [u8], resampled_plane: usize) {
    for (from, to) in row.chunks_exact(plane).zip(resampled.chunks_exact_mut(resampled_plane)) {
        across(from, taps, &mut to[..taps.len()]);
    }
}

/// The first `len` bytes of `buffer`, which grows to them if it is shorter.
fn at_least(buffer: &mut Vec<u8>, len: usize) -> &mut [u8] {
    if buffer.len() < len {
        buffer.resize(len, 0);
    }
    &mut buffer[..len]
}

/// The first `len` bytes of each of the planes of `row`, which are one after another. A single one is all three.
fn planes(row: &[u8], plane: usize, len: usize) -> [&[u8]; 3] {
    let mut planes = row.chunks_exact(plane).map(|plane| &plane[..len]);
    let first = planes.next().unwrap_or_default();
    [first, planes.next().unwrap_or(first), planes.next().unwrap_or(first)]
}

/// As [`planes`], to be written; of a single one, the second and third are empty.
fn planes_mut(row: &mut [u8], plane: usize, len: usize) -> [&mut [u8]; 3] {
    let mut planes = row.chunks_exact_mut(plane).map(|plane| &mut plane[..len]);
    std::array::from_fn(|_| planes.next().unwrap_or_default())
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
    let stride = size[1] as usize * 3;
    Resizer::default().run(&Frame::from(picture), &Target { full, origin, size, filter }, |y, [r, g, b]| {
        let row = (&mut *resized)[y * stride..].as_chunks_mut::<3>().0;
        for (pixel, ((&r, &g), &b)) in row.iter_mut().zip(r.iter().zip(g).zip(b)) {
            *pixel = [r, g, b];
        }
    });
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
                let mut taps = Taps::default();
                taps.set(input, output, 0..output, filter);
                assert_eq!(taps.len(), output);
                for (index, inputs) in taps.inputs.iter().enumerate() {
                    let coefficients = taps.coefficients(index);
                    let sum: i64 = coefficients.iter().map(|&coefficient| i64::from(coefficient)).sum();
                    let off = (sum - (1 << PRECISION_BITS)).unsigned_abs() as usize;
                    assert!(off <= inputs.len(), "{input} to {output}: off by {off}");
                    assert!(inputs.end <= input && inputs.len() <= taps.reach);
                    assert!(coefficients[inputs.len()..].iter().all(|&coefficient| coefficient == 0));
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
