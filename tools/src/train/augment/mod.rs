//! Augmentation: pictures are changed before they are learned from, anew in every epoch.
//!
//! The order is timm's: a random part, flipped, RandAugment and colour jitter on 8-bit pictures; then random erasing of the
//! normalised values; then mixup or cutmix of the batch. All of it is a function of the seed, the epoch and the picture's
//! place in the epoch (a batch's: of the step).

mod affine;
mod crop;
mod enhance;
mod erase;
#[cfg(test)]
mod fixtures;
mod jitter;
mod mix;
mod rand_augment;
mod tables;

use edge_vit::{Preprocessing, ResizeMode, filmstrip};
use image::RgbImage;
use image::imageops::{crop_imm, flip_horizontal_in_place};
use rand::Rng;
use serde::Serialize;

use crop::Part;
pub use mix::Mix;
pub use rand_augment::RandAugment;

/// What pictures are augmented with; by default nothing.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Augment {
    /// Probability that a picture is mirrored, left to right.
    pub flip: f64,
    /// The smallest share of a picture that a random part of it may have; `None` for whole pictures.
    pub crop: Option<f64>,
    /// RandAugment's policy.
    pub rand_augment: Option<RandAugment>,
    /// How far brightness, contrast and saturation are changed: by factors of up to this below and above 1.
    pub color_jitter: f64,
    /// Probability that a rectangle becomes noise.
    pub erase: f64,
    /// How the pictures of a batch are mixed.
    pub mix: Mix,
}

/// The model's input of a picture that was augmented.
#[derive(Debug, Clone, PartialEq)]
pub struct Augmented {
    /// `[3, height, width]`.
    pub pixels: Vec<f32>,
    /// Whether it was mirrored, left to right.
    pub flipped: bool,
}

impl Augment {
    /// Whether anything is changed, so that frozen layers have to be run anew for every step.
    pub fn is_on(&self) -> bool {
        *self != Self { mix: self.mix, ..Self::default() } || self.mix.is_on()
    }

    /// The model's input of a picture, or of a filmstrip, all frames of which are changed alike. It has the model's size already, unless
    /// parts are taken.
    pub fn apply(&self, picture: &RgbImage, preprocessing: &Preprocessing, rng: &mut (impl Rng + Clone)) -> Augmented {
        if preprocessing.frames == 1 {
            return self.apply_to_frame(picture, preprocessing, rng);
        }
        let of_one = Preprocessing { frames: 1, ..preprocessing.clone() };
        let (mut pixels, mut flipped) = (Vec::new(), false);
        for frame in filmstrip::split(picture, preprocessing.frames) {
            let augmented = self.apply_to_frame(&frame, &of_one, &mut rng.clone());
            pixels.extend(augmented.pixels);
            flipped = augmented.flipped;
        }
        Augmented { pixels, flipped }
    }

    fn apply_to_frame(&self, picture: &RgbImage, preprocessing: &Preprocessing, rng: &mut impl Rng) -> Augmented {
        let mut picture = match self.crop {
            Some(smallest) => part(picture, preprocessing, smallest, rng),
            None => picture.clone(),
        };
        let flipped = rng.random::<f64>() < self.flip;
        if flipped {
            flip_horizontal_in_place(&mut picture);
        }
        if let Some(policy) = &self.rand_augment {
            picture = policy.apply(picture, fill(preprocessing), rng);
        }
        if self.color_jitter > 0.0 {
            picture = jitter::color_jitter(picture, self.color_jitter, rng);
        }
        let mut pixels = preprocessing.normalize(&picture);
        if self.erase > 0.0 {
            erase::erase(&mut pixels, preprocessing.image_size, self.erase, rng);
        }
        Augmented { pixels, flipped }
    }
}

/// A random part of `picture`, resized to the model's size.
fn part(picture: &RgbImage, preprocessing: &Preprocessing, smallest: f64, rng: &mut impl Rng) -> RgbImage {
    let Part { x, y, width, height } = Part::draw(picture.width(), picture.height(), smallest, rng);
    let whole = Preprocessing { resize: ResizeMode::Squash, ..preprocessing.clone() };
    whole.resize(&crop_imm(picture, x, y, width, height).to_image())
}

/// The colour that moved pictures leave behind: the mean that is subtracted, in RGB.
fn fill(preprocessing: &Preprocessing) -> [u8; 3] {
    let mut mean = preprocessing.mean;
    if preprocessing.color_order == edge_vit::ColorOrder::Bgr {
        mean.reverse();
    }
    // A conversion keeps to 0..255.
    mean.map(|mean| (255.0 * mean).round_ties_even() as u8)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand_chacha::ChaCha8Rng;

    use super::fixtures::{FILL, assert_same, picture};
    use super::*;

    fn preprocessing() -> Preprocessing {
        Preprocessing::imagenet([17, 23])
    }

    fn applied(augment: &Augment, seed: u64) -> Vec<f32> {
        augment.apply(&picture(), &preprocessing(), &mut ChaCha8Rng::seed_from_u64(seed)).pixels
    }

    #[test]
    fn nothing_is_changed_by_default() {
        let plain = Augment::default();
        assert!(!plain.is_on());
        assert_eq!(applied(&plain, 1), preprocessing().apply(&picture()));
        for on in [
            Augment { flip: 0.5, ..Augment::default() },
            Augment { crop: Some(0.5), ..Augment::default() },
            Augment { mix: Mix { cutmix: 1.0, ..Mix::default() }, ..Augment::default() },
        ] {
            assert!(on.is_on(), "{on:?}");
        }
        assert!(!Augment { mix: Mix { probability: 0.5, ..Mix::default() }, ..Augment::default() }.is_on());
    }

    #[test]
    fn a_flipped_picture_is_mirrored_left_to_right() {
        let flipped = applied(&Augment { flip: 1.0, ..Augment::default() }, 1);
        let plain = preprocessing().apply(&picture());
        for (flipped, plain) in flipped.chunks(23).zip(plain.chunks(23)) {
            assert!(flipped.iter().eq(plain.iter().rev()));
        }
    }

    #[test]
    fn one_stream_gives_one_picture() {
        let augment = Augment {
            flip: 0.5,
            crop: Some(0.08),
            rand_augment: Some(RandAugment::default()),
            color_jitter: 0.4,
            erase: 0.25,
            mix: Mix::default(),
        };
        let first: Vec<Vec<f32>> = (0..20).map(|seed| applied(&augment, seed)).collect();
        let again: Vec<Vec<f32>> = (0..20).map(|seed| applied(&augment, seed)).collect();
        assert_eq!(first, again);
        assert!(first.windows(2).all(|pair| pair[0] != pair[1]));
        assert!(first.iter().flatten().all(|value| value.is_finite()));
    }

    /// A crop that is drawn is cut and resized as Pillow does it.
    #[test]
    fn a_part_is_cut_before_it_is_resized() {
        let size = Preprocessing::imagenet([12, 12]);
        let cut = crop_imm(&picture(), 4, 3, 15, 10).to_image();
        assert_same(&size.resize(&cut), "crop_4_3_15_10");
        let part = part(&picture(), &size, 0.3, &mut ChaCha8Rng::seed_from_u64(1));
        assert_eq!(part.dimensions(), (12, 12));
        assert_ne!(part, size.resize(&picture()));
    }

    #[test]
    fn what_lies_outside_is_the_mean_colour() {
        assert_eq!(fill(&preprocessing()), FILL);
        let swapped = Preprocessing { color_order: edge_vit::ColorOrder::Bgr, ..preprocessing() };
        assert_eq!(fill(&swapped), [104, 116, 124]);
    }
}
