//! From YUV and grey to RGB, in integers.
//!
//! With Kr and Kb of the matrix (ITU-R BT.601: 0.299 and 0.114, BT.709: 0.2126 and 0.0722), y from 0 to 1, u and v from
//! -0.5 to 0.5:
//!
//! ```text
//! R = y + 2 (1 - Kr) v      G = y - (2 (1 - Kb) Kb u + 2 (1 - Kr) Kr v) / (1 - Kr - Kb)      B = y + 2 (1 - Kb) u
//! ```
//!
//! The loops are over pairs of pixels, which share their chroma in every format here, and have no step that depends on
//! another: the compiler makes vector instructions of them.

use super::{Matrix, Range};

/// Fractional bits of a coefficient. The largest sum, below 600 in 1/255, still fits 32 bits, and the rounding of the
/// coefficients moves no sum by more than 0.0002.
const BITS: u32 = 21;
/// One half, which makes the shift by [`BITS`] round to nearest.
const HALF: i32 = 1 << (BITS - 1);
/// The chroma of grey.
const NEUTRAL: i32 = 128;

/// What a frame's luma and chroma are multiplied with, in fixed point with [`BITS`] bits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Conversion {
    /// The luma of black.
    black: i32,
    luma: i32,
    red_v: i32,
    green_u: i32,
    green_v: i32,
    blue_u: i32,
}

impl Conversion {
    /// The conversion from luma and chroma in `range` by `matrix`.
    pub(super) const fn new(range: Range, matrix: Matrix) -> Self {
        let (black, luma, chroma) = match range {
            Range::Limited => (16, 255.0 / 219.0, 255.0 / 224.0),
            Range::Full => (0, 1.0, 1.0),
        };
        let (kr, kb) = match matrix {
            Matrix::Bt601 => (0.299, 0.114),
            Matrix::Bt709 => (0.2126, 0.0722),
        };
        let kg = 1.0 - kr - kb;
        Self {
            black,
            luma: fixed(luma),
            red_v: fixed(chroma * 2.0 * (1.0 - kr)),
            green_u: fixed(-chroma * 2.0 * (1.0 - kb) * kb / kg),
            green_v: fixed(-chroma * 2.0 * (1.0 - kr) * kr / kg),
            blue_u: fixed(chroma * 2.0 * (1.0 - kb)),
        }
    }

    /// Two pixels with the luma `y` and the same chroma; [R, G, B] of both.
    #[inline(always)]
    fn pair(&self, y: [u8; 2], u: u8, v: u8) -> [[u8; 2]; 3] {
        let (u, v) = (i32::from(u) - NEUTRAL, i32::from(v) - NEUTRAL);
        let chroma = [self.red_v * v, self.green_u * u + self.green_v * v, self.blue_u * u];
        let luma = y.map(|y| self.luma * (i32::from(y) - self.black) + HALF);
        chroma.map(|chroma| luma.map(|luma| clip(luma + chroma)))
    }

    /// Grey pixels to their brightness.
    #[inline(always)]
    pub(super) fn luma(&self, from: &[u8], to: &mut [u8]) {
        for (to, &y) in to.iter_mut().zip(from) {
            *to = clip(self.luma * (i32::from(y) - self.black) + HALF);
        }
    }

    /// Y0 U Y1 V to planes.
    #[inline(always)]
    pub(super) fn yuyv(&self, from: &[u8], to: [&mut [u8]; 3]) {
        let pairs = from.as_chunks::<4>().0.iter().map(|&[y0, u, y1, v]| ([y0, y1], u, v));
        self.pairs(pairs, to);
    }

    /// Rows of Y and of U V pairs to planes.
    #[inline(always)]
    pub(super) fn nv12(&self, y: &[u8], uv: &[u8], to: [&mut [u8]; 3]) {
        let pairs = y.as_chunks::<2>().0.iter().zip(uv.as_chunks::<2>().0);
        self.pairs(pairs.map(|(&y, &[u, v])| (y, u, v)), to);
    }

    /// Rows of Y, U and V to planes.
    #[inline(always)]
    pub(super) fn i420(&self, y: &[u8], u: &[u8], v: &[u8], to: [&mut [u8]; 3]) {
        let pairs = y.as_chunks::<2>().0.iter().zip(u.iter().zip(v));
        self.pairs(pairs.map(|(&y, (&u, &v))| (y, u, v)), to);
    }

    #[inline(always)]
    fn pairs(&self, pairs: impl Iterator<Item = ([u8; 2], u8, u8)>, [r, g, b]: [&mut [u8]; 3]) {
        let [r, g, b] = [r, g, b].map(|plane| plane.as_chunks_mut::<2>().0);
        for (((r, g), b), (y, u, v)) in r.iter_mut().zip(g).zip(b).zip(pairs) {
            [*r, *g, *b] = self.pair(y, u, v);
        }
    }
}

