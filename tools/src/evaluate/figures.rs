//! From the logits of every picture to the figures of the whole.

use edge_vit::Rejection;
use serde::{Deserialize, Serialize};

use super::calibration::{self, Calibration, Confidence};
use super::samples::{Samples, UnknownFolder};
use crate::data::Part;

/// How many of the most confident mistakes an [`Evaluation`] keeps.
pub const WORST_KEPT: usize = 24;

/// Two-sided 95 % quantile of the normal distribution.
const Z_95: f64 = 1.959_963_984_540_054;

/// A share of pictures with its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Share {
    /// How many are right.
    pub correct: usize,
    /// Of how many.
    pub of: usize,
    /// The share, 0 to 1.
    pub share: f64,
    /// Lower end of the 95 % Wilson interval.
    pub low: f64,
    /// Upper end of the 95 % Wilson interval.
    pub high: f64,
}

impl Share {
    /// The share with Wilson's score interval (E. B. Wilson, 1927), which holds for few pictures and near 0 and 1.
    /// Of no pictures at all, the share is 0 and the interval is everything.
    pub fn new(correct: usize, of: usize) -> Self {
        if of == 0 {
            return Self { correct, of, share: 0.0, low: 0.0, high: 1.0 };
        }
        let n = of as f64;
        let p = correct as f64 / n;
        let z2 = Z_95 * Z_95;
        let centre = (p + z2 / (2.0 * n)) / (1.0 + z2 / n);
        let half = Z_95 / (1.0 + z2 / n) * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
        Self { correct, of, share: p, low: (centre - half).max(0.0), high: (centre + half).min(1.0) }
    }
}

/// What the model said of one picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The picture's position in [`Samples::pictures`].
    pub sample: usize,
    /// Its class.
    pub truth: usize,
    /// The class with the largest logit; of equal ones the first, as the runtime orders them.
    pub predicted: usize,
    /// How many classes come before the true one, 0 where the prediction is right.
    pub rank: usize,
    /// Softmax of the predicted class.
    pub confidence: f64,
    /// Softmax of the predicted class at the temperature of the model's rejection.
    pub calibrated_confidence: f64,
    /// Softmax of the true class.
    pub truth_confidence: f64,
    /// Cross-entropy in nats.
    pub cross_entropy: f64,
    /// Milliseconds of preprocessing and model.
    pub ms: f64,
}

impl Outcome {
    /// Scores the `logits` of a picture of class `truth`, or `None` where a logit is no finite number or `truth` is no
    /// class. The softmax is taken in float64; `temperature` is that of the calibrated confidence.
    pub fn score(sample: usize, truth: usize, logits: &[f32], temperature: f64, ms: f64) -> Option<Self> {
        let &own = logits.get(truth)?;
        if !logits.iter().all(|logit| logit.is_finite()) {
            return None;
        }
        let before = |(class, &logit): (usize, &f32)| logit > own || (logit == own && class < truth);
        let rank = logits.iter().enumerate().filter(|&one| before(one)).count();
        let first_largest = |best: (usize, f32), (class, &logit): (usize, &f32)| {
            if logit > best.1 { (class, logit) } else { best }
        };
        let (predicted, best) = logits.iter().enumerate().fold((0, f32::NEG_INFINITY), first_largest);
        let best = f64::from(best);
        let sum: f64 = logits.iter().map(|&logit| (f64::from(logit) - best).exp()).sum();
        let log_sum = best + sum.ln();
        Some(Self {
            sample,
            truth,
            predicted,
            rank,
            confidence: 1.0 / sum,
            calibrated_confidence: calibration::confidence(logits, temperature),
            truth_confidence: (f64::from(own) - log_sum).exp(),
            cross_entropy: log_sum - f64::from(own),
            ms,
        })
    }
}

/// The figures of one class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassFigures {
    /// Its label.
    pub label: String,
    /// How many pictures are of this class.
    pub count: usize,
    /// How many pictures were called so.
    pub predicted: usize,
    /// How many of its pictures were called so.
    pub correct: usize,
    /// Share of the pictures called so that are so; none where none was.
    pub precision: Option<f64>,
    /// Share of its pictures that were called so; none where there is none.
    pub recall: Option<f64>,
}

