//! RandAugment (Cubuk et al. 2020) as timm's `auto_augment.py` does it for `rand-m9-mstd0.5-inc1`: of fifteen operators whose
//! effect grows with the magnitude, `layers` are drawn for each picture, and each is done with `probability`.

use std::fmt;
use std::str::FromStr;

use image::RgbImage;
use rand::Rng;
use rand_distr::{Distribution as _, Normal};
use serde::{Serialize, Serializer};

use super::affine::Affine;
use super::{enhance, tables};

/// The highest magnitude.
const HIGHEST: f64 = 10.0;

/// RandAugment's settings, written as timm writes them: `rand-m9-mstd0.5-inc1`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RandAugment {
    /// Mean magnitude, 0 to 10 (`m`).
    pub magnitude: f64,
    /// Standard deviation of the magnitude, which is kept within 0 to 10 (`mstd`).
    pub deviation: f64,
    /// Operators drawn for each picture (`n`).
    pub layers: u32,
    /// Probability that a drawn operator is done (`p`).
    pub probability: f64,
}

impl Default for RandAugment {
    fn default() -> Self {
        Self { magnitude: 9.0, deviation: 0.5, layers: 2, probability: 0.5 }
    }
}

impl FromStr for RandAugment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let invalid = || format!("`{text}` is not like rand-m9-mstd0.5-inc1 (m 0 to 10, mstd, n, p 0 to 1, inc1)");
        let mut sections = text.split('-');
        // timm's values for what is not said.
        let mut policy = Self { magnitude: HIGHEST, deviation: 0.0, ..Self::default() };
        let mut increasing = false;
        if sections.next() != Some("rand") {
            return Err(invalid());
        }
        for section in sections {
            let digit = section.find(|character: char| character.is_ascii_digit()).ok_or_else(invalid)?;
            let (key, value) = section.split_at(digit);
            let number: f64 = value.parse().map_err(|_| invalid())?;
            match key {
                "m" => policy.magnitude = number,
                "mstd" => policy.deviation = number,
                "n" if number.fract() == 0.0 => policy.layers = number as u32,
                "p" => policy.probability = number,
                "inc" => increasing = number == 1.0,
                _ => return Err(invalid()),
            }
        }
        let fits = increasing && policy.magnitude <= HIGHEST && policy.layers <= 15 && policy.probability <= 1.0;
        if fits { Ok(policy) } else { Err(invalid()) }
    }
}

impl fmt::Display for RandAugment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { magnitude, deviation, layers, probability } = self;
        write!(f, "rand-m{magnitude}-mstd{deviation}-n{layers}-p{probability}-inc1")
    }
}

impl Serialize for RandAugment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// timm's `_RAND_INCREASING_TRANSFORMS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    AutoContrast,
    Equalize,
    Invert,
    Rotate,
    Posterize,
    Solarize,
    SolarizeAdd,
    Color,
    Contrast,
    Brightness,
    Sharpness,
    ShearX,
    ShearY,
    TranslateX,
    TranslateY,
}

const OPERATORS: [Operator; 15] = [
    Operator::AutoContrast,
    Operator::Equalize,
    Operator::Invert,
    Operator::Rotate,
    Operator::Posterize,
    Operator::Solarize,
    Operator::SolarizeAdd,
    Operator::Color,
    Operator::Contrast,
    Operator::Brightness,
    Operator::Sharpness,
    Operator::ShearX,
    Operator::ShearY,
    Operator::TranslateX,
    Operator::TranslateY,
];

/// Rotations reach this many degrees at the highest magnitude.
const ROTATION: f64 = 30.0;
/// Shears reach this factor.
const SHEAR: f64 = 0.3;
/// Shifts reach this share of a side.
const TRANSLATION: f64 = 0.45;
/// What enhancements are away from 1.
const ENHANCEMENT: f64 = 0.9;

/// Bits that posterising keeps: 4 down to none.
fn posterize_bits(level: f64) -> u32 {
    4 - (level * 4.0) as u32
}

/// Where solarising begins: 256 down to 0.
fn solarize_threshold(level: f64) -> u32 {
    256 - ((level * 256.0) as u32).min(256)
}

/// What is added to dark values: 0 up to 110.
fn solarize_addend(level: f64) -> u8 {
    ((level * 110.0) as u8).min(128)
}

impl Operator {
    /// The picture after the operator at `level` (0 to 1) of its effect, to the side that `sign` (-1 or 1) says.
    fn apply(self, picture: &RgbImage, level: f64, sign: f64, fill: [u8; 3]) -> RgbImage {
        let factor = (1.0 + sign * level * ENHANCEMENT).max(0.1);
        match self {
            Self::AutoContrast => tables::auto_contrast(picture),
            Self::Equalize => tables::equalize(picture),
            Self::Invert => tables::invert(picture),
            Self::Posterize => tables::posterize(picture, posterize_bits(level)),
            Self::Solarize => tables::solarize(picture, solarize_threshold(level)),
            Self::SolarizeAdd => tables::solarize_add(picture, solarize_addend(level)),
            Self::Color => enhance::color(picture, factor),
            Self::Contrast => enhance::contrast(picture, factor),
            Self::Brightness => enhance::brightness(picture, factor),
            Self::Sharpness => enhance::sharpness(picture, factor),
            Self::Rotate => Affine::rotate(picture, sign * level * ROTATION).apply(picture, fill),
            Self::ShearX => Affine::shear_x(sign * level * SHEAR).apply(picture, fill),
            Self::ShearY => Affine::shear_y(sign * level * SHEAR).apply(picture, fill),
            Self::TranslateX => Affine::translate_x(picture, sign * level * TRANSLATION).apply(picture, fill),
            Self::TranslateY => Affine::translate_y(picture, sign * level * TRANSLATION).apply(picture, fill),
        }
    }
}

