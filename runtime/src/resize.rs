//! Resampling as Pillow does it, to the bit.
//!
//! The method is that of `src/libImaging/Resample.c` in Pillow for 8-bit channels: separable convolution whose
//! support grows with the reduction (antialias), coefficients in 22-bit fixed point, each of the two passes rounded to
//! 8 bits. The order of the passes, which that rounding makes visible, is the one of Pillow 13. Training and device
//! share this code, so that what a device sees is what the model was trained on.
//!
//! A `Resizer` reads a frame a few rows at a time, converts each row that it needs once, keeps the rows that the next output
//! row needs, and keeps all of its memory for the next frame.

mod lanes;
mod passes;
mod taps;

use std::array::from_fn;
use std::ops::Range;

use image::RgbImage;
use serde::{Deserialize, Serialize};

use crate::frame::{Frame, PixelFormat};
use lanes::{Lanes, Work};
use passes::{BLOCK, Column, ROWS, across, down, to_columns, to_rows};
use taps::Taps;

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

/// Whether the columns are resampled before the rows: where the height loses more than twice the pixels that the width
/// loses (`ImagingResampleInner`). Sizes are (height, width).
fn columns_first(from: [u32; 2], to: [u32; 2]) -> bool {
    let [height, width] = [0, 1].map(|axis| i64::from(from[axis]) - i64::from(to[axis]));
    height > 0 && height > 2 * width
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
    buffers: Buffers,
}

/// The memory that the passes work in. Each row is followed by what fills it up to whole blocks.
#[derive(Debug, Default)]
struct Buffers {
    /// The rows that one output row reads: as wide as the frame if the columns are resampled first, else as the target.
    rows: Vec<u8>,
    /// [`ROWS`] rows as wide as the frame, in planes.
    wide: Vec<u8>,
    /// The same as columns, the channels of a pixel side by side.
    columns: Vec<Column>,
    /// Columns as many as the target has, in planes.
    resampled: Vec<Column>,
    /// Rows as wide as the target, in planes.
    narrow: Vec<u8>,
}

impl Resizer {
    /// Resamples `frame` and gives each row of the window, from the top, as planes of R, G and B to `put`. Rows and
    /// columns beyond the target's `full` are not given; nor is anything of a frame without pixels.
    pub(crate) fn run(&mut self, frame: &Frame<'_>, target: &Target, put: impl FnMut(usize, [&[u8]; 3])) {
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
        let Self { vertical, horizontal, buffers, .. } = self;
        if vertical.most() == 0 || horizontal.most() == 0 {
            return;
        }
        let columns_first = columns_first(from, target.full);
        lanes::run(Resampling { frame, vertical, horizontal, columns_first, buffers, put });
    }
}

/// A resize of one frame with all that it needs.
struct Resampling<'a, 'f, P> {
    frame: &'a Frame<'f>,
    vertical: &'a Taps,
    horizontal: &'a Taps,
    columns_first: bool,
    buffers: &'a mut Buffers,
    put: P,
}

impl<P: FnMut(usize, [&[u8]; 3])> Work for Resampling<'_, '_, P> {
    #[inline(always)]
    fn run(self, lanes: impl Lanes) {
        match (self.frame.channels(), self.columns_first) {
            (1, false) => self.rows_first::<1>(lanes),
            (_, false) => self.rows_first::<3>(lanes),
            (1, true) => self.columns_first::<1>(lanes),
            (_, true) => self.columns_first::<3>(lanes),
        }
    }
}