/// A picture that was called something else.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mistake {
    /// The picture's position in [`Samples::pictures`].
    pub sample: usize,
    /// Where it is.
    pub path: String,
    /// What it is.
    pub truth: String,
    /// What it was called.
    pub prediction: String,
    /// How sure the model was of that, 0 to 1.
    pub confidence: f64,
    /// How likely it held the truth, 0 to 1.
    pub truth_confidence: f64,
}

/// A picture that was left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// Where it is.
    pub path: String,
    /// Why.
    pub reason: String,
}

/// How good a model is on a folder of pictures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// The folder measured on.
    pub folder: String,
    /// Which part of the data set that is.
    pub part: Part,
    /// How many frames were averaged, where clips were judged: the pictures counted below are clips then.
    #[serde(default)]
    pub frames: Option<usize>,
    /// The model's labels, in its order.
    pub labels: Vec<String>,
    /// Pictures whose best class is the true one.
    pub top1: Share,
    /// Pictures whose true class is among the best five; none for a model of five classes or fewer.
    pub top5: Option<Share>,
    /// Mean cross-entropy in nats.
    pub mean_cross_entropy: f64,
    /// What the model's rejection does; none for a model without one.
    #[serde(default)]
    pub calibration: Option<Calibration>,
    /// The figures of every label, in the model's order.
    pub classes: Vec<ClassFigures>,
    /// How many pictures of class `row` were called class `column`.
    pub confusion: Vec<Vec<usize>>,
    /// The most confident mistakes, the surest first; at most [`WORST_KEPT`].
    pub mistakes: Vec<Mistake>,
    /// Pictures that could not be read.
    pub skipped: Vec<Skipped>,
    /// Folders that are no class of the model.
    pub unknown_folders: Vec<UnknownFolder>,
    /// Labels without a picture.
    pub missing_labels: Vec<String>,
    /// Median milliseconds of preprocessing and model a picture, with `threads` pictures under way at once.
    pub median_ms: f64,
    /// How many pictures were under way at once.
    pub threads: usize,
}

impl Evaluation {
    /// Gathers the outcomes of `samples`, scored at the temperature of `rejection` if there is one; the classes in
    /// `outcomes` are positions in `labels`.
    pub fn new(
        labels: &[String],
        samples: &Samples,
        outcomes: &[Outcome],
        skipped: Vec<Skipped>,
        rejection: Option<Rejection>,
    ) -> Self {
        let classes = labels.len();
        let mut confusion = vec![vec![0usize; classes]; classes];
        for outcome in outcomes {
            confusion[outcome.truth][outcome.predicted] += 1;
        }
        let within = |rank: usize| outcomes.iter().filter(|outcome| outcome.rank < rank).count();
        let total = outcomes.len();
        let mut times: Vec<f64> = outcomes.iter().map(|outcome| outcome.ms).collect();
        let sum: f64 = outcomes.iter().map(|outcome| outcome.cross_entropy).sum();
        let confidence = |outcome: &Outcome| Confidence {
            right: outcome.rank == 0,
            plain: outcome.confidence,
            calibrated: outcome.calibrated_confidence,
        };
        let confidences: Vec<Confidence> = outcomes.iter().map(confidence).collect();
        Self {
            folder: samples.folder.to_string_lossy().into_owned(),
            part: samples.part,
            frames: None,
            labels: labels.to_vec(),
            top1: Share::new(within(1), total),
            top5: (classes > 5).then(|| Share::new(within(5), total)),
            mean_cross_entropy: sum / total.max(1) as f64,
            calibration: rejection.map(|rejection| Calibration::new(rejection, &confidences)),
            classes: class_figures(labels, &confusion),
            confusion,
            mistakes: worst_mistakes(labels, samples, outcomes),
            skipped,
            unknown_folders: samples.unknown_folders.clone(),
            missing_labels: samples.missing_labels.clone(),
            median_ms: median(&mut times),
            threads: rayon::current_num_threads(),
        }
    }

