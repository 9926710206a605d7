//! Two models on the same labelled pictures.

use edge_vit::Measured;

use crate::evaluate::Outcome;

/// What the pictures say of a float32 model (`before`) and of the same in fewer bits (`after`), outcomes of the same pictures in
/// the same order.
pub(super) fn measured(before: &[Outcome], after: &[Outcome]) -> Measured {
    let right = |outcomes: &[Outcome]| outcomes.iter().filter(|outcome| outcome.rank == 0).count();
    let (pictures, right_before, right_after) = (before.len(), right(before), right(after));
    let alike = before.iter().zip(after).filter(|(before, after)| before.predicted == after.predicted).count();
    let share = |count: usize| count as f64 / pictures.max(1) as f64;
    Measured {
        pictures,
        float32_accuracy: share(right_before),
        accuracy: share(right_after),
        agreement: share(alike),
        drop: 100.0 * (right_before as f64 - right_after as f64) / pictures.max(1) as f64,
    }
}

/// Whether no more than `max_drop` points are lost. What a quotient lacks of the decimal fraction that is meant costs nothing.
pub(super) fn is_within(measured: &Measured, max_drop: f64) -> bool {
    measured.drop <= max_drop + 1e-9
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcomes(truths: &[usize], predicted: &[usize]) -> Vec<Outcome> {
        let one = |(sample, (&truth, &predicted)): (usize, (&usize, &usize))| {
            let logits: Vec<f32> = (0..3).map(|class| if class == predicted { 1.0 } else { 0.0 }).collect();
            Outcome::score(sample, truth, &logits, 1.0, 0.0).unwrap()
        };
        truths.iter().zip(predicted).enumerate().map(one).collect()
    }

    #[test]
    fn accuracies_agreement_and_drop_are_counted() {
        let truths = [0, 1, 2, 0, 1];
        let before = outcomes(&truths, &[0, 1, 2, 1, 0]);
        let after = outcomes(&truths, &[0, 1, 1, 2, 0]);
        let measured = measured(&before, &after);
        let expected = Measured { pictures: 5, float32_accuracy: 0.6, accuracy: 0.4, agreement: 0.6, drop: 20.0 };
        assert_eq!(measured, expected);
        assert!(is_within(&measured, 20.0) && !is_within(&measured, 19.9));
    }

    #[test]
    fn a_model_that_gains_loses_less_than_nothing() {
        let measured = measured(&outcomes(&[0, 1], &[1, 1]), &outcomes(&[0, 1], &[0, 1]));
        assert_eq!(measured.drop, -50.0);
        assert!(is_within(&measured, 0.0));
    }
}
