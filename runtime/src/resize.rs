//! Resampling as Pillow does it, to the bit.
//!
//! The method is that of `src/libImaging/Resample.c` in Pillow for 8-bit channels: separable convolution whose
//! support grows with the reduction (antialias), coefficients in 22-bit fixed point, each of the two passes rounded to
//! 8 bits. The order of the passes, which that rounding makes visible, is the one of Pillow 13. Training and device
//! share this code, so that what a device sees is what the model was trained on.
//!
//! A [`Resizer`] reads a frame row by row, converts each row that it needs once, keeps the few rows that the next output
//! row needs, and keeps all of its memory for the next frame. Rows lie as planes of one channel each: along a plane both
//! passes are runs of products that the compiler makes vector instructions of.

use std::ops::Range;

use image::RgbImage;
use serde::{Deserialize, Serialize};

use crate::frame::Frame;

/// Fractional bits of a coefficient: a sum of products of 8-bit values and coefficients fits 32 bits.
const PRECISION_BITS: u32 = 32 - 8 - 2;
/// Bits of a coefficient's lower half. Processors multiply 16-bit values in pairs, so a coefficient is kept as
/// `high * 2^12 + low`; the sums of both halves wrap around, and what they make together fits 32 bits again.
const LOW_BITS: u32 = 12;
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
    high: Vec<i16>,
    low: Vec<i16>,
}

/// The coefficients of one position, from its first input on.
#[derive(Clone, Copy)]
struct Tap<'a> {
    high: &'a [i16],
    low: &'a [i16],
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
        for half in [&mut self.high, &mut self.low] {
            half.clear();
            half.resize(self.inputs.len() * self.reach, 0);
        }
        for (index, (inputs, position)) in self.inputs.iter().zip(window).enumerate() {
            let weight = |input: usize| filter.weight((input as f64 - center(position) + 0.5) * step);
            let sum: f64 = inputs.clone().map(weight).sum();
            for (at, input) in (index * self.reach..).zip(inputs.clone()) {
                let scaled = weight(input) / sum * f64::from(1u32 << PRECISION_BITS);
                let fixed = (if scaled < 0.0 { scaled - 0.5 } else { scaled + 0.5 }) as i32;
                self.high[at] = (fixed >> LOW_BITS) as i16;
                self.low[at] = (fixed & ((1 << LOW_BITS) - 1)) as i16;
            }
        }
    }

    /// How many positions there are.
    fn len(&self) -> usize {
        self.inputs.len()
    }

    /// The coefficients of the position with this index, filled up to [`Self::reach`].
    fn tap(&self, index: usize) -> Tap<'_> {
        let range = index * self.reach..(index + 1) * self.reach;
        Tap { high: &self.high[range.clone()], low: &self.low[range] }
    }

    /// The most inputs that a position reads.
    fn most(&self) -> usize {
        self.inputs.iter().map(Range::len).max().unwrap_or(0)
    }
}

/// One half in fixed point: what makes a shift round to nearest.
const HALF: i32 = 1 << (PRECISION_BITS - 1);

/// The 8-bit value of the sums of products with the upper and the lower halves of coefficients.
#[inline(always)]
fn clip(high: i32, low: i32) -> u8 {
    let sum = (high << LOW_BITS).wrapping_add(low).wrapping_add(HALF);
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
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
        let Tap { high, low } = taps.tap(index);
        let (mut high_sums, mut low_sums) = ([0i32; LANES / 2], [0i32; LANES / 2]);
        let coefficients = high.as_chunks::<LANES>().0.iter().zip(low.as_chunks::<LANES>().0);
        for (values, (high, low)) in row[inputs.start..].as_chunks::<LANES>().0.iter().zip(coefficients) {
            let values = values.map(i16::from);
            for pair in 0..LANES / 2 {
                let product = |half: &[i16; LANES], at: usize| i32::from(values[at]) * i32::from(half[at]);
                let both = |half| product(half, 2 * pair) + product(half, 2 * pair + 1);
                high_sums[pair] = high_sums[pair].wrapping_add(both(high));
                low_sums[pair] = low_sums[pair].wrapping_add(both(low));
            }
        }
        let sum = |sums: [i32; LANES / 2]| sums.into_iter().fold(0i32, i32::wrapping_add);
        *to = clip(sum(high_sums), sum(low_sums));
    }
}

/// One row of the rows that a position reads down the columns. Row `y` is the one at `y % slots` of those in `rows`,
/// each as long as `resampled`, a multiple of [`COLUMNS`].
fn down(rows: &[u8], slots: usize, inputs: Range<usize>, tap: Tap<'_>, resampled: &mut [u8]) {
    let stride = resampled.len();
    for (block, to) in resampled.as_chunks_mut::<COLUMNS>().0.iter_mut().enumerate() {
        let (mut high_sums, mut low_sums) = ([0i32; COLUMNS], [0i32; COLUMNS]);
        let mut slot = inputs.start % slots;
        for (&high, &low) in tap.high.iter().zip(tap.low).take(inputs.len()) {
            let from = slot * stride + block * COLUMNS;
            let Some(values) = rows[from..].first_chunk::<COLUMNS>() else { break };
            for column in 0..COLUMNS {
                let value = i32::from(values[column]);
                high_sums[column] = high_sums[column].wrapping_add(value * i32::from(high));
                low_sums[column] = low_sums[column].wrapping_add(value * i32::from(low));
            }
            slot = if slot + 1 == slots { 0 } else { slot + 1 };
        }
        for column in 0..COLUMNS {
            to[column] = clip(high_sums[column], low_sums[column]);
        }
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
            let tap = vertical.tap(index);
            if columns_first {
                down(rows, slots, inputs.clone(), tap, wide);
                across_planes(wide, wide_plane, horizontal, narrow, narrow_plane);
            } else {
                down(rows, slots, inputs.clone(), tap, narrow);
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
                    let Tap { high, low } = taps.tap(index);
                    let coefficients = high.iter().zip(low).map(|(&h, &l)| (i64::from(h) << LOW_BITS) + i64::from(l));
                    let off = (coefficients.sum::<i64>() - (1 << PRECISION_BITS)).unsigned_abs() as usize;
                    assert!(off <= inputs.len(), "{input} to {output}: off by {off}");
                    assert!(inputs.end <= input && inputs.len() <= taps.reach);
                    assert!(high[inputs.len()..].iter().chain(&low[inputs.len()..]).all(|&half| half == 0));
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