    /// The most frequent confusions, as (truth, prediction, count), the most frequent first.
    pub fn confused_pairs(&self) -> Vec<(usize, usize, usize)> {
        let mut pairs: Vec<(usize, usize, usize)> = Vec::new();
        for (truth, row) in self.confusion.iter().enumerate() {
            let wrong = row.iter().enumerate().filter(|&(called, &count)| called != truth && count > 0);
            pairs.extend(wrong.map(|(called, &count)| (truth, called, count)));
        }
        pairs.sort_by_key(|&(truth, called, count)| (std::cmp::Reverse(count), truth, called));
        pairs
    }
}

fn class_figures(labels: &[String], confusion: &[Vec<usize>]) -> Vec<ClassFigures> {
    let share = |part: usize, of: usize| (of > 0).then(|| part as f64 / of as f64);
    let figures = |(class, label): (usize, &String)| {
        let count = confusion[class].iter().sum();
        let predicted = confusion.iter().map(|row| row[class]).sum();
        let correct = confusion[class][class];
        let (precision, recall) = (share(correct, predicted), share(correct, count));
        ClassFigures { label: label.clone(), count, predicted, correct, precision, recall }
    };
    labels.iter().enumerate().map(figures).collect()
}

fn worst_mistakes(labels: &[String], samples: &Samples, outcomes: &[Outcome]) -> Vec<Mistake> {
    let mut wrong: Vec<&Outcome> = outcomes.iter().filter(|outcome| outcome.rank > 0).collect();
    wrong.sort_by(|a, b| b.confidence.total_cmp(&a.confidence).then(a.sample.cmp(&b.sample)));
    let mistake = |outcome: &Outcome| Mistake {
        sample: outcome.sample,
        path: samples.pictures[outcome.sample].path.to_string_lossy().into_owned(),
        truth: labels[outcome.truth].clone(),
        prediction: labels[outcome.predicted].clone(),
        confidence: outcome.confidence,
        truth_confidence: outcome.truth_confidence,
    };
    wrong.into_iter().take(WORST_KEPT).map(mistake).collect()
}

