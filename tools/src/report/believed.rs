//! How far the scores can be believed: the reliability diagram, and what other thresholds would do.

use super::html::Element;
use super::svg::{Axis, Chart, figure};
use crate::evaluate::calibration::Calibration;
use crate::evaluate::reliability::Bin;

/// Both charts.
pub fn charts(calibration: &Calibration) -> [Element; 2] {
    [reliability(calibration), thresholds(calibration)]
}

fn shares() -> Axis {
    Axis::over([0.0, 1.0])
}

fn reliability(calibration: &Calibration) -> Element {
    let title = "Score against share of right answers";
    let text = format!(
        "Expected calibration error {:.1} % with the plain softmax, {:.1} % at temperature {:.2}. On the diagonal a score of 80 % \
         is right in 8 of 10 pictures.",
        100.0 * calibration.ece_plain,
        100.0 * calibration.ece_calibrated,
        calibration.temperature
    );
    let points = |bins: &[Bin]| -> Vec<(f64, f64)> {
        bins.iter().filter(|bin| bin.pictures > 0).map(|bin| (bin.score, bin.right)).collect()
    };
    let (plain, calibrated) = (points(&calibration.bins_plain), points(&calibration.bins_calibrated));
    let chart = Chart::new("reliability", (title, &text), "score of the best class", shares(), shares(), true)
        .path("mark", &[(0.0, 0.0), (1.0, 1.0)])
        .path("line a", &plain)
        .dots("dot a", &plain)
        .path("line b", &calibrated)
        .dots("dot b", &calibrated);
    figure(title, &[("line a", "plain softmax"), ("line b", "at the fitted temperature")], chart.finish())
}

fn thresholds(calibration: &Calibration) -> Element {
    let title = "What a threshold answers and how well";
    let text = format!(
        "At the fitted threshold of {:.2} the share {:.3} of the pictures is called unknown.",
        calibration.threshold, calibration.rejected.share
    );
    let answered: Vec<(f64, f64)> =
        calibration.coverage.iter().map(|coverage| (coverage.threshold, coverage.answered)).collect();
    let right: Vec<(f64, f64)> = calibration
        .coverage
        .iter()
        .filter_map(|coverage| coverage.right.map(|right| (coverage.threshold, right)))
        .collect();
    let chart =
        Chart::new("thresholds", (title, &text), "score below which the answer is unknown", shares(), shares(), true)
            .upright(f64::from(calibration.threshold), &format!("fitted: {:.2}", calibration.threshold))
            .path("line a", &answered)
            .path("line b", &right);
    figure(title, &[("line a", "answered"), ("line b", "right, of the answered")], chart.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::Share;
    use crate::evaluate::reliability::{bins, coverage};
    use crate::report::html::tests::assert_well_formed;

    #[test]
    fn empty_bins_are_no_points_and_the_fitted_threshold_is_marked() {
        let pictures = [(0.9, true), (0.92, true), (0.3, false)];
        let calibration = Calibration {
            temperature: 1.5,
            threshold: 0.4,
            false_rejection_rate: 0.05,
            rejected: Share::new(1, 3),
            accepted_top1: Share::new(2, 2),
            ece_plain: 0.1,
            ece_calibrated: 0.05,
            bins_plain: bins(pictures.into_iter()),
            bins_calibrated: bins([].into_iter()),
            coverage: coverage(pictures.into_iter()),
        };
        let [reliability, thresholds] = charts(&calibration).map(|chart| chart.to_string());
        assert_well_formed(&reliability);
        assert_well_formed(&thresholds);
        assert_eq!(reliability.matches("<circle").count(), 2);
        assert!(reliability.contains("10.0 % with the plain softmax, 5.0 % at temperature 1.50"), "{reliability}");
        assert!(thresholds.contains("fitted: 0.40"));
    }
}
