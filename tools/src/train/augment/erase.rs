//! timm's `RandomErasing` in mode `pixel`: a rectangle of a normalised picture becomes noise (Zhong et al. 2017).

use rand::Rng;
use rand_distr::{Distribution as _, StandardNormal};

/// The erased share of the area.
const AREA: std::ops::RangeInclusive<f64> = 0.02..=1.0 / 3.0;
/// The flattest rectangle, height over width; the steepest is its inverse.
const ASPECT: f64 = 0.3;
/// Rectangles that are drawn before the picture is left whole.
const ATTEMPTS: usize = 10;

/// Erases a rectangle of `pixels` `[channels, height, width]` with the given probability.
pub(super) fn erase(pixels: &mut [f32], [height, width]: [usize; 2], probability: f64, rng: &mut impl Rng) {
    if rng.random::<f64>() >= probability {
        return;
    }
    for _ in 0..ATTEMPTS {
        let area = rng.random_range(AREA) * (height * width) as f64;
        let aspect = rng.random_range(ASPECT.ln()..=-ASPECT.ln()).exp();
        let [h, w] = [area * aspect, area / aspect].map(|square| square.sqrt().round_ties_even() as usize);
        if h < height && w < width {
            let (top, left) = (rng.random_range(0..=height - h), rng.random_range(0..=width - w));
            for plane in pixels.chunks_exact_mut(height * width) {
                for row in plane.chunks_exact_mut(width).skip(top).take(h) {
                    row[left..left + w].fill_with(|| StandardNormal.sample(rng));
                }
            }
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn a_rectangle_of_noise_is_the_same_in_all_channels() {
        let mut rng = ChaCha8Rng::seed_from_u64(8);
        let mut shares = Vec::new();
        for _ in 0..200 {
            let mut pixels = vec![100.0f32; 3 * 40 * 30];
            erase(&mut pixels, [40, 30], 1.0, &mut rng);
            let erased: Vec<bool> = pixels.iter().map(|value| *value != 100.0).collect();
            assert!(erased[..1200] == erased[1200..2400] && erased[..1200] == erased[2400..]);
            let at: Vec<(usize, usize)> = (0..1200).filter(|&at| erased[at]).map(|at| (at / 30, at % 30)).collect();
            let (rows, columns) = (at.iter().map(|(row, _)| row), at.iter().map(|(_, column)| column));
            let span = |min: Option<&usize>, max: Option<&usize>| max.unwrap() - min.unwrap() + 1;
            let area = span(rows.clone().min(), rows.max()) * span(columns.clone().min(), columns.max());
            assert_eq!(area, at.len());
            shares.push(area as f64 / 1200.0);
        }
        assert!(shares.iter().all(|share| (0.015..0.36).contains(share)), "{shares:?}");
    }

    #[test]
    fn the_probability_is_kept() {
        let mut rng = ChaCha8Rng::seed_from_u64(8);
        let erased = (0..1000).filter(|_| {
            let mut pixels = vec![100.0f32; 3 * 20 * 20];
            erase(&mut pixels, [20, 20], 0.25, &mut rng);
            pixels.iter().any(|value| *value != 100.0)
        });
        // 250, with a standard deviation of 14.
        let count = erased.count();
        assert!((200..300).contains(&count), "{count}");
    }
}