impl<P: FnMut(usize, [&[u8]; 3])> Resampling<'_, '_, P> {
    #[inline(always)]
    fn rows_first<const CHANNELS: usize>(mut self, lanes: impl Lanes) {
        let (frame, vertical, horizontal) = (self.frame, self.vertical, self.horizontal);
        let (width, height) = (frame.width() as usize, frame.height() as usize);
        let wide_plane = width.next_multiple_of(BLOCK);
        let plane = horizontal.len().next_multiple_of(BLOCK);
        let row = plane * CHANNELS;
        // Groups of rows begin at multiples of their number: what a position reads may begin and end within one.
        let held = (vertical.most() + 2 * (ROWS - 1)).div_ceil(ROWS);
        let Buffers { rows, wide, columns, resampled, narrow } = &mut *self.buffers;
        let rows = at_least(rows, held * ROWS * row);
        let wide = at_least(wide, ROWS * wide_plane * CHANNELS);
        let columns = at_least(columns, wide_plane * CHANNELS);
        let resampled = at_least(resampled, row);
        let narrow = at_least(narrow, row);
        let reversed = frame.format() == PixelFormat::Bgr;

        let mut next = 0;
        for (index, (inputs, coefficients)) in vertical.iter().enumerate() {
            let needed = inputs.start / ROWS..inputs.end.div_ceil(ROWS);
            for group in next.max(needed.start)..needed.end {
                // The last rows of the last group are no more than filling.
                let y = |row: usize| (group * ROWS + row).min(height - 1);
                if frame.packed(0).is_some() {
                    to_columns::<1>(from_fn(|row| frame.packed(y(row)).unwrap_or_default()), 0, columns);
                } else {
                    for (row, wide) in wide.chunks_exact_mut(wide_plane * CHANNELS).enumerate() {
                        frame.span(y(row), 0, planes_mut(wide, wide_plane, width));
                    }
                    planes_to_columns::<CHANNELS>(wide, wide_plane, columns);
                }
                across::<CHANNELS>(lanes, columns, horizontal, plane, resampled);
                to_rows(resampled, &mut rows[group % held * ROWS * row..][..ROWS * row]);
            }
            next = next.max(needed.end);
            down(lanes, rows, held * ROWS, inputs, coefficients, narrow);
            let [first, second, third] = planes(narrow, plane, horizontal.len());
            (self.put)(index, if reversed { [third, second, first] } else { [first, second, third] });
        }
    }

    #[inline(always)]
    fn columns_first<const CHANNELS: usize>(mut self, lanes: impl Lanes) {
        let (frame, vertical, horizontal) = (self.frame, self.vertical, self.horizontal);
        let width = frame.width() as usize;
        let wide_plane = width.next_multiple_of(BLOCK);
        let plane = horizontal.len().next_multiple_of(BLOCK);
        let (row, slots) = (wide_plane * CHANNELS, vertical.most());
        let Buffers { rows, wide, columns, resampled, narrow } = &mut *self.buffers;
        let rows = at_least(rows, slots * row);
        let wide = at_least(wide, ROWS * row);
        let columns = at_least(columns, row);
        let resampled = at_least(resampled, plane * CHANNELS);
        let narrow = at_least(narrow, ROWS * plane * CHANNELS);

        let mut next = 0;
        for (index, (inputs, coefficients)) in vertical.iter().enumerate() {
            for y in next.max(inputs.start)..inputs.end {
                frame.span(y, 0, planes_mut(&mut rows[y % slots * row..][..row], wide_plane, width));
            }
            next = next.max(inputs.end);
            let place = index % ROWS;
            down(lanes, rows, slots, inputs, coefficients, &mut wide[place * row..][..row]);
            if place + 1 < ROWS && index + 1 < vertical.len() {
                continue;
            }
            planes_to_columns::<CHANNELS>(wide, wide_plane, columns);
            across::<CHANNELS>(lanes, columns, horizontal, plane, resampled);
            to_rows(resampled, narrow);
            for (narrow, index) in narrow.chunks_exact(plane * CHANNELS).zip(index - place..=index) {
                (self.put)(index, planes(narrow, plane, horizontal.len()));
            }
        }
    }
}

/// Turns [`ROWS`] rows, in planes, into columns whose channels lie side by side.
#[inline(always)]
fn planes_to_columns<const CHANNELS: usize>(rows: &[u8], plane: usize, columns: &mut [Column]) {
    let row = plane * CHANNELS;
    for channel in 0..CHANNELS {
        to_columns::<CHANNELS>(from_fn(|y| &rows[y * row + channel * plane..][..plane]), channel, columns);
    }
}

