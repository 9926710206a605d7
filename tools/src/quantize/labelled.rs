//! Pictures whose answers are known, of either task, and what a model says of them.

use std::path::Path;

use edge_vit::{Bundle, Classifier, Measured, Segmenter, Task};
use edge_vit_models::adapter::Meta;

use super::QuantizeError;
use super::validation::{validation_masks, validation_pictures};
use crate::data::Part;
use crate::evaluate::{Outcome, Samples, Skipped, outcomes};
use crate::segmentation::{self, MaskedListing, MaskedSet};

/// Pictures with a class each, or with one for each pixel.
#[derive(Debug)]
pub(super) enum Labelled {
    Classes(Samples),
    Masks(MaskedSet),
}

/// What a model says of labelled pictures.
#[derive(Debug)]
pub(super) struct Answers {
    pictures: usize,
    /// Share of the pictures that are called right, or the mean intersection over union of the classes; 0 to 1.
    accuracy: f64,
    /// The class that each picture is called, or each patch of each picture.
    called: Vec<usize>,
}

impl Labelled {
    /// Those of `folder` by which a choice may be made.
    pub(super) fn named(folder: &Path, bundle: &Bundle) -> Result<Self, QuantizeError> {
        Ok(match bundle.task {
            Task::Classification => {
                let samples = Samples::validation(folder, &bundle.labels)?;
                Self::Classes(samples.filmstrips(bundle.preprocessing.frames)?)
            }
            Task::Segmentation { .. } => Self::Masks(MaskedListing::read(folder)?.to_choose_by(&bundle.labels)?),
        })
    }

    /// Those that chose the epoch of the training that `meta` tells of.
    pub(super) fn of_training(meta: &Meta) -> Result<Self, QuantizeError> {
        Ok(match meta.task {
            edge_vit_models::Task::Classification => Self::Classes(validation_pictures(meta)?),
            edge_vit_models::Task::Segmentation => Self::Masks(validation_masks(meta)?),
        })
    }

    /// What the model with the bytes of `file` says of them, through the device's code. Pictures that cannot be read are left out.
    pub(super) fn answers(&self, file: &[u8]) -> Result<Answers, QuantizeError> {
        let (answers, skipped) = match self {
            Self::Classes(samples) => {
                let (outcomes, skipped) = outcomes(&Classifier::from_bytes(file)?, samples, &|_| ())?;
                (Answers::of_pictures(&outcomes), skipped)
            }
            Self::Masks(set) => {
                let segmenter = Segmenter::from_bytes(file)?;
                let (seen, skipped) = segmentation::look(&segmenter, set, &|_| ())?;
                let called = seen.iter().flat_map(|seen| &seen.patches).map(|&class| usize::from(class)).collect();
                let figures = segmentation::figures(&segmenter.bundle().labels, Part::Val, set, &seen, skipped)?;
                (Answers { pictures: figures.pictures, accuracy: figures.mean_iou, called }, figures.skipped)
            }
        };
        for Skipped { path, reason } in &skipped {
            log::debug!("{path} is left out: {reason}");
        }
        Ok(answers)
    }
}

impl Answers {
    fn of_pictures(outcomes: &[Outcome]) -> Self {
        let right = outcomes.iter().filter(|outcome| outcome.rank == 0).count();
        let called = outcomes.iter().map(|outcome| outcome.predicted).collect();
        Self { pictures: outcomes.len(), accuracy: right as f64 / outcomes.len().max(1) as f64, called }
    }

    /// How many pictures there are.
    pub(super) fn pictures(&self) -> usize {
        self.pictures
    }

    /// What the pictures say of a float32 model, which gave these answers, and of the same in fewer bits, which gave `after` of
    /// the same pictures.
    pub(super) fn against(&self, after: &Self) -> Measured {
        let alike = self.called.iter().zip(&after.called).filter(|(before, after)| before == after).count();
        Measured {
            pictures: self.pictures,
            float32_accuracy: self.accuracy,
            accuracy: after.accuracy,
            agreement: alike as f64 / self.called.len().max(1) as f64,
            drop: 100.0 * self.accuracy - 100.0 * after.accuracy,
        }
    }
}

/// Whether no more than `max_drop` points are lost. What a quotient lacks of the decimal fraction that is meant costs nothing.
pub(super) fn is_within(measured: &Measured, max_drop: f64) -> bool {
    measured.drop <= max_drop + 1e-9
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(truths: &[usize], predicted: &[usize]) -> Answers {
        let one = |(sample, (&truth, &predicted)): (usize, (&usize, &usize))| {
            let logits: Vec<f32> = (0..3).map(|class| if class == predicted { 1.0 } else { 0.0 }).collect();
            Outcome::score(sample, truth, &logits, 1.0, 0.0).unwrap()
        };
        let outcomes: Vec<Outcome> = truths.iter().zip(predicted).enumerate().map(one).collect();
        Answers::of_pictures(&outcomes)
    }

    #[test]
    fn accuracies_agreement_and_drop_are_counted() {
        let truths = [0, 1, 2, 0, 1];
        let measured = answers(&truths, &[0, 1, 2, 1, 0]).against(&answers(&truths, &[0, 1, 1, 2, 0]));
        let expected = Measured { pictures: 5, float32_accuracy: 0.6, accuracy: 0.4, agreement: 0.6, drop: 20.0 };
        assert_eq!(measured, expected);
        assert!(is_within(&measured, 20.0) && !is_within(&measured, 19.9));
    }

    #[test]
    fn a_model_that_gains_loses_less_than_nothing() {
        let measured = answers(&[0, 1], &[1, 1]).against(&answers(&[0, 1], &[0, 1]));
        assert_eq!(measured.drop, -50.0);
        assert!(is_within(&measured, 0.0));
    }
}