impl RandAugment {
    /// The augmented picture; `fill` is what moved pictures leave behind.
    pub(super) fn apply(&self, mut picture: RgbImage, fill: [u8; 3], rng: &mut impl Rng) -> RgbImage {
        for _ in 0..self.layers {
            let operator = OPERATORS[rng.random_range(0..OPERATORS.len())];
            if rng.random::<f64>() < self.probability {
                let level = self.magnitude(rng) / HIGHEST;
                let sign = if rng.random::<bool>() { 1.0 } else { -1.0 };
                picture = operator.apply(&picture, level, sign, fill);
            }
        }
        picture
    }

    fn magnitude(&self, rng: &mut impl Rng) -> f64 {
        // A deviation that is read is finite and not negative.
        let drawn = Normal::new(self.magnitude, self.deviation).map_or(self.magnitude, |normal| normal.sample(rng));
        drawn.clamp(0.0, HIGHEST)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand_chacha::ChaCha8Rng;

    use super::super::fixtures::{FILL, assert_same, picture};
    use super::*;

    #[test]
    fn a_policy_is_read_as_timm_reads_it() {
        let policy: RandAugment = "rand-m9-mstd0.5-inc1".parse().unwrap();
        assert_eq!(policy, RandAugment::default());
        assert_eq!(policy.to_string().parse::<RandAugment>().unwrap(), policy);
        let other: RandAugment = "rand-n3-p0.25-inc1".parse().unwrap();
        assert_eq!(other, RandAugment { magnitude: 10.0, deviation: 0.0, layers: 3, probability: 0.25 });
        for wrong in
            ["m9", "rand-m9", "rand-m11-inc1", "rand-m9-inc1-x2", "rand-m-inc1", "rand-n1.5-inc1", "rand-p2-inc1"]
        {
            assert!(wrong.parse::<RandAugment>().is_err(), "{wrong}");
        }
    }

    /// timm's `LEVEL_TO_ARG` at magnitudes 9, 10, 2.5 and 0.
    #[test]
    fn levels_become_arguments_as_in_timm() {
        let of = |function: fn(f64) -> u32| [0.9, 1.0, 0.25, 0.0].map(function);
        assert_eq!(of(posterize_bits), [1, 0, 3, 4]);
        assert_eq!(of(solarize_threshold), [26, 0, 192, 256]);
        assert_eq!(of(|level| solarize_addend(level).into()), [99, 110, 27, 0]);
    }

    #[test]
    fn operators_at_magnitude_nine_are_timms() {
        let check =
            |operator: Operator, sign, name: &str| assert_same(&operator.apply(&picture(), 0.9, sign, FILL), name);
        check(Operator::AutoContrast, 1.0, "auto_contrast");
        check(Operator::Equalize, 1.0, "equalize");
        check(Operator::Invert, 1.0, "invert");
        check(Operator::Posterize, 1.0, "posterize_1");
        check(Operator::Solarize, 1.0, "solarize_26");
        check(Operator::SolarizeAdd, 1.0, "solarize_add_99");
        check(Operator::Rotate, 1.0, "rotate_27.0");
        check(Operator::ShearX, 1.0, "shear_x_0.27");
        check(Operator::ShearY, 1.0, "shear_y_0.27");
        check(Operator::TranslateX, 1.0, "translate_x_rel_0.405");
        check(Operator::TranslateY, 1.0, "translate_y_rel_0.405");
        for (operator, name) in [
            (Operator::Color, "color"),
            (Operator::Contrast, "contrast"),
            (Operator::Brightness, "brightness"),
            (Operator::Sharpness, "sharpness"),
        ] {
            check(operator, 1.0, &format!("{name}_1.81"));
            assert_same(&operator.apply(&picture(), 1.0, -1.0, FILL), &format!("{name}_0.1"));
        }
    }

    #[test]
    fn half_of_two_operators_are_done() {
        let (policy, picture) = (RandAugment::default(), picture());
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        let unchanged = (0..800).filter(|_| policy.apply(picture.clone(), FILL, &mut rng) == picture).count();
        // A quarter, with a standard deviation of 12.
        assert!((150..250).contains(&unchanged), "{unchanged}");
    }

    #[test]
    fn magnitudes_are_about_nine_and_never_above_ten() {
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        let drawn: Vec<f64> = (0..1000).map(|_| RandAugment::default().magnitude(&mut rng)).collect();
        let mean = drawn.iter().sum::<f64>() / 1000.0;
        assert!((mean - 9.0).abs() < 0.06 && drawn.iter().all(|magnitude| *magnitude <= 10.0), "{mean}");
        assert!(drawn.contains(&10.0));
    }
}
