//! Scores against what came true: the bins of a reliability diagram, and what a threshold gives up.

use serde::{Deserialize, Serialize};

/// Bins of the expected calibration error.
const BINS: usize = 15;
/// Thresholds that are looked at: from 0 in steps of a fiftieth.
const THRESHOLDS: u32 = 50;

/// The pictures whose score lies in one of 15 equal parts of (0, 1].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Bin {
    /// How many they are.
    pub pictures: usize,
    /// The mean of their scores, 0 to 1; 0 where there is no picture.
    pub score: f64,
    /// The share of them that is told right, 0 to 1; 0 where there is no picture.
    pub right: f64,
}

/// What is left of the pictures at a threshold.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Coverage {
    /// The score below which a picture is given up.
    pub threshold: f64,
    /// The share of pictures that is answered, 0 to 1.
    pub answered: f64,
    /// The share of the answered that is told right, 0 to 1; none where nothing is answered.
    pub right: Option<f64>,
}

/// The 15 bins of pictures, each given by its score and whether its best class is the true one.
pub fn bins(pictures: impl Iterator<Item = (f64, bool)>) -> Vec<Bin> {
    let mut bins = vec![Bin { pictures: 0, score: 0.0, right: 0.0 }; BINS];
    for (score, right) in pictures {
        let bin = &mut bins[((score * BINS as f64).ceil() as usize).clamp(1, BINS) - 1];
        bin.pictures += 1;
        bin.score += score;
        bin.right += f64::from(u8::from(right));
    }
    for bin in bins.iter_mut().filter(|bin| bin.pictures > 0) {
        bin.score /= bin.pictures as f64;
        bin.right /= bin.pictures as f64;
    }
    bins
}

/// The expected calibration error (Guo et al., arXiv 1706.04599, equation 3): the distances between a bin's mean score and
/// its share of right pictures are averaged, each by its number of pictures.
pub fn calibration_error(bins: &[Bin]) -> f64 {
    let pictures: usize = bins.iter().map(|bin| bin.pictures).sum();
    let sum: f64 = bins.iter().map(|bin| bin.pictures as f64 * (bin.score - bin.right).abs()).sum();
    if pictures == 0 { 0.0 } else { sum / pictures as f64 }
}

/// What each threshold from 0 to 1 gives up of the pictures, and how good the rest is.
pub fn coverage(pictures: impl Iterator<Item = (f64, bool)>) -> Vec<Coverage> {
    let mut sorted: Vec<(f64, bool)> = pictures.collect();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let all = sorted.len();
    let at = |step: u32| {
        let threshold = f64::from(step) / f64::from(THRESHOLDS);
        let answered = &sorted[sorted.partition_point(|&(score, _)| score < threshold)..];
        let right = answered.iter().filter(|(_, right)| *right).count();
        Coverage {
            threshold,
            answered: if all == 0 { 0.0 } else { answered.len() as f64 / all as f64 },
            right: (!answered.is_empty()).then(|| right as f64 / answered.len() as f64),
        }
    };
    (0..=THRESHOLDS).map(at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PICTURES: [(f64, bool); 4] = [(0.95, true), (0.97, false), (0.5, true), (0.2, false)];

    #[test]
    fn bins_hold_each_picture_once_and_their_error_is_the_mean_distance() {
        let bins = bins(PICTURES.into_iter());
        assert_eq!(bins.iter().map(|bin| bin.pictures).sum::<usize>(), PICTURES.len());
        assert_eq!((bins[14].pictures, bins[14].right), (2, 0.5));
        assert!((bins[14].score - 0.96).abs() < 1e-12);
        // 2 of 4 at a distance of 0.46, one at 0.5 and one at 0.2.
        assert!((calibration_error(&bins) - (2.0 * 0.46 + 0.5 + 0.2) / 4.0).abs() < 1e-12);
        let error = |pictures: &[(f64, bool)]| calibration_error(&super::bins(pictures.iter().copied()));
        assert_eq!((error(&[]), error(&[(1.0, true), (0.0, false)])), (0.0, 0.0));
    }

    #[test]
    fn a_higher_threshold_answers_fewer_pictures() {
        let coverage = coverage(PICTURES.into_iter());
        assert_eq!((coverage[0].answered, coverage[0].right), (1.0, Some(0.5)));
        assert!(coverage.windows(2).all(|pair| pair[1].answered <= pair[0].answered));
        let at = |threshold: f64| coverage.iter().find(|one| one.threshold == threshold).copied().unwrap();
        assert_eq!((at(0.5).answered, at(0.5).right), (0.75, Some(2.0 / 3.0)));
        assert_eq!((at(1.0).answered, at(1.0).right), (0.0, None));
        assert_eq!(super::coverage(std::iter::empty())[0].right, None);
    }
}