/// Pixels of three bytes to a plane for each byte.
#[inline(always)]
pub(super) fn split(from: &[u8], [first, second, third]: [&mut [u8]; 3]) {
    let to = first.iter_mut().zip(second).zip(third);
    for (((first, second), third), pixel) in to.zip(from.as_chunks::<3>().0) {
        [*first, *second, *third] = *pixel;
    }
}

const fn fixed(coefficient: f64) -> i32 {
    let scaled = coefficient * (1u32 << BITS) as f64;
    (if scaled < 0.0 { scaled - 0.5 } else { scaled + 0.5 }) as i32
}

#[inline(always)]
fn clip(sum: i32) -> u8 {
    (sum >> BITS).clamp(0, 255) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How far a sum in fixed point may be from the exact one, in 1/255.
    const FIXED_TOLERANCE: f64 = 2e-4;
    const RANGES: [Range; 2] = [Range::Limited, Range::Full];
    const MATRICES: [Matrix; 2] = [Matrix::Bt601, Matrix::Bt709];

    /// R, G and B in 1/255 by the formulas of the recommendations, in float64 and neither rounded nor clipped.
    fn exact(range: Range, matrix: Matrix, [y, u, v]: [u8; 3]) -> [f64; 3] {
        let [y, u, v] = [y, u, v].map(f64::from);
        let (y, u, v) = match range {
            Range::Limited => ((y - 16.0) / 219.0, (u - 128.0) / 224.0, (v - 128.0) / 224.0),
            Range::Full => (y / 255.0, (u - 128.0) / 255.0, (v - 128.0) / 255.0),
        };
        let (kr, kb) = match matrix {
            Matrix::Bt601 => (0.299, 0.114),
            Matrix::Bt709 => (0.2126, 0.0722),
        };
        let (r, b) = (y + 2.0 * (1.0 - kr) * v, y + 2.0 * (1.0 - kb) * u);
        // y is the sum of the three, weighted by the matrix.
        let g = (y - kr * r - kb * b) / (1.0 - kr - kb);
        [r, g, b].map(|channel| 255.0 * channel)
    }

    #[test]
    fn every_value_is_the_exact_one_rounded() {
        for (range, matrix) in RANGES.into_iter().flat_map(|range| MATRICES.map(|matrix| (range, matrix))) {
            let conversion = Conversion::new(range, matrix);
            for (u, v) in (0..=255).flat_map(|u| (0..=255).map(move |v| (u, v))) {
                for y in (0..=254).step_by(2) {
                    let got = conversion.pair([y, y + 1], u, v);
                    for (pixel, y) in [y, y + 1].into_iter().enumerate() {
                        for (got, exact) in got.iter().zip(exact(range, matrix, [y, u, v])) {
                            let off = (f64::from(got[pixel]) - exact.clamp(0.0, 255.0)).abs();
                            assert!(off <= 0.5 + FIXED_TOLERANCE, "{range:?} {matrix:?} {y} {u} {v}: {off}");
                        }
                    }
                }
            }
        }
    }

    /// The standard values of the bars at 75 percent (BT.601, limited range; ITU-R BT.801).
    #[test]
    fn colour_bars_keep_their_colours() {
        let bars: [([u8; 3], [u8; 3]); 8] = [
            ([180, 128, 128], [191, 191, 191]),
            ([162, 44, 142], [191, 191, 0]),
            ([131, 156, 44], [0, 191, 191]),
            ([112, 72, 58], [0, 191, 0]),
            ([84, 184, 198], [191, 0, 191]),
            ([65, 100, 212], [191, 0, 0]),
            ([35, 212, 114], [0, 0, 191]),
            ([16, 128, 128], [0, 0, 0]),
        ];
        let conversion = Conversion::new(Range::Limited, Matrix::Bt601);
        for ([y, u, v], expected) in bars {
            let got = conversion.pair([y, y], u, v).map(|channel| channel[0]);
            assert!(got.iter().zip(expected).all(|(&g, e)| g.abs_diff(e) <= 2), "{got:?} is not {expected:?}");
        }
    }

    #[test]
    fn grey_is_the_luma_alone() {
        let values: Vec<u8> = (0..=255).collect();
        for (range, matrix) in RANGES.into_iter().flat_map(|range| MATRICES.map(|matrix| (range, matrix))) {
            let conversion = Conversion::new(range, matrix);
            let mut grey = [0; 256];
            conversion.luma(&values, &mut grey);
            for (&y, grey) in values.iter().zip(grey) {
                assert_eq!(conversion.pair([y, y], 128, 128), [[grey; 2]; 3], "{range:?} {y}");
            }
        }
    }
}
