//! timm's `RandomResizedCropAndInterpolation`: a part of random area and aspect, which is then resized to the model's size.

use std::ops::RangeInclusive;

use rand::Rng;

/// Aspects (width over height) of a part.
const ASPECT: RangeInclusive<f64> = 3.0 / 4.0..=4.0 / 3.0;
/// Parts that are drawn before the middle one is taken.
const ATTEMPTS: usize = 10;

/// A part of a picture, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) x: u32,
    pub(super) y: u32,
    pub(super) width: u32,
    pub(super) height: u32,
}

impl Part {
    /// A part of a picture of `width` and `height` pixels that covers at least `smallest` of its area.
    pub(super) fn draw(width: u32, height: u32, smallest: f64, rng: &mut impl Rng) -> Self {
        let area = f64::from(width) * f64::from(height);
        for _ in 0..ATTEMPTS {
            let target = rng.random_range(smallest..=1.0) * area;
            let aspect = rng.random_range(ASPECT.start().ln()..=ASPECT.end().ln()).exp();
            let [w, h] = [target * aspect, target / aspect].map(|square| square.sqrt().round_ties_even() as u32);
            if (1..=width).contains(&w) && (1..=height).contains(&h) {
                let (y, x) = (rng.random_range(0..=height - h), rng.random_range(0..=width - w));
                return Self { x, y, width: w, height: h };
            }
        }
        Self::middle(width, height)
    }

    /// The largest part in the middle whose aspect is allowed.
    fn middle(width: u32, height: u32) -> Self {
        let aspect = f64::from(width) / f64::from(height.max(1));
        let (mut w, mut h) = (width, height);
        if aspect < *ASPECT.start() {
            h = (f64::from(width) / ASPECT.start()).round_ties_even() as u32;
        } else if aspect > *ASPECT.end() {
            w = (f64::from(height) * ASPECT.end()).round_ties_even() as u32;
        }
        let (w, h) = (w.clamp(1, width.max(1)), h.clamp(1, height.max(1)));
        Self { x: (width - w) / 2, y: (height - h) / 2, width: w, height: h }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn parts_lie_inside_and_keep_area_and_aspect() {
        let mut rng = ChaCha8Rng::seed_from_u64(6);
        let parts: Vec<Part> = (0..500).map(|_| Part::draw(400, 300, 0.08, &mut rng)).collect();
        for part in &parts {
            assert!(part.x + part.width <= 400 && part.y + part.height <= 300, "{part:?}");
            let aspect = f64::from(part.width) / f64::from(part.height);
            assert!((0.74..1.35).contains(&aspect), "{part:?}");
        }
        let area = |part: &Part| f64::from(part.width * part.height) / 120_000.0;
        let smallest = parts.iter().map(area).fold(1.0, f64::min);
        assert!((0.078..0.12).contains(&smallest), "{smallest}");
        assert!(parts.iter().any(|part| area(part) > 0.8));
    }

    #[test]
    fn where_no_part_fits_the_middle_is_taken() {
        let mut rng = ChaCha8Rng::seed_from_u64(6);
        assert_eq!(Part::draw(400, 30, 1.0, &mut rng), Part { x: 180, y: 0, width: 40, height: 30 });
        assert_eq!(Part::draw(30, 400, 1.0, &mut rng), Part { x: 0, y: 180, width: 30, height: 40 });
        assert_eq!(Part::draw(1, 1, 1.0, &mut rng), Part { x: 0, y: 0, width: 1, height: 1 });
    }
}
