//! How far a model's scores can be believed: fitting a temperature and a rejection threshold, and measuring both.
//!
//! C. Guo et al., "On Calibration of Modern Neural Networks" (arXiv 1706.04599), scale all logits by one temperature
//! so that the likelihood of the validation pictures' classes is greatest, and bin confidences to measure the error
//! that is left.

use edge_vit::Rejection;
use serde::{Deserialize, Serialize};

use super::figures::Share;
use super::reliability::{Bin, Coverage, bins, calibration_error, coverage};

/// The temperatures that are looked at.
const TEMPERATURES: [f64; 2] = [0.05, 20.0];
/// Halvings of that range's logarithm: far below float32's resolution.
const HALVINGS: usize = 60;
/// Below this many pictures a fit says little.
pub const FEW: usize = 20;

/// The logits of pictures whose classes are known.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Judged {
    /// One logit a class for each picture, picture after picture.
    pub logits: Vec<f32>,
    /// The class of each picture.
    pub truths: Vec<usize>,
}

impl Judged {
    /// How many classes there are.
    fn classes(&self) -> usize {
        self.logits.len().checked_div(self.truths.len()).unwrap_or(0)
    }

    /// Whether there are pictures, each with one finite logit a class, and a class that is one of them.
    fn is_sound(&self) -> bool {
        let classes = self.classes();
        classes * self.truths.len() == self.logits.len()
            && self.truths.iter().all(|&truth| truth < classes)
            && self.logits.iter().all(|logit| logit.is_finite())
            && classes > 0
    }

    /// The logits and the class of each picture.
    fn pictures(&self) -> impl Iterator<Item = (&[f32], usize)> {
        self.logits.chunks(self.classes().max(1)).zip(self.truths.iter().copied())
    }
}

/// Fits a rejection that gives up at most the share `rate` (0 to below 1) of these pictures; `None` if there are none,
/// or a logit is no finite number.
///
/// [`temperature`] says how the temperature is fitted. For the threshold the scores of the n pictures' best classes at
/// that temperature, right or wrong, are sorted; k = ⌊rate · n⌋ of the pictures are to be given up. The threshold lies
/// halfway between the k-th and the (k + 1)-th lowest score; where k is 0, halfway between the lowest score and that of
/// an even guess, 1 / classes. Of pictures with equal scores across that place, none is given up.
pub fn fit(judged: &Judged, rate: f64) -> Option<Rejection> {
    let temperature = temperature(judged)? as f32;
    let mut scores: Vec<f64> =
        judged.pictures().map(|(logits, _)| confidence(logits, f64::from(temperature))).collect();
    scores.sort_by(f64::total_cmp);
    // What a product of two decimal fractions lacks of the whole number that is meant must not cost a picture.
    let given_up = (rate * scores.len() as f64 + 1e-9).floor() as usize;
    let even_guess = 1.0 / judged.classes() as f64;
    let below = given_up.checked_sub(1).and_then(|last| scores.get(last)).copied().unwrap_or(even_guess);
    let above = scores.get(given_up).copied().unwrap_or(1.0);
    let mut threshold = ((below + above) / 2.0).clamp(0.0, 1.0) as f32;
    if f64::from(threshold) > above {
        threshold = threshold.next_down();
    }
    Some(Rejection { temperature, threshold, false_rejection_rate: rate as f32 })
}

/// The temperature, 0.05 to 20, at which the mean cross-entropy of the pictures' classes is least; 1 if the logits leave
/// it open, `None` if there are no pictures, or a logit is no finite number.
///
/// The targets are not quite 1 and 0. As J. Platt does for two classes ("Probabilistic outputs for support vector
/// machines", 1999), a picture's class is aimed at with (n + 1) / (n + 2) for n pictures, the rest is spread over the
/// others: a few pictures that are all told right are no proof that a model is never wrong, and with many the difference
/// vanishes. In the inverse temperature the cross-entropy is convex, so that its derivative is halved down to its zero.
pub fn temperature(judged: &Judged) -> Option<f64> {
    if !judged.is_sound() {
        return None;
    }
    let slope = |log_temperature: f64| slope(judged, (-log_temperature).exp());
    if slope(0.0) == 0.0 {
        return Some(1.0);
    }
    let [mut low, mut high] = TEMPERATURES.map(f64::ln);
    for _ in 0..HALVINGS {
        let middle = (low + high) / 2.0;
        // A falling cross-entropy in the inverse temperature asks for a lower temperature.
        if slope(middle) < 0.0 { high = middle } else { low = middle }
    }
    Some(((low + high) / 2.0).exp())
}

