//! What a picture looks like, in a few bytes: a perceptual hash that survives scaling and compression, and a thumbnail that tells
//! apart what the hash does not.

use std::f32::consts::PI;

use image::imageops::{FilterType, grayscale, resize};
use image::{GrayImage, RgbImage};

/// Side of the grey picture whose cosine transform is taken.
const SIDE: usize = 32;
/// Side of the block of low frequencies that are kept.
const LOW: usize = 8;
/// Side of the thumbnail.
const THUMBNAIL: u32 = 16;
/// The least standard deviation of a thumbnail that is not of one colour, in 1/255.
const FLAT: f32 = 1.5;

/// What a picture looks like.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Print {
    /// A bit for each of 8x8 low frequencies of the discrete cosine transform: whether it is above their median.
    hash: u64,
    /// 16x16 RGB values, each channel of mean 0, together of length 1.
    thumbnail: Vec<f32>,
}

impl Print {
    /// That of `picture`; `None` where it is of one colour.
    pub(super) fn of(picture: &RgbImage) -> Option<Self> {
        let small = resize(picture, THUMBNAIL, THUMBNAIL, FilterType::Triangle);
        let mut centred: Vec<f32> = small.as_raw().iter().map(|&value| f32::from(value)).collect();
        for channel in 0..3 {
            let values = || centred.iter().skip(channel).step_by(3);
            let mean = values().sum::<f32>() / values().count() as f32;
            centred.iter_mut().skip(channel).step_by(3).for_each(|value| *value -= mean);
        }
        let length = centred.iter().map(|value| value * value).sum::<f32>().sqrt();
        if length < FLAT * (centred.len() as f32).sqrt() {
            return None;
        }
        let thumbnail = centred.into_iter().map(|value| value / length).collect();
        let grey = resize(&grayscale(picture), SIDE as u32, SIDE as u32, FilterType::Triangle);
        Some(Self { hash: hash(&grey), thumbnail })
    }

    /// By how many of 64 bits the hashes differ.
    pub(super) fn distance(&self, other: &Self) -> u32 {
        (self.hash ^ other.hash).count_ones()
    }

    /// The correlation of the thumbnails, -1 to 1.
    pub(super) fn correlation(&self, other: &Self) -> f32 {
        self.thumbnail.iter().zip(&other.thumbnail).map(|(a, b)| a * b).sum()
    }
}

/// The bits of the low frequencies, the constant one excepted: its place holds 0.
fn hash(grey: &GrayImage) -> u64 {
    let frequencies = low_frequencies(grey);
    let mut sorted = frequencies[1..].to_vec();
    sorted.sort_by(f32::total_cmp);
    let median = sorted[sorted.len() / 2];
    (1..LOW * LOW).filter(|&at| frequencies[at] > median).fold(0, |bits, at| bits | 1 << at)
}

/// The 8x8 lowest frequencies of the type-II discrete cosine transform, by rows.
fn low_frequencies(grey: &GrayImage) -> [f32; LOW * LOW] {
    let cosine = |frequency: usize, at: usize| ((at as f32 + 0.5) * frequency as f32 * PI / SIDE as f32).cos();
    let table: Vec<f32> = (0..LOW).flat_map(|u| (0..SIDE).map(move |x| cosine(u, x))).collect();
    let mut rows = [0.0; LOW * SIDE];
    for (y, row) in grey.as_raw().chunks_exact(SIDE).enumerate() {
        for (u, cosines) in table.chunks_exact(SIDE).enumerate() {
            rows[u * SIDE + y] = row.iter().zip(cosines).map(|(&value, cosine)| f32::from(value) * cosine).sum();
        }
    }
    let mut low = [0.0; LOW * LOW];
    for (u, column) in rows.chunks_exact(SIDE).enumerate() {
        for (v, cosines) in table.chunks_exact(SIDE).enumerate() {
            low[v * LOW + u] = column.iter().zip(cosines).map(|(value, cosine)| value * cosine).sum();
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use image::Rgb;

    use super::super::tests::patches;
    use super::super::{MAX_DISTANCE, MIN_CORRELATION};
    use super::*;

    #[test]
    fn a_scaled_and_darkened_picture_keeps_its_print_and_another_does_not() {
        let first = Print::of(&patches(1, 200, 160)).unwrap();
        let mut scaled = patches(1, 90, 70);
        scaled.iter_mut().for_each(|value| *value = *value / 4 * 3);
        let scaled = Print::of(&scaled).unwrap();
        assert!(first.distance(&scaled) <= MAX_DISTANCE, "{}", first.distance(&scaled));
        assert!(first.correlation(&scaled) >= MIN_CORRELATION, "{}", first.correlation(&scaled));
        let other = Print::of(&patches(2, 200, 160)).unwrap();
        assert!(first.distance(&other) > 2 * MAX_DISTANCE && first.correlation(&other) < 0.7);
    }

    #[test]
    fn one_colour_has_no_print() {
        assert_eq!(Print::of(&RgbImage::from_pixel(40, 40, Rgb([9, 200, 30]))), None);
        assert_eq!(Print::of(&RgbImage::new(1, 1)), None);
    }
}
