use std::collections::VecDeque;
use std::num::NonZeroUsize;

use proptest::prelude::*;

use super::*;
use crate::decision::MAX_CLIP;
use crate::{HalfProducts, Preprocessing, Provenance, Rejection};

fn bundle(classes: usize, rejection: Option<Rejection>) -> Bundle {
    Bundle {
        labels: (0..classes).map(|class| format!("class {class}")).collect(),
        preprocessing: Preprocessing::imagenet([14, 14]),
        activation: Activation::Softmax,
        provenance: Provenance::default(),
        golden: Vec::new(),
        rejection,
        golden_tolerance: None,
        half_products: HalfProducts::Never,
        task: crate::Task::Classification,
    }
}

fn fitted(temperature: f32, threshold: f32) -> Option<Rejection> {
    Some(Rejection { temperature, threshold, false_rejection_rate: 0.05 })
}

fn decider(classes: usize, options: &Options) -> Decider {
    Decider::new(&bundle(classes, None), options).unwrap()
}

/// Logits whose softmax gives these scores.
fn logits(scores: &[f32]) -> Vec<f32> {
    scores.iter().map(|score| score.ln()).collect()
}

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// The answers to pictures with these scores, one every `interval` seconds.
fn answers(decider: &mut Decider, interval: f64, scores: &[&[f32]]) -> Vec<Option<usize>> {
    let one = |(number, scores): (usize, &&[f32])| decider.decide(&logits(scores), seconds(interval * number as f64));
    scores.iter().enumerate().map(one).map(|decision| decision.index).collect()
}

#[test]
fn a_picture_by_itself_is_judged_by_temperature_and_threshold() {
    // Logits 2 and 0 at temperature 2: softmax of 1 and 0.
    let expected = 1.0 / (1.0 + (-1.0f32).exp());
    for (threshold, known) in [(expected - 1e-4, true), (expected + 1e-4, false)] {
        let mut decider = Decider::new(&bundle(2, fitted(2.0, threshold)), &Options::default()).unwrap();
        let decision = decider.decide(&[2.0, 0.0], Duration::ZERO);
        assert_eq!((decision.index, decision.changed), (known.then_some(0), true));
        assert!((decision.score - expected).abs() < 1e-6, "{decision:?}");
    }
    // The user's threshold goes before the file's, and none at all answers always.
    let options = Options { threshold: Some(0.0), ..Options::default() };
    let mut decider = Decider::new(&bundle(2, fitted(2.0, 1.0)), &options).unwrap();
    assert_eq!(decider.decide(&[2.0, 0.0], Duration::ZERO).index, Some(0));
    assert_eq!(self::decider(3, &Options::default()).decide(&[0.0, 0.1, 0.0], Duration::ZERO).index, Some(1));
}

#[test]
fn smoothing_weighs_time_and_not_pictures() {
    let options = Options { smoothing: Some(seconds(0.5)), ..Options::default() };
    // The same change of scene at second 0, watched for a second at 1, 10 and 100 pictures a second.
    let after = [1, 10, 100].map(|rate| {
        let mut decider = decider(2, &options);
        decider.decide(&logits(&[0.9, 0.1]), Duration::ZERO);
        for picture in 1..=rate {
            decider.decide(&logits(&[0.2, 0.8]), seconds(f64::from(picture) / f64::from(rate)));
        }
        decider.scores()[0]
    });
    let expected = 0.2 + 0.7 * (-1.0f32 / 0.5).exp();
    assert!(after.iter().all(|score| (score - expected).abs() < 1e-5), "{after:?}, expected {expected}");
}

#[test]
fn a_clip_is_judged_by_the_mean_of_its_logits() {
    let options = Options { clip: NonZeroUsize::new(3).unwrap(), hysteresis: 0.0, ..Options::default() };
    let mut decider = decider(2, &options);
    let mut at = 0;
    let mut score = |decider: &mut Decider, logits: [f32; 2]| {
        at += 1;
        decider.decide(&logits, Duration::from_secs(at));
        decider.scores()[0]
    };
    let expected = |mean: f32| 1.0 / (1.0 + (-mean).exp());
    for (logits, mean) in [([3.0, 0.0], 3.0), ([0.0, 1.0], 1.0), ([0.0, 5.0], -1.0), ([0.0, 0.0], -2.0)] {
        let score = score(&mut decider, logits);
        assert!((score - expected(mean)).abs() < 1e-6, "{score}, expected {}", expected(mean));
    }
    decider.reset();
    assert!((score(&mut decider, [4.0, 0.0]) - expected(4.0)).abs() < 1e-6);
    // A step back in time begins anew.
    decider.decide(&[0.0, 2.0], Duration::from_secs(1));
    assert!((decider.scores()[0] - expected(-2.0)).abs() < 1e-6);
    let many = Options { clip: NonZeroUsize::new(MAX_CLIP + 1).unwrap(), ..Options::default() };
    assert!(Decider::new(&bundle(2, None), &many).unwrap_err().to_string().contains("1 to 1024"));
}