/// The derivative of the mean cross-entropy by the inverse temperature: the mean of the expected logit minus the aimed
/// at logit.
fn slope(judged: &Judged, inverse: f64) -> f64 {
    let pictures = judged.truths.len() as f64;
    let doubt = 1.0 / (pictures + 2.0);
    let of_picture = |(logits, truth): (&[f32], usize)| {
        let largest = f64::from(largest(logits));
        let (mut sum, mut weighted, mut others) = (0.0, 0.0, 0.0);
        for (class, &logit) in logits.iter().enumerate() {
            let below = f64::from(logit) - largest;
            let weight = (below * inverse).exp();
            sum += weight;
            weighted += weight * below;
            others += if class == truth { 0.0 } else { below };
        }
        let own = f64::from(logits[truth]) - largest;
        let spread = if logits.len() > 1 { others / (logits.len() - 1) as f64 } else { own };
        weighted / sum - (1.0 - doubt) * own - doubt * spread
    };
    judged.pictures().map(of_picture).sum::<f64>() / pictures
}

/// The softmax of the best class at a temperature.
pub fn confidence(logits: &[f32], temperature: f64) -> f64 {
    let largest = f64::from(largest(logits));
    1.0 / logits.iter().map(|&logit| ((f64::from(logit) - largest) / temperature).exp()).sum::<f64>()
}

fn largest(logits: &[f32]) -> f32 {
    logits.iter().copied().fold(f32::NEG_INFINITY, f32::max)
}

/// What a model's rejection does to a folder of pictures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// What the logits are divided by.
    pub temperature: f32,
    /// The score below which a picture is given up.
    pub threshold: f32,
    /// The share of pictures that the threshold was chosen to give up.
    pub false_rejection_rate: f32,
    /// Pictures that are given up.
    pub rejected: Share,
    /// Pictures that are told right, of those that are not given up.
    pub accepted_top1: Share,
    /// Expected calibration error of the plain softmax, 0 to 1.
    pub ece_plain: f64,
    /// Expected calibration error at the temperature, 0 to 1.
    pub ece_calibrated: f64,
    /// The pictures by their plain softmax, see [`bins`].
    pub bins_plain: Vec<Bin>,
    /// The pictures by their softmax at the temperature.
    pub bins_calibrated: Vec<Bin>,
    /// What other thresholds would do.
    pub coverage: Vec<Coverage>,
}

/// One picture as its calibration is measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Confidence {
    /// Whether the best class is the true one.
    pub(super) right: bool,
    /// Plain softmax of the best class.
    pub(super) plain: f64,
    /// Softmax of the best class at the temperature.
    pub(super) calibrated: f64,
}