/// The first `len` values of `buffer`, which grows to them if it is shorter.
fn at_least<T: Clone + Default>(buffer: &mut Vec<T>, len: usize) -> &mut [T] {
    if buffer.len() < len {
        buffer.resize(len, T::default());
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
    from_fn(|_| planes.next().unwrap_or_default())
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
    use proptest::prelude::*;

    use crate::frame::FrameLayout;

    use super::*;

    /// The window of a frame, sum by sum, each in 64 bits.
    fn expected(frame: &Frame<'_>, target: &Target) -> RgbImage {
        let [mut vertical, mut horizontal] = [Taps::default(), Taps::default()];
        let from = [frame.height(), frame.width()];
        let [height, width] = from.map(|side| side as usize);
        vertical.set(height, target.full[0] as usize, target.window(0), target.filter);
        horizontal.set(width, target.full[1] as usize, target.window(1), target.filter);
        let value = |sum: i64| ((sum + (1 << 21)) >> 22).clamp(0, 255) as u8;
        let along = |picture: &RgbImage| {
            let mut resampled = RgbImage::new(horizontal.len() as u32, picture.height());
            for (x, (inputs, coefficients)) in (0..).zip(horizontal.iter()) {
                for (y, channel) in (0..picture.height()).flat_map(|y| [0, 1, 2].map(|channel| (y, channel))) {
                    let terms = inputs.clone().zip(coefficients);
                    let term =
                        |(x, &c): (usize, &i32)| i64::from(picture.get_pixel(x as u32, y).0[channel]) * i64::from(c);
                    resampled.get_pixel_mut(x, y).0[channel] = value(terms.map(term).sum());
                }
            }
            resampled
        };
        let down = |picture: &RgbImage| {
            let mut resampled = RgbImage::new(picture.width(), vertical.len() as u32);
            for (y, (inputs, coefficients)) in (0..).zip(vertical.iter()) {
                for (x, channel) in (0..picture.width()).flat_map(|x| [0, 1, 2].map(|channel| (x, channel))) {
                    let terms = inputs.clone().zip(coefficients);
                    let term =
                        |(y, &c): (usize, &i32)| i64::from(picture.get_pixel(x, y as u32).0[channel]) * i64::from(c);
                    resampled.get_pixel_mut(x, y).0[channel] = value(terms.map(term).sum());
                }
            }
            resampled
        };
        let picture = frame.to_rgb();
        if columns_first(from, target.full) { along(&down(&picture)) } else { down(&along(&picture)) }
    }

    proptest! {
        /// Of any format and size, a part of any size: to the bit, whatever the buffers hold from another frame.
        #[test]
        fn the_passes_give_the_exact_sums_rounded(
            format in prop::sample::select(vec![
                PixelFormat::Rgb, PixelFormat::Bgr, PixelFormat::Grey, PixelFormat::Yuyv, PixelFormat::I420,
            ]),
            (width, height) in (1_u32..40, 1_u32..30),
            (full_height, full_width) in (1_u32..70, 1_u32..50),
            (top, left, cut_height, cut_width) in (0_u32..9, 0_u32..9, 1_u32..50, 1_u32..50),
            bilinear: bool,
            seed: u8,
        ) {
            let filter = if bilinear { Filter::Bilinear } else { Filter::Bicubic };
            let layout = FrameLayout::new(format, 2 * width, 2 * height);
            let noise = |i: u32| (i.wrapping_add(u32::from(seed)).wrapping_mul(2_654_435_761) >> 13) as u8;
            let bytes: Vec<u8> = (0..layout.bytes().unwrap() as u32).map(noise).collect();
            let frame = layout.frame(&bytes).unwrap();
            let target = Target {
                full: [full_height, full_width],
                origin: [top.min(full_height - 1), left.min(full_width - 1)],
                size: [cut_height, cut_width],
                filter,
            };
            let mut resizer = Resizer::default();
            let other = RgbImage::from_pixel(90, 70, Rgb([255; 3]));
            resizer.run(&Frame::from(&other), &Target { full: [80, 80], size: [80, 80], ..target }, |_, _| {});
            let mut rows = 0;
            let expected = expected(&frame, &target);
            resizer.run(&frame, &target, |y, planes| {
                assert_eq!(y, rows);
                rows += 1;
                for (channel, plane) in planes.into_iter().enumerate() {
                    let row: Vec<u8> = (0..expected.width()).map(|x| expected.get_pixel(x, y as u32).0[channel]).collect();
                    assert_eq!(plane, row, "row {y}, channel {channel}");
                }
            });
            prop_assert_eq!(rows as u32, expected.height());
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