/// The middle value, the mean of the two middle ones for an even number, 0 for none. Sorts `values`.
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        len if len % 2 == 1 => values[len / 2],
        len => (values[len / 2 - 1] + values[len / 2]) / 2.0,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::evaluate::Sample;

    /// Relative tolerance of a float64 figure of a few operations.
    const F64_TOLERANCE: f64 = 1e-12;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() <= F64_TOLERANCE * b.abs().max(1.0)
    }

    /// The evaluation of pictures given by their classes and logits, over labels `a`, `b`, ...
    pub(crate) fn evaluation_of(cases: &[(usize, &[f32])]) -> Evaluation {
        let classes = cases[0].1.len();
        let labels: Vec<String> = (0..classes).map(|class| char::from(b'a' + class as u8).to_string()).collect();
        let pictures = cases.iter().enumerate().map(|(index, &(class, _))| {
            let path = PathBuf::from(format!("{}/{index}.png", labels[class]));
            Sample { path, class, group: None, film: None }
        });
        let samples = Samples {
            folder: PathBuf::from("data/test"),
            part: Part::Test,
            pictures: pictures.collect(),
            unknown_folders: Vec::new(),
            missing_labels: Vec::new(),
        };
        let rejection = Rejection { temperature: 2.0, threshold: 0.55, false_rejection_rate: 0.05 };
        let score = |(index, &(class, logits)): (usize, &(usize, &[f32]))| {
            Outcome::score(index, class, logits, f64::from(rejection.temperature), (index + 1) as f64).unwrap()
        };

        let outcomes: Vec<Outcome> = cases.iter().enumerate().map(score).collect();
        Evaluation::new(&labels, &samples, &outcomes, Vec::new(), Some(rejection))
    }

    #[test]
    fn a_hand_made_case_gives_the_figures_worked_out_by_hand() {
        let ln = |odds: f32| odds.ln();
        let evaluation = evaluation_of(&[
            (0, &[ln(2.0), ln(1.0), ln(1.0)]),
            (0, &[ln(1.0), ln(8.0), ln(1.0)]),
            (1, &[ln(1.0), ln(2.0), ln(1.0)]),
            (2, &[ln(3.0), ln(2.0), ln(1.0)]),
        ]);
        assert_eq!(evaluation.confusion, [[1, 1, 0], [0, 1, 0], [1, 0, 0]]);
        assert_eq!((evaluation.top1.correct, evaluation.top1.of), (2, 4));
        assert_eq!(evaluation.top5, None, "five classes or fewer are always among the best five");
        let [a, b, c] = evaluation.classes.as_slice() else { panic!("three classes") };
        assert_eq!((a.count, a.predicted, a.correct, a.precision, a.recall), (2, 2, 1, Some(0.5), Some(0.5)));
        assert_eq!((b.count, b.predicted, b.correct, b.precision, b.recall), (1, 2, 1, Some(0.5), Some(1.0)));
        assert_eq!((c.count, c.predicted, c.correct, c.precision, c.recall), (1, 0, 0, None, Some(0.0)));
        // Cross-entropies: ln 2, ln 10, ln 2, ln 6; the logits are float32.
        let expected = 240f64.ln() / 4.0;
        assert!((evaluation.mean_cross_entropy - expected).abs() < 1e-6);
        let worst: Vec<_> = evaluation.mistakes.iter().map(|mistake| mistake.path.as_str()).collect();
        assert_eq!(worst, ["a/1.png", "c/3.png"]);
        assert!((evaluation.mistakes[0].confidence - 0.8).abs() < 1e-6);
        assert!((evaluation.mistakes[0].truth_confidence - 0.1).abs() < 1e-6);
        assert_eq!(evaluation.confused_pairs(), [(0, 1, 1), (2, 0, 1)]);
        assert_eq!(evaluation.median_ms, 2.5);
    }

    #[test]
    fn of_equal_logits_the_first_class_wins() {
        let tie = [1.0f32, 1.0, 0.0];
        let ranks = [0, 1, 2].map(|truth| Outcome::score(0, truth, &tie, 1.0, 0.0).unwrap());
        assert_eq!(ranks.each_ref().map(|outcome| outcome.rank), [0, 1, 2]);
        assert_eq!(ranks.each_ref().map(|outcome| outcome.predicted), [0, 0, 0]);
    }

    #[test]
    fn the_sixth_best_class_is_not_among_the_best_five() {
        let falling: Vec<f32> = (0..7u8).map(|class| -f32::from(class)).collect();
        let cases: Vec<(usize, &[f32])> = (0..7).map(|class| (class, falling.as_slice())).collect();
        let evaluation = evaluation_of(&cases);
        assert_eq!(evaluation.top1.correct, 1);
        assert_eq!(evaluation.top5.map(|share| share.correct), Some(5));
    }

    #[test]
    fn logits_that_are_no_numbers_are_refused_and_large_ones_are_not() {
        assert_eq!(Outcome::score(0, 0, &[f32::NAN, 0.0], 1.0, 0.0), None);
        assert_eq!(Outcome::score(0, 2, &[1.0, 0.0], 1.0, 0.0), None);
        let outcome = Outcome::score(0, 1, &[3e38, -3e38], 1.0, 0.0).unwrap();
        assert!(outcome.cross_entropy.is_finite() && outcome.confidence == 1.0 && outcome.truth_confidence == 0.0);
    }

    #[test]
    fn wilsons_interval_agrees_with_published_values() {
        // 81 of 263: Newcombe 1998 gives 0.2553 to 0.3662; 0 of 20 gives 0.0000 to 0.1611.
        let share = Share::new(81, 263);
        assert!((share.low - 0.2553).abs() < 5e-5 && (share.high - 0.3662).abs() < 5e-5);
        let none = Share::new(0, 20);
        assert!(close(none.low, 0.0) && (none.high - 0.1611).abs() < 5e-5);
        let all = Share::new(20, 20);
        assert!(close(all.low, 1.0 - none.high) && close(all.high, 1.0));
    }

    #[test]
    fn figures_survive_json() {
        let evaluation = evaluation_of(&[(0, &[1.0, 0.5]), (1, &[1.0, 0.25])]);
        let text = serde_json::to_string(&evaluation).unwrap();
        let back: Evaluation = serde_json::from_str(&text).unwrap();
        assert_eq!((back.confusion, back.top1.correct), (evaluation.confusion, 1));
        assert_eq!(back.calibration.map(|calibration| calibration.rejected.of), Some(2));
    }
}