impl Calibration {
    /// Gathers what `rejection` does to the pictures.
    pub(super) fn new(rejection: Rejection, pictures: &[Confidence]) -> Self {
        let accepted = pictures.iter().filter(|picture| picture.calibrated >= f64::from(rejection.threshold));
        let (right, count) =
            accepted.fold((0, 0), |(right, count), picture| (right + usize::from(picture.right), count + 1));
        let by = |score: fn(&Confidence) -> f64| bins(pictures.iter().map(|picture| (score(picture), picture.right)));
        let (bins_plain, bins_calibrated) = (by(|picture| picture.plain), by(|picture| picture.calibrated));
        Self {
            temperature: rejection.temperature,
            threshold: rejection.threshold,
            false_rejection_rate: rejection.false_rejection_rate,
            rejected: Share::new(pictures.len() - count, pictures.len()),
            accepted_top1: Share::new(right, count),
            ece_plain: calibration_error(&bins_plain),
            ece_calibrated: calibration_error(&bins_calibrated),
            bins_plain,
            bins_calibrated,
            coverage: coverage(pictures.iter().map(|picture| (picture.calibrated, picture.right))),
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng as _, SeedableRng as _};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// Logits whose softmax at `temperature` says how often each class is the true one.
    fn drawn(pictures: usize, classes: usize, temperature: f64, seed: u64) -> Judged {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut judged = Judged::default();
        for _ in 0..pictures {
            let logits: Vec<f32> = (0..classes).map(|_| random.random_range(-4.0..4.0)).collect();
            let sum: f64 = logits.iter().map(|&logit| (f64::from(logit) / temperature).exp()).sum();
            let mut left = random.random_range(0.0..sum);
            let truth = logits.iter().position(|&logit| {
                left -= (f64::from(logit) / temperature).exp();
                left <= 0.0
            });
            judged.truths.push(truth.unwrap_or(classes - 1));
            judged.logits.extend(logits);
        }
        judged
    }

    /// The mean cross-entropy with Platt's targets, written out.
    fn cross_entropy(judged: &Judged, temperature: f64) -> f64 {
        let pictures = judged.truths.len() as f64;
        let classes = judged.logits.len() / judged.truths.len();
        let mut sum = 0.0;
        for (logits, &truth) in judged.logits.chunks(classes).zip(&judged.truths) {
            let scaled: Vec<f64> = logits.iter().map(|&logit| f64::from(logit) / temperature).collect();
            let largest = scaled.iter().copied().fold(f64::MIN, f64::max);
            let log_sum = largest + scaled.iter().map(|logit| (logit - largest).exp()).sum::<f64>().ln();
            for (class, logit) in scaled.iter().enumerate() {
                let other = 1.0 / (pictures + 2.0) / (classes - 1) as f64;
                let target = if class == truth { (pictures + 1.0) / (pictures + 2.0) } else { other };
                sum += target * (log_sum - logit);
            }
        }
        sum / pictures
    }

    #[test]
    fn no_other_temperature_of_a_fine_grid_is_better() {
        for (pictures, classes, drawn_at, seed) in
            [(400, 5, 1.0, 1), (300, 3, 2.5, 2), (50, 10, 0.4, 3), (3, 2, 1.0, 4)]
        {
            let judged = drawn(pictures, classes, drawn_at, seed);
            let fitted = temperature(&judged).unwrap();
            let least = cross_entropy(&judged, fitted);
            let grid = (0..=3000).map(|step| 0.05 * 400f64.powf(f64::from(step) / 3000.0));
            let (best, at) = grid
                .map(|temperature| (cross_entropy(&judged, temperature), temperature))
                .min_by(|a, b| a.0.total_cmp(&b.0))
                .unwrap();
            assert!(least <= best + 1e-12, "{least} at {fitted}, {best} at {at}");
            assert!((fitted / at).ln().abs() < 0.003, "{fitted} and {at}");
        }
    }

    #[test]
    fn the_temperature_that_the_classes_were_drawn_at_is_found() {
        for drawn_at in [0.5, 1.0, 3.0] {
            let fitted = temperature(&drawn(4000, 6, drawn_at, 7)).unwrap();
            assert!((fitted / drawn_at).ln().abs() < 0.1, "{fitted}, drawn at {drawn_at}");
        }
    }

    #[test]
    fn a_few_pictures_that_are_all_right_do_not_make_it_certain() {
        for (pictures, [low, high]) in [(4, [0.7, 0.9]), (1000, [0.995, 1.0])] {
            let judged = Judged { logits: [3.0, 0.0].repeat(pictures), truths: vec![0; pictures] };
            let score = confidence(&[3.0, 0.0], temperature(&judged).unwrap());
            assert!((low..high).contains(&score), "{score} with {pictures} pictures");
        }
        // Logits that say nothing leave the temperature open; hopeless ones meet its bound.
        let level = Judged { logits: vec![1.0; 6], truths: vec![0, 1, 0] };
        assert_eq!(temperature(&level), Some(1.0));
        let wrong = Judged { logits: [9.0, 0.0].repeat(50), truths: vec![1; 50] };
        assert!((temperature(&wrong).unwrap() - TEMPERATURES[1]).abs() < 1e-6);
        assert_eq!(temperature(&Judged { logits: vec![1.0; 3], truths: vec![0; 3] }), Some(1.0), "one class");
        let none = Judged::default();
        let diverged = Judged { logits: vec![f32::NAN, 0.0], truths: vec![0] };
        let strange = Judged { logits: vec![1.0, 0.0], truths: vec![2] };
        assert!([none, diverged, strange].iter().all(|judged| fit(judged, 0.05).is_none()));
    }

    #[test]
    fn the_threshold_gives_up_the_share_of_the_pictures_that_was_asked_for() {
        for pictures in [1, 7, 19, 20, 100, 333] {
            let judged = drawn(pictures, 4, 1.3, pictures as u64);
            for rate in [0.0, 0.05, 0.1, 0.29, 0.5] {
                let rejection = fit(&judged, rate).unwrap();
                rejection.check().unwrap();
                let temperature = f64::from(rejection.temperature);
                let scores = judged.pictures().map(|(logits, _)| confidence(logits, temperature));
                let given_up = scores.filter(|&score| score < f64::from(rejection.threshold)).count();
                // The largest number of pictures whose share is not above the rate, counted out.
                let expected =
                    (0..=pictures).rev().find(|&count| count as f64 <= rate * pictures as f64 + 1e-9).unwrap();
                assert_eq!(given_up, expected, "{rate} of {pictures}");
            }
        }
    }

    #[test]
    fn the_threshold_lies_between_the_scores_beside_it_and_spares_equals() {
        let ln = |odds: f32| odds.ln();
        let one = Judged { logits: vec![ln(4.0), ln(1.0)], truths: vec![0] };
        let rejection = fit(&one, 0.05).unwrap();
        let score = confidence(&one.logits, f64::from(rejection.temperature));
        assert!((f64::from(rejection.threshold) - (0.5 + score) / 2.0).abs() < 1e-6, "{rejection:?}");

        let equal = Judged { logits: [ln(3.0), 0.0].repeat(40), truths: [[0; 30].as_slice(), &[1; 10]].concat() };
        let rejection = fit(&equal, 0.25).unwrap();
        let score = confidence(&[ln(3.0), 0.0], f64::from(rejection.temperature));
        assert!(score >= f64::from(rejection.threshold), "{rejection:?} against {score}");
    }

    #[test]
    fn a_hand_made_case_gives_the_figures_worked_out_by_hand() {
        let picture = |right, plain, calibrated| Confidence { right, plain, calibrated };
        let pictures =
            [picture(true, 0.99, 0.9), picture(true, 0.99, 0.9), picture(false, 0.97, 0.7), picture(true, 0.5, 0.4)];
        let rejection = Rejection { temperature: 2.0, threshold: 0.5, false_rejection_rate: 0.05 };
        let calibration = Calibration::new(rejection, &pictures);
        assert_eq!((calibration.rejected.correct, calibration.rejected.of), (1, 4));
        assert_eq!((calibration.accepted_top1.correct, calibration.accepted_top1.of), (2, 3));
        // Bins of a fifteenth: 0.99, 0.99 and 0.97 share one with two of three right; 0.5 is alone.
        let plain = ((0.99 + 0.99 + 0.97 - 2.0f64).abs() + (0.5 - 1.0f64).abs()) / 4.0;
        assert!((calibration.ece_plain - plain).abs() < 1e-12);
        let calibrated = ((1.8 - 2.0f64).abs() + 0.7 + (0.4 - 1.0f64).abs()) / 4.0;
        assert!((calibration.ece_calibrated - calibrated).abs() < 1e-12);
    }
}
