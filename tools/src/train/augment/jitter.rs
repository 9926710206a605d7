//! torchvision's `ColorJitter` without hue: brightness, contrast and saturation, each by a factor of its own, in random order.

use image::RgbImage;
use rand::Rng;
use rand::seq::SliceRandom as _;

use super::enhance::{brightness, color, contrast};

/// Each factor lies within `max(0, 1 - strength)` to `1 + strength`.
pub(super) fn color_jitter(mut picture: RgbImage, strength: f64, rng: &mut impl Rng) -> RgbImage {
    let mut operators: [fn(&RgbImage, f64) -> RgbImage; 3] = [brightness, contrast, color];
    operators.shuffle(rng);
    for operator in operators {
        picture = operator(&picture, rng.random_range((1.0 - strength).max(0.0)..=1.0 + strength));
    }
    picture
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand_chacha::ChaCha8Rng;

    use super::super::fixtures::picture;
    use super::*;

    #[test]
    fn strength_bounds_how_far_the_light_moves() {
        let picture = picture();
        let light = |picture: &RgbImage| picture.iter().map(|&value| f64::from(value)).sum::<f64>();
        let before = light(&picture);
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let ratios: Vec<f64> =
            (0..100).map(|_| light(&color_jitter(picture.clone(), 0.4, &mut rng)) / before).collect();
        assert!(ratios.iter().all(|ratio| (0.58..1.42).contains(ratio)), "{ratios:?}");
        assert!(ratios.iter().any(|ratio| *ratio < 0.75) && ratios.iter().any(|ratio| *ratio > 1.2));
        assert_eq!(color_jitter(picture.clone(), 0.0, &mut rng), picture);
    }
}