#[test]
fn after_a_long_gap_or_a_step_back_in_time_the_picture_stands_alone() {
    let options = Options { smoothing: Some(seconds(2.0)), ..Options::default() };
    for at in [seconds(160.0), seconds(99.0)] {
        let mut decider = decider(2, &options);
        decider.decide(&logits(&[0.9, 0.1]), seconds(100.0));
        let decision = decider.decide(&logits(&[0.49, 0.51]), at);
        assert_eq!((decision.index, decision.changed), (Some(1), true));
        assert!((decision.score - 0.51).abs() < 1e-6);
    }
    let mut decider = decider(2, &options);
    decider.decide(&logits(&[0.9, 0.1]), seconds(100.0));
    decider.reset();
    assert_eq!(decider.scores(), [0.0, 0.0]);
    assert_eq!(decider.decide(&logits(&[0.4, 0.6]), seconds(100.0)).index, Some(1));
}

#[test]
fn a_label_is_kept_while_another_leads_by_less_than_the_hysteresis() {
    let options = Options { hysteresis: 0.2, patience: seconds(1.0), ..Options::default() };
    let (lead, behind, clear): (&[f32], &[f32], &[f32]) = (&[0.55, 0.45], &[0.45, 0.55], &[0.39, 0.61]);
    // To and fro within the hysteresis, for longer than the patience.
    let to_and_fro = [lead, behind].repeat(20);
    assert!(answers(&mut decider(2, &options), 0.1, &to_and_fro).iter().all(|&answer| answer == Some(0)));
    // Clearly led: at once. Led a little, without a break: when the patience is over.
    assert_eq!(answers(&mut decider(2, &options), 0.1, &[lead, clear]), [Some(0), Some(1)]);
    let little = [vec![lead], vec![behind; 12]].concat();
    let answers = answers(&mut decider(2, &options), 0.1, &little);
    assert_eq!(answers.iter().position(|&answer| answer == Some(1)), Some(10));
}

#[test]
fn entering_takes_the_threshold_and_leaving_less_or_patience() {
    let options = Options { threshold: Some(0.6), hysteresis: 0.2, patience: seconds(1.0), ..Options::default() };
    let (sure, hardly, unsure): (&[f32], &[f32], &[f32]) = (&[0.62, 0.38], &[0.5, 0.5], &[0.35, 0.33, 0.32]);
    assert_eq!(answers(&mut decider(2, &options), 0.1, &[hardly, sure, hardly]), [None, Some(0), Some(0)]);
    let unsure = [&[0.8, 0.1, 0.1], unsure];
    assert_eq!(answers(&mut decider(3, &options), 0.1, &unsure), [Some(0), None]);
    let hardly = [vec![sure], vec![hardly; 12]].concat();
    let answers = answers(&mut decider(2, &options), 0.1, &hardly);
    assert_eq!(answers.iter().position(|&answer| answer.is_none()), Some(10));
}

#[test]
fn an_ignored_class_keeps_its_probability_and_is_never_the_answer() {
    let ignore = vec!["class 0".to_owned()];
    let mut decider = decider(3, &Options { ignore: ignore.clone(), ..Options::default() });
    let decision = decider.decide(&logits(&[0.9, 0.02, 0.08]), Duration::ZERO);
    assert_eq!(decision.index, Some(2));
    assert!((decision.score - 0.08).abs() < 1e-6 && (decider.scores()[0] - 0.9).abs() < 1e-6);
    assert_eq!(decider.top(5).map(|(class, _)| class).collect::<Vec<_>>(), [2, 1]);
    let options = Options { threshold: Some(0.5), ignore, ..Options::default() };
    let decision = self::decider(3, &options).decide(&logits(&[0.9, 0.02, 0.08]), Duration::ZERO);
    assert_eq!(decision.index, None);
    assert!((decision.score - 0.08).abs() < 1e-6);
}

