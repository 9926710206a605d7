//! A linear probe on frozen features, judged out of fold: ridge regression on one-hot targets, whose leave-one-out predictions
//! follow from one fit.
//!
//! With centred features `X` `[n, d]`, `X^T X = U S U^T` and `Z = X U`, the fit of the targets `Y` is `Z (S + a)^-1 Z^T Y`, the
//! leverage of picture `i` is `h_i = 1/n + sum_j z_ij^2 / (s_j + a)`, and without picture `i` its prediction is
//! `y_i - (y_i - fit_i) / (1 - h_i)`. Probabilities are the softmax of the predictions over a temperature; the strength `a` and the
//! temperature are those of the least log loss out of fold.

use faer::{Mat, Side};

/// Strengths of the ridge, as shares of the mean eigenvalue.
const STRENGTHS: [f64; 7] = [1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0, 1000.0];
/// Temperatures of the softmax over predictions between 0 and 1.
const TEMPERATURES: [f64; 8] = [0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5];

/// A fitted probe.
pub(super) struct Probe {
    /// `[d]`.
    mean: Vec<f64>,
    /// `[d, classes]`.
    weights: Mat<f64>,
    /// `[classes]`: the share of each class.
    shares: Vec<f64>,
    temperature: f64,
    /// For each picture of the fit, the probabilities of all classes without it.
    pub(super) out_of_fold: Vec<Vec<f64>>,
}

impl Probe {
    /// Fits the probe to `features`, one vector a picture, and their classes, below `classes`. `None` for fewer than three
    /// pictures, or where the features are no finite numbers.
    pub(super) fn fit(features: &[Vec<f32>], labels: &[usize], classes: usize) -> Option<Self> {
        let (n, d) = (features.len(), features.first()?.len());
        if n < 3 || features.iter().flatten().any(|value| !value.is_finite()) {
            return None;
        }
        let mean_of = |j: usize| features.iter().map(|row| f64::from(row[j])).sum::<f64>() / n as f64;
        let mean: Vec<f64> = (0..d).map(mean_of).collect();
        let x = Mat::from_fn(n, d, |i, j| f64::from(features[i][j]) - mean[j]);
        let eigen = (x.transpose() * &x).self_adjoint_eigen(Side::Lower).ok()?;
        let values: Vec<f64> = (0..d).map(|j| eigen.S().column_vector()[j].max(0.0)).collect();
        let scale = (values.iter().sum::<f64>() / d as f64).max(f64::MIN_POSITIVE);
        let z = &x * eigen.U();
        let share = |class: usize| labels.iter().filter(|&&label| label == class).count() as f64 / n as f64;
        let shares: Vec<f64> = (0..classes).map(share).collect();
        let target = |i: usize, class: usize| f64::from(u8::from(labels[i] == class));
        let targets = Mat::from_fn(n, classes, |i, class| target(i, class) - shares[class]);
        let products = z.transpose() * &targets;

        let mut best: Option<(f64, Self)> = None;
        for strength in STRENGTHS {
            let inverse: Vec<f64> = values.iter().map(|value| 1.0 / (value + strength * scale)).collect();
            let shrunk = Mat::from_fn(d, classes, |j, class| inverse[j] * products[(j, class)]);
            let fit = &z * &shrunk;
            let left_out: Vec<Vec<f64>> = (0..n)
                .map(|i| {
                    let spread: f64 = (0..d).map(|j| z[(i, j)] * z[(i, j)] * inverse[j]).sum();
                    let rest = (1.0 - 1.0 / n as f64 - spread).max(1e-9);
                    (0..classes)
                        .map(|class| target(i, class) - (targets[(i, class)] - fit[(i, class)]) / rest)
                        .collect()
                })
                .collect();
            for temperature in TEMPERATURES {
                let probabilities: Vec<Vec<f64>> = left_out.iter().map(|row| softmax(row, temperature)).collect();
                let of_label = probabilities.iter().zip(labels).map(|(row, &label)| row[label]);
                let loss = -of_label.map(|p| p.max(1e-12).ln()).sum::<f64>();
                if best.as_ref().is_none_or(|(least, _)| loss < *least) {
                    let weights = eigen.U() * &shrunk;
                    let probe = Self {
                        mean: mean.clone(),
                        weights,
                        shares: shares.clone(),
                        temperature,
                        out_of_fold: probabilities,
                    };
                    best = Some((loss, probe));
                }
            }
        }
        best.map(|(_, probe)| probe)
    }

