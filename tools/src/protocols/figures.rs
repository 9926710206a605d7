//! What a model file is worth on the pictures of one data set.

use edge_vit::Classifier;
use serde::{Deserialize, Serialize};

use super::ProtocolError;
use crate::evaluate::{Outcome, Samples, Share, UnknownFolder, scored};

/// What a model is worth on the pictures of one data set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// The pictures whose best class is right.
    pub top1: Share,
    /// Mean cross-entropy in nats, over the classes that were possible answers.
    pub cross_entropy: f64,
    /// How many classes were possible answers.
    pub classes: usize,
    /// Classes of the model that the data set lacks.
    pub missing_classes: Vec<String>,
    /// Classes of the data set that the model does not know: their pictures were not shown.
    pub unknown_classes: Vec<UnknownFolder>,
    /// Pictures that cannot be read.
    pub skipped: usize,
}

impl Figures {
    /// Shows `samples` to `classifier`, whose classes all are possible answers.
    ///
    /// # Errors
    /// Those of [`crate::evaluate::outcomes`].
    pub(super) fn of(classifier: &Classifier, samples: &Samples) -> Result<Self, ProtocolError> {
        Self::among((0..classifier.bundle().labels.len()).collect(), classifier, samples)
    }

    /// The same where classes that the samples lack are no answers, as it is customary for data sets that hold a part of the
    /// classes.
    ///
    /// # Errors
    /// Those of [`crate::evaluate::outcomes`].
    pub(super) fn of_those_there(classifier: &Classifier, samples: &Samples) -> Result<Self, ProtocolError> {
        let labels = classifier.bundle().labels.iter().enumerate();
        let there = labels.filter(|(_, label)| !samples.missing_labels.contains(label)).map(|(class, _)| class);
        Self::among(there.collect(), classifier, samples)
    }

    /// The same with `answers`, which hold the class of every sample, as the only possible ones.
    fn among(answers: Vec<usize>, classifier: &Classifier, samples: &Samples) -> Result<Self, ProtocolError> {
        let score = |index: usize, logits: &[f32], ms: f64| {
            let class = samples.pictures[index].class;
            let truth = answers.iter().position(|&answer| answer == class)?;
            let logits: Vec<f32> = answers.iter().map(|&answer| logits[answer]).collect();
            Outcome::score(index, truth, &logits, 1.0, ms)
        };
        let (outcomes, skipped) = scored(classifier, samples, &|_| {}, &score)?;
        let correct = outcomes.iter().filter(|outcome| outcome.rank == 0).count();
        let cross_entropy = outcomes.iter().map(|outcome| outcome.cross_entropy).sum::<f64>() / outcomes.len() as f64;
        Ok(Self {
            top1: Share::new(correct, outcomes.len()),
            cross_entropy,
            classes: answers.len(),
            missing_classes: samples.missing_labels.clone(),
            unknown_classes: samples.unknown_folders.clone(),
            skipped: skipped.len(),
        })
    }

    /// Top-1 in percent.
    pub fn percent(&self) -> f64 {
        100.0 * self.top1.share
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::evaluate::fixture::{colour_model, paint};

    #[test]
    fn classes_that_a_data_set_lacks_are_no_answers() {
        let dir = tempfile::tempdir().unwrap();
        let classifier = Classifier::from_bytes(&colour_model(4, Some(["red", "green", "blue"]))).unwrap();
        // More blue than green and more green than red.
        let (mixed, green) = ([20, 90, 200], [10, 220, 10]);
        for (path, colour) in
            [("green/1.png", mixed), ("green/2.png", green), ("red/1.png", [220, 10, 10]), ("mauve/1.png", mixed)]
        {
            paint(&dir.path().join(path), colour);
        }
        fs::write(dir.path().join("red/2.png"), b"no picture").unwrap();
        let figures = || {
            let samples = Samples::find(dir.path(), &classifier.bundle().labels).unwrap();
            Figures::of_those_there(&classifier, &samples).unwrap()
        };
        let without_blue = figures();
        assert_eq!((without_blue.top1.correct, without_blue.top1.of, without_blue.classes), (3, 3, 2));
        assert_eq!((without_blue.missing_classes, without_blue.skipped), (vec!["blue".to_owned()], 1));
        assert_eq!(without_blue.unknown_classes, [UnknownFolder { name: "mauve".into(), pictures: 1 }]);
        let samples = Samples::find(dir.path(), &classifier.bundle().labels).unwrap();
        let among_all = Figures::of(&classifier, &samples).unwrap();
        assert_eq!((among_all.top1.correct, among_all.top1.of, among_all.classes), (2, 3, 3));
        paint(&dir.path().join("blue/1.png"), [10, 10, 220]);
        let with_blue = figures();
        assert_eq!((with_blue.top1.correct, with_blue.top1.of, with_blue.classes), (3, 4, 3));
        assert!(with_blue.missing_classes.is_empty());
    }
}