#[test]
fn logits_that_no_model_gives_are_passed_over() {
    let mut decider = decider(2, &Options::default());
    let nothing = Decision { index: None, score: 0.0, changed: false };
    assert_eq!(decider.decide(&[1.0], Duration::ZERO), nothing);
    let first = decider.decide(&[1.0, 0.0], seconds(1.0));
    for broken in [&[f32::NAN, 0.0][..], &[0.0, f32::INFINITY], &[], &[0.0; 3]] {
        assert_eq!(decider.decide(broken, seconds(9.0)), Decision { changed: false, ..first });
    }
}

#[test]
fn top_is_ordered_and_of_equals_the_first_class_comes_first() {
    let mut decider = decider(4, &Options::default());
    decider.decide(&[0.0, 2.0, 0.0, 1.0], Duration::ZERO);
    assert_eq!(decider.top(9).map(|(class, _)| class).collect::<Vec<_>>(), [1, 3, 0, 2]);
    assert_eq!(decider.top(2).count(), 2);
    assert_eq!(decider.top(0).count(), 0);
}

#[test]
fn options_and_bundles_that_do_not_fit_are_refused() {
    let of = |bundle: &Bundle, options: &Options| Decider::new(bundle, options).map(drop).unwrap_err();
    let ignore = |entry: &str| Options { ignore: vec![entry.to_owned()], ..Options::default() };
    let error = of(&bundle(3, None), &ignore("clas 1"));
    assert!(error.to_string().contains("did you mean `class 1`?"), "{error}");
    assert!(matches!(of(&bundle(3, None), &ignore("*")), DecisionError::AllIgnored { classes: 3 }));
    let hysteresis = Options { hysteresis: f32::NAN, ..Options::default() };
    assert!(matches!(of(&bundle(3, None), &hysteresis), DecisionError::OutOfRange { field: "hysteresis", .. }));
    assert!(matches!(of(&bundle(3, fitted(0.0, 0.5)), &Options::default()), DecisionError::Bundle(_)));
    assert!(matches!(of(&bundle(0, None), &Options::default()), DecisionError::Bundle(_)));
}

/// Any options for a model of 4 classes or more.
fn any_options() -> impl Strategy<Value = Options> {
    let threshold = prop_oneof![Just(None), (0.0f32..=1.0).prop_map(Some)];
    let smoothing = prop_oneof![Just(None), (0.0f64..3.0).prop_map(|time| Some(seconds(time)))];
    (threshold, 1usize..4, smoothing, 0.0f32..=0.6, 0.0f64..4.0).prop_map(
        |(threshold, clip, smoothing, hysteresis, patience)| Options {
            threshold,
            clip: NonZeroUsize::new(clip).unwrap(),
            smoothing,
            hysteresis,
            patience: seconds(patience),
            ignore: Vec::new(),
        },
    )
}

/// Pictures of 4 classes: the logits, and the seconds since the picture before.
fn any_pictures() -> impl Strategy<Value = Vec<([f32; 4], f64)>> {
    let interval = prop_oneof![9 => 0.0f64..0.5, 1 => 0.0f64..20.0];
    prop::collection::vec((prop::array::uniform4(-3.0f32..3.0), interval), 1..80)
}

/// What is known after each picture.
struct Seen {
    at: f64,
    scores: Vec<f32>,
    decision: Decision,
}

fn watch(decider: &mut Decider, pictures: &[([f32; 4], f64)]) -> Vec<Seen> {
    let mut at = 0.0;
    let watch = |(logits, interval): &([f32; 4], f64)| {
        at += interval;
        let decision = decider.decide(logits, seconds(at));
        Seen { at, scores: decider.scores().to_vec(), decision }
    };
    pictures.iter().map(watch).collect()
}

/// The verdict on scores, written out anew.
fn verdict(scores: &[f32], threshold: f32) -> Option<usize> {
    let best = (0..scores.len()).fold(0, |best, class| if scores[class] > scores[best] { class } else { best });
    (scores[best] >= threshold).then_some(best)
}