    /// The probabilities of all classes for a picture that took no part in the fit.
    pub(super) fn probabilities(&self, features: &[f32]) -> Vec<f64> {
        let score = |class: usize| {
            let products = features.iter().zip(&self.mean).enumerate();
            products.map(|(j, (value, mean))| (f64::from(*value) - mean) * self.weights[(j, class)]).sum::<f64>()
                + self.shares[class]
        };
        softmax(&(0..self.shares.len()).map(score).collect::<Vec<_>>(), self.temperature)
    }
}

fn softmax(scores: &[f64], temperature: f64) -> Vec<f64> {
    let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = scores.iter().map(|score| ((score - largest) / temperature).exp()).collect();
    let sum: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / sum).collect()
}

#[cfg(test)]
mod tests {
    use rand::{Rng as _, SeedableRng as _};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// `n` pictures around the corners of a triangle in `d` dimensions, by turns.
    fn clouds(n: usize, d: usize) -> (Vec<Vec<f32>>, Vec<usize>) {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let labels: Vec<usize> = (0..n).map(|i| i % 3).collect();
        let mut vector = |label: usize| {
            (0..d).map(|j| rng.random_range(-0.5..0.5) + if j == label { 1.0 } else { 0.0 }).collect::<Vec<f32>>()
        };
        let features = labels.iter().map(|&label| vector(label)).collect();
        (features, labels)
    }

    #[test]
    fn a_prediction_out_of_fold_is_that_of_a_fit_without_the_picture() {
        let (features, labels) = clouds(20, 4);
        let (strength, left) = (0.7, 5);
        let fit = |rows: &[usize]| {
            let n = rows.len() as f64;
            let mean: Vec<f64> =
                (0..4).map(|j| rows.iter().map(|&i| f64::from(features[i][j])).sum::<f64>() / n).collect();
            let share = rows.iter().filter(|&&i| labels[i] == 2).count() as f64 / n;
            let x = Mat::from_fn(rows.len(), 4, |i, j| f64::from(features[rows[i]][j]) - mean[j]);
            let y = Mat::from_fn(rows.len(), 1, |i, _| f64::from(u8::from(labels[rows[i]] == 2)) - share);
            let gram = x.transpose() * &x + Mat::from_fn(4, 4, |i, j| if i == j { strength } else { 0.0 });
            (mean, share, x.clone(), faer::linalg::solvers::Solve::solve(&gram.partial_piv_lu(), x.transpose() * &y))
        };
        let without: Vec<usize> = (0..20).filter(|&i| i != left).collect();
        let (mean, share, _, weights) = fit(&without);
        let expected: f64 =
            share + (0..4).map(|j| (f64::from(features[left][j]) - mean[j]) * weights[(j, 0)]).sum::<f64>();

        let (_, share, x, weights) = fit(&(0..20).collect::<Vec<_>>());
        let gram = x.transpose() * &x + Mat::from_fn(4, 4, |i, j| if i == j { strength } else { 0.0 });
        let row = Mat::from_fn(4, 1, |j, _| x[(left, j)]);
        let spread = (row.transpose() * faer::linalg::solvers::Solve::solve(&gram.partial_piv_lu(), &row))[(0, 0)];
        let fitted = share + (row.transpose() * &weights)[(0, 0)];
        let target = f64::from(u8::from(labels[left] == 2));
        let formula = target - (target - fitted) / (1.0 - 1.0 / 20.0 - spread);
        assert!((formula - expected).abs() < 1e-10, "{formula} is not {expected}");
    }

    #[test]
    fn a_wrong_label_gets_a_low_probability_out_of_fold() {
        let (features, mut labels) = clouds(60, 8);
        labels[7] = 2;
        let probe = Probe::fit(&features, &labels, 3).unwrap();
        let own: Vec<f64> = probe.out_of_fold.iter().zip(&labels).map(|(row, &label)| row[label]).collect();
        let lowest = (0..60).min_by(|&a, &b| own[a].total_cmp(&own[b])).unwrap();
        assert_eq!(lowest, 7);
        assert!(probe.out_of_fold[7][1] > 0.5);
        let of_new = probe.probabilities(&[1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        assert!(of_new[0] > 0.5 && (of_new.iter().sum::<f64>() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn too_few_pictures_and_broken_features_are_no_probe() {
        assert!(Probe::fit(&[vec![1.0], vec![2.0]], &[0, 1], 2).is_none());
        assert!(Probe::fit(&[vec![1.0], vec![f32::NAN], vec![2.0]], &[0, 1, 1], 2).is_none());
    }
}
