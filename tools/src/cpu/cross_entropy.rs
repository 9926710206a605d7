//! The loss, as PyTorch's `cross_entropy` with `label_smoothing`: the target is `1 - smoothing` at the label plus
//! `smoothing / classes` everywhere.

use super::Real;
use super::vector::{max, sum};

/// The loss of every picture of `logits` `[pictures, classes]`, added up, and in place of the logits the gradient of
/// `share` times that sum.
pub(super) fn in_place<T: Real>(logits: &mut [T], labels: &[u32], smoothing: f32, share: T) -> f64 {
    let classes = logits.len() / labels.len();
    let smoothing = T::from_f32(smoothing);
    let everywhere = smoothing / T::from_f64(classes as f64);
    let mut loss = 0.0;
    for (row, &label) in logits.chunks_exact_mut(classes).zip(labels) {
        let largest = max(row);
        for value in row.iter_mut() {
            *value -= largest;
        }
        let (at_label, total) = (row[label as usize], sum(row));
        for value in row.iter_mut() {
            *value = value.exp();
        }
        let normaliser = sum(row);
        let log_normaliser = normaliser.to_f64().ln();
        let expected = (T::ONE - smoothing) * at_label + everywhere * total;
        loss += log_normaliser - expected.to_f64();
        for value in row.iter_mut() {
            *value = (*value / normaliser - everywhere) * share;
        }
        row[label as usize] -= (T::ONE - smoothing) * share;
    }
    loss
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_logits_lose_the_logarithm_of_the_classes() {
        let mut logits = [3.0f64, 3.0, 3.0, 3.0];
        let loss = in_place(&mut logits, &[2], 0.0, 0.5);
        assert!((loss - 4f64.ln()).abs() < 1e-15);
        assert_eq!(logits, [0.125, 0.125, -0.375, 0.125]);
    }

    #[test]
    fn smoothing_is_that_of_pytorch() {
        let logits = [1.0f64, 2.0, 0.5];
        let log_normaliser = logits.iter().map(|v| v.exp()).sum::<f64>().ln();
        let expected = log_normaliser - (0.7 * 2.0 + 0.1 * (1.0 + 2.0 + 0.5));
        let loss = in_place(&mut logits.clone(), &[1], 0.3, 1.0);
        assert!((loss - expected).abs() < 1e-7, "{loss} {expected}: the smoothing is a float32");
    }
}
