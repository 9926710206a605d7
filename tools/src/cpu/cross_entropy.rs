//! The loss, as PyTorch's `cross_entropy` with probabilities as targets: `-sum(target * log_softmax(logits))` a row, which is a
//! picture or a patch of one.

use super::Real;
use super::vector::{max, sum};

/// The loss of every row of `logits` `[rows, classes]`, added up, and in place of the logits the gradient of `share` times that
/// sum. Each row of `targets` `[rows, classes]` adds up to how much it counts: 1 for a picture, 0 to 1 for a patch.
pub(super) fn in_place<T: Real>(logits: &mut [T], targets: &[f32], classes: usize, share: T) -> f64 {
    let mut loss = 0.0;
    for (row, targets) in logits.chunks_exact_mut(classes).zip(targets.chunks_exact(classes)) {
        let largest = max(row);
        let (mut expected, mut total) = (T::ZERO, T::ZERO);
        for (value, &target) in row.iter_mut().zip(targets) {
            *value -= largest;
            expected += T::from_f32(target) * *value;
            total += T::from_f32(target);
            *value = value.exp();
        }
        let normaliser = sum(row);
        loss += total.to_f64() * normaliser.to_f64().ln() - expected.to_f64();
        for (value, &target) in row.iter_mut().zip(targets) {
            *value = *value / normaliser * total * share - T::from_f32(target) * share;
        }
    }
    loss
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_logits_lose_the_logarithm_of_the_classes() {
        let mut logits = [3.0f64, 3.0, 3.0, 3.0];
        let loss = in_place(&mut logits, &[0.0, 0.0, 1.0, 0.0], 4, 0.5);
        assert!((loss - 4f64.ln()).abs() < 1e-15);
        assert_eq!(logits, [0.125, 0.125, -0.375, 0.125]);
    }

    #[test]
    fn soft_targets_are_weighed_as_pytorch_does() {
        let logits = [1.0f64, 2.0, 0.5];
        let log_normaliser = logits.iter().map(|v| v.exp()).sum::<f64>().ln();
        let expected = log_normaliser - (0.125 * 1.0 + 0.75 * 2.0 + 0.125 * 0.5);
        let mut gradient = logits;
        let loss = in_place(&mut gradient, &[0.125, 0.75, 0.125], 3, 1.0);
        assert!((loss - expected).abs() < 1e-14, "{loss} {expected}");
        for ((gradient, logit), target) in gradient.iter().zip(logits).zip([0.125, 0.75, 0.125]) {
            assert!((gradient - ((logit - log_normaliser).exp() - target)).abs() < 1e-14);
        }
    }
}