proptest! {
    #[test]
    fn scores_are_probabilities_whatever_comes(
        options in any_options(),
        temperature in 0.05f32..20.0,
        pictures in prop::collection::vec((prop::array::uniform4(prop::num::f32::ANY), 0.0f64..1e6), 1..40),
    ) {
        let mut decider = Decider::new(&bundle(4, fitted(temperature, 0.5)), &options).unwrap();
        let mut begun = false;
        for (logits, at) in pictures {
            begun |= logits.iter().all(|logit| logit.is_finite());
            let decision = decider.decide(&logits, seconds(at));
            let sum: f32 = decider.scores().iter().sum();
            prop_assert!(!begun || (sum - 1.0).abs() < 1e-5, "{sum}");
            prop_assert!(decider.scores().iter().chain([&decision.score]).all(|score| (0.0..=1.0).contains(score)));
        }
    }

    #[test]
    fn the_answer_is_never_another_than_the_verdict_for_longer_than_the_patience(
        options in any_options(),
        pictures in any_pictures(),
    ) {
        let (threshold, patience) = (options.threshold.unwrap_or(0.0), options.patience.as_secs_f64());
        let mut agreed = 0.0;
        for seen in watch(&mut decider(4, &options), &pictures) {
            match verdict(&seen.scores, threshold) {
                verdict if verdict == seen.decision.index => agreed = seen.at,
                verdict => {
                    prop_assert!(seen.at - agreed < patience + 1e-6, "{verdict:?} for {} s", seen.at - agreed);
                    prop_assert!(options.hysteresis > 0.0);
                }
            }
        }
    }

    #[test]
    fn the_answer_does_not_flicker(options in any_options(), pictures in any_pictures()) {
        let (hysteresis, patience) = (options.hysteresis, options.patience.as_secs_f64());
        // All pictures from the last but two changes on.
        let mut span: VecDeque<Seen> = VecDeque::new();
        for seen in watch(&mut decider(4, &options), &pictures) {
            span.push_back(seen);
            let changes: Vec<usize> = (0..span.len()).filter(|&picture| span[picture].decision.changed).collect();
            let (Some(&last), true) = (changes.last(), changes.len() > 1) else { continue };
            let first = changes[changes.len() - 2];
            let within = || span.iter().take(last + 1).skip(first);
            let moved = (0..4).map(|class| {
                let scores = || within().map(|seen| seen.scores[class]);
                scores().fold(0.0, f32::max) - scores().fold(1.0, f32::min)
            });
            let still = moved.fold(0.0, f32::max) < hysteresis / 2.0 - 1e-6;
            if still && span[last].at - span[first].at < patience - 1e-6 {
                let from_unknown = span[last - 1].decision.index.is_none();
                prop_assert!(from_unknown, "{:?} to {:?}", span[last - 1].decision, span[last].decision);
            }
            span.drain(..first);
        }
    }

    #[test]
    fn renaming_the_classes_renames_the_answers(options in any_options(), pictures in any_pictures()) {
        let to = [2, 0, 3, 1];
        let renamed: Vec<([f32; 4], f64)> = pictures
            .iter()
            .map(|(logits, interval)| (std::array::from_fn(|class| logits[to[class]]), *interval))
            .collect();
        let (plain, renamed) =
            (watch(&mut decider(4, &options), &pictures), watch(&mut decider(4, &options), &renamed));
        for (plain, renamed) in plain.iter().zip(&renamed) {
            // Sums in another order move a score by its last digits: what they alone decide is left out.
            let mut sorted = plain.scores.clone();
            sorted.sort_by(f32::total_cmp);
            let close = |a: f32, b: f32| (a - b).abs() < 1e-5;
            let (threshold, hysteresis) = (options.threshold.unwrap_or(0.0), options.hysteresis);
            let edges = plain.scores.iter().flat_map(|&score| [score, score + hysteresis]);
            let on_edge = edges.chain(sorted.iter().map(|score| score - hysteresis)).any(|edge| {
                close(edge, threshold) || plain.scores.iter().any(|&score| edge != score && close(edge, score))
            });
            if on_edge || sorted.windows(2).any(|pair| close(pair[0], pair[1])) {
                break;
            }
            prop_assert!((0..4).all(|class| close(plain.scores[to[class]], renamed.scores[class])));
            prop_assert_eq!(renamed.decision.index.map(|class| to[class]), plain.decision.index);
            prop_assert_eq!(renamed.decision.changed, plain.decision.changed);
        }
    }
}
